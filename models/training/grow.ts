import { thresholdOf, type BinnedMatrix } from "./bins.js";
import { HistogramLayout } from "./histogram.js";
import type { Arena, Kernels } from "./kernels.js";
import { SplitFinder, shrunk, type Split, type SplitRules } from "./splits.js";
import type { Tree } from "./trees.js";

export interface GrowRules extends SplitRules {
  grow_policy: "depthwise" | "leafwise";
  /** At most; 0 or less: no limit. */
  max_depth: number;
  /** At most. */
  num_leaves: number;
  learning_rate: number;
}

/** A node and its rows: `rows[from..to)` of the grower's. */
interface Node {
  id: number;
  depth: number;
  from: number;
  to: number;
  gradient: number;
  hessian: number;
  /** Kept for the children, where memory allows. */
  histogram: Float64Array | null;
  split: Split | null;
}

/** Histograms beyond this are not kept: both children are then added up from their rows. */
const HISTOGRAM_BYTES = 512 * 1024 * 1024;

/** Grows trees on one binned matrix, with buffers that are used again from tree to tree. */
export class TreeGrower {
  readonly #bins: BinnedMatrix;
  readonly #arena: Arena;
  readonly #kernels: Kernels;
  readonly #layout: HistogramLayout;
  readonly #splits: SplitFinder;
  readonly #rules: GrowRules;
  readonly #free: Float64Array[] = [];
  #inUse = 0;
  readonly #spill: Int32Array;
  readonly #tree = new GrowingTree();
  #rows: Int32Array = new Int32Array();
  #gradients: Float64Array = new Float64Array();
  #features: Int32Array = new Int32Array();
  #leaves: Node[] = [];

  /** @param arena the bins' one */
  constructor(bins: BinnedMatrix, arena: Arena, rules: GrowRules) {
    this.#bins = bins;
    this.#arena = arena;
    this.#kernels = arena.kernels(bins.wide);
    this.#layout = new HistogramLayout(bins, this.#kernels);
    this.#splits = new SplitFinder(this.#layout, this.#kernels, arena, rules);
    this.#rules = rules;
    this.#spill = arena.int32(bins.rows);
  }

  /**
   * Grows a tree by the second-order gain, with histograms of the smaller child and the difference for the larger.
   *
   * @param rows the rows to grow on, in ascending order; left grouped by leaf. It and `gradients` are of the arena
   * @param gradients pairs in row order, exactly summable (see gradients.ts)
   * @param features what the tree may split on, ascending
   */
  grow(rows: Int32Array, gradients: Float64Array, features: Int32Array): Tree {
    this.#rows = rows;
    this.#gradients = gradients;
    this.#features = features;
    this.#tree.clear();
    const root: Node = {
      id: this.#tree.add(rows.length),
      depth: 0,
      from: 0,
      to: rows.length,
      ...this.#sums(0, rows.length),
      histogram: null,
      split: null,
    };
    this.#leaves = [root];
    const open: Node[] = [];
    if (this.#maySplit(root) && features.length > 0) {
      const histogram = this.#take();
      this.#fill(histogram, root);
      this.#evaluate(root, histogram, open);
    }
    let leaves = 1;
    while (leaves < this.#rules.num_leaves) {
      const node = this.#next(open);
      if (node === undefined) break;
      this.#split(node, open, ++leaves === this.#rules.num_leaves);
    }
    for (const node of open) this.#release(node);
    this.#leaves = this.#leaves.filter((node) => this.#tree.isLeaf(node.id));
    for (const { id, gradient, hessian } of this.#leaves) {
      const { lambda_l1, lambda_l2, learning_rate } = this.#rules;
      this.#tree.setValue(id, (-shrunk(gradient, lambda_l1) / (hessian + lambda_l2)) * learning_rate);
    }
    return this.#tree.finish();
  }

  /** Adds the last tree's values to the raw scores of the rows that it was grown on. */
  addToGrown(tree: Tree, raw: Float64Array): void {
    const rows = this.#rows;
    for (const { id, from, to } of this.#leaves) {
      const value = tree.value[id];
      for (let i = from; i < to; i++) raw[rows[i]] += value;
    }
  }

  /** Adds the last tree's values to the raw scores of other rows. */
  addToOthers(tree: Tree, rows: Int32Array, raw: Float64Array): void {
    const { columns, cuts } = this.#bins;
    const lastBin = this.#tree.lastLeftBin;
    for (const row of rows) {
      let node = 0;
      while (tree.left[node] !== -1) {
        const feature = tree.feature[node];
        const bin = columns[feature][row];
        const isLeft = bin > cuts[feature].length ? tree.missingLeft[node] === 1 : bin <= lastBin[node];
        node = isLeft ? tree.left[node] : tree.right[node];
      }
      raw[row] += tree.value[node];
    }
  }

  /** Depth-wise: the first that was opened; leaf-wise: the greatest gain, the first of equal ones. */
  #next(open: Node[]): Node | undefined {
    if (this.#rules.grow_policy === "depthwise") return open.shift();
    let best = -1;
    let gain = -Infinity;
    for (const [i, node] of open.entries()) {
      if (node.split !== null && node.split.gain > gain) {
        best = i;
        gain = node.split.gain;
      }
    }
    return best === -1 ? undefined : open.splice(best, 1)[0];
  }

  #split(parent: Node, open: Node[], last: boolean): void {
    const split = parent.split;
    if (split === null) throw new Error("only nodes with a split are opened");
    const { id, depth, from, to } = parent;
    const middle = this.#partition(from, to, split);
    // Values that are missing for the first time when scoring go where most rows went.
    const missingLeft = split.missingLeft ?? middle - from >= to - middle;
    const threshold = thresholdOf(this.#bins, split.feature, split.bin);
    const [leftId, rightId] = this.#tree.split(
      id,
      split.feature,
      threshold,
      split.bin,
      missingLeft,
      middle - from,
      to - middle,
    );
    const left: Node = {
      id: leftId,
      depth: depth + 1,
      from,
      to: middle,
      gradient: split.leftGradient,
      hessian: split.leftHessian,
      histogram: null,
      split: null,
    };
    const right: Node = {
      id: rightId,
      depth: depth + 1,
      from: middle,
      to,
      gradient: parent.gradient - split.leftGradient,
      hessian: parent.hessian - split.leftHessian,
      histogram: null,
      split: null,
    };
    this.#leaves.push(left, right);
    if (!last) this.#evaluateChildren(parent, left, right, open);
    this.#release(parent);
  }

  /** The parent's histogram, where it was kept, turns into the larger child's. */
  #evaluateChildren(parent: Node, left: Node, right: Node, open: Node[]): void {
    const [small, large] = left.to - left.from <= right.to - right.from ? [left, right] : [right, left];
    const needSmall = this.#maySplit(small);
    const needLarge = this.#maySplit(large);
    const inherited = needLarge ? parent.histogram : null;
    if (inherited !== null) parent.histogram = null;
    let own: Float64Array | null = null;
    if (needSmall) {
      own = this.#take();
      this.#fill(own, small);
    }
    let rest: Float64Array | null = null;
    if (needLarge) {
      rest = inherited ?? this.#take();
      if (inherited === null) this.#fill(rest, large);
      else if (own !== null) this.#layout.subtract(rest, own, this.#features);
      else this.#layout.remove(rest, this.#features, this.#rows, small.from, small.to, this.#gradients);
    }
    // Left first, so that equal gains are resolved by position.
    const [leftHistogram, rightHistogram] = small === left ? [own, rest] : [rest, own];
    if (leftHistogram !== null) this.#evaluate(left, leftHistogram, open);
    if (rightHistogram !== null) this.#evaluate(right, rightHistogram, open);
  }

  /** Finds the node's best split; a node that has one is opened. */
  #evaluate(node: Node, histogram: Float64Array, open: Node[]): void {
    node.histogram = histogram;
    node.split = this.#splits.best(histogram, this.#features, node.gradient, node.hessian, node.to - node.from);
    const childrenMaySplit = this.#rules.max_depth <= 0 || node.depth + 1 < this.#rules.max_depth;
    if (node.split === null || !childrenMaySplit || this.#inUse * this.#layout.size * 8 > HISTOGRAM_BYTES)
      this.#release(node);
    if (node.split !== null) open.push(node);
  }

  #maySplit({ depth, from, to, hessian }: Node): boolean {
    const { max_depth, min_sum_hessian_in_leaf, min_data_in_leaf } = this.#rules;
    const rows = to - from;
    return (
      rows >= Math.max(2, 2 * min_data_in_leaf) &&
      (max_depth <= 0 || depth < max_depth) &&
      hessian >= 2 * min_sum_hessian_in_leaf
    );
  }

  #take(): Float64Array {
    this.#inUse++;
    return this.#free.pop() ?? this.#arena.float64(this.#layout.size);
  }

  #release(node: Node): void {
    if (node.histogram === null) return;
    this.#inUse--;
    this.#free.push(node.histogram);
    node.histogram = null;
  }

  #fill(histogram: Float64Array, node: Node): void {
    this.#layout.clear(histogram, this.#features);
    this.#layout.add(histogram, this.#features, this.#rows, node.from, node.to, this.#gradients);
  }

  #sums(from: number, to: number): { gradient: number; hessian: number } {
    let gradient = 0;
    let hessian = 0;
    for (let i = from; i < to; i++) {
      const row = this.#rows[i];
      gradient += this.#gradients[2 * row];
      hessian += this.#gradients[2 * row + 1];
    }
    return { gradient, hessian };
  }

  /** Moves the rows that go left before the others, both in their order. @returns where the others start */
  #partition(from: number, to: number, { feature, bin, missingLeft }: Split): number {
    const rows = this.#rows;
    const column = this.#bins.columns[feature].byteOffset;
    // The bin of missing values comes last: they go right unless it is named.
    const alsoLeft = missingLeft === true ? this.#bins.cuts[feature].length + 1 : -1;
    const end = this.#kernels.partition(
      rows.byteOffset + 4 * from,
      rows.byteOffset + 4 * to,
      this.#spill.byteOffset,
      column,
      bin,
      alsoLeft,
    );
    const middle = ((end >>> 0) - rows.byteOffset) / 4;
    rows.set(this.#spill.subarray(0, to - middle), middle);
    return middle;
  }
}

/** The columns of a tree that grows. */
class GrowingTree {
  #feature: number[] = [];
  #threshold: number[] = [];
  #left: number[] = [];
  #right: number[] = [];
  #missingLeft: number[] = [];
  #value: number[] = [];
  #cover: number[] = [];
  /** Bins up to it go left. */
  lastLeftBin: number[] = [];

  clear(): void {
    for (const column of [
      this.#feature,
      this.#threshold,
      this.#left,
      this.#right,
      this.#missingLeft,
      this.#value,
      this.#cover,
      this.lastLeftBin,
    ])
      column.length = 0;
  }

  /** Adds a leaf. @returns its id */
  add(cover: number): number {
    this.#feature.push(0);
    this.#threshold.push(0);
    this.#left.push(-1);
    this.#right.push(-1);
    this.#missingLeft.push(0);
    this.#value.push(0);
    this.lastLeftBin.push(-1);
    return this.#cover.push(cover) - 1;
  }

  split(
    id: number,
    feature: number,
    threshold: number,
    bin: number,
    missingLeft: boolean,
    leftCover: number,
    rightCover: number,
  ): [left: number, right: number] {
    this.#feature[id] = feature;
    this.#threshold[id] = threshold;
    this.#missingLeft[id] = missingLeft ? 1 : 0;
    this.lastLeftBin[id] = bin;
    this.#left[id] = this.add(leftCover);
    this.#right[id] = this.add(rightCover);
    return [this.#left[id], this.#right[id]];
  }

  isLeaf(id: number): boolean {
    return this.#left[id] === -1;
  }

  setValue(id: number, value: number): void {
    this.#value[id] = value;
  }

  finish(): Tree {
    return {
      feature: Int32Array.from(this.#feature),
      threshold: Float32Array.from(this.#threshold),
      left: Int32Array.from(this.#left),
      right: Int32Array.from(this.#right),
      missingLeft: Uint8Array.from(this.#missingLeft),
      value: Float32Array.from(this.#value),
      cover: Uint32Array.from(this.#cover),
    };
  }
}
