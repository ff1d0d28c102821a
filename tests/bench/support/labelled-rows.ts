import { sharedMatrix, type Matrix } from "../../../models/training/matrix.js";
import { seededRandom } from "../../../models/training/random.js";

export const FEATURES = 30;

/**
 * Card-payment-like rows: a heavy-tailed amount, flags, small counts, missing values, a nonlinear rare class (about
 * 1.5%).
 */
export function labelledRows(rows: number, seed: number): { matrix: Matrix; labels: Uint8Array } {
  const random = seededRandom(seed);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const matrix = sharedMatrix(rows, FEATURES);
  const labels = new Uint8Array(rows);
  const x = new Float64Array(FEATURES);
  for (let row = 0; row < rows; row++) {
    for (let feature = 0; feature < FEATURES; feature++) x[feature] = normal();
    x[0] = Math.exp(3.2 + 1.3 * x[0]);
    x[1] = Math.floor(24 * random());
    x[2] = random() < 0.3 ? 1 : 0;
    x[3] = Math.floor(Math.exp(Math.abs(x[3])));
    const logit =
      -8.4 +
      1.4 * x[14] -
      1.1 * x[4] * x[10] +
      0.8 * Math.abs(x[17]) +
      0.35 * Math.log(x[0]) +
      (x[0] > 400 ? 2 : 0) +
      0.5 * Math.sin(2 * x[5]) +
      (x[1] < 5 ? 0.8 : 0) +
      0.7 * (x[12] > 1 ? x[7] : 0) +
      0.2 * x[3] * x[2] +
      0.05 * (x[20] + x[21] + x[22] + x[23]);
    labels[row] = random() < 1 / (1 + Math.exp(-logit)) ? 1 : 0;
    if (random() < 0.1) x[17] = Number.NaN;
    matrix.values.set(x, row * FEATURES);
  }
  return { matrix, labels };
}
