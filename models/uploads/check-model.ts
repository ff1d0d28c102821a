import { FraudstreamError } from "../../schemas/errors.js";
import { ModelSession } from "../onnx/session.js";
import { TOLERANCE } from "../onnx/verify.js";
import { inspectOnnx } from "./inspect-onnx.js";
import { normaliseOnnx, type NormalisedOnnx } from "./normalise-onnx.js";
import type { Samples } from "./upload.js";

export interface CheckRequest {
  onnx: Uint8Array;
  input?: string | undefined;
  output?: string | undefined;
  features: number;
  samples: Samples;
}

/** A model that scores its samples as its author said. */
export interface CheckedModel extends NormalisedOnnx {
  /** Of a score and its expected one. */
  greatestDifference: number;
  /** Mean of a call with one row, here and now. */
  msPerRow: number;
}

/**
 * Everything that is asked of a model that was trained elsewhere. To be run in a process of its own: the file may be
 * made to exhaust memory or to end whoever loads it.
 *
 * @throws FraudstreamError those of `inspectOnnx` and `normaliseOnnx`, `model_invalid`, `model_shape`, `model_failed`, and
 *   `scores_differ` where a score isn't within 1e-5 of the expected one, of all rows at once or of each alone
 */
export async function checkModel({ onnx, input, output, features, samples }: CheckRequest): Promise<CheckedModel> {
  inspectOnnx(onnx);
  const normalised = normaliseOnnx(onnx, { input, output });
  const session = await ModelSession.load(normalised.onnx, { input: normalised.input, output: normalised.output, features });
  try {
    const together = differences(await session.run(samples.values, samples.rows), samples.scores, "in one batch");
    const alone = new Float32Array(samples.rows);
    const started = performance.now();
    for (let row = 0; row < samples.rows; row++) [alone[row]] = await session.run(samples.values.subarray(row * features, (row + 1) * features), 1);
    const msPerRow = (performance.now() - started) / samples.rows;
    return { ...normalised, greatestDifference: Math.max(together, differences(alone, samples.scores, "one by one")), msPerRow };
  } finally {
    await session.release();
  }
}

const MOST_NAMED = 3;

/** The greatest difference. */
function differences(got: Float32Array, expected: Float64Array, how: string): number {
  let greatest = 0;
  const wrong: number[] = [];
  expected.forEach((score, row) => {
    const difference = Math.abs(got[row] - score);
    greatest = Math.max(greatest, difference);
    if (!(difference <= TOLERANCE)) wrong.push(row);
  });
  if (wrong.length === 0) return greatest;
  const named = wrong.slice(0, MOST_NAMED).map((row) => `row ${row} ${got[row]} instead of ${expected[row]}`);
  throw new FraudstreamError(
    "scores_differ",
    `scored ${how}, ${wrong.length} of ${expected.length} sample rows are more than ${TOLERANCE} off: ${named.join(", ")}. The stream has float32 features: score the samples on float32 values`,
  );
}
