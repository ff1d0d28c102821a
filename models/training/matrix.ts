import { FraudstreamError } from "../../schemas/errors.js";

/** Feature vectors: `values[row * features + feature]`, float32, NaN where a value is missing. */
export interface Matrix {
  rows: number;
  features: number;
  values: Float32Array;
}

/** A matrix in shared memory: the training thread reads it without a copy. */
export function sharedMatrix(rows: number, features: number): Matrix {
  return {
    rows,
    features,
    values: new Float32Array(new SharedArrayBuffer(rows * features * Float32Array.BYTES_PER_ELEMENT)),
  };
}

/** The array itself when it is in shared memory, else a copy that is. */
export function toShared<T extends Float32Array | Uint8Array>(array: T): T {
  if (array.buffer instanceof SharedArrayBuffer) return array;
  const buffer = new SharedArrayBuffer(array.byteLength);
  const copy = array instanceof Float32Array ? new Float32Array(buffer) : new Uint8Array(buffer);
  copy.set(array);
  return copy as T;
}

/**
 * Refuses what no model can be fitted to.
 *
 * @param part what to call it in the message
 * @throws FraudstreamError `training_shape`, `training_empty`, `training_one_class`, `training_infinite`
 */
export function checkLabelled(part: string, matrix: Matrix, labels: Uint8Array): void {
  const { rows, features, values } = matrix;
  if (values.length !== rows * features || labels.length !== rows) {
    throw new FraudstreamError(
      "training_shape",
      `the ${part} part has ${values.length} values and ${labels.length} labels for ${rows} rows of ` +
        `${features} features`,
    );
  }
  if (rows === 0 || features === 0)
    throw new FraudstreamError("training_empty", `the ${part} part has no ${rows === 0 ? "rows" : "features"}`);
  let frauds = 0;
  for (const label of labels) {
    if (label > 1)
      throw new FraudstreamError("training_shape", `a label of the ${part} part is ${label}, neither 0 nor 1`);
    frauds += label;
  }
  if (frauds === 0 || frauds === rows) {
    throw new FraudstreamError(
      "training_one_class",
      `every row of the ${part} part is ${frauds === 0 ? "genuine" : "a fraud"}: both classes are needed`,
    );
  }
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value === Infinity || value === -Infinity) {
      throw new FraudstreamError(
        "training_infinite",
        `row ${Math.floor(i / features)}, feature ${i % features} of the ${part} part is infinite`,
      );
    }
  }
}
