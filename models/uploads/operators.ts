import { FraudstreamError } from "../../schemas/errors.js";
import { fieldsOf } from "../onnx/fields.js";
import { GraphNode } from "../onnx/read-graph.js";

/**
 * The operators that a model may have: those that scikit-learn's, LightGBM's, XGBoost's, CatBoost's and PyTorch's
 * exporters write for tabular models, as far as the cost of each follows from the shapes of its inputs alone. A graph
 * of only these costs the same whatever the values of a payment are, so that what the upload check measures holds in
 * the stream. Left out are control flow (If, Loop, Scan), what has as many results as the values decide (NonZero,
 * Compress, Unique, NonMaxSuppression), and what isn't a tensor (sequences, optionals, maps).
 */
const ALLOWED: Readonly<Record<string, ReadonlySet<string>>> = {
  "": words(`
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization BitwiseAnd BitwiseNot BitwiseOr
    BitwiseXor Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Cos Cosh CumSum DequantizeLinear Div
    Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu
    Gemm Greater GreaterOrEqual HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul MatMulInteger Max Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearMatMul QuantizeLinear Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice
    Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu
    Unsqueeze Where Xor`),
  "ai.onnx.ml": words(`
    ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier
    LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier
    TreeEnsembleRegressor ZipMap`),
};

/**
 * The inputs that say how large a result is, by their index; of "Reduce…" the axes. They must not come from a payment's
 * values.
 */
const SIZES: Readonly<Record<string, readonly number[]>> = {
  ConstantOfShape: [0],
  Expand: [1],
  OneHot: [1],
  Pad: [1],
  Range: [0, 1, 2],
  Reshape: [1],
  Slice: [1, 2, 3, 4],
  Split: [1],
  Squeeze: [1],
  Tile: [1],
  TopK: [1],
  Unsqueeze: [1],
};
const REDUCTION_SIZES = [1];
/** What these say of a tensor is not its values. */
const SHAPE_ONLY = words("Shape Size");

const CONTROL_FLOW = words("If Loop Scan SequenceMap");
const MODEL = { graph: 7, functions: 25 } as const;
const GRAPH_NODE = 1;
const NODE = { input: 1, output: 2, name: 3, opType: 4, attribute: 5, domain: 7 } as const;
const ATTRIBUTE = { graph: 6, graphs: 11 } as const;
/** Of messages: names are its author's. */
const LONGEST_NAME = 80;

interface Node {
  opType: string;
  domain: string;
  name: string;
  inputs: string[];
  outputs: string[];
  message: Uint8Array;
}

/**
 * Refuses a model whose cost could depend on the values that it is given.
 *
 * @param input the graph's only input
 * @throws FraudstreamError `onnx_operator`, naming operator and node; `onnx_malformed`
 */
export function checkOperators(onnx: Uint8Array, input: string): void {
  const model = [...fieldsOf(onnx)];
  if (model.some((field) => field.no === MODEL.functions)) {
    throw new FraudstreamError(
      "onnx_operator",
      "the model brings functions of its own, which aren't taken: export it with functions inlined " +
        "(onnx.inliner.inline_local_functions)",
    );
  }
  const nodes: Node[] = [];
  for (const graph of model) {
    if (!graph.holds(MODEL.graph)) continue;
    for (const field of fieldsOf(graph.bytes)) if (field.holds(GRAPH_NODE)) nodes.push(nodeOf(field.bytes));
  }
  for (const node of nodes) checkAllowed(node);
  checkSizes(nodes, input);
  for (const node of nodes) if (node.opType.startsWith("TreeEnsemble")) checkTrees(node);
}

function checkAllowed(node: Node): void {
  const { opType, domain } = node;
  if (CONTROL_FLOW.has(opType) || holdsGraph(node.message))
    throw refused(node, "is control flow: how long it runs may depend on the payment");
  const allowed = Object.hasOwn(ALLOWED, domain) ? ALLOWED[domain] : undefined;
  if (allowed === undefined)
    throw refused(
      node,
      `is of the domain ${quoted(domain)}; only ONNX's own operators (ai.onnx and ai.onnx.ml) are taken`,
    );
  if (!allowed.has(opType))
    throw refused(
      node,
      "is not one of the operators that models for the stream may have (those that exporters of tabular " +
        "models write, and whose cost doesn't depend on the payment)",
    );
}

function holdsGraph(node: Uint8Array): boolean {
  for (const field of fieldsOf(node)) {
    if (!field.holds(NODE.attribute)) continue;
    for (const part of fieldsOf(field.bytes)) if (part.holds(ATTRIBUTE.graph, ATTRIBUTE.graphs)) return true;
  }
  return false;
}

/** Follows the payment's values through the graph: none may say how large a result is. */
function checkSizes(nodes: readonly Node[], input: string): void {
  const readers = new Map<string, Node[]>();
  for (const node of nodes) {
    for (const name of node.inputs) {
      const known = readers.get(name);
      if (known === undefined) readers.set(name, [node]);
      else known.push(node);
    }
  }
  const values = new Set([input]);
  for (const name of values) {
    for (const { opType, outputs } of readers.get(name) ?? [])
      if (!SHAPE_ONLY.has(opType)) for (const output of outputs) values.add(output);
  }
  for (const node of nodes) {
    const sizes = SIZES[node.opType] ?? (node.opType.startsWith("Reduce") ? REDUCTION_SIZES : []);
    if (sizes.some((at) => values.has(node.inputs[at] ?? "")))
      throw refused(
        node,
        "takes a size from the payment's values: how long it runs, and its memory, depend on the payment",
      );
  }
}

/** A walk down a tree must come to an end: a node that leads back to one above it would loop for ever. */
function checkTrees(node: Node): void {
  const graphNode = new GraphNode(node.message);
  const [treeIds, nodeIds, whenTrue, whenFalse] = [
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_truenodeids",
    "nodes_falsenodeids",
  ].map((name) => graphNode.ints(name));
  // From ai.onnx.ml 5 on, nodes are named by their position, and a child may be a leaf instead.
  const byPosition = node.opType === "TreeEnsemble";
  const [trueLeafs, falseLeafs] = ["nodes_trueleafs", "nodes_falseleafs"].map((name) => graphNode.ints(name));
  const modes = byPosition ? [] : graphNode.texts("nodes_modes");
  const place = new Map<string, number>();
  if (!byPosition) nodeIds.forEach((id, i) => place.set(`${treeIds[i]} ${id}`, i));
  const child = (i: number, ids: readonly number[], leafs: readonly number[]): number => {
    if (byPosition) return leafs[i] === 1 ? -1 : (ids[i] ?? -1);
    return modes[i] === "LEAF" ? -1 : (place.get(`${treeIds[i]} ${ids[i]}`) ?? -1);
  };
  const children = whenTrue.map((_, i) => [child(i, whenTrue, trueLeafs), child(i, whenFalse, falseLeafs)]);
  if (hasCycle(children)) throw refused(node, "has a tree whose nodes lead back to themselves");
}

function hasCycle(children: readonly (readonly number[])[]): boolean {
  const OPEN = 1;
  const DONE = 2;
  const state = new Uint8Array(children.length);
  for (let start = 0; start < children.length; start++) {
    if (state[start] !== 0) continue;
    const path = [{ at: start, next: 0 }];
    state[start] = OPEN;
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const to = children[top.at][top.next++];
      if (to === undefined) {
        state[top.at] = DONE;
        path.pop();
      } else if (to >= 0 && to < children.length) {
        if (state[to] === OPEN) return true;
        if (state[to] === 0) {
          state[to] = OPEN;
          path.push({ at: to, next: 0 });
        }
      }
    }
  }
  return false;
}

function nodeOf(message: Uint8Array): Node {
  const node: Node = { opType: "", domain: "", name: "", inputs: [], outputs: [], message };
  for (const field of fieldsOf(message)) {
    if (field.holds(NODE.input)) node.inputs.push(field.text);
    else if (field.holds(NODE.output)) node.outputs.push(field.text);
    else if (field.holds(NODE.name)) node.name = field.text;
    else if (field.holds(NODE.opType)) node.opType = field.text;
    else if (field.holds(NODE.domain)) node.domain = field.text === "ai.onnx" ? "" : field.text;
  }
  return node;
}

function refused({ opType, name, outputs }: Node, why: string): FraudstreamError {
  return new FraudstreamError(
    "onnx_operator",
    `the model's operator ${quoted(opType)} (node ${quoted(name || (outputs[0] ?? ""))}) ${why}`,
  );
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, LONGEST_NAME));
}

function words(text: string): ReadonlySet<string> {
  return new Set(text.trim().split(/\s+/));
}
