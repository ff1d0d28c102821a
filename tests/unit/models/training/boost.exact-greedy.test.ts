import { describe, expect, it } from "vitest";
import type { Labelled } from "../../../../models/training/boost.js";
import { labelled, randomRows, raw, train } from "./rows.js";

const LAMBDA = 1;
const LEAST = 1;

/**
 * What the trainer must find when every value has a bin of its own: the second-order greedy tree, tried split by split
 * with sums taken afresh from the rows. Returns each row's value.
 */
function greedy(part: Labelled, gradient: number[], hessian: number[], depth: number): number[] {
  const { rows, features, values } = part.matrix;
  const out = new Array<number>(rows).fill(0);
  const sums = (set: number[]): [number, number] => [
    set.reduce((sum, row) => sum + gradient[row], 0),
    set.reduce((sum, row) => sum + hessian[row], 0),
  ];
  const score = (set: number[]): number => {
    const [g, h] = sums(set);
    return g ** 2 / (h + LAMBDA);
  };
  const grow = (set: number[], left: number): void => {
    let best = 1e-6;
    let sides: [number[], number[]] | null = null;
    for (let feature = 0; left > 0 && feature < features; feature++) {
      const at = (row: number): number => values[row * features + feature];
      const candidates = [...new Set(set.map(at).filter((value) => !Number.isNaN(value)))].sort((a, b) => a - b);
      for (const missingLeft of set.some((row) => Number.isNaN(at(row))) ? [false, true] : [false]) {
        for (const cut of candidates) {
          const lower = set.filter((row) => (Number.isNaN(at(row)) ? missingLeft : at(row) <= cut));
          const upper = set.filter((row) => !lower.includes(row));
          if (sums(lower)[1] < LEAST || sums(upper)[1] < LEAST) continue;
          const gain = score(lower) + score(upper) - score(set);
          if (gain > best + 1e-9) {
            best = gain;
            sides = [lower, upper];
          }
        }
      }
    }
    if (sides === null) {
      const [g, h] = sums(set);
      for (const row of set) out[row] = Math.fround((-g / (h + LAMBDA)) * 0.3);
      return;
    }
    for (const side of sides) grow(side, left - 1);
  };
  grow([...out.keys()], depth);
  return out;
}

describe("trees on few rows", () => {
  it.each([1, 2, 3, 4, 5])("are those of exact greedy splitting (seed %i)", (seed) => {
    const part = randomRows(150, 4, seed);
    const expected = new Float64Array(150);
    for (let tree = 0; tree < 3; tree++) {
      const p = [...expected].map((value) => 1 / (1 + Math.exp(-value)));
      const gradient = p.map((value, row) => value - part.labels[row]);
      greedy(
        part,
        gradient,
        p.map((value) => value * (1 - value)),
        3,
      ).forEach((value, row) => (expected[row] += value));
    }
    const found = raw(train(part, { num_iterations: 3, max_depth: 3, learning_rate: 0.3 }), part);
    for (let row = 0; row < 150; row++) expect(found[row], `row ${row}`).toBeCloseTo(expected[row], 6);
  });

  it("are the same with one-byte and two-byte bins", () => {
    const part = randomRows(200, 5, 9);
    expect(train(part, { max_bin: 256 })).toEqual(train(part, { max_bin: 4096 }));
  });

  it("are the same whatever the rows' order", () => {
    const part = randomRows(400, 5, 3);
    const { rows, features, values } = part.matrix;
    const order = [...Array(rows).keys()].reverse();
    const turned = labelled(
      order.map((row) => [...values.subarray(row * features, (row + 1) * features)]),
      order.map((row) => part.labels[row]),
    );
    expect(train(turned, {})).toEqual(train(part, {}));
  });
});
