import { describe, expect, it } from "vitest";
import { explainingModel, explainModel } from "../../../../models/explain/explain-model.js";
import { inSlices } from "../../../../models/explain/pieces.js";
import { attribute, model as onnxModel, node, type Message } from "../../../../models/onnx/graph.js";
import { ModelSession } from "../../../../models/onnx/session.js";
import { INPUT, OUTPUT, writeOnnx } from "../../../../models/onnx/write.js";
import { trainModel, type TrainRequest } from "../../../../models/training/train.js";
import { predictLinear } from "../../../../models/training/logistic.js";
import { logistic } from "../../../support/models.js";
import { randomRows } from "../training/rows.js";

const FEATURES = 7;
const io = { input: INPUT, output: OUTPUT, features: FEATURES };
const names = Array.from({ length: FEATURES }, (_, i) => `f${i}`);
const part = randomRows(1_500, FEATURES, 11);

async function trained(algorithm: TrainRequest["algorithm"], params: Record<string, unknown>) {
  return trainModel(
    { algorithm, params, train: part.matrix, labels: part.labels, validation: null },
    { onProgress: () => undefined },
  );
}

it.each<[TrainRequest["algorithm"], Record<string, unknown>]>([
  ["gradient-boosted-trees", { num_iterations: 40, max_depth: 6, boost_from_average: true }],
  ["logistic-regression", {}],
])("explains what onnxruntime scores, from the same file: %s", async (algorithm, params) => {
  const onnx = writeOnnx(await trained(algorithm, params), names);
  const explainer = await inSlices(explainingModel(onnx, io));
  const session = await ModelSession.load(onnx, io);
  const scores = await session.run(part.matrix.values, part.matrix.rows);
  await session.release();
  const out = new Float64Array(FEATURES);
  let worst = 0;
  for (let row = 0; row < part.matrix.rows; row++) {
    explainer.contributions(part.matrix.values, row * FEATURES, out);
    const raw = out.reduce((sum, value) => sum + value, explainer.expected);
    worst = Math.max(worst, Math.abs(1 / (1 + Math.exp(-raw)) - scores[row]));
  }
  expect(worst).toBeLessThan(1e-6);
});

it("a logistic regression's contributions are coefficient times distance from the mean, and add up", async () => {
  const { linear, ...rest } = await trained("logistic-regression", {});
  if (linear === undefined) throw new Error("it is not linear");
  const explainer = explainModel(writeOnnx({ ...rest, linear } as never, names), io);
  const raw = new Float64Array(part.matrix.rows);
  predictLinear(linear, part.matrix, raw);
  const out = new Float64Array(FEATURES);
  let [worst, missing] = [0, 0];
  for (let row = 0; row < part.matrix.rows; row++) {
    explainer.contributions(part.matrix.values, row * FEATURES, out);
    worst = Math.max(worst, Math.abs(out.reduce((sum, value) => sum + value, explainer.expected) - raw[row]));
    part.matrix.values.subarray(row * FEATURES, (row + 1) * FEATURES).forEach((x, i) => {
      if (Number.isNaN(x)) missing += Math.abs(out[i]) + 1;
      else expect(out[i]).toBeCloseTo((linear.weights[i] / linear.scale[i]) * (x - linear.mean[i]), 10);
    });
  }
  expect(worst).toBeLessThan(1e-6);
  expect(missing % 1).toBe(0);
  expect(missing).toBeGreaterThan(0);
});

/** One stump, with some of its attributes changed; null leaves one out. */
function stump(
  changed: Record<string, Message | null> = {},
  nodes: (trees: Message) => Message[] = (trees) => [trees, node("Sigmoid", ["raw"], OUTPUT)],
): Uint8Array {
  const attributes: Record<string, Message | null> = {
    nodes_treeids: attribute.ints("nodes_treeids", [4, 4, 4]),
    nodes_nodeids: attribute.ints("nodes_nodeids", [9, 7, 8]),
    nodes_modes: attribute.strings("nodes_modes", ["BRANCH_LEQ", "LEAF", "LEAF"]),
    nodes_featureids: attribute.ints("nodes_featureids", [2, 0, 0]),
    nodes_values: attribute.floats("nodes_values", [1.5, 0, 0]),
    nodes_truenodeids: attribute.ints("nodes_truenodeids", [8, 0, 0]),
    nodes_falsenodeids: attribute.ints("nodes_falsenodeids", [7, 0, 0]),
    nodes_hitrates: attribute.floats("nodes_hitrates", [4, 3, 1]),
    target_treeids: attribute.ints("target_treeids", [4, 4]),
    target_nodeids: attribute.ints("target_nodeids", [7, 8]),
    target_ids: attribute.ints("target_ids", [0, 0]),
    target_weights: attribute.floats("target_weights", [2, -2]),
    ...changed,
  };
  const trees = node(
    "TreeEnsembleRegressor",
    [INPUT],
    "raw",
    Object.values(attributes).filter((each) => each !== null),
    "ai.onnx.ml",
  );
  return onnxModel({
    name: "t",
    input: { name: INPUT, features: FEATURES },
    output: OUTPUT,
    nodes: nodes(trees),
    constants: [],
    metadata: {},
  });
}

describe("a tree ensemble from elsewhere", () => {
  it("is explained if it has covers, whatever its nodes are called", () => {
    const explainer = explainModel(stump(), io);
    const out = new Float64Array(FEATURES);
    explainer.contributions(Float32Array.of(0, 0, 1.75, 0, 0, 0, 0), 0, out);
    expect([explainer.expected, ...out]).toEqual([1, 0, 0, 1, 0, 0, 0, 0]);
    explainer.contributions(Float32Array.of(0, 0, 1.5, 0, 0, 0, 0), 0, out);
    expect(out[2]).toBe(-3);
  });

  it.each<[string, Record<string, Message | null>, RegExp]>([
    ["without covers", { nodes_hitrates: null }, /no node covers/],
    [
      "with covers of 1 that an exporter made up",
      { nodes_hitrates: attribute.floats("nodes_hitrates", [1, 1, 1]) },
      /no node covers/,
    ],
    [
      "that splits by <",
      { nodes_modes: attribute.strings("nodes_modes", ["BRANCH_LT", "LEAF", "LEAF"]) },
      /BRANCH_LEQ/,
    ],
    ["that takes an average", { aggregate_function: attribute.string("aggregate_function", "AVERAGE") }, /added up/],
    ["that goes in a circle", { nodes_truenodeids: attribute.ints("nodes_truenodeids", [9, 0, 0]) }, /not trees/],
    ["whose branches meet again", { nodes_truenodeids: attribute.ints("nodes_truenodeids", [7, 0, 0]) }, /not trees/],
    [
      "with a child that isn't there",
      { nodes_truenodeids: attribute.ints("nodes_truenodeids", [99, 0, 0]) },
      /not trees/,
    ],
    [
      "with a feature that isn't there",
      { nodes_featureids: attribute.ints("nodes_featureids", [7, 0, 0]) },
      /not trees/,
    ],
    ["with a leaf of no tree", { target_nodeids: attribute.ints("target_nodeids", [7, 6]) }, /leaves/],
    ["with a node too few", { nodes_values: attribute.floats("nodes_values", [1.5, 0]) }, /not whole/],
  ])("%s is not", (_what, changed, cause) => {
    expect(() => explainModel(stump(changed), io)).toThrow(
      expect.objectContaining({ code: "not_explainable", message: expect.stringMatching(cause) as string }) as Error,
    );
  });

  it("is not if its scores are transformed further", () => {
    const more = stump({}, (trees) => [trees, node("Neg", ["raw"], "negative"), node("Sigmoid", ["negative"], OUTPUT)]);
    for (const onnx of [more, logistic().onnx])
      expect(() => explainModel(onnx, io)).toThrow(
        expect.objectContaining({
          code: "not_explainable",
          message: expect.stringMatching(/neither/) as string,
        }) as Error,
      );
  });
});
