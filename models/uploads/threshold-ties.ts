import { TOLERANCE } from "../onnx/verify.js";

/** A value so near to a threshold of a model that rounding decides on which side of it the row is. */
export interface Tie {
  feature: number;
  value: number;
  /** Neighbouring float32 values between which the model's score changes. */
  from: number;
  to: number;
}

export type ScoreRows = (values: Float32Array, rows: number) => Promise<Float32Array>;

/** A row in which more values are at thresholds has another cause. */
const MOST_TIES = 8;
/** Features that are looked at. */
const MOST_FEATURES = 1_000;
/** Steps of rounding: of the value itself, and of what it is added to, whose size the feature's others tell. */
const OWN_STEPS = [1, 2, 4];
const SCALE_STEPS = [1, 2];
const MANTISSA_BITS = 23;

/**
 * Whether a row's score is the expected one as soon as some of its values change by a few roundings of float32: then
 * the model is the one that its author has scored, and only the arithmetic before its thresholds is another.
 *
 * @param scales of each feature: the size of its values
 * @returns null when the difference has another cause
 */
export async function tiesOf(
  score: ScoreRows,
  row: Float32Array,
  scales: Float64Array,
  expected: number,
): Promise<Tie[] | null> {
  const ties: Tie[] = [];
  const near = row.slice();
  let [here] = await score(near, 1);
  while (ties.length < MOST_TIES) {
    if (Math.abs(here - expected) <= TOLERANCE) return ties.length === 0 ? null : ties;
    const nudges = nudgesOf(near, scales).filter(({ feature }) => ties.every((tie) => tie.feature !== feature));
    const values = new Float32Array(nudges.length * row.length);
    nudges.forEach(({ feature, value }, i) => {
      values.set(near, i * row.length);
      values[i * row.length + feature] = value;
    });
    const scores = await score(values, nudges.length);
    let best = -1;
    let distance = Math.abs(here - expected) - TOLERANCE;
    for (const [i, each] of scores.entries()) {
      if (!(Math.abs(each - expected) < distance)) continue;
      best = i;
      distance = Math.abs(each - expected);
    }
    if (best < 0) return null;
    const { feature, value } = nudges[best];
    ties.push(await jumpBetween(score, near, feature, value));
    near[feature] = value;
    here = scores[best];
  }
  return null;
}

/** The mean size of each feature's values. */
export function scalesOf(values: Float32Array, features: number): Float64Array {
  const sums = new Float64Array(features);
  const counts = new Float64Array(features);
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    sums[i % features] += Math.abs(value);
    counts[i % features]++;
  });
  return sums.map((sum, feature) => sum / Math.max(1, counts[feature]));
}

interface Nudge {
  feature: number;
  value: number;
}

function nudgesOf(row: Float32Array, scales: Float64Array): Nudge[] {
  const nudges: Nudge[] = [];
  for (let feature = 0; feature < Math.min(row.length, MOST_FEATURES); feature++) {
    const value = row[feature];
    if (!Number.isFinite(value)) continue;
    const steps = new Set([
      ...OWN_STEPS.map((count) => count * roundingOf(value)),
      ...SCALE_STEPS.map((count) => count * roundingOf(scales[feature])),
    ]);
    for (const step of steps)
      for (const nudged of [Math.fround(value - step), Math.fround(value + step)])
        if (nudged !== value) nudges.push({ feature, value: nudged });
  }
  return nudges;
}

/** The distance of float32 numbers of this size. */
function roundingOf(value: number): number {
  return value === 0 ? 0 : 2 ** (Math.floor(Math.log2(Math.abs(value))) - MANTISSA_BITS);
}

/** Where the score changes on the way from the row's value to another. */
async function jumpBetween(score: ScoreRows, row: Float32Array, feature: number, other: number): Promise<Tie> {
  const value = row[feature];
  const [start] = await score(row, 1);
  let [from, to] = [value, other];
  for (;;) {
    const middle = Math.fround((from + to) / 2);
    if (middle === from || middle === to) break;
    const [there] = await score(row.with(feature, middle), 1);
    if (Math.abs(there - start) <= TOLERANCE) from = middle;
    else to = middle;
  }
  return { feature, value, from: Math.min(from, to), to: Math.max(from, to) };
}
