import type { Pieces } from "../explain/pieces.js";
import type { ModelIo } from "./session.js";
import { readGraph, type Graph, type GraphNode } from "./read-graph.js";
import { REGRESSOR_ATTRIBUTES, treeNodes } from "./tree-nodes.js";

/** How the sum of the leaves becomes a probability: as Sigmoid, or as a classifier's LOGISTIC. */
type Link = "sigmoid" | "logistic";

/** Binary trees whose leaves add up to log-odds, node by node over all trees; a leaf is its own child. */
export interface FlatTrees {
  base: number;
  link: Link;
  /** First node of each tree. */
  roots: number[];
  feature: Int32Array;
  /**
   * A row goes to `left` when its value is not above it, and on missing values where `missingLeft`; else to `right`.
   */
  threshold: Float32Array;
  left: Int32Array;
  right: Int32Array;
  missingLeft: Uint8Array;
  value: Float32Array;
}

const KNOWN = new Set([
  ...REGRESSOR_ATTRIBUTES,
  "class_treeids",
  "class_nodeids",
  "class_ids",
  "class_weights",
  "classlabels_int64s",
]);

/**
 * The trees of a graph that is one tree ensemble and its sigmoid: what models/onnx/write.ts writes, and LightGBM's and
 * XGBoost's binary classifiers. Null for every other graph.
 *
 * @throws FraudstreamError `onnx_malformed`
 */
export function* flatTrees(onnx: Uint8Array, io: ModelIo): Pieces<FlatTrees | null> {
  const graph = readGraph(onnx);
  const link = linkOf(graph, io);
  if (link === null) return null;
  const [node] = graph.nodes;
  if (node.text("aggregate_function", "SUM") !== "SUM" || node.attributeNames.some((name) => !KNOWN.has(name)))
    return null;
  const { count, treeIds, nodeIds, features, whenTrue, whenFalse, missing, modes, thresholds, splitsByLeq, whole } =
    yield* treeNodes(node);
  if (!whole || !splitsByLeq) return null;
  yield;
  const nodes = new NodeIndex(treeIds, nodeIds);
  yield;
  const isLeaf = (i: number): boolean => modes[i] === "LEAF";
  const child = (ids: number[]): Int32Array =>
    Int32Array.from(ids, (id, i) => (isLeaf(i) ? i : nodes.of(treeIds[i], id)));
  const value = leafValues(node, link, nodes, count);
  yield;
  const flat: FlatTrees = {
    base: node.floats("base_values")[0] ?? 0,
    link,
    roots: nodes.roots,
    feature: Int32Array.from(features, (feature, i) => (isLeaf(i) ? 0 : feature)),
    threshold: Float32Array.from(thresholds),
    left: child(whenTrue),
    right: child(whenFalse),
    missingLeft: Uint8Array.from(treeIds, (_, i) => missing[i] ?? 0),
    value: value ?? new Float32Array(0),
  };
  return value !== null && nodes.size === count && node.floats("base_values").length <= 1 && areTrees(flat, io.features)
    ? flat
    : null;
}

/** The one ensemble must come first and feed the output; what only computes the label is of no matter. */
function linkOf({ nodes, constants }: Graph, { input, output }: ModelIo): Link | null {
  const signatures = nodes.map(({ signature }) => signature);
  const between = /^TreeEnsembleRegressor\(.*\) > (.*)$/.exec(signatures[0] ?? "")?.[1];
  if (
    signatures.length === 2 &&
    signatures[0] === `TreeEnsembleRegressor(${input}) > ${between}` &&
    signatures[1] === `Sigmoid(${between}) > ${output}`
  ) {
    const [node] = nodes;
    return node.text("post_transform", "NONE") === "NONE" && node.int("n_targets", 1) === 1 ? "sigmoid" : null;
  }
  const of = /^TreeEnsembleClassifier\((.*)\) > ([^,]*),([^,]*)$/.exec(signatures[0] ?? "");
  if (
    of === null ||
    of[1] !== input ||
    nodes[0].text("post_transform", "NONE") !== "LOGISTIC" ||
    nodes[0].ints("classlabels_int64s").join() !== "0,1"
  )
    return null;
  // LightGBM's converter passes the probabilities through Identity and Mul by one.
  let name = of[3];
  for (const signature of signatures.slice(1)) {
    const [, op, from, second, to] = /^(\w+)\(([^,]*)(?:,([^,]*))?\) > (.*)$/.exec(signature) ?? [];
    if (from === name && (op === "Identity" || (op === "Mul" && constants.has(second ?? "")))) name = to;
  }
  return name === output ? "logistic" : null;
}

/** Where each node of each tree stands. */
class NodeIndex {
  readonly #byTree = new Map<number, Map<number, number>>();
  readonly roots: number[] = [];
  size = 0;

  constructor(treeIds: readonly number[], nodeIds: readonly number[]) {
    let tree = new Map<number, number>();
    for (let i = 0; i < treeIds.length; i++) {
      if (!this.#byTree.has(treeIds[i])) {
        this.roots.push(i);
        tree = new Map<number, number>();
        this.#byTree.set(treeIds[i], tree);
      }
      if (treeIds[i] === treeIds[this.roots[this.roots.length - 1]] && !tree.has(nodeIds[i])) this.size += 1;
      tree.set(nodeIds[i], i);
    }
  }

  /** @returns -1: there is no such node */
  of(tree: number, id: number): number {
    return this.#byTree.get(tree)?.get(id) ?? -1;
  }
}

/** By node; null where a leaf adds to anything but the one sum. */
function leafValues(node: GraphNode, link: Link, nodes: NodeIndex, count: number): Float32Array | null {
  const kind = link === "sigmoid" ? "target" : "class";
  const [treeIds, nodeIds, ids] = ["treeids", "nodeids", "ids"].map((name) => node.ints(`${kind}_${name}`));
  const weights = node.floats(`${kind}_weights`);
  const values = new Float32Array(count);
  const seen = new Uint8Array(count);
  for (const [i, weight] of weights.entries()) {
    const of = nodes.of(treeIds[i], nodeIds[i]);
    if (of < 0 || seen[of] === 1 || ids[i] !== ids[0]) return null;
    seen[of] = 1;
    values[of] = weight;
  }
  return values;
}

/** Every node except the roots is the child of one earlier node, so walking down always ends. */
function areTrees({ roots, left, right, feature }: FlatTrees, features: number): boolean {
  const parents = new Uint8Array(left.length);
  for (const root of roots) parents[root] = 1;
  for (let node = 0; node < left.length; node++) {
    if (feature[node] < 0 || feature[node] >= features) return false;
    if (left[node] === node) continue;
    for (const child of [left[node], right[node]])
      if (child <= node || child >= left.length || ++parents[child] > 1) return false;
  }
  return !parents.includes(0);
}
