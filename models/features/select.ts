import type { AttributeColumn, Dataset } from "../datasets/dataset.js";
import type { Matrix } from "../training/matrix.js";
import { sharedMatrix } from "../training/matrix.js";
import { FeaturePlan, slotsOf, type AttributeSlot, type FeatureSpec } from "./plan.js";

/** Rows that are computed at once: the slots of a block stay in the cache. */
const BLOCK = 4096;

/**
 * The features that a data set offers: amount, hour, weekend, night, and its attributes. A number or boolean is one
 * feature, missing (NaN) where it is absent; a text is one feature `name=value` for each of its values, 0 where it is absent.
 */
export function selectFeatures(dataset: Pick<Dataset, "attributes">): FeatureSpec[] {
  const specs: FeatureSpec[] = [
    { name: "amount", type: "number", source: { kind: "amount" }, default: null },
    { name: "hour", type: "number", source: { kind: "hour" }, default: null },
    { name: "weekend", type: "boolean", source: { kind: "weekend" }, default: null },
    { name: "night", type: "boolean", source: { kind: "night" }, default: null },
  ];
  const names = new Set(specs.map(({ name }) => name));
  const add = (wanted: string, spec: Omit<FeatureSpec, "name">): void => {
    // An attribute may be called "hour", or like another one's indicator.
    let name = wanted;
    while (names.has(name)) name = `attributes.${name}`;
    names.add(name);
    specs.push({ name, ...spec });
  };
  for (const [attribute, column] of dataset.attributes) {
    if (column.type !== "text") add(attribute, { type: column.type, source: { kind: "attribute", attribute }, default: null });
    else for (const value of column.categories) add(`${attribute}=${value}`, { type: "boolean", source: { kind: "attribute", attribute, equals: value }, default: 0 });
  }
  return specs;
}

/**
 * The feature vectors of some rows, in shared memory, through the same plan that the stream uses.
 *
 * @param rows indexes into the data set, in any order
 */
export function featureMatrix(dataset: Dataset, specs: readonly FeatureSpec[], rows: Uint32Array): Matrix {
  const slots = slotsOf([specs]);
  const plan = new FeaturePlan(specs, slots);
  const matrix = sharedMatrix(rows.length, plan.size);
  const eventTime = new Float64Array(BLOCK);
  const amount = new Float64Array(BLOCK);
  const values = new Float32Array(BLOCK * slots.length);
  for (let start = 0; start < rows.length; start += BLOCK) {
    const block = rows.subarray(start, start + BLOCK);
    for (let i = 0; i < block.length; i++) {
      eventTime[i] = dataset.eventTime[block[i]];
      amount[i] = dataset.amount[block[i]];
    }
    slots.forEach((slot, index) => fillSlot(dataset.attributes.get(slot.attribute), slot, block, values, index, slots.length));
    const columns = { length: block.length, eventTime, amount, slots: values, slotCount: slots.length, history: new Float64Array(0), historyCount: 0 };
    plan.compute(columns, matrix.values.subarray(start * plan.size, (start + block.length) * plan.size));
  }
  return matrix;
}

/** What decoding a transaction puts into a slot: NaN where the attribute is absent or, here, where its column is. */
function fillSlot(column: AttributeColumn | undefined, slot: AttributeSlot, rows: Uint32Array, out: Float32Array, index: number, stride: number): void {
  if (column?.type === "text") {
    const wanted = slot.equals === undefined ? -2 : column.categories.indexOf(slot.equals);
    for (let i = 0, at = index; i < rows.length; i++, at += stride) {
      const code = column.codes[rows[i]];
      out[at] = code < 0 ? Number.NaN : Number(code === wanted);
    }
    return;
  }
  for (let i = 0, at = index; i < rows.length; i++, at += stride) out[at] = column === undefined ? Number.NaN : column.values[rows[i]];
}
