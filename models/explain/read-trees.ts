import { FraudstreamError } from "../../schemas/errors.js";
import type { Pieces } from "./pieces.js";
import type { GraphNode } from "../onnx/read-graph.js";
import { REGRESSOR_ATTRIBUTES, treeNodes } from "../onnx/tree-nodes.js";
import type { CoveredTree } from "./splits.js";

const KNOWN = new Set(REGRESSOR_ATTRIBUTES);

interface NodesOfTree {
  at: Map<number, number>;
  nodes: number[];
}

/**
 * The trees of a TreeEnsembleRegressor (ai.onnx.ml 3), read piece by piece.
 *
 * @param features how many there are
 * @throws FraudstreamError `not_explainable` where it has no covers, splits otherwise than ours, or doesn't add its
 *   trees up
 */
export function* readTrees(
  node: GraphNode,
  features: number,
): Pieces<{ baseScore: number; trees: CoveredTree[]; features: number }> {
  const sums =
    node.text("aggregate_function", "SUM") === "SUM" &&
    node.text("post_transform", "NONE") === "NONE" &&
    node.int("n_targets", 1) === 1;
  if (!sums || node.attributeNames.some((name) => !KNOWN.has(name))) throw refused("its trees are not simply added up");
  const {
    count,
    treeIds,
    nodeIds,
    features: feature,
    whenTrue,
    whenFalse,
    missing,
    modes,
    thresholds,
    splitsByLeq,
    whole,
  } = yield* treeNodes(node);
  const covers = node.floats("nodes_hitrates");
  yield;
  if (covers.length !== count) throw refused("its trees have no node covers (nodes_hitrates)");
  // A row goes left if it is not above the threshold; a model that splits otherwise is not ours.
  if (!splitsByLeq) throw refused("its trees split otherwise than by BRANCH_LEQ");
  if (!whole) throw refused("its trees are not whole");

  const byTree = new Map<number, NodesOfTree>();
  treeIds.forEach((id, i) => {
    const tree: NodesOfTree = byTree.get(id) ?? { at: new Map(), nodes: [] };
    tree.at.set(nodeIds[i], tree.nodes.push(i) - 1);
    byTree.set(id, tree);
  });
  yield;
  const values = leafValues(node, byTree, count);
  const trees: CoveredTree[] = [];
  for (const { at, nodes } of byTree.values()) {
    yield;
    const child = (ids: readonly number[]) =>
      Int32Array.from(nodes, (i) => (modes[i] === "LEAF" ? -1 : (at.get(ids[i]) ?? nodes.length)));
    const tree = {
      feature: Int32Array.from(nodes, (i) => feature[i]),
      threshold: Float32Array.from(nodes, (i) => thresholds[i]),
      left: child(whenTrue),
      right: child(whenFalse),
      missingLeft: Uint8Array.from(nodes, (i) => missing[i] ?? 0),
      value: Float32Array.from(nodes, (i) => values[i]),
      cover: Float32Array.from(nodes, (i) => covers[i]),
    };
    checkShape(tree, features);
    trees.push(tree);
  }
  return { baseScore: node.floats("base_values")[0] ?? 0, trees, features };
}

function leafValues(node: GraphNode, byTree: ReadonlyMap<number, NodesOfTree>, count: number): Float64Array {
  const [treeIds, nodeIds, targets] = ["target_treeids", "target_nodeids", "target_ids"].map((name) => node.ints(name));
  const weights = node.floats("target_weights");
  const values = new Float64Array(count);
  weights.forEach((weight, i) => {
    const tree = byTree.get(treeIds[i]);
    const at = tree?.at.get(nodeIds[i]);
    if (tree === undefined || at === undefined || targets[i] !== 0)
      throw refused("its leaves are not those of its trees");
    values[tree.nodes[at]] += weight;
  });
  return values;
}

/** Every node except the first is the child of one other node, so walking down from the first always ends. */
function checkShape({ left, right, feature }: CoveredTree, features: number): void {
  const parents = new Uint8Array(left.length);
  for (const children of [left, right]) {
    children.forEach((child, node) => {
      if (child === -1) return;
      if (child >= left.length || ++parents[child] > 1 || !(feature[node] >= 0 && feature[node] < features))
        throw refused("its trees are not trees");
    });
  }
  if (parents.indexOf(0) !== 0 || parents.indexOf(0, 1) !== -1) throw refused("its trees are not trees");
}

function refused(cause: string): FraudstreamError {
  return new FraudstreamError("not_explainable", cause);
}
