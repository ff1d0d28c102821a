import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { FeatureSpec } from "../features/plan.js";
import { ModelSession } from "../onnx/session.js";
import { TOLERANCE } from "../onnx/verify.js";
import { inspectOnnx } from "./inspect-onnx.js";
import { normaliseOnnx, type NormalisedOnnx } from "./normalise-onnx.js";
import { checkOperators } from "./operators.js";
import { noScore, probesOf, type Probe } from "./probe-rows.js";
import type { Samples } from "./upload.js";

export interface CheckRequest {
  onnx: Uint8Array;
  input?: string | undefined;
  output?: string | undefined;
  features: readonly FeatureSpec[];
  samples: Samples;
}

/** A model that scores its samples as its author said. */
export interface CheckedModel extends NormalisedOnnx {
  /** Of a score and its expected one. */
  greatestDifference: number;
  /** Mean of a call with one row, here and now. */
  msPerRow: number;
  /** What the model has no score for, though it is accepted; for people. */
  warnings: string[];
}

/** Sizes of the batches that the stream may bring: one row, a few, and as many as one run of a model takes. */
const BATCHES = [1, 7, 256, 1_024];
/** The stream gives a run a few seconds (MODEL_TIMEOUT_MS); a machine that is busy is slower than this one. */
const SLOWEST_BATCH_MS = 1_000;

/**
 * Everything that is asked of a model that was trained elsewhere. To be run in a process of its own: the file may be
 * made to exhaust memory or to crash the process that loads it.
 *
 * @throws FraudstreamError those of `inspectOnnx`, `normaliseOnnx` and `checkOperators`, `model_invalid`,
 *   `model_shape`,
 *   `model_failed`, `scores_differ` where a score isn't within 1e-5 of the expected one, of all rows at once or of each
 *   alone,
 *   `model_no_score` where a payment that the stream may bring gets none, `model_too_slow`
 */
export async function checkModel({ onnx, input, output, features, samples }: CheckRequest): Promise<CheckedModel> {
  inspectOnnx(onnx);
  const normalised = normaliseOnnx(onnx, { input, output });
  checkOperators(normalised.onnx, normalised.input);
  const width = features.length;
  const session = await ModelSession.load(normalised.onnx, {
    input: normalised.input,
    output: normalised.output,
    features: width,
  });
  try {
    const together = differences(await session.run(samples.values, samples.rows), samples.scores, "in one batch");
    const alone = new Float32Array(samples.rows);
    const started = performance.now();
    for (let row = 0; row < samples.rows; row++)
      [alone[row]] = await session.run(samples.values.subarray(row * width, (row + 1) * width), 1);
    const msPerRow = (performance.now() - started) / samples.rows;
    const greatestDifference = Math.max(together, differences(alone, samples.scores, "one by one"));
    const { rows, warnings } = await probe(session, probesOf(features, samples.values.slice(0, width)));
    await checkBatches(session, [...rows, { values: samples.values, scores: alone }], width);
    return { ...normalised, greatestDifference, msPerRow, warnings };
  } finally {
    await session.release();
  }
}

interface ScoredRows {
  values: Float32Array;
  scores: Float32Array;
}

/** Scores each probe alone. @returns those that have a score, and what is said of the others */
async function probe(
  session: ModelSession,
  probes: readonly Probe[],
): Promise<{ rows: ScoredRows[]; warnings: string[] }> {
  const rows: ScoredRows[] = [];
  const warnings: string[] = [];
  for (const each of probes) {
    const result = await session.run(each.values, 1).then(
      ([score]) => score,
      (error: unknown) => messageOf(error),
    );
    if (typeof result === "number" && result >= 0 && result <= 1)
      rows.push({ values: each.values, scores: Float32Array.of(result) });
    else if (each.required) throw noScore(each, result);
    else warnings.push(noScore(each, result).message);
  }
  return { rows, warnings: warnings.slice(0, MOST_NAMED) };
}

/** A row must get the same score whatever else is in its batch, and a full batch must not take long. */
async function checkBatches(session: ModelSession, parts: readonly ScoredRows[], width: number): Promise<void> {
  const values = Float32Array.from(parts.flatMap((part) => [...part.values]));
  const scores = Float32Array.from(parts.flatMap((part) => [...part.scores]));
  for (const size of BATCHES) {
    const rows = Array.from({ length: size }, (_, i) => i % scores.length);
    const batch = Float32Array.from(
      { length: size * width },
      (_, i) => values[rows[Math.floor(i / width)] * width + (i % width)],
    );
    const started = performance.now();
    const got = await session.run(batch, size);
    const ms = performance.now() - started;
    if (ms > SLOWEST_BATCH_MS)
      throw new FraudstreamError(
        "model_too_slow",
        `a batch of ${size} rows took the model ${(ms / 1_000).toFixed(1)} s; at most ` +
          `${SLOWEST_BATCH_MS / 1_000} s is taken`,
      );
    const wrong = got.findIndex((score, row) => !(Math.abs(score - scores[rows[row]]) <= TOLERANCE));
    if (wrong >= 0) {
      throw new FraudstreamError(
        "scores_differ",
        `in a batch of ${size} rows, row ${wrong} gets ${got[wrong]}, and ${scores[rows[wrong]]} alone: a ` +
          "score must not depend on the other rows",
      );
    }
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
    `scored ${how}, ${wrong.length} of ${expected.length} sample rows are more than ${TOLERANCE} off: ` +
      `${named.join(", ")}. The stream has float32 features: score the samples on float32 values`,
  );
}
