import { FunctionBuilder, assemble, op } from "../training/wasm.js";
import type { FlatTrees } from "./tree-ensemble.js";

/** What is used here of the global of that name, which Node's types leave out. */
declare const WebAssembly: {
  Memory: new (limits: { initial: number }) => { readonly buffer: ArrayBuffer };
  Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  Instance: new (module: object, imports: { env: { memory: object } }) => { exports: unknown };
};

/** Addresses are bytes. Adds the leaves that rows reach to `out[…]`, tree by tree. */
type AddTrees = (trees: number, treesEnd: number, rows: number, stride: number, out: number, outEnd: number) => void;

/**
 * A node: threshold (float32), address of the left child (the right one is its neighbour), offset of the feature in a
 * row, whether missing goes left, value.
 */
const NODE = { bytes: 16, child: 4, feature: 8, missingLeft: 10, value: 12 } as const;
/** Of a tree: the address of its root, its depth. */
const TREE_BYTES = 8;
const PAGE_BYTES = 65_536;
const MOST_FEATURES = 16_384;
/** Rows that go through all trees before the next ones: so they and a tree stay in the first-level cache. */
const ROWS_AT_ONCE = 128;

/** Without a branch that depends on the data: the processor works on several rows at once. */
function addTrees(): FunctionBuilder {
  const kernel = new FunctionBuilder(null);
  const [tree, treesEnd, rows, stride, out, outEnd] = Array.from({ length: 6 }, () => kernel.param("i32"));
  const [node, left, row, to] = Array.from({ length: 4 }, () => kernel.local("i32"));
  const x = kernel.local("f32");
  const isLeft = [
    ...row.get,
    ...node.get,
    ...op.load16(NODE.feature),
    ...op.add,
    ...op.loadF32(),
    ...x.tee,
    ...node.get,
    ...op.loadF32(),
    ...op.atMostF32,
    ...x.get,
    ...x.get,
    ...op.differF32,
    ...node.get,
    ...op.load8(NODE.missingLeft),
    ...op.and,
    ...op.or,
  ];
  const step = [
    ...node.get,
    ...op.load32(NODE.child),
    ...isLeft,
    ...op.isZero,
    ...op.i32(4),
    ...op.shiftLeft,
    ...op.add,
    ...node.set,
  ];
  const descend = op.loop(step, left.get, op.i32(1), op.sub, left.tee, op.branchIf(0));
  const eachRow = op.loop(
    tree.get,
    op.load32(),
    node.set,
    tree.get,
    op.load32(4),
    left.set,
    descend,
    to.get,
    to.get,
    op.loadF32(),
    node.get,
    op.loadF32(NODE.value),
    op.addF32,
    op.storeF32(),
    row.get,
    stride.get,
    op.add,
    row.set,
    to.get,
    op.i32(4),
    op.add,
    to.tee,
    outEnd.get,
    op.below,
    op.branchIf(0),
  );
  return kernel.body(
    op.loop(
      rows.get,
      row.set,
      out.get,
      to.set,
      eachRow,
      tree.get,
      op.i32(TREE_BYTES),
      op.add,
      tree.tee,
      treesEnd.get,
      op.below,
      op.branchIf(0),
    ),
  );
}

/**
 * Trees in WebAssembly, five to ten times as fast as onnxruntime's (tests/bench/README.md). It adds float32 leaves up
 * in the order of the trees, as onnxruntime does.
 */
export class TreeKernel {
  readonly #features: number;
  readonly #trees: FlatTrees;
  readonly #add: AddTrees;
  readonly #table: number;
  readonly #tableEnd: number;
  readonly #input: Float32Array;
  readonly #sums: Float32Array;

  /** @returns null where trees are so unbalanced, or rows so wide, that onnxruntime does better */
  static of(trees: FlatTrees, features: number): TreeKernel | null {
    const depths = depthsOf(trees);
    // Every row takes as many steps as a tree is deep.
    const balanced = depths.every(({ deepest, nodes }) => deepest <= 4 * Math.log2(nodes + 1));
    return balanced && features <= MOST_FEATURES && depths.length > 0 ? new TreeKernel(trees, features, depths) : null;
  }

  private constructor(trees: FlatTrees, features: number, depths: readonly { deepest: number }[]) {
    const nodes = trees.left.length;
    // Both children of a node lie side by side; each root has a pair's place to itself.
    const address = new Int32Array(nodes);
    let end = 0;
    for (const root of trees.roots) address[root] = (end += 2 * NODE.bytes) - 2 * NODE.bytes;
    for (let node = 0; node < nodes; node++) {
      if (trees.left[node] === node) continue;
      address[trees.left[node]] = end;
      address[trees.right[node]] = end + NODE.bytes;
      end += 2 * NODE.bytes;
    }
    this.#table = end;
    this.#tableEnd = end + TREE_BYTES * trees.roots.length;
    const inputAt = this.#tableEnd;
    const sumsAt = inputAt + 4 * ROWS_AT_ONCE * features;
    const memory = new WebAssembly.Memory({ initial: Math.ceil((sumsAt + 4 * ROWS_AT_ONCE) / PAGE_BYTES) });
    const view = new DataView(memory.buffer);
    for (let node = 0; node < nodes; node++) {
      const at = address[node];
      const leaf = trees.left[node] === node;
      view.setFloat32(at, leaf ? Number.POSITIVE_INFINITY : trees.threshold[node], true);
      view.setInt32(at + NODE.child, address[trees.left[node]], true);
      view.setUint16(at + NODE.feature, 4 * trees.feature[node], true);
      view.setUint8(at + NODE.missingLeft, leaf ? 1 : trees.missingLeft[node]);
      view.setFloat32(at + NODE.value, trees.value[node], true);
    }
    trees.roots.forEach((root, tree) => {
      view.setInt32(this.#table + TREE_BYTES * tree, address[root], true);
      view.setInt32(this.#table + TREE_BYTES * tree + 4, Math.max(1, depths[tree].deepest), true);
    });
    this.#features = features;
    this.#trees = trees;
    this.#input = new Float32Array(memory.buffer, inputAt, ROWS_AT_ONCE * features);
    this.#sums = new Float32Array(memory.buffer, sumsAt, ROWS_AT_ONCE);
    const instance = new WebAssembly.Instance(new WebAssembly.Module(assemble({ addTrees: addTrees() }, "own")), {
      env: { memory },
    });
    this.#add = (instance.exports as { addTrees: AddTrees }).addTrees;
  }

  /** @param features row by row @returns the probabilities, one a row */
  score(features: Float32Array, rows: number): Float32Array {
    const { base, link } = this.#trees;
    const width = this.#features;
    const scores = new Float32Array(rows);
    for (let from = 0; from < rows; from += ROWS_AT_ONCE) {
      const count = Math.min(ROWS_AT_ONCE, rows - from);
      this.#input.set(features.subarray(from * width, (from + count) * width));
      this.#sums.fill(0);
      const out = this.#sums.byteOffset;
      this.#add(this.#table, this.#tableEnd, this.#input.byteOffset, 4 * width, out, out + 4 * count);
      for (let i = 0; i < count; i++) {
        const logOdds = Math.fround(this.#sums[i] + base);
        scores[from + i] = link === "sigmoid" ? 1 / (1 + Math.exp(-logOdds)) : logistic(logOdds);
      }
    }
    return scores;
  }
}

/** In float32 at each step, as onnxruntime's tree ensembles compute it. */
function logistic(logOdds: number): number {
  const upper = Math.fround(1 / Math.fround(1 + Math.fround(Math.exp(-Math.abs(logOdds)))));
  return logOdds < 0 ? Math.fround(1 - upper) : upper;
}

function depthsOf({ roots, left, right }: FlatTrees): { deepest: number; nodes: number }[] {
  const depth = new Int32Array(left.length);
  return roots.map((root, tree) => {
    const end = roots[tree + 1] ?? left.length;
    let deepest = 0;
    // Children stand behind their parents.
    for (let node = root; node < end; node++) {
      deepest = Math.max(deepest, depth[node]);
      if (left[node] !== node) depth[left[node]] = depth[right[node]] = depth[node] + 1;
    }
    return { deepest, nodes: end - root };
  });
}
