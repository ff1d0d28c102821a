import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { ModelColumn } from "./columns.js";
import { ModelSession } from "../onnx/session.js";
import { TOLERANCE } from "../onnx/verify.js";
import { inspectOnnx } from "./inspect-onnx.js";
import { normaliseOnnx, type NormalisedOnnx } from "./normalise-onnx.js";
import {
  compareScores,
  mostDiffering,
  scoresDiffer,
  type ScoreComparison,
  type ScoreTolerance,
} from "./compare-scores.js";
import { checkOperators } from "./operators.js";
import { noScore, probesOf, type Probe } from "./probe-rows.js";
import { unnamedTexts } from "./unnamed-texts.js";
import type { Samples } from "./samples.js";
import type { GraphWords } from "./score-map.js";

export interface CheckRequest {
  onnx: Uint8Array;
  /** What the manifest says of how the graph is called and read. */
  words?: GraphWords | undefined;
  columns: readonly ModelColumn[];
  samples: Samples;
  tolerance?: ScoreTolerance | undefined;
}

/** A model that scores its samples as its author said. */
export interface CheckedModel extends NormalisedOnnx {
  /** Of a score and its expected one, of all rows but those that differ by more than the tolerance. */
  greatestDifference: number;
  /** Sample rows that differ by more, as the manifest lets them. */
  differingRows: number;
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
 *   `model_failed`, `scores_differ` where a score isn't within 1e-5 of the expected one (or what the manifest lets it
 *   differ by), of all rows at once or of each alone,
 *   `model_no_score` where a payment that the stream may bring gets none, `model_too_slow`
 */
export async function checkModel(request: CheckRequest): Promise<CheckedModel> {
  inspectOnnx(request.onnx);
  const { onnx, words = {}, columns } = request;
  const { fixedBatch, ...anyBatch } = normaliseOnnx(onnx, words, columns, "any");
  try {
    return await checkForm(anyBatch, request);
  } catch (error) {
    if (fixedBatch === null) throw error;
  }
  // A graph that was exported for a fixed batch mostly takes any; one that doesn't is run in batches of its size.
  return checkForm(normaliseOnnx(onnx, words, columns, "fixed"), request);
}

async function checkForm({ onnx, input, output, batch }: NormalisedOnnx, request: CheckRequest): Promise<CheckedModel> {
  checkOperators(onnx, input);
  const { columns } = request;
  const features = columns.reduce((sum, column) => sum + column.features.length, 0);
  const session = await ModelSession.load(onnx, { input, output, batch, features });
  try {
    const checked = await checkScores(session, request);
    return {
      onnx,
      input,
      output,
      ...(batch === undefined ? {} : { batch }),
      ...checked,
      warnings: [...unnamedTexts(onnx, columns), ...checked.warnings],
    };
  } finally {
    await session.release();
  }
}

async function checkScores(
  session: ModelSession,
  { columns, samples, tolerance = {} }: CheckRequest,
): Promise<Omit<CheckedModel, keyof NormalisedOnnx>> {
  const features = columns.flatMap((column) => column.features);
  const width = features.length;
  const score = (values: Float32Array, rows: number): Promise<Float32Array> => session.run(values, rows);
  const compared = async (got: Float32Array, how: string): Promise<ScoreComparison> => {
    const comparison = compareScores(got, samples, tolerance);
    const areScores = comparison.differing.every((row) => got[row] >= 0 && got[row] <= 1);
    if (areScores && comparison.differing.length <= mostDiffering(samples.rows, tolerance)) return comparison;
    throw await scoresDiffer(score, { features, samples, tolerance }, got, comparison.differing, how);
  };
  const together = await compared(await session.run(samples.values, samples.rows), "in one batch");
  const alone = new Float32Array(samples.rows);
  const started = performance.now();
  for (let row = 0; row < samples.rows; row++)
    [alone[row]] = await session.run(samples.values.subarray(row * width, (row + 1) * width), 1);
  const msPerRow = (performance.now() - started) / samples.rows;
  const single = await compared(alone, "one by one");
  const { rows, warnings } = await probe(session, probesOf(features, samples.values.slice(0, width)));
  await checkBatches(session, [...rows, { values: samples.values, scores: alone }], width, tolerance.difference);
  return {
    greatestDifference: Math.max(together.greatestDifference, single.greatestDifference),
    differingRows: single.differing.length,
    msPerRow,
    warnings,
  };
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

/** One behind the other. */
function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A row must get the same score whatever else is in its batch, and a full batch must not take long. */
async function checkBatches(
  session: ModelSession,
  parts: readonly ScoredRows[],
  width: number,
  most = TOLERANCE,
): Promise<void> {
  const values = joined(parts.map((part) => part.values));
  const scores = joined(parts.map((part) => part.scores));
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
    const wrong = got.findIndex((score, row) => !(Math.abs(score - scores[rows[row]]) <= most));
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
