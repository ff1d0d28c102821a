import { describe, expect, test } from "vitest";
import { alertMetrics, evaluate } from "../../../../models/evaluation/metrics.js";
import { averagePrecision, rank, rocAuc } from "../../../../models/evaluation/ranking.js";
import { numbers } from "../datasets/csv-files.js";

/** Frauds score higher on the whole; `levels` different scores between 0 and 2/3, and so ties. */
function scored(rows: number, levels: number, rate: number): { labels: Uint8Array; scores: Float32Array } {
  const random = numbers(rows);
  const labels = new Uint8Array(rows);
  const scores = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    labels[row] = Number(random() < rate);
    scores[row] = Math.floor((random() + 0.3 * labels[row]) * levels) / (1.5 * levels);
  }
  return { labels, scores };
}

describe("as scikit-learn 1.9.1 computes them", () => {
  // roc_auc_score, average_precision_score, and precision, recall, f1, accuracy and alert rate of score >= 0.6
  // (float32).
  test.each([
    [
      "many ties",
      500,
      20,
      0.1,
      41,
      [
        0.7884584728200223, 0.42947027963187906, 0.2571428571428571, 0.43902439024390244, 0.32432432432432434, 0.85,
        0.14,
      ],
    ],
    [
      "few ties",
      2000,
      2 ** 20,
      0.02,
      47,
      [
        0.7441797126079899, 0.40347897169468816, 0.08771929824561403, 0.425531914893617, 0.14545454545454545, 0.8825,
        0.114,
      ],
    ],
    [
      "two scores",
      50,
      1,
      0.3,
      12,
      [0.5416666666666666, 0.3033333333333333, 1, 0.08333333333333333, 0.15384615384615385, 0.78, 0.02],
    ],
  ])("%s", (_, rows, levels, rate, frauds, expected) => {
    const { labels, scores } = scored(rows, levels, rate);
    const metrics = evaluate(labels, scores, Math.fround(0.6));
    expect([metrics.rows, metrics.frauds]).toEqual([rows, frauds]);
    const found = [
      metrics.roc_auc,
      metrics.average_precision,
      metrics.precision,
      metrics.recall,
      metrics.f1,
      metrics.accuracy,
      metrics.alert_rate,
    ];
    found.forEach((value, i) => expect(value).toBeCloseTo(expected[i], 12));
  });
});

test("the order of rows doesn't matter", () => {
  const { labels, scores } = scored(500, 20, 0.1);
  const backwards = rank(labels.slice().reverse(), scores.slice().reverse());
  expect(backwards).toEqual(rank(labels, scores));
});

test("perfect, reversed and useless rankings", () => {
  const labels = Uint8Array.of(0, 0, 1, 1);
  expect(rocAuc(rank(labels, Float32Array.of(0.1, 0.2, 0.3, 0.4)))).toBe(1);
  expect(rocAuc(rank(labels, Float32Array.of(0.4, 0.3, 0.2, 0.1)))).toBe(0);
  expect(rocAuc(rank(labels, Float32Array.of(0.5, 0.5, 0.5, 0.5)))).toBe(0.5);
  expect(averagePrecision(rank(labels, Float32Array.of(0.5, 0.5, 0.5, 0.5)))).toBe(0.5);
});

test("metrics that can't be computed are null", () => {
  const genuine = evaluate(Uint8Array.of(0, 0), Float32Array.of(0.1, 0.2), 0.5);
  expect(genuine).toEqual({
    rows: 2,
    frauds: 0,
    roc_auc: null,
    average_precision: null,
    precision: null,
    recall: null,
    f1: null,
    accuracy: 1,
    alert_rate: 0,
  });
  expect(evaluate(new Uint8Array(0), new Float32Array(0), 0.5)).toMatchObject({
    rows: 0,
    accuracy: null,
    alert_rate: null,
  });
  expect(alertMetrics(Uint8Array.of(1, 0), Float32Array.of(0.1, 0.2), 0.15)).toEqual({
    precision: 0,
    recall: 0,
    f1: 0,
    accuracy: 0,
    alert_rate: 0.5,
  });
});
