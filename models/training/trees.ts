import type { Matrix } from "./matrix.js";

/** A binary decision tree. Node 0 is the root; a leaf has -1 as `left` and `right`. */
export interface Tree {
  feature: Int32Array;
  /** A row goes left when its value is not above it (float32, like the values; -0 equals 0). */
  threshold: Float32Array;
  left: Int32Array;
  right: Int32Array;
  /** 1: a missing value (NaN) goes left. */
  missingLeft: Uint8Array;
  /** A leaf's share of the raw score, shrinkage included; 0 elsewhere. */
  value: Float32Array;
  /** Training rows that reached the node (those the tree was grown on): what path-dependent TreeSHAP weighs by. */
  cover: Uint32Array;
}

/** Trees whose values add up to the logarithm of the odds. */
export interface TreeEnsemble {
  /** The raw score (log-odds) before any tree. */
  baseScore: number;
  trees: Tree[];
  features: number;
}

/** Rows walked through all trees before the next ones, so that they stay in the cache. */
const ROWS_AT_ONCE = 512;

/** @param out the log-odds, one a row */
export function predictRaw(ensemble: TreeEnsemble, matrix: Matrix, out: Float64Array): void {
  out.fill(ensemble.baseScore, 0, matrix.rows);
  for (let from = 0; from < matrix.rows; from += ROWS_AT_ONCE) {
    const to = Math.min(from + ROWS_AT_ONCE, matrix.rows);
    for (const tree of ensemble.trees) addTree(tree, matrix, from, to, out);
  }
}

/** Adds a tree's values to the log-odds of rows `from` to `to`. */
export function addTree(tree: Tree, matrix: Matrix, from: number, to: number, out: Float64Array): void {
  const { feature, threshold, left, right, missingLeft, value } = tree;
  const { values, features } = matrix;
  for (let row = from, base = from * features; row < to; row++, base += features) {
    let node = 0;
    for (let next = left[0]; next !== -1; next = left[node]) {
      const x = values[base + feature[node]];
      node = x <= threshold[node] || (x !== x && missingLeft[node] === 1) ? next : right[node];
    }
    out[row] += value[node];
  }
}
