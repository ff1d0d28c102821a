import { Type, type Static } from "@sinclair/typebox";
import type { Matrix } from "../training/matrix.js";

/**
 * How values were spread over bins: bin i holds what is above `edges[i - 1]` and at most `edges[i]`, open at both ends;
 * the last of the counts is of missing values (NaN). So there are two more counts than edges.
 */
export const Bins = Type.Object({
  edges: Type.Array(Type.Number()),
  counts: Type.Array(Type.Integer({ minimum: 0 }), { minItems: 2 }),
});
export type Bins = Static<typeof Bins>;

/**
 * What the training rows were like since their windows were full, for the stream to be compared with: each feature in
 * the manifest's order, and the model's scores.
 */
export const DriftReference = Type.Object({ rows: Type.Integer(), features: Type.Array(Bins), score: Bins });
export type DriftReference = Static<typeof DriftReference>;

/** Bins of values that are there; missing ones have their own. */
const MOST_BINS = 10;

/** Edges are quantiles of so many rows, evenly spaced, at most; all rows are counted. */
const ROWS_FOR_EDGES = 200_000;

/**
 * The reference of a model's training rows.
 *
 * @param scores the model's, one a row
 * @param taken the rows that count; @default all
 */
export function driftReference(
  matrix: Matrix,
  scores: Float32Array,
  taken: Uint32Array = Uint32Array.from({ length: matrix.rows }, (_, row) => row),
): DriftReference {
  const { features, values } = matrix;
  const bins = Array.from({ length: features }, (_, feature) => binsOf(values, feature, features, taken));
  return { rows: taken.length, features: bins, score: binsOf(scores, 0, 1, taken) };
}

function binsOf(values: Float32Array, first: number, stride: number, rows: Uint32Array): Bins {
  const step = Math.max(1, Math.ceil(rows.length / ROWS_FOR_EDGES));
  const sample = Float32Array.from(
    { length: Math.ceil(rows.length / step) },
    (_, i) => values[first + stride * rows[i * step]],
  );
  const edges = binEdges(sample);
  const counts = new Array<number>(edges.length + 2).fill(0);
  for (const row of rows) counts[binOf(edges, values[first + stride * row])] += 1;
  return { edges, counts };
}

/** The bin of a value: how many edges are below it; the last one for NaN. */
export function binOf(edges: readonly number[], value: number): number {
  if (Number.isNaN(value)) return edges.length + 1;
  let bin = 0;
  while (bin < edges.length && value > edges[bin]) bin++;
  return bin;
}

/**
 * Edges of at most ten bins with about as many values each. Equal values share a bin, so one that is frequent (the
 * zeros of many a feature) is nearly a bin of its own, and the others divide what is left. Up to ten different values
 * (booleans, too) have a bin each; a constant has one between the values below it and those above.
 *
 * @param sample is sorted in place; NaN counts for nothing
 */
export function binEdges(sample: Float32Array): number[] {
  const { values, counts } = distinct(sample.sort());
  if (values.length === 0) return [];
  if (values.length === 1) return [floatBelow(values[0]), values[0]];
  if (values.length <= MOST_BINS) return values.slice(0, -1);
  const edges: number[] = [];
  let left = counts.reduce((sum, count) => sum + count, 0);
  let filled = 0;
  for (let i = 0; i + 1 < values.length && edges.length + 1 < MOST_BINS; i++) {
    filled += counts[i];
    const wanted = left / (MOST_BINS - edges.length);
    // Nearer to what is wanted without the next value than with it.
    if (wanted - filled > filled + counts[i + 1] - wanted) continue;
    edges.push(values[i]);
    left -= filled;
    filled = 0;
  }
  return edges;
}

/** The different numbers of a sorted array, where NaN comes last, and how often each is there. */
function distinct(sorted: Float32Array): { values: number[]; counts: number[] } {
  const values: number[] = [];
  const counts: number[] = [];
  for (const value of sorted) {
    if (Number.isNaN(value)) break;
    if (values.at(-1) === value) counts[counts.length - 1] += 1;
    else {
      // -0 is 0, and JSON knows only that.
      values.push(value + 0);
      counts.push(1);
    }
  }
  return { values, counts };
}

/** The greatest float32 below a finite one. */
function floatBelow(value: number): number {
  const float = new Float32Array([value === 0 ? -0 : value]);
  const bits = new Int32Array(float.buffer);
  // Away from zero for negative numbers (and -0), towards it for positive ones.
  bits[0] += value > 0 ? -1 : 1;
  return float[0];
}
