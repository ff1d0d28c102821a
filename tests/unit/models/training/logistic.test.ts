import { expect, it } from "vitest";
import { averagePrecision } from "../../../../models/training/average-precision.js";
import { fitLogistic, predictLinear } from "../../../../models/training/logistic.js";
import { resolveLogisticParams } from "../../../../models/training/params.js";
import { seededRandom } from "../../../../models/training/random.js";
import { labelled } from "./rows.js";

const fit = (
  part: ReturnType<typeof labelled>,
  params: Record<string, unknown> = {},
): ReturnType<typeof fitLogistic>["model"] => fitLogistic(part, resolveLogisticParams(params), () => undefined).model;

it("finds the log-odds of a two-by-two table", () => {
  // One fraud of four at 0, three of four at 1: odds 1/3 and 3.
  const part = labelled([[0], [0], [0], [0], [1], [1], [1], [1]], [0, 0, 0, 1, 1, 1, 1, 0]);
  const out = new Float64Array(8);
  predictLinear(fit(part, { lambda_l2: 0 }), part.matrix, out);
  expect(out[0]).toBeCloseTo(-Math.log(3), 9);
  expect(out[7]).toBeCloseTo(Math.log(3), 9);
});

it("finds the point where the penalised loss has zero gradient", () => {
  const part = labelled([[0], [1], [2], [3], [4]], [0, 0, 1, 0, 1]);
  const { weights, intercept, mean, scale } = fit(part, { lambda_l2: 2 });
  const z = [0, 1, 2, 3, 4].map((x) => (x - mean[0]) / scale[0]);
  const error = z.map((value, row) => 1 / (1 + Math.exp(-intercept - weights[0] * value)) - part.labels[row]);
  expect(error.reduce((sum, value) => sum + value, 0)).toBeCloseTo(0, 7);
  expect(error.reduce((sum, value, row) => sum + value * z[row], 2 * weights[0])).toBeCloseTo(0, 7);
});

it("replaces missing values with the mean, and tolerates constant, copied and separating features", () => {
  const part = labelled(
    [
      [1, 7, 1],
      [2, 7, 2],
      [NaN, 7, NaN],
      [3, 7, 3],
      [4, 7, 4],
    ],
    [0, 0, 0, 1, 1],
  );
  const model = fit(part);
  expect([...model.mean]).toEqual([2.5, 7, 2.5]);
  expect(model.weights[1]).toBe(0);
  expect(model.weights[0]).toBeCloseTo(model.weights[2], 9);
  const out = new Float64Array(5);
  predictLinear(model, part.matrix, out);
  expect(out[2]).toBe(model.intercept);
  // Without a penalty the copy gets no weight of its own instead of an arbitrary one.
  expect(
    fit(
      labelled(
        [
          [0, 0],
          [1, 1],
          [0, 0],
          [1, 1],
        ],
        [0, 1, 1, 0],
      ),
      { lambda_l2: 0 },
    ).weights.every(Number.isFinite),
  ).toBe(true);
});

it("tolerates heavy tails and large offsets", () => {
  const random = seededRandom(5);
  const rows = Array.from({ length: 2000 }, () => {
    const amount = Math.exp(12 * random());
    return [amount, 1.6e9 + 1000 * random(), random()];
  });
  const part = labelled(
    rows,
    rows.map(([amount, , x]) => (Math.log(amount) / 12 + x + 0.3 * random() > 1.5 ? 1 : 0)),
  );
  const out = new Float64Array(2000);
  predictLinear(fit(part), part.matrix, out);
  expect(averagePrecision(out, part.labels)).toBeGreaterThan(0.7);
  expect(fit(part)).toEqual(fit(part));
});
