/**
 * Reasons of alerts: processor time of one alert, from its features to the three that raised its score most, of models
 * trained here on 30 features.
 *
 *     npm run bench -- explain
 */
import { AlertReasons } from "../../models/explain/alert-reasons.js";
import { explainModel } from "../../models/explain/explain-model.js";
import { INPUT, OUTPUT, writeOnnx } from "../../models/onnx/write.js";
import { score, trainModel } from "../../models/training/train.js";
import { predictRaw } from "../../models/training/trees.js";
import { FEATURES, labelledRows } from "./support/labelled-rows.js";

const RUNS = 7;
const ALERTS = 2_000;
const names = Array.from({ length: FEATURES }, (_, i) => `feature ${i}`);
const train = labelledRows(100_000, 1);
const { matrix } = labelledRows(200_000, 2);

for (const [trees, depth] of [
  [100, 6],
  [500, 6],
  [100, 5],
]) {
  const params = { num_iterations: trees, max_depth: depth };
  const model = await trainModel(
    { algorithm: "gradient-boosted-trees", params, train: train.matrix, labels: train.labels, validation: null },
    { onProgress: () => undefined },
  );
  if (model.trees === undefined) throw new Error("there are no trees");
  // The rows that a model raises alerts on are those that it scores highest.
  const scores = score(model, matrix);
  const alerts = Array.from(scores.keys())
    .sort((a, b) => scores[b] - scores[a])
    .slice(0, ALERTS);

  const onnx = writeOnnx(model, names);
  const before = performance.now();
  const explainer = explainModel(onnx, { input: INPUT, output: OUTPUT, features: FEATURES });
  const loadMs = performance.now() - before;
  const raw = new Float64Array(matrix.rows);
  predictRaw(model.trees, matrix, raw);
  const given = new Float64Array(FEATURES);
  let worst = 0;
  for (const row of alerts) {
    explainer.contributions(matrix.values, row * FEATURES, given);
    worst = Math.max(worst, Math.abs(given.reduce((sum, value) => sum + value, explainer.expected) - raw[row]));
  }
  if (!(worst < 1e-6)) throw new Error(`contributions miss the raw score by ${worst}`);

  const reasons = new AlertReasons(explainer, names);
  const micros = Array.from({ length: RUNS }, () => {
    const start = process.cpuUsage();
    for (const row of alerts) reasons.find(matrix.values, row * FEATURES);
    const { user, system } = process.cpuUsage(start);
    return (user + system) / ALERTS;
  }).sort((a, b) => a - b);
  const leaves = model.trees.trees.reduce((sum, { left }) => sum + (left.length + 1) / 2, 0);
  process.stdout.write(
    `${JSON.stringify({
      bench: "explain",
      trees,
      depth,
      leaves,
      features: FEATURES,
      alerts: ALERTS,
      cpu_us_per_alert: Math.round(micros[RUNS >> 1]),
      best: Math.round(micros[0]),
      worst: Math.round(micros[RUNS - 1]),
      load_ms: Math.round(loadMs),
      additive_within: Number(worst.toExponential(1)),
    })}\n`,
  );
}
