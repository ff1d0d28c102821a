import type { Dataset, OperandColumn } from "../datasets/dataset.js";
import type { AttributeSlot } from "./attribute-slots.js";
import { timeOfNumber, timeOfText } from "./date-attributes.js";
import { partCodes, type PartCodes, type TextPart } from "./text-parts.js";

/** Where the values of a slot come from: numbers a row, or whether a row's code is the one that is wanted. */
type SlotColumn = { values: Float64Array } | { codes: Int32Array; meaning: Int32Array | null; wanted: number } | null;

type SlotData = Pick<Dataset, "attributes" | "operands" | "cardId" | "merchantId">;

/** A column that features are made of; undefined: there is none. */
export function operandColumn(
  { attributes, operands }: Pick<Dataset, "attributes" | "operands">,
  attribute: string,
): OperandColumn | undefined {
  return attributes.get(attribute) ?? operands?.get(attribute);
}

/**
 * Fills slots of a data set's rows with what decoding those as transactions would put there: NaN where the attribute is
 * absent or, here, where its column is.
 *
 * @returns puts a slot's values of some rows into `out`, row by row
 */
export function slotReader(
  dataset: SlotData,
  slots: readonly AttributeSlot[],
): (slot: number, rows: Uint32Array, out: Float64Array) => void {
  const parts = new PartCache();
  const columns = slots.map((slot) => slotColumn(dataset, slot, parts));
  return (slot, rows, out) => {
    const column = columns[slot];
    const stride = slots.length;
    if (column === null || "values" in column) {
      const values = column?.values;
      for (let i = 0, at = slot; i < rows.length; i++, at += stride)
        out[at] = values === undefined ? Number.NaN : values[rows[i]];
      return;
    }
    const { codes, meaning, wanted } = column;
    for (let i = 0, at = slot; i < rows.length; i++, at += stride) {
      let code = codes[rows[i]];
      if (code >= 0 && meaning !== null) code = meaning[code];
      out[at] = code < 0 ? Number.NaN : Number(code === wanted);
    }
  };
}

function slotColumn(dataset: SlotData, slot: AttributeSlot, parts: PartCache): SlotColumn {
  const { attribute, type, equals, part, field } = slot;
  if (field === true && part !== undefined) {
    const { codes, parts: found } = parts.of(attribute === "card_id" ? dataset.cardId : dataset.merchantId, part);
    return { codes, meaning: null, wanted: found.indexOf(equals ?? "") };
  }
  const column = operandColumn(dataset, attribute);
  if (column === undefined) return null;
  if (column.type === "text") {
    if (type === "time") return { values: timesOf(column) };
    if (part === undefined)
      return {
        codes: column.codes,
        meaning: null,
        wanted: equals === undefined ? -2 : column.categories.indexOf(equals),
      };
    const { codes, parts: found } = parts.of(column.categories, part);
    return { codes: column.codes, meaning: codes, wanted: found.indexOf(equals ?? "") };
  }
  if (part !== undefined) return null;
  return { values: type === "time" && column.type === "number" ? column.values.map(timeOfNumber) : column.values };
}

function timesOf({ codes, categories }: OperandColumn & { type: "text" }): Float64Array {
  const times = categories.map((text) => {
    const bytes = Buffer.from(text);
    return timeOfText(bytes, 0, bytes.length);
  });
  return Float64Array.from(codes, (code) => (code < 0 ? Number.NaN : times[code]));
}

/** Each part of a column's texts is read once, however many of its values are features. */
class PartCache {
  readonly #known = new Map<readonly string[], Map<TextPart, PartCodes>>();

  of(texts: readonly string[], part: TextPart): PartCodes {
    let ofTexts = this.#known.get(texts);
    if (ofTexts === undefined) this.#known.set(texts, (ofTexts = new Map<TextPart, PartCodes>()));
    let codes = ofTexts.get(part);
    if (codes === undefined) ofTexts.set(part, (codes = partCodes(texts, part)));
    return codes;
  }
}
