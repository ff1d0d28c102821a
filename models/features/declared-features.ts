import { closestName } from "../../schemas/closest-name.js";
import { RequestError } from "../../schemas/errors.js";
import { MOST_CATEGORIES } from "../datasets/attribute-builder.js";
import type { Dataset, OperandColumn } from "../datasets/dataset.js";
import { attributeOf, type ColumnSource } from "./column-sources.js";
import { operandColumn } from "./dataset-slots.js";
import { timeOfNumber, timeOfText } from "./date-attributes.js";
import { operandsOf, type DeclaredFeature, type OperandType } from "./features-file.js";
import type { FeatureSpec } from "./plan.js";
import { partCodes, partOfMost, type TextPart } from "./text-parts.js";

/** What features are made of. */
export type Offering = Pick<Dataset, "attributes"> &
  Partial<Dataset> & {
    /** Whether the stream has pseudonyms instead of the data set's card ids. */
    hidesCards?: boolean;
  };

/**
 * The features that a declared one stands for: itself, or one for each part of a text that the data set has.
 *
 * @param path where it was asked for, for messages
 * @throws RequestError `unknown_feature` for an operand that the data set doesn't have, or has as something else
 */
export function specsOf(dataset: Offering, feature: DeclaredFeature, path: string): FeatureSpec[] {
  for (const { path: inner, operand, type } of operandsOf(feature)) {
    const problem = operandProblem(dataset, operand, type);
    if (problem !== null) throw new RequestError("unknown_feature", `${path}${inner}: ${problem}`);
  }
  const { name, ...definition } = feature;
  if (definition.kind !== "text_part") {
    const { default: missing = null, ...source } = definition;
    return [{ name, type: "number", source, default: missing }];
  }
  const { of, part, equals, default: missing = 0 } = definition;
  const spec = (called: string, value: string): FeatureSpec => {
    const source: ColumnSource = { kind: "text_part", of, part, equals: value };
    return { name: called, type: "boolean", source, default: missing };
  };
  if (equals !== undefined) return [spec(name, equals)];
  const parts = partsOf(dataset, of, part);
  if (parts.length === 0)
    throw new RequestError("unknown_feature", `${path}.of: no text of ${JSON.stringify(of)} has such a part`);
  return parts.map((value) => spec(`${name}=${value}`, value));
}

/** The parts that texts have, in the order that they come in; of too many those that most rows have. */
function partsOf(dataset: Offering, of: string, part: TextPart): string[] {
  const attribute = attributeOf(of);
  const column = attribute === null ? undefined : operandColumn(dataset, attribute);
  const texts =
    column?.type === "text" ? column.categories : ((of === "card_id" ? dataset.cardId : dataset.merchantId) ?? []);
  const { codes, parts } = partCodes(texts, part);
  if (parts.length <= MOST_CATEGORIES) return parts;
  const rows = new Uint32Array(parts.length);
  if (column?.type === "text") {
    for (const code of column.codes) if (code >= 0 && codes[code] >= 0) rows[codes[code]] += 1;
  } else for (const code of codes) if (code >= 0) rows[code] += 1;
  return [...rows.keys()]
    .sort((a, b) => rows[b] - rows[a] || a - b)
    .slice(0, MOST_CATEGORIES)
    .map((code) => parts[code]);
}

/** Why a feature can't be made of an operand; null: it can. */
function operandProblem(dataset: Offering, operand: string, type: OperandType): string | null {
  const attribute = attributeOf(operand);
  if (attribute === null) {
    if (operand === "card_id" && dataset.hidesCards === true)
      return "card ids are pseudonyms where transactions are scored (CARD_ID_KEY): nothing can be read of them";
    const real = operand === "card_id" ? dataset.hasCards : operand === "merchant_id" ? dataset.hasMerchants : true;
    return real === false ? `the data set has no ${operand}: it was made up` : null;
  }
  const column = operandColumn(dataset, attribute);
  if (column === undefined) return noAttribute(dataset, attribute);
  const fits =
    type === "number" ? column.type === "number" : type === "text" ? column.type === "text" : column.type !== "boolean";
  if (fits) return type === "time" ? dateFault(attribute, column) : null;
  const wanted = type === "number" ? "a number" : type === "text" ? "a text" : "a date";
  return `attribute ${JSON.stringify(attribute)} is ${typeName(column)}, not ${wanted}`;
}

/** Seconds from 1973 to 2286. */
const SECONDS = { from: 1e8, to: 1e10 };

/** Why a column makes no dates; null: it does. */
function dateFault(attribute: string, column: OperandColumn): string | null {
  const named = `attribute ${JSON.stringify(attribute)}`;
  const wanted = "a date is ISO 8601, epoch milliseconds, or days since 1970";
  if (column.type === "text") {
    const isDate = (text: string): boolean => {
      const bytes = Buffer.from(text);
      return !Number.isNaN(timeOfText(bytes, 0, bytes.length));
    };
    return column.categories.some(isDate)
      ? null
      : `none of the texts of ${named} is a date that the stream reads; ${wanted} (of 3/4/2024: --day-first, or ` +
          "--no-day-first)";
  }
  if (column.type !== "number") return null;
  const known = column.values.filter((value) => !Number.isNaN(value));
  if (known.filter((value) => value >= SECONDS.from && value < SECONDS.to).length > known.length / 2)
    return `the numbers of ${named} look like seconds since 1970; ${wanted}`;
  return known.some((value) => !Number.isNaN(timeOfNumber(value)))
    ? null
    : `no number of ${named} is a date; ${wanted}`;
}

function typeName({ type }: OperandColumn): string {
  return type === "time" ? "a date" : `a ${type}`;
}

function noAttribute({ attributes, operands, columns = [] }: Offering, name: string): string {
  const reading = columns.find((column) => column.name === name);
  if (reading?.taken_for === "left out")
    return `column ${JSON.stringify(name)} is left out, ${reading.why} (--keep NAME keeps it)`;
  const known = [...attributes.keys(), ...(operands?.keys() ?? [])];
  const near = closestName(name, known) ?? known.find((each) => each.toLowerCase() === name.toLowerCase());
  if (reading !== undefined)
    return `column ${JSON.stringify(name)} is the ${reading.taken_for}: ${
      ["amount", "card_id", "merchant_id"].includes(reading.taken_for)
        ? `write ${JSON.stringify(reading.taken_for)}`
        : "no feature is made of it"
    }`;
  return (
    `the data set has no attribute ${JSON.stringify(name)}` +
    (near === undefined ? `; it has ${known.join(", ").slice(0, 1_000)}` : `; did you mean ${JSON.stringify(near)}?`)
  );
}

/** Texts that are addresses, of e-mail or of IPv4; null: they aren't. */
export function addressesOf(column: OperandColumn): "email_domain" | "ipv4_24" | null {
  return column.type === "text" ? partOfMost(column.categories) : null;
}
