import type { CoveredTree } from "../../models/explain/splits.js";

/**
 * A random tree whose paths test features again and again, with thresholds that rows meet exactly, and empty leaves.
 */
export function randomTree(random: () => number, features: number, depth: number, cover = 1000): CoveredTree {
  const nodes: {
    feature: number;
    threshold: number;
    left: number;
    right: number;
    missingLeft: number;
    value: number;
    cover: number;
  }[] = [];
  const grow = (level: number, reached: number): number => {
    const id = nodes.length;
    const node = { feature: 0, threshold: 0, left: -1, right: -1, missingLeft: 0, value: 0, cover: reached };
    nodes.push(node);
    if (level === depth || reached < 2 || random() < 0.1) {
      node.value = Math.fround(random() * 4 - 2);
      return id;
    }
    const toLeft = random() < 0.1 ? 0 : Math.floor(random() * reached);
    node.feature = Math.floor(random() * features);
    node.threshold = Math.fround(Math.floor(random() * 5) - 2);
    node.missingLeft = random() < 0.5 ? 1 : 0;
    node.left = grow(level + 1, toLeft);
    node.right = grow(level + 1, reached - toLeft);
    return id;
  };
  grow(0, cover);
  return {
    feature: Int32Array.from(nodes, (node) => node.feature),
    threshold: Float32Array.from(nodes, (node) => node.threshold),
    left: Int32Array.from(nodes, (node) => node.left),
    right: Int32Array.from(nodes, (node) => node.right),
    missingLeft: Uint8Array.from(nodes, (node) => node.missingLeft),
    value: Float32Array.from(nodes, (node) => node.value),
    cover: Float64Array.from(nodes, (node) => node.cover),
  };
}

export function randomRow(random: () => number, features: number): Float32Array {
  return Float32Array.from({ length: features }, () =>
    random() < 0.15 ? Number.NaN : Math.floor(random() * 6) - 2.5 + (random() < 0.5 ? 0.5 : 0),
  );
}

/**
 * What a tree is worth when only the features of a set (bits) are known: the definition in Lundberg et al. 2018,
 * Algorithm 1.
 */
export function worth(tree: CoveredTree, row: Float32Array, known: number, node = 0): number {
  const { feature, threshold, left, right, missingLeft, value, cover } = tree;
  if (left[node] === -1) return value[node];
  const x = row[feature[node]];
  if ((known >> feature[node]) & 1)
    return worth(
      tree,
      row,
      known,
      x <= threshold[node] || (Number.isNaN(x) && missingLeft[node] === 1) ? left[node] : right[node],
    );
  return [left[node], right[node]].reduce(
    (sum, child) => sum + (cover[child] === 0 ? 0 : (cover[child] / cover[node]) * worth(tree, row, known, child)),
    0,
  );
}

/** Shapley values by their definition: over every subset of the features. */
export function shapley(features: number, worthOf: (known: number) => number): number[] {
  const factorial = (n: number): number => (n < 2 ? 1 : n * factorial(n - 1));
  return Array.from({ length: features }, (_, feature) => {
    let sum = 0;
    for (let known = 0; known < 1 << features; known++) {
      if ((known >> feature) & 1) continue;
      const size = known.toString(2).replaceAll("0", "").length;
      sum +=
        ((factorial(size) * factorial(features - size - 1)) / factorial(features)) *
        (worthOf(known | (1 << feature)) - worthOf(known));
    }
    return sum;
  });
}
