import { expect, it } from "vitest";
import { averagePrecision } from "../../../../models/training/average-precision.js";
import { seededRandom } from "../../../../models/training/random.js";

/** By the definition: over the distinct scores from the top, precision times the step in recall. */
function byDefinition(scores: number[], labels: number[]): number {
  const frauds = labels.reduce((sum, label) => sum + label, 0);
  let sum = 0;
  let before = 0;
  for (const threshold of [...new Set(scores)].sort((a, b) => b - a)) {
    const alerts = labels.filter((_, row) => scores[row] >= threshold);
    const caught = alerts.reduce((total, label) => total + label, 0);
    sum += (caught / alerts.length) * ((caught - before) / frauds);
    before = caught;
  }
  return sum;
}

it("is 1/2 * 1 + 1/2 * 2/3 for fraud, genuine, fraud", () => {
  expect(averagePrecision(Float64Array.of(0.9, 0.8, 0.7, 0.1), Uint8Array.of(1, 0, 1, 0))).toBeCloseTo(5 / 6, 15);
});

it("counts tied rows together", () => {
  expect(averagePrecision(Float64Array.of(0.5, 0.5, 0.5, 0.5), Uint8Array.of(1, 0, 0, 0))).toBe(0.25);
});

it("follows the definition on random scores with ties", () => {
  const random = seededRandom(4);
  for (let round = 0; round < 20; round++) {
    const scores = Array.from({ length: 200 }, () => Math.floor(random() * 40));
    const labels = scores.map((score) => (random() * 60 < score ? 1 : 0));
    expect(averagePrecision(Float64Array.from(scores), Uint8Array.from(labels))).toBeCloseTo(
      byDefinition(scores, labels),
      12,
    );
  }
});
