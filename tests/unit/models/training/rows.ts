import { averagePrecision } from "../../../../models/training/average-precision.js";
import { boost, type Labelled } from "../../../../models/training/boost.js";
import { resolveTreeParams } from "../../../../models/training/params.js";
import { seededRandom } from "../../../../models/training/random.js";
import { predictRaw, type TreeEnsemble } from "../../../../models/training/trees.js";

/** Rows as written, and their labels. */
export function labelled(rows: readonly (readonly number[])[], labels: readonly number[]): Labelled {
  return {
    matrix: { rows: rows.length, features: rows[0].length, values: Float32Array.from(rows.flat()) },
    labels: Uint8Array.from(labels),
  };
}

/** Seeded rows with ties, missing values and a rare class that depends on two features together. */
export function randomRows(rows: number, features: number, seed: number): Labelled {
  const random = seededRandom(seed);
  const values: number[][] = [];
  const labels: number[] = [];
  for (let row = 0; row < rows; row++) {
    const x = Array.from({ length: features }, (_, feature) =>
      feature % 3 === 1 ? Math.floor(6 * random()) : random() * 10 - 5,
    );
    const odds = Math.exp(-2.5 + 0.8 * x[0] + (x[1] > 3 ? 1.5 : 0) - 0.3 * x[0] * (x[1] - 2));
    labels.push(random() < odds / (1 + odds) ? 1 : 0);
    values.push(x.map((value) => (random() < 0.08 ? Number.NaN : value)));
  }
  return labelled(values, labels);
}

/** Every row, feature and split that gains anything: what can be worked out by hand. */
export const PLAIN = { bagging_fraction: 1, feature_fraction: 1, min_gain_to_split: 0 };

export function train(
  part: Labelled,
  params: Record<string, unknown>,
  validation: Labelled | null = null,
): TreeEnsemble {
  return boost(part, validation, resolveTreeParams({ ...PLAIN, ...params }), () => undefined);
}

export function raw(ensemble: TreeEnsemble, part: Labelled): Float64Array {
  const out = new Float64Array(part.matrix.rows);
  predictRaw(ensemble, part.matrix, out);
  return out;
}

export function precisionOf(ensemble: TreeEnsemble, part: Labelled): number {
  return averagePrecision(raw(ensemble, part), part.labels);
}
