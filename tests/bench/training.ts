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
import { score, trainModel } from "../../models/training/train.js";
import { FEATURES, labelledRows } from "./support/labelled-rows.js";

/** The area under the ROC curve, by ranks. */
function rocAuc(scores: Float32Array, labels: Uint8Array): number {
  const order = Uint32Array.from(scores.keys()).sort((a, b) => scores[a] - scores[b]);
  let frauds = 0;
  let ranks = 0;
  for (let i = 0; i < order.length;) {
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
  options: {
    rows: { type: "string", default: "300000" },
    params: { type: "string", default: "{}" },
    runs: { type: "string", default: "1" },
    write: { type: "string" },
  },
});
const train = labelledRows(Number(values.rows), 1);
const test = labelledRows(100_000, 2);
if (values.write !== undefined) {
  mkdirSync(values.write, { recursive: true });
  for (const [name, { matrix, labels }] of Object.entries({ train, test })) {
    writeFileSync(join(values.write, `${name}.f32`), matrix.values);
    writeFileSync(join(values.write, `${name}.u8`), labels);
  }
} else {
  const params = {
    num_iterations: 100,
    max_depth: 6,
    learning_rate: 0.1,
    bagging_fraction: 1,
    feature_fraction: 1,
    min_gain_to_split: 0,
    ...(JSON.parse(values.params) as Record<string, unknown>),
  };
  for (let run = 0; run < Number(values.runs); run++) {
    const before = process.cpuUsage();
    const model = await trainModel(
      { algorithm: "gradient-boosted-trees", params, train: train.matrix, labels: train.labels, validation: null },
      { onProgress: () => undefined },
    );
    const { user, system } = process.cpuUsage(before);
    const scores = score(model, test.matrix);
    process.stdout.write(
      `${JSON.stringify({
        bench: "training",
        rows: train.matrix.rows,
        features: FEATURES,
        params,
        cpu_seconds: round((user + system) / 1e6, 2),
        seconds: round(model.seconds, 2),
        roc_auc: round(rocAuc(scores, test.labels), 5),
        average_precision: round(averagePrecision(Float64Array.from(scores), test.labels), 5),
        peak_mb: Math.round(process.resourceUsage().maxRSS / 1024),
      })}\n`,
    );
  }
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
