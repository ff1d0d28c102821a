import { expect, it } from "vitest";
import { AlertReasons } from "../../../../models/explain/alert-reasons.js";

/** Contributions are the values themselves. */
function reasonsOf(...rows: number[][]): [string, number][][] {
  const features = rows[0].length;
  const explainer = {
    expected: 0,
    features,
    contributions: (values: Float32Array, at: number, out: Float64Array) => out.set(values.subarray(at, at + features)),
  };
  const reasons = new AlertReasons(
    explainer,
    rows[0].map((_, i) => `f${i}`),
  );
  const values = Float32Array.from(rows.flat());
  return rows.map((_, row) =>
    Array.from({ length: reasons.find(values, row * features) }, (_, i) => [
      reasons.names[reasons.feature[i]].toString(),
      reasons.contribution[i],
    ]),
  );
}

it("names the three features that raised the score most, the greatest first", () => {
  expect(reasonsOf([0.5, -9, 3, 0.25, 2, 1, 4], [1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1])).toEqual([
    [
      ["f6", 4],
      ["f2", 3],
      ["f4", 2],
    ],
    [
      ["f6", 7],
      ["f5", 6],
      ["f4", 5],
    ],
    [
      ["f0", 7],
      ["f1", 6],
      ["f2", 5],
    ],
  ]);
});

it("names fewer if fewer raised it, and the first of equal ones", () => {
  expect(reasonsOf([-1, 0.5, 0, -0, 0.25], [-1, 0, 0, 0, -5], [1, 1, 1, 1, 2], [Number.NaN, 1, 0, 0, 0])).toEqual([
    [
      ["f1", 0.5],
      ["f4", 0.25],
    ],
    [],
    [
      ["f4", 2],
      ["f0", 1],
      ["f1", 1],
    ],
    [["f1", 1]],
  ]);
});
