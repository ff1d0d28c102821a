import { describe, expect, it } from "vitest";
import { ModelSession } from "../../../../models/onnx/session.js";
import { TOLERANCE, verifyOnnx } from "../../../../models/onnx/verify.js";
import { INPUT, OUTPUT, writeOnnx } from "../../../../models/onnx/write.js";
import type { Matrix } from "../../../../models/training/matrix.js";
import { score, trainModel, type TrainedModel, type TrainRequest } from "../../../../models/training/train.js";
import { randomRows } from "../training/rows.js";

const part = randomRows(3000, 5, 21);
const names = ["a", "b", "c", "d", "e"];

function train(algorithm: TrainRequest["algorithm"], params: Record<string, unknown>): Promise<TrainedModel> {
  return trainModel(
    { algorithm, params, train: part.matrix, labels: part.labels, validation: null },
    { onProgress: () => undefined },
  );
}

/** Rows with each threshold of the model itself, the float32 numbers next to it, signed zeros and nothing. */
function edges(model: TrainedModel): Matrix {
  const rows: number[][] = [];
  for (const tree of model.trees?.trees ?? []) {
    tree.threshold.forEach((threshold, node) => {
      if (tree.left[node] === -1) return;
      for (const value of [threshold, neighbour(threshold, 1), neighbour(threshold, -1), Number.NaN, 0, -0]) {
        const from = 5 * (rows.length % part.matrix.rows);
        const row = [...part.matrix.values.subarray(from, from + 5)];
        row[tree.feature[node]] = value;
        rows.push(row);
      }
    });
  }
  return { rows: rows.length, features: 5, values: Float32Array.from(rows.flat()) };
}

function neighbour(value: number, step: number): number {
  const bits = new Int32Array(Float32Array.of(value).buffer);
  bits[0] += value < 0 ? -step : step;
  return new Float32Array(bits.buffer)[0];
}

describe.each<[TrainRequest["algorithm"], Record<string, unknown>]>([
  ["gradient-boosted-trees", { num_iterations: 50, max_depth: 6 }],
  [
    "gradient-boosted-trees",
    { num_iterations: 30, grow_policy: "leafwise", bagging_fraction: 0.5, boost_from_average: true, max_bin: 16 },
  ],
  ["logistic-regression", {}],
])("%s %j", (algorithm, params) => {
  it("scores alike in onnxruntime, and is written in the same bytes each time", async () => {
    const model = await train(algorithm, params);
    const onnx = writeOnnx(model, names);
    expect(await verifyOnnx(onnx, model, part.matrix)).toBeLessThan(1e-6);
    const scores = score(model, part.matrix);
    expect(Math.max(...scores) - Math.min(...scores)).toBeGreaterThan(0.3);
    expect(writeOnnx(await train(algorithm, params), names)).toEqual(onnx);
  });
});

it("ties with thresholds, signed zeros and missing values go the same way", async () => {
  const model = await train("gradient-boosted-trees", { num_iterations: 40, max_depth: 5, learning_rate: 0.3 });
  const matrix = edges(model);
  expect(matrix.rows).toBeGreaterThan(1000);
  expect(await verifyOnnx(writeOnnx(model, names), model, matrix)).toBeLessThan(1e-6);
  // A row that went the other way at any of these nodes would be seen.
  expect(Math.max(...(model.trees?.trees[39].value ?? []).map(Math.abs))).toBeGreaterThan(100 * TOLERANCE);
});

it("a difference is noticed", async () => {
  const model = await train("gradient-boosted-trees", { num_iterations: 5 });
  const onnx = writeOnnx(model, names);
  model.trees?.trees[0].missingLeft.forEach((left, node, all) => (all[node] = 1 - left));
  expect(await verifyOnnx(onnx, model, part.matrix)).toBeGreaterThan(TOLERANCE);
});

it("names and covers are in the file", async () => {
  const model = await train("gradient-boosted-trees", { num_iterations: 1, max_depth: 2 });
  const bytes = Buffer.from(writeOnnx(model, names));
  expect(bytes.includes('["a","b","c","d","e"]')).toBe(true);
  const covers = Buffer.from(Float32Array.from(model.trees?.trees[0].cover ?? []).buffer);
  expect(bytes.includes(covers)).toBe(true);
  expect(() => writeOnnx(model, ["a"])).toThrow(expect.objectContaining({ code: "model_shape" }) as Error);
});

it("one row alone scores as it does among others", async () => {
  const model = await train("gradient-boosted-trees", { num_iterations: 50, max_depth: 6 });
  const session = await ModelSession.load(writeOnnx(model, names), { input: INPUT, output: OUTPUT, features: 5 });
  const all = await session.run(part.matrix.values, 300);
  for (let row = 0; row < 300; row += 37) {
    expect((await session.run(part.matrix.values.subarray(5 * row, 5 * row + 5), 1))[0]).toBeCloseTo(all[row], 6);
  }
  await session.release();
});
