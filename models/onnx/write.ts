import { FraudstreamError } from "../../schemas/errors.js";
import type { LinearModel } from "../training/logistic.js";
import type { TrainedModel } from "../training/train.js";
import type { Tree, TreeEnsemble } from "../training/trees.js";
import { attribute, DOUBLE, doubles, FLOAT, model as onnxModel, node, type Message } from "./graph.js";

/** Names of the written graph's input, float32 [N, features], and output, float32 [N, 1]. */
export const INPUT = "features";
export const OUTPUT = "probability";

interface Graph {
  nodes: Message[];
  constants: Message[];
}

/**
 * The model as an ONNX file (opset 17, ai.onnx.ml 3). The same model gives the same bytes. The feature names are in its
 * metadata, as a JSON array.
 *
 * @throws FraudstreamError `model_shape` when there isn't a name for each feature
 */
export function writeOnnx(model: TrainedModel, featureNames: readonly string[]): Uint8Array {
  if (featureNames.length !== model.features)
    throw new FraudstreamError("model_shape", `the model takes ${model.features} features, not ${featureNames.length}`);
  const graph = model.algorithm === "gradient-boosted-trees" ? treeGraph(model.trees) : linearGraph(model.linear);
  return onnxModel({
    ...graph,
    name: model.algorithm,
    input: { name: INPUT, features: model.features },
    output: OUTPUT,
    metadata: { algorithm: model.algorithm, features: JSON.stringify(featureNames) },
  });
}

/**
 * TreeEnsembleRegressor and Sigmoid. nodes_hitrates has each node's cover: runtimes ignore it, path-dependent TreeSHAP
 * needs it.
 */
function treeGraph({ trees, baseScore }: TreeEnsemble): Graph {
  const all = <T>(
    value: (tree: Tree, node: number, id: number) => T,
    include = (_tree: Tree, _node: number) => true,
  ): T[] =>
    trees.flatMap((tree, id) => {
      const values: T[] = [];
      for (let i = 0; i < tree.left.length; i++) if (include(tree, i)) values.push(value(tree, i, id));
      return values;
    });
  const isLeaf = (tree: Tree, i: number): boolean => tree.left[i] === -1;
  const attributes = [
    attribute.string("aggregate_function", "SUM"),
    attribute.floats("base_values", [baseScore]),
    attribute.int("n_targets", 1),
    attribute.string("post_transform", "NONE"),
    attribute.ints(
      "nodes_treeids",
      all((_, __, id) => id),
    ),
    attribute.ints(
      "nodes_nodeids",
      all((_, i) => i),
    ),
    attribute.strings(
      "nodes_modes",
      all((tree, i) => (isLeaf(tree, i) ? "LEAF" : "BRANCH_LEQ")),
    ),
    attribute.ints(
      "nodes_featureids",
      all((tree, i) => tree.feature[i]),
    ),
    attribute.floats(
      "nodes_values",
      all((tree, i) => tree.threshold[i]),
    ),
    attribute.ints(
      "nodes_truenodeids",
      all((tree, i) => Math.max(0, tree.left[i])),
    ),
    attribute.ints(
      "nodes_falsenodeids",
      all((tree, i) => Math.max(0, tree.right[i])),
    ),
    attribute.ints(
      "nodes_missing_value_tracks_true",
      all((tree, i) => tree.missingLeft[i]),
    ),
    attribute.floats(
      "nodes_hitrates",
      all((tree, i) => tree.cover[i]),
    ),
    attribute.ints(
      "target_treeids",
      all((_, __, id) => id, isLeaf),
    ),
    attribute.ints(
      "target_nodeids",
      all((_, i) => i, isLeaf),
    ),
    attribute.ints(
      "target_ids",
      all(() => 0, isLeaf),
    ),
    attribute.floats(
      "target_weights",
      all((tree, i) => tree.value[i], isLeaf),
    ),
  ];
  return {
    nodes: [
      node("TreeEnsembleRegressor", [INPUT], "log_odds", attributes, "ai.onnx.ml"),
      node("Sigmoid", ["log_odds"], OUTPUT),
    ],
    constants: [],
  };
}

/** In float64, like the fit: with heavy-tailed features, float32 sums of large terms of both signs would differ. */
function linearGraph({ weights, mean, scale, intercept }: LinearModel): Graph {
  const size = weights.length;
  return {
    nodes: [
      node("Cast", [INPUT], "x", [attribute.int("to", DOUBLE)]),
      node("IsNaN", ["x"], "missing"),
      node("Where", ["missing", "mean", "x"], "filled"),
      node("Sub", ["filled", "mean"], "centred"),
      node("MatMul", ["centred", "coefficients"], "weighted"),
      node("Add", ["weighted", "intercept"], "log_odds"),
      node("Sigmoid", ["log_odds"], "probability_float64"),
      node("Cast", ["probability_float64"], OUTPUT, [attribute.int("to", FLOAT)]),
    ],
    constants: [
      doubles("mean", [size], mean),
      doubles(
        "coefficients",
        [size, 1],
        weights.map((weight, i) => weight / scale[i]),
      ),
      doubles("intercept", [1], [intercept]),
    ],
  };
}
