import { FraudstreamError } from "../../schemas/errors.js";
import type { ModelIo } from "../onnx/session.js";
import type { Explainer } from "./explainer.js";
import { LinearShap } from "./linear-shap.js";
import { atOnce, type Pieces } from "./pieces.js";
import { linearParts } from "../onnx/linear-model.js";
import { readGraph } from "../onnx/read-graph.js";
import { readTrees } from "./read-trees.js";
import { TreeShap } from "./tree-shap.js";

/** Of a file: enough for what TreeShap takes, read within a second. */
const MOST_BYTES = 32 * 1024 ** 2;

/**
 * As `explainingModel`, at once.
 *
 * @throws FraudstreamError `not_explainable`, `onnx_malformed`
 */
export function explainModel(onnx: Uint8Array, io: ModelIo): Explainer {
  return atOnce(explainingModel(onnx, io));
}

/**
 * Reads out of a model's ONNX file how its scores come about: the trees, or the logistic regression, that
 * models/onnx/write.ts writes.
 *
 * @throws FraudstreamError `not_explainable` with the cause, for people; `onnx_malformed`
 */
export function* explainingModel(onnx: Uint8Array, { input, output, features }: ModelIo): Pieces<Explainer> {
  if (onnx.length > MOST_BYTES) throw new FraudstreamError("not_explainable", "its file is too large");
  const graph = readGraph(onnx);
  const signatures = graph.nodes.map(({ signature }) => signature);
  const [first] = graph.nodes;
  const between = /^TreeEnsembleRegressor\(.*\) > (.*)$/.exec(signatures[0] ?? "")?.[1];
  if (same(signatures, [`TreeEnsembleRegressor(${input}) > ${between}`, `Sigmoid(${between}) > ${output}`]))
    return yield* TreeShap.of(yield* readTrees(first, features));
  const linear = linearParts(graph, { input, output, features });
  if (linear !== null) return new LinearShap(linear);
  throw new FraudstreamError(
    "not_explainable",
    "it is neither one tree ensemble with a sigmoid (TreeEnsembleRegressor, Sigmoid), nor a logistic " +
      "regression that was trained here",
  );
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each, i) => each === b[i]);
}
