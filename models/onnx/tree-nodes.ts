import type { Pieces } from "../explain/pieces.js";
import type { GraphNode } from "./read-graph.js";

/** The attributes of a tree ensemble (ai.onnx.ml 3) that hold a number of each node. */
const OF_NODES = [
  "nodes_treeids",
  "nodes_nodeids",
  "nodes_featureids",
  "nodes_truenodeids",
  "nodes_falsenodeids",
  "nodes_missing_value_tracks_true",
] as const;

/** All attributes of a TreeEnsembleRegressor that are looked at. */
export const REGRESSOR_ATTRIBUTES: readonly string[] = [
  ...OF_NODES,
  "nodes_modes",
  "nodes_values",
  "nodes_hitrates",
  "target_treeids",
  "target_nodeids",
  "target_ids",
  "target_weights",
  "aggregate_function",
  "base_values",
  "n_targets",
  "post_transform",
];

/** The nodes of all trees, column by column. */
export interface TreeNodes {
  count: number;
  treeIds: number[];
  nodeIds: number[];
  features: number[];
  whenTrue: number[];
  whenFalse: number[];
  /** None at all where missing values go to the false branch everywhere. */
  missing: number[];
  modes: string[];
  thresholds: number[];
  /** Whether a row goes to the true branch of every split when its value is not above the threshold. */
  splitsByLeq: boolean;
  /** Whether every column has a value of each node. */
  whole: boolean;
}

/** @throws FraudstreamError `onnx_malformed` */
export function* treeNodes(node: GraphNode): Pieces<TreeNodes> {
  const ofNodes: number[][] = [];
  for (const name of OF_NODES) {
    ofNodes.push(node.ints(name));
    yield;
  }
  const [treeIds, nodeIds, features, whenTrue, whenFalse, missing] = ofNodes;
  const modes = node.texts("nodes_modes");
  yield;
  const thresholds = node.floats("nodes_values");
  const count = treeIds.length;
  return {
    count,
    treeIds,
    nodeIds,
    features,
    whenTrue,
    whenFalse,
    missing,
    modes,
    thresholds,
    splitsByLeq: modes.every((mode) => mode === "BRANCH_LEQ" || mode === "LEAF"),
    whole:
      [nodeIds, features, whenTrue, whenFalse, modes, thresholds].every(({ length }) => length === count) &&
      (missing.length === count || missing.length === 0),
  };
}
