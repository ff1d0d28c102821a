/**
 * Training 300,000 × 30 in CPU-seconds, with the figures that another library must match on the same held-out rows.
 *
 *     node dist/tests/bench/training.js [--rows N] [--params '{"max_depth":6}'] [--runs N] [--write DIR]
 *
 * `--write` leaves the matrices in DIR for `training-xgboost.py` (run outside the project, in a Python environment
 * with xgboost and scikit-learn), and ends.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { averagePrecision } from "../../models/training/average-precision.js";
import { sharedMatrix, type Matrix } from "../../models/training/matrix.js";
import { seededRandom } from "../../models/training/random.js";
import { score, trainModel } from "../../models/training/train.js";

const FEATURES = 30;

/** Card-payment-like rows: a heavy-tailed amount, flags, small counts, missing values, a nonlinear rare class (about 1.5%). */
function generate(rows: number, seed: number): { matrix: Matrix; labels: Uint8Array } {
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
      -8.4 + 1.4 * x[14] - 1.1 * x[4] * x[10] + 0.8 * Math.abs(x[17]) + 0.35 * Math.log(x[0]) + (x[0] > 400 ? 2 : 0) +
      0.5 * Math.sin(2 * x[5]) + (x[1] < 5 ? 0.8 : 0) + 0.7 * (x[12] > 1 ? x[7] : 0) + 0.2 * x[3] * x[2] + 0.05 * (x[20] + x[21] + x[22] + x[23]);
    labels[row] = random() < 1 / (1 + Math.exp(-logit)) ? 1 : 0;
    if (random() < 0.1) x[17] = Number.NaN;
    matrix.values.set(x, row * FEATURES);
  }
  return { matrix, labels };
}

/** The area under the ROC curve, by ranks. */
function rocAuc(scores: Float32Array, labels: Uint8Array): number {
  const order = Uint32Array.from(scores.keys()).sort((a, b) => scores[a] - scores[b]);
  let frauds = 0;
  let ranks = 0;
  for (let i = 0; i < order.length; ) {
    let end = i;
    let tied = 0;
    for (; end < order.length && scores[order[end]] === scores[order[i]]; end++) tied += labels[order[end]];
    ranks += tied * ((i + 1 + end) / 2);
    frauds += tied;
    i = end;
  }
  return (ranks - (frauds * (frauds + 1)) / 2) / (frauds * (labels.length - frauds));
}

const { values } = parseArgs({
  options: { rows: { type: "string", default: "300000" }, params: { type: "string", default: "{}" }, runs: { type: "string", default: "1" }, write: { type: "string" } },
});
const train = generate(Number(values.rows), 1);
const test = generate(100_000, 2);
if (values.write !== undefined) {
  mkdirSync(values.write, { recursive: true });
  for (const [name, { matrix, labels }] of Object.entries({ train, test })) {
    writeFileSync(join(values.write, `${name}.f32`), matrix.values);
    writeFileSync(join(values.write, `${name}.u8`), labels);
  }
} else {
  const params = { num_iterations: 100, max_depth: 6, learning_rate: 0.1, ...(JSON.parse(values.params) as Record<string, unknown>) };
  for (let run = 0; run < Number(values.runs); run++) {
    const before = process.cpuUsage();
    const model = await trainModel({ algorithm: "gradient-boosted-trees", params, train: train.matrix, labels: train.labels, validation: null }, { onProgress: () => undefined });
    const { user, system } = process.cpuUsage(before);
    const scores = score(model, test.matrix);
    process.stdout.write(
      `${JSON.stringify({
        bench: "training", rows: train.matrix.rows, features: FEATURES, params, cpu_seconds: round((user + system) / 1e6, 2), seconds: round(model.seconds, 2),
        roc_auc: round(rocAuc(scores, test.labels), 5), average_precision: round(averagePrecision(Float64Array.from(scores), test.labels), 5),
        peak_mb: Math.round(process.resourceUsage().maxRSS / 1024),
      })}\n`,
    );
  }
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
