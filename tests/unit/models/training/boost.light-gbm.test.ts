import { describe, expect, it } from "vitest";
import { PLAIN, labelled, randomRows, train } from "./rows.js";

const part = randomRows(3000, 6, 1);

function leaves(params: Record<string, unknown>): number[] {
  return train(part, { num_iterations: 3, min_child_weight: 0.1, ...params }).trees.map(
    ({ left }) => left.filter((child) => child === -1).length,
  );
}

describe("LightGBM's parameters", () => {
  it("num_leaves alone grows as many leaves, beyond what the default depth allows", () => {
    expect(leaves({ num_leaves: 127 })).toEqual([127, 127, 127]);
    expect(leaves({ max_leaves: 100, grow_policy: "depthwise" })).toEqual([100, 100, 100]);
    expect(leaves({ num_leaves: 6, max_depth: 10 })).toEqual([6, 6, 6]);
  });

  it("min_data_in_leaf keeps rows together: with equal hessians their number is exact", () => {
    const params = { num_iterations: 1, min_child_weight: 0, max_depth: 12 };
    for (const least of [2, 20, 150, 1500]) {
      const [{ cover, left }] = train(part, { ...params, min_child_samples: least }).trees;
      expect(Math.min(...[...cover].filter((_, node) => left[node] === -1))).toBeGreaterThanOrEqual(least);
    }
    const [alone] = train(part, { ...params, min_data_in_leaf: 1501 }).trees;
    expect([...alone.left]).toEqual([-1]);
  });

  it("lambda_l1 shrinks sums of gradients in gains and leaves", () => {
    // Two frauds and four genuine: gradients at even odds are -0.5 and 0.5, hessians 0.25.
    const rows = labelled([[1], [1], [2], [2], [2], [2]], [1, 1, 0, 0, 0, 0]);
    const params = { ...PLAIN, num_iterations: 1, learning_rate: 1, lambda_l2: 0, min_child_weight: 0 };
    const leaf = (l1: number): number[] => {
      const [{ value, left }] = train(rows, { ...params, reg_alpha: l1 }).trees;
      return [...value].filter((_, node) => left[node] === -1);
    };
    expect(leaf(0)).toEqual([2, -2]);
    expect(leaf(0.5)).toEqual([1, -1.5]);
    // Beyond the sum of a side nothing of it is left.
    expect(leaf(1)).toEqual([0, -1]);
    expect(leaf(3).map(Math.abs)).toEqual([0]);
  });

  it("a tiny lambda_l1 gives the same trees as none", () => {
    const params = { num_iterations: 5, max_depth: 4 };
    const structure = (l1: number): unknown =>
      train(part, { ...params, lambda_l1: l1 }).trees.map(({ feature, threshold, left }) => ({
        feature,
        threshold,
        left,
      }));
    expect(structure(1e-12)).toEqual(structure(0));
  });

  it("bagging_freq draws rows every so many trees, or never", () => {
    const roots = (freq: number): number[] =>
      train(part, { num_iterations: 6, bagging_fraction: 0.5, bagging_freq: freq }).trees.map(({ cover }) => cover[0]);
    expect(new Set(roots(1)).size).toBe(6);
    const [first, second, third, fourth, fifth, sixth] = roots(3);
    expect([second, third, fifth, sixth]).toEqual([first, first, fourth, fourth]);
    expect(fourth).not.toBe(first);
    expect(roots(0)).toEqual([3000, 3000, 3000, 3000, 3000, 3000]);
  });

  it("is_unbalance weighs frauds as scale_pos_weight = genuine / frauds does", () => {
    const frauds = part.labels.reduce((sum, label) => sum + label, 0);
    const params = { num_iterations: 5 };
    expect(train(part, { ...params, is_unbalance: true })).toEqual(
      train(part, { ...params, scale_pos_weight: (3000 - frauds) / frauds }),
    );
  });
});
