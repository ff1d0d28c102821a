import { describe, expect, it } from "vitest";
import { labelled, raw, train } from "./rows.js";

const ONE = { num_iterations: 1, max_depth: 1, learning_rate: 1, min_child_weight: 0 };

describe("one split, worked out by hand", () => {
  it("halves separable data: at even odds each row has gradient ±1/2 and hessian 1/4", () => {
    const part = labelled([[1], [2], [3], [4], [5], [6], [7], [8]], [0, 0, 0, 0, 1, 1, 1, 1]);
    const { trees, baseScore } = train(part, ONE);
    expect(baseScore).toBe(0);
    // Left: G = 2, H = 1, so -G / (H + lambda) = -1.
    expect(trees[0]).toEqual({
      feature: Int32Array.of(0, 0, 0),
      threshold: Float32Array.of(4.5, 0, 0),
      left: Int32Array.of(1, -1, -1),
      right: Int32Array.of(2, -1, -1),
      missingLeft: Uint8Array.of(1, 0, 0),
      value: Float32Array.of(0, -1, 1),
      cover: Uint32Array.of(8, 4, 4),
    });
  });

  it("scales leaf values by learning rate and lambda", () => {
    const part = labelled([[1], [2], [3], [4], [5], [6]], [0, 0, 1, 1, 1, 1]);
    const [tree] = train(part, { ...ONE, learning_rate: 0.1, lambda_l2: 0.5 }).trees;
    expect(tree.threshold[0]).toBe(2.5);
    // Left: G = 1, H = 0.5; right: G = -2, H = 1.
    expect([...tree.value]).toEqual([0, Math.fround(-0.1), Math.fround((2 / 1.5) * 0.1)]);
  });

  it("chooses the feature with the greater gain", () => {
    const part = labelled(
      [
        [1, 1],
        [2, 1],
        [1, 1],
        [2, 2],
        [1, 2],
        [2, 2],
      ],
      [0, 0, 0, 1, 1, 1],
    );
    expect(train(part, ONE).trees[0].feature[0]).toBe(1);
  });

  it("needs the requested gain: here 2 * 1.5² / 1.75 = 2.571", () => {
    const part = labelled([[1], [2], [3], [4], [5], [6]], [0, 0, 0, 1, 1, 1]);
    expect(train(part, { ...ONE, min_gain_to_split: 2.57 }).trees[0].left.length).toBe(3);
    expect(train(part, { ...ONE, min_gain_to_split: 2.58 }).trees[0].left.length).toBe(1);
  });

  it("leaves at least the requested sum of hessians on each side", () => {
    const part = labelled([[1], [2], [3], [4], [5], [6]], [1, 1, 0, 0, 0, 0]);
    expect(train(part, { ...ONE, min_child_weight: 0.5 }).trees[0].threshold[0]).toBe(2.5);
    // 0.75 is three rows: only the middle is left.
    expect(train(part, { ...ONE, min_child_weight: 0.75 }).trees[0].threshold[0]).toBe(3.5);
    expect(train(part, { ...ONE, min_child_weight: 0.76 }).trees[0].left.length).toBe(1);
  });

  it("cuts a gap in the middle of the node's values, though other nodes have values in it", () => {
    // The root splits on the first feature; in its right child, 1 and 9 are left of the second.
    const part = labelled(
      [
        [0, 4],
        [0, 5],
        [0, 6],
        [0, 5],
        [1, 1],
        [1, 1],
        [1, 9],
        [1, 9],
      ],
      [0, 0, 0, 0, 0, 1, 1, 1],
    );
    const [tree] = train(part, { ...ONE, max_depth: 2 }).trees;
    expect([tree.feature[0], tree.threshold[0]]).toEqual([0, 0.5]);
    const right = tree.right[0];
    expect([tree.feature[right], tree.threshold[right]]).toEqual([1, 4.5]);
  });

  it("starts at the training odds when asked, and counts frauds by their weight", () => {
    const part = labelled([[1], [2], [3], [4]], [0, 0, 0, 1]);
    expect(train(part, { ...ONE, boost_from_average: true }).baseScore).toBe(Math.fround(Math.log(1 / 3)));
    const [tree] = train(part, { ...ONE, scale_pos_weight: 3 }).trees;
    // Left: G = 1.5, H = 0.75; right: G = -1.5, H = 0.75.
    expect([...tree.value]).toEqual([0, Math.fround(-1.5 / 1.75), Math.fround(1.5 / 1.75)]);
  });
});

describe("missing values", () => {
  const values = [[1], [1], [2], [2], [NaN], [NaN]];

  it("go right with frauds", () => {
    const [tree] = train(labelled(values, [0, 0, 1, 1, 1, 1]), ONE).trees;
    expect([tree.threshold[0], tree.missingLeft[0], ...tree.cover]).toEqual([1.5, 0, 6, 2, 4]);
  });

  it("go left with genuine rows", () => {
    const [tree] = train(labelled(values, [0, 0, 1, 1, 0, 0]), ONE).trees;
    expect([tree.threshold[0], tree.missingLeft[0], ...tree.cover]).toEqual([1.5, 1, 6, 4, 2]);
  });

  it("are split from all numbers if that is best", () => {
    const part = labelled([[1], [2], [1], [2], [NaN], [NaN]], [0, 0, 0, 0, 1, 1]);
    const ensemble = train(part, ONE);
    expect([...ensemble.trees[0].cover]).toEqual([6, 4, 2]);
    const others = labelled([[3.4028234663852886e38], [-3.4028234663852886e38], [NaN]], [0, 0, 1]);
    expect([...raw(ensemble, others)]).toEqual([-1, -1, Math.fround(1 / 1.5)]);
  });

  it("that training never saw go where most rows went", () => {
    expect(train(labelled([[1], [2], [2], [2]], [0, 1, 1, 1]), ONE).trees[0].missingLeft[0]).toBe(0);
    expect(train(labelled([[1], [1], [1], [2]], [0, 0, 0, 1]), ONE).trees[0].missingLeft[0]).toBe(1);
  });
});

describe("neighbouring values", () => {
  it("-0 and 0 are one value", () => {
    expect(train(labelled([[-0], [0], [-0], [0]], [0, 1, 0, 1]), ONE).trees[0].left.length).toBe(1);
  });

  it("the smallest step of float32 is told apart, and the lower value stays left", () => {
    const next = Math.fround(1 + 2 ** -23);
    const part = labelled([[1], [1], [next], [next]], [0, 0, 1, 1]);
    const ensemble = train(part, ONE);
    expect(ensemble.trees[0].threshold[0]).toBe(1);
    expect([...raw(ensemble, part)].map(Math.sign)).toEqual([-1, -1, 1, 1]);
  });

  it("of great magnitude don't overflow", () => {
    const part = labelled([[-3e38], [-3e38], [3e38], [3.4e38]], [0, 0, 1, 1]);
    expect(train(part, ONE).trees[0].threshold[0]).toBe(0);
  });
});
