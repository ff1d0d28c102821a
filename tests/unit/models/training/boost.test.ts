import { describe, expect, it } from "vitest";
import { boost } from "../../../../models/training/boost.js";
import { resolveTreeParams } from "../../../../models/training/params.js";
import type { Tree } from "../../../../models/training/trees.js";
import { precisionOf, randomRows, train } from "./rows.js";

const part = randomRows(3000, 6, 1);
const validation = randomRows(3000, 6, 2);

function depthOf(tree: Tree, node = 0): number {
  return tree.left[node] === -1 ? 0 : 1 + Math.max(depthOf(tree, tree.left[node]), depthOf(tree, tree.right[node]));
}

function leavesOf(tree: Tree): number {
  return tree.left.filter((left) => left === -1).length;
}

describe("boosting", () => {
  it("ranks unseen rows well above chance, and better with more trees", () => {
    const rate = validation.labels.reduce((sum, label) => sum + label, 0) / validation.labels.length;
    const few = precisionOf(train(part, { num_iterations: 3 }), validation);
    const many = precisionOf(train(part, { num_iterations: 60 }), validation);
    expect(few).toBeGreaterThan(1.5 * rate);
    expect(many).toBeGreaterThan(few);
  });

  it("gives the same trees for the same seed, others for another", () => {
    const params = { num_iterations: 10, bagging_fraction: 0.5, feature_fraction: 0.5, seed: 7 };
    expect(train(part, params)).toEqual(train(part, params));
    expect(train(part, { ...params, seed: 8 })).not.toEqual(train(part, params));
  });

  it("keeps covers that add up: those of children to their parent's, the root's to the rows it was grown on", () => {
    for (const tree of train(part, { num_iterations: 5 }).trees) {
      expect(tree.cover[0]).toBe(3000);
      tree.left.forEach((left, node) => {
        if (left !== -1) expect(tree.cover[left] + tree.cover[tree.right[node]]).toBe(tree.cover[node]);
      });
    }
    const [bagged] = train(part, { num_iterations: 1, bagging_fraction: 0.25 }).trees;
    expect(bagged.cover[0]).toBeGreaterThan(650);
    expect(bagged.cover[0]).toBeLessThan(850);
  });

  it("uses as many features a tree as it may", () => {
    const used = train(part, { num_iterations: 40, feature_fraction: 0.34 }).trees.map(
      ({ feature, left }) => new Set(feature.filter((_, node) => left[node] !== -1)),
    );
    expect(Math.max(...used.map((features) => features.size))).toBe(2);
    expect(new Set(used.flatMap((features) => [...features])).size).toBe(6);
  });

  it("grows depth-wise to the depth limit, leaf-wise to the leaf limit", () => {
    const depthwise = train(part, { num_iterations: 5, max_depth: 3, min_child_weight: 0 }).trees;
    expect(depthwise.map((tree) => depthOf(tree))).toEqual([3, 3, 3, 3, 3]);
    const leafwise = train(part, {
      num_iterations: 5,
      grow_policy: "leafwise",
      num_leaves: 12,
      max_depth: -1,
      min_child_weight: 0,
    }).trees;
    expect(leafwise.map(leavesOf)).toEqual([12, 12, 12, 12, 12]);
    expect(Math.max(...leafwise.map((tree) => depthOf(tree)))).toBeGreaterThan(4);
    expect(depthOf(train(part, { num_iterations: 1, grow_policy: "leafwise", max_depth: 2 }).trees[0])).toBe(2);
    expect(leavesOf(train(part, { num_iterations: 1, num_leaves: 5, max_depth: 6 }).trees[0])).toBe(5);
  });

  it("leaf-wise growth without a limit of leaves ends where depth-wise does", () => {
    const leafwise = train(part, { num_iterations: 1, grow_policy: "leafwise", num_leaves: 1000, max_depth: 4 })
      .trees[0];
    const depthwise = train(part, { num_iterations: 1, max_depth: 4 }).trees[0];
    expect([...leafwise.value].sort()).toEqual([...depthwise.value].sort());
  });

  it("scores rows left out of the bag as the finished trees do", () => {
    // Were they not kept up to date, the second tree would be grown on wrong gradients and unlike one on exact ones.
    const params = { num_iterations: 30, bagging_fraction: 0.3, seed: 3 };
    expect(precisionOf(train(part, params), validation)).toBeGreaterThan(
      0.9 * precisionOf(train(part, { num_iterations: 30 }), validation),
    );
  });

  it("tolerates constant and empty features", () => {
    const { rows, features, values } = part.matrix;
    const wide = { matrix: { rows, features: 8, values: new Float32Array(rows * 8) }, labels: part.labels };
    for (let row = 0; row < rows; row++)
      wide.matrix.values.set([5, Number.NaN, ...values.subarray(row * features, (row + 1) * features)], row * 8);
    const shifted = train(wide, { num_iterations: 5 });
    const plain = train(part, { num_iterations: 5 });
    expect(shifted.trees.map(({ value }) => value)).toEqual(plain.trees.map(({ value }) => value));
    const nothing = {
      matrix: { rows: 4, features: 1, values: Float32Array.of(1, 1, 1, 1) },
      labels: Uint8Array.of(0, 1, 1, 0),
    };
    expect(train(nothing, { num_iterations: 2 }).trees.map(({ left }) => left.length)).toEqual([1, 1]);
  });
});

describe("early stopping", () => {
  it("keeps the trees up to the best average precision on the validation part", () => {
    const params = { num_iterations: 200, learning_rate: 0.5, max_depth: 6 };
    const stopped = train(part, { ...params, early_stopping_rounds: 10 }, validation);
    const all = train(part, params);
    expect(stopped.trees.length).toBeLessThan(200);
    expect(stopped.trees).toEqual(all.trees.slice(0, stopped.trees.length));
    const at = (trees: number): number => precisionOf({ ...all, trees: all.trees.slice(0, trees) }, validation);
    const best = at(stopped.trees.length);
    for (let trees = 1; trees < stopped.trees.length; trees++) expect(at(trees)).toBeLessThan(best);
    for (let trees = 1; trees <= 10; trees++) expect(at(stopped.trees.length + trees)).toBeLessThanOrEqual(best);
  });

  it("does not look at the validation part unless asked", () => {
    expect(train(part, { num_iterations: 20 }, validation)).toEqual(train(part, { num_iterations: 20 }));
  });
});

it("reports its progress, never going back", () => {
  const told: number[] = [];
  boost(part, null, resolveTreeParams({ num_iterations: 20 }), (_, percent) => told.push(percent));
  expect(told).toEqual([...told].sort((a, b) => a - b));
  expect(told[0]).toBe(0);
  expect(told.at(-1)).toBe(100);
});
