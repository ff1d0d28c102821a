import { score, type TrainedModel } from "../training/train.js";
import type { Matrix } from "../training/matrix.js";
import { ModelSession } from "./session.js";
import { INPUT, OUTPUT } from "./write.js";

/** The greatest difference between a model's own scores and onnxruntime's with which its file is accepted. */
export const TOLERANCE = 1e-5;

const ROWS_AT_ONCE = 10_000;

/**
 * Scores rows with a file of `writeOnnx` and with the model that it was written from.
 *
 * @returns the greatest absolute difference (NaN if a score is); callers refuse a difference that is not below
 *   `TOLERANCE`
 */
export async function verifyOnnx(onnx: Uint8Array, model: TrainedModel, matrix: Matrix): Promise<number> {
  const { rows, features, values } = matrix;
  const own = score(model, matrix);
  const session = await ModelSession.load(onnx, { input: INPUT, output: OUTPUT, features });
  let greatest = 0;
  try {
    for (let from = 0; from < rows; from += ROWS_AT_ONCE) {
      const count = Math.min(ROWS_AT_ONCE, rows - from);
      const theirs = await session.run(values.subarray(from * features, (from + count) * features), count);
      for (let i = 0; i < count; i++) greatest = Math.max(greatest, Math.abs(theirs[i] - own[from + i]));
    }
  } finally {
    await session.release();
  }
  return greatest;
}
