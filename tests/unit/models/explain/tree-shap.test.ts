import { describe, expect, it } from "vitest";
import { gaussLegendre } from "../../../../models/explain/quadrature.js";
import type { CoveredTree } from "../../../../models/explain/splits.js";
import { atOnce } from "../../../../models/explain/pieces.js";
import { TreeShap } from "../../../../models/explain/tree-shap.js";
import { seededRandom } from "../../../../models/training/random.js";
import { addTree } from "../../../../models/training/trees.js";
import { randomRows, raw, train } from "../training/rows.js";
import { randomRow, randomTree, shapley, worth } from "../../../support/random-trees.js";

function contributions(shap: TreeShap, row: Float32Array): Float64Array {
  const out = new Float64Array(shap.features).fill(9);
  shap.contributions(row, 0, out);
  return out;
}

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

function greatestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i])));
}

function predicted(tree: CoveredTree, row: Float32Array): number {
  const out = new Float64Array(1);
  addTree({ ...tree, cover: new Uint32Array() }, { rows: 1, features: row.length, values: row }, 0, 1, out);
  return out[0];
}

describe("contributions", () => {
  it.each([1, 2, 3, 5, 8])("are the Shapley values by their definition, of %d features", (features) => {
    const random = seededRandom(features);
    let worst = 0;
    let told = 0;
    for (let round = 0; round < 60; round++) {
      const trees = [randomTree(random, features, 1 + (round % 9)), randomTree(random, features, 4)];
      const shap = atOnce(TreeShap.of({ baseScore: 0.25, trees, features }));
      const row = randomRow(random, features);
      const expected = shapley(features, (known) => sum(trees.map((tree) => worth(tree, row, known))));
      const got = contributions(shap, row);
      worst = Math.max(worst, greatestDifference(got, expected));
      told += expected.filter((value) => Math.abs(value) > 0.01).length;
      expect(shap.expected).toBeCloseTo(0.25 + sum(trees.map((tree) => worth(tree, row, 0))), 12);
      expect(sum(got) + shap.expected).toBeCloseTo(0.25 + sum(trees.map((tree) => predicted(tree, row))), 12);
    }
    expect(worst).toBeLessThan(1e-12);
    expect(told).toBeGreaterThan(30 * Math.min(features, 3));
  });

  it("add up to the raw score in trees that are deeper and test more features than one quadrature pass holds", () => {
    const features = 40;
    const random = seededRandom(7);
    // A chain: 60 splits one below the other.
    const chain = (): CoveredTree => {
      const depth = 60;
      const size = 2 * depth + 1;
      const node = (of: (i: number, leaf: boolean) => number): number[] =>
        Array.from({ length: size }, (_, i) => of(i, i % 2 === 1 || i === size - 1));
      return {
        feature: Int32Array.from(node((_, leaf) => (leaf ? 0 : Math.floor(random() * features)))),
        threshold: Float32Array.from(node(() => random() - 0.5)),
        left: Int32Array.from(node((i, leaf) => (leaf ? -1 : i + 1))),
        right: Int32Array.from(node((i, leaf) => (leaf ? -1 : i + 2))),
        missingLeft: Uint8Array.from(node(() => (random() < 0.3 ? 1 : 0))),
        value: Float32Array.from(node((_, leaf) => (leaf ? random() - 0.5 : 0))),
        cover: Float64Array.from(node((i) => (i % 2 === 1 ? 10 : 10 * (depth - i / 2) + 5))),
      };
    };
    const trees = [chain(), chain(), randomTree(random, features, 14, 1e6)];
    const shap = atOnce(TreeShap.of({ baseScore: 0, trees, features }));
    for (let round = 0; round < 50; round++) {
      // Values below every threshold leave the chain at once; these go far.
      const row = Float32Array.from({ length: features }, () => (random() < 0.1 ? Number.NaN : random() * 1.2 - 0.1));
      expect(sum(contributions(shap, row)) + shap.expected).toBeCloseTo(
        sum(trees.map((tree) => predicted(tree, row))),
        10,
      );
    }
  });

  it.each([
    { num_iterations: 60, max_depth: 6 },
    {
      num_iterations: 40,
      grow_policy: "leafwise",
      max_depth: -1,
      num_leaves: 64,
      bagging_fraction: 0.6,
      boost_from_average: true,
    },
  ])("add up to the raw score of a model trained on rows with missing values: %j", (params) => {
    const part = randomRows(2_000, 12, 5);
    const ensemble = train(part, params);
    const shap = atOnce(TreeShap.of(ensemble));
    const expected = raw(ensemble, part);
    const out = new Float64Array(12);
    let worst = 0;
    for (let row = 0; row < 500; row++) {
      shap.contributions(part.matrix.values, row * 12, out);
      worst = Math.max(worst, Math.abs(sum(out) + shap.expected - expected[row]));
    }
    expect(worst).toBeLessThan(1e-9);
    expect(Math.max(...expected) - Math.min(...expected)).toBeGreaterThan(1);
  });

  it("are zero for features that no tree tests, and for a tree with a single leaf", () => {
    const leaf: CoveredTree = {
      feature: Int32Array.of(0),
      threshold: Float32Array.of(0),
      left: Int32Array.of(-1),
      right: Int32Array.of(-1),
      missingLeft: Uint8Array.of(0),
      value: Float32Array.of(0.5),
      cover: [3],
    };
    const stump: CoveredTree = {
      feature: Int32Array.of(1, 0, 0),
      threshold: Float32Array.of(0, 0, 0),
      left: Int32Array.of(1, -1, -1),
      right: Int32Array.of(2, -1, -1),
      missingLeft: Uint8Array.of(1, 0, 0),
      value: Float32Array.of(0, 1, -1),
      cover: [4, 3, 1],
    };
    const shap = atOnce(TreeShap.of({ baseScore: 0, trees: [leaf, stump], features: 3 }));
    expect(shap.expected).toBe(1);
    expect([...contributions(shap, Float32Array.of(1, 0, 1))]).toEqual([0, 0.5, 0]);
    expect([...contributions(shap, Float32Array.of(1, 2 ** -140, 1))]).toEqual([0, -1.5, 0]);
    expect([...contributions(shap, Float32Array.of(1, Number.NaN, 1))]).toEqual([0, 0.5, 0]);
  });
});

it("covers that are missing, constant or don't add up are refused", () => {
  const tree = randomTree(seededRandom(1), 4, 4);
  const build = (cover: number[]) => () =>
    atOnce(TreeShap.of({ baseScore: 0, trees: [{ ...tree, cover }], features: 4 }));
  expect(build([...(tree.cover as Float64Array)])).not.toThrow();
  for (const cover of [
    [],
    [...(tree.cover as Float64Array)].map(() => 1),
    [...(tree.cover as Float64Array)].map((value, i) => (i === 2 ? value * 1.01 + 1 : value)),
    [...(tree.cover as Float64Array)].map(() => Number.NaN),
  ]) {
    expect(build(cover)).toThrow(
      expect.objectContaining({ code: "not_explainable", message: expect.stringMatching(/cover/) as string }) as Error,
    );
  }
});

it("an ensemble that would take too long is refused", () => {
  const random = seededRandom(3);
  const tree = randomTree(random, 30, 14, 1e7);
  expect(() =>
    atOnce(TreeShap.of({ baseScore: 0, trees: Array.from({ length: 500 }, () => tree), features: 30 })),
  ).toThrow(
    expect.objectContaining({ code: "not_explainable", message: expect.stringMatching(/too many/) as string }) as Error,
  );
});

it.each([1, 2, 3, 7, 32])("Gauss–Legendre quadrature at %d points is exact for polynomials of degree 2n − 1", (n) => {
  const { points, weights } = gaussLegendre(n);
  for (let degree = 0; degree < 2 * n; degree++) {
    expect(sum(points.map((t, i) => weights[i] * t ** degree))).toBeCloseTo(1 / (degree + 1), 13);
  }
  expect(sum(points.map((t, i) => weights[i] * t ** (2 * n)))).not.toBe(1 / (2 * n + 1));
});
