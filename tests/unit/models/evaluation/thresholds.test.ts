import { expect, test } from "vitest";
import { alertMetrics } from "../../../../models/evaluation/metrics.js";
import { rank } from "../../../../models/evaluation/ranking.js";
import { chooseThresholds, NEVER } from "../../../../models/evaluation/thresholds.js";

/** Scores 1.00, 0.99, ... and the labels given from the top; the rest is genuine. */
function ranked(rows: number, top: number[]) {
  const labels = Uint8Array.from({ length: rows }, (_, row) => top[row] ?? 0);
  const scores = Float32Array.from({ length: rows }, (_, row) => 1 - row / rows);
  return { labels, scores, ranking: rank(labels, scores) };
}
const alerts = ({ labels, scores }: { labels: Uint8Array; scores: Float32Array }, threshold: number): number =>
  Math.round((alertMetrics(labels, scores, threshold).alert_rate ?? 0) * labels.length);

test("review covers as many rows as can be looked at, besides those that are declined", () => {
  const set = ranked(1000, [1, 0, 1]);
  const { review, decline } = chooseThresholds(set.ranking);
  expect([alerts(set, decline), alerts(set, review)]).toEqual([1, 6]);
  expect(review).toBeLessThan(set.scores[5]);
  expect(review).toBeGreaterThan(set.scores[5] - 2e-5);
  expect(alerts(set, chooseThresholds(set.ranking, { reviewCapacity: 0.1 }).review)).toBe(101);
  expect(alerts(set, chooseThresholds(set.ranking, { reviewCapacity: 1 }).review)).toBe(1000);
});

test("there is a review band even if frauds far exceed the capacity", () => {
  // 22 % frauds, all of them on top: what capacity there is, is not used up by what is declined.
  const set = ranked(1000, Array<number>(220).fill(1));
  const { review, decline, note } = chooseThresholds(set.ranking);
  expect([alerts(set, decline), alerts(set, review)]).toEqual([244 - 24, 225]);
  expect(review).toBeLessThan(decline);
  expect(note).toBe(
    "thresholds: declined is what at least 90 % of is fraud (220 of 1,000 rows), reviewed is what comes " +
      "next, up to an alert capacity of 0.5 % of all transactions (5 rows); change these by review_capacity " +
      "and decline_precision (--review-capacity, --decline-precision)",
  );
});

test("decline is the lowest score of a fraud with the precision", () => {
  // Shares of frauds from the top: 1, 1/2, 2/3, 3/4, 4/5, 5/6, 5/7.
  const set = ranked(100, [1, 0, 1, 1, 1, 1, 0]);
  const at = (declinePrecision: number, reviewCapacity = 0.5): number =>
    alerts(set, chooseThresholds(set.ranking, { declinePrecision, reviewCapacity }).decline);
  expect(at(0.9)).toBe(1);
  expect(at(0.8)).toBe(6);
  // The seventh is genuine: nothing is gained by declining it.
  expect(at(0.7)).toBe(6);
  expect(at(0.7, 0.05)).toBe(6);
});

test("if there is nothing to review, the note says why", () => {
  const labels = Uint8Array.from({ length: 100 }, (_, row) => Number(row < 3));
  const tied = rank(
    labels,
    Float32Array.from(labels, (label) => (label === 1 ? 0.9 : 0.1)),
  );
  expect(chooseThresholds(tied)).toMatchObject({
    review: chooseThresholds(tied).decline,
    note: expect.stringContaining(
      "Nothing is reviewed: the next 97 rows have the same score, more than the capacity",
    ) as string,
  });
  const frauds = rank(
    new Uint8Array(10).fill(1),
    Float32Array.from({ length: 10 }, (_, row) => 1 - row / 20),
  );
  expect(chooseThresholds(frauds).note).toContain("Nothing is reviewed: every row is declined");
});

test("if no threshold has the precision, nothing is declined", () => {
  const set = ranked(100, [0, 1, 1]);
  const { review, decline } = chooseThresholds(set.ranking, { reviewCapacity: 0.05 });
  expect(decline).toBe(NEVER);
  expect(alerts(set, decline)).toBe(0);
  expect(alerts(set, review)).toBe(5);
});

test("ties never exceed the capacity, unless the highest score does", () => {
  const labels = Uint8Array.from({ length: 100 }, (_, row) => Number(row < 3));
  const tied = Float32Array.from({ length: 100 }, (_, row) => (row < 2 ? 0.9 : row < 20 ? 0.5 : 0.1));
  // No fraud but the two that are declined has a score of its own.
  expect(alerts({ labels, scores: tied }, chooseThresholds(rank(labels, tied), { reviewCapacity: 0.1 }).review)).toBe(
    2,
  );
  const genuine = new Uint8Array(100);
  expect(
    alerts({ labels: genuine, scores: tied }, chooseThresholds(rank(genuine, tied), { reviewCapacity: 0.01 }).review),
  ).toBe(2);
});

test("rows at the threshold stay on their side when scores move by the last bits", () => {
  const set = ranked(1000, [1, 1, 1, 1, 1]);
  const { review } = chooseThresholds(set.ranking);
  for (const shift of [-9e-6, 9e-6])
    expect(alerts({ ...set, scores: set.scores.map((score) => score + shift) }, review)).toBe(10);
});

test("invalid shares are refused", () => {
  const { ranking } = ranked(10, [1]);
  for (const options of [
    { reviewCapacity: 0 },
    { reviewCapacity: 1.1 },
    { declinePrecision: Number.NaN },
    { declinePrecision: -1 },
  ]) {
    expect(() => chooseThresholds(ranking, options)).toThrow(
      expect.objectContaining({ name: "RequestError", code: "bad_threshold" }) as Error,
    );
  }
});
