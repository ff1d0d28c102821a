import { describe, expect, it } from "vitest";
import { modelMetrics, type MetricsRequest, newestEvent } from "../../api/queries/metrics.js";
import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import {
  type StoredLabel,
  type StoredPrediction,
  storeLabels,
  storePredictions,
} from "../support/stored-predictions.js";

const DAY = 86_400_000;
const NEWEST = Date.UTC(2026, 2, 31, 12);
/** Thirty days before the newest event. */
const MATURED_BEFORE = Date.UTC(2026, 2, 1, 12);
const at = (month: number, day: number, hour = 9): number => Date.UTC(2026, month - 1, day, hour);

type Sketch = [
  event_time: number,
  score: number,
  decision: StoredPrediction["decision"],
  amount: number,
  currency: string,
  ...labels: boolean[],
];

/** In order from 1; of several labels the last one counts. */
const SKETCHES: Sketch[] = [
  [at(3, 2), 0.95, "decline", 100, "EUR", true],
  [at(3, 2, 10), 0.95, "review", 40, "EUR", false],
  [at(3, 3), 0.8, "review", 60, "USD", false, true],
  [at(3, 3), 0.8, "review", -20, "EUR", true], // a refund
  [at(3, 3), 0.5, "approve", 30, "EUR", true],
  [at(3, 4), 0.5, "approve", 0, "EUR", false],
  [at(2, 10), 0.3, "approve", 10, "USD"], // old
  [at(2, 11), 0.8, "review", 5, "JPY"], // old
  [at(2, 12), 0.9, "decline", 7, "EUR"], // old
  [at(3, 20), 0.2, "approve", 25, "USD", true],
  [at(3, 25), 0.85, "review", 12, "EUR"], // young
  [MATURED_BEFORE, 0.1, "approve", 3, "EUR"], // not older than the maturity
  [MATURED_BEFORE - 1, 0.1, "approve", 3, "EUR"],
  [NEWEST, 0.6, "decline", 9, "GBP", true, false],
];

async function storedSketches(): Promise<ClickHouse> {
  const clickhouse = await clickhouseDatabase();
  const predictions = SKETCHES.map(([event_time, score, decision, amount, currency], index): StoredPrediction => ({
    offset: index,
    transaction_id: `t${index % 7}`,
    card_id: `c${index}`,
    event_time,
    amount,
    currency,
    scoring_ms: index + 1,
    score,
    decision,
    model: "cards@2",
  }));
  const others: StoredPrediction[] = [
    { ...predictions[0], offset: 100, transaction_id: "outside", event_time: at(1, 1), score: 1 },
    { ...predictions[0], offset: 101, transaction_id: "other", model: "cards@1", score: 0 },
  ];
  await storePredictions(clickhouse, [...predictions, ...others]);
  const labels = SKETCHES.flatMap(([, , , , , ...verdicts], index) =>
    verdicts.map((is_fraud, turn): StoredLabel => ({
      offset: index + 50 * turn,
      transaction_id: `t${index % 7}`,
      card_id: `c${index}`,
      is_fraud,
    })),
  );
  // The last label of a transaction may be stored before the one that it replaces.
  await storeLabels(clickhouse, [...labels].sort((a, b) => b.offset - a.offset).slice(0, 4));
  await storeLabels(clickhouse, [...labels].sort((a, b) => b.offset - a.offset).slice(4));
  // The same transaction id of another card, and a card whose transaction isn't there.
  await storeLabels(clickhouse, [
    { offset: 200, transaction_id: "t0", card_id: "c7x", is_fraud: true },
    { offset: 201, transaction_id: "t5", card_id: "c0", is_fraud: true },
    { offset: 202, transaction_id: "outside", card_id: "c0", is_fraud: true },
  ]);
  return clickhouse;
}

const request: MetricsRequest = {
  model: "cards@2",
  role: "champion",
  from: NEWEST - 60 * DAY + 1,
  to: NEWEST + 1,
  maturedBefore: MATURED_BEFORE,
  slices: {},
};
const near = (value: number): unknown => expect.closeTo(value, 12);

describe("metrics of a model, computed by hand", () => {
  it("with matured labels", async () => {
    const clickhouse = await storedSketches();
    expect(await newestEvent(clickhouse)).toBe(NEWEST);
    expect(await modelMetrics(clickhouse, request)).toEqual({
      exact: true,
      rows: 14,
      evaluated: 12,
      labelled: 8,
      precision: near(3 / 7),
      recall: near(3 / 5),
      accuracy: 0.5,
      f1: 0.5,
      baseline_accuracy: near(7 / 12),
      alert_rate: near(8 / 14),
      // frauds .95 .8 .8 .5 .2, genuine .95 .9 .8 .6 .5 .3 .1: (6.5 + 4.5 + 4.5 + 2.5 + 1) of 35 pairs
      roc_auc: near(19 / 35),
      average_precision: near((1 / 2 + 3 / 6 + 3 / 6 + 4 / 9 + 5 / 11) / 5),
      confusion: { true_positives: 3, false_positives: 4, false_negatives: 2, true_negatives: 3 },
      false_positives_per_fraud_caught: near(4 / 3),
      recall_by_value: null,
      value: [
        { currency: "EUR", detected: 100, missed: 30, recall: near(100 / 130) },
        { currency: "USD", detected: 60, missed: 25, recall: near(60 / 85) },
      ],
      time_ms: near(7.5),
      scoring_ms_p50: near(7.5),
      scoring_ms_p99: near(13.87),
      declined: { rows: 3, labelled: 2, frauds: 1 },
    });
  });

  it("with explicit labels only", async () => {
    const clickhouse = await storedSketches();
    expect(await modelMetrics(clickhouse, { ...request, maturedBefore: null })).toMatchObject({
      rows: 14,
      evaluated: 8,
      labelled: 8,
      precision: near(3 / 5),
      recall: near(3 / 5),
      accuracy: 0.5,
      f1: near(6 / 10),
      baseline_accuracy: near(3 / 8),
      alert_rate: near(8 / 14),
      roc_auc: near(7 / 15),
      average_precision: near((1 / 2 + 3 / 4 + 3 / 4 + 4 / 7 + 5 / 8) / 5),
      confusion: { true_positives: 3, false_positives: 2, false_negatives: 2, true_negatives: 1 },
      declined: { rows: 3, labelled: 2, frauds: 1 },
    });
  });

  it("by day, by currency, by decision, and by day in each currency", async () => {
    const clickhouse = await storedSketches();
    const byCurrency = await modelMetrics(clickhouse, { ...request, slices: { by: "day", group: "currency" } });
    const whole = await modelMetrics(clickhouse, request);
    expect(byCurrency).toMatchObject(whole);

    const { series = [], groups = [] } = byCurrency;
    expect(series.map(({ at: day, rows, evaluated }) => [day.slice(0, 10), rows, evaluated])).toEqual([
      ["2026-02-10", 1, 1],
      ["2026-02-11", 1, 1],
      ["2026-02-12", 1, 1],
      ["2026-03-01", 2, 1],
      ["2026-03-02", 2, 2],
      ["2026-03-03", 3, 3],
      ["2026-03-04", 1, 1],
      ["2026-03-20", 1, 1],
      ["2026-03-25", 1, 0],
      ["2026-03-31", 1, 1],
    ]);
    expect(series[4]).toMatchObject({
      at: "2026-03-02T00:00:00.000Z",
      precision: 0.5,
      recall: 1,
      roc_auc: 0.5,
      average_precision: 0.5,
      recall_by_value: 1,
      time_ms: 1.5,
    });
    expect(series[8]).toMatchObject({
      precision: null,
      recall: null,
      accuracy: null,
      roc_auc: null,
      average_precision: null,
      alert_rate: 1,
      time_ms: 11,
    });

    expect(groups.map(({ currency, rows, evaluated }) => [currency, rows, evaluated])).toEqual([
      ["EUR", 9, 7],
      ["GBP", 1, 1],
      ["JPY", 1, 1],
      ["USD", 3, 3],
    ]);
    // frauds .8 .2, genuine .3
    expect(groups[3]).toMatchObject({
      precision: 1,
      recall: 0.5,
      roc_auc: 0.5,
      average_precision: near((1 + 2 / 3) / 2),
      recall_by_value: near(60 / 85),
      confusion: { true_positives: 1, false_positives: 0, false_negatives: 1, true_negatives: 1 },
    });
    expect(groups[2]).toMatchObject({
      precision: 0,
      recall: null,
      roc_auc: null,
      average_precision: null,
      baseline_accuracy: 1,
      value: [],
    });
    expect(
      groups[3].series?.map(({ at: day, rows, evaluated, recall }) => [day.slice(0, 10), rows, evaluated, recall]),
    ).toEqual([
      ["2026-02-10", 1, 1, null],
      ["2026-03-03", 1, 1, 1],
      ["2026-03-20", 1, 1, 0],
    ]);

    const { series: none, groups: decisions = [] } = await modelMetrics(clickhouse, {
      ...request,
      slices: { group: "decision" },
    });
    expect(none).toBeUndefined();
    expect(
      decisions.map(({ decision, rows, evaluated, precision, recall, roc_auc }) => [
        decision,
        rows,
        evaluated,
        precision,
        recall,
        roc_auc,
      ]),
    ).toEqual([
      ["approve", 6, 5, null, 0, near(2.5 / 6 + 1 / 6)],
      ["review", 5, 4, near(2 / 4), 1, near((0.5 + 0.5) / 4)],
      ["decline", 3, 3, near(1 / 3), 1, 1],
    ]);
    const { series: hours = [] } = await modelMetrics(clickhouse, {
      ...request,
      from: at(3, 2),
      to: at(3, 3),
      slices: { by: "hour" },
    });
    expect(hours.map(({ at: hour, rows, recall }) => [hour, rows, recall])).toEqual([
      ["2026-03-02T09:00:00.000Z", 1, 1],
      ["2026-03-02T10:00:00.000Z", 1, null],
    ]);
  });

  it("within the window: from counts, to doesn't", async () => {
    const clickhouse = await storedSketches();
    expect(await modelMetrics(clickhouse, { ...request, from: at(3, 2), to: at(3, 4) })).toMatchObject({
      rows: 5,
      labelled: 5,
    });
    expect(await modelMetrics(clickhouse, { ...request, from: at(3, 2) + 1, to: at(3, 4) + 1 })).toMatchObject({
      rows: 5,
      labelled: 5,
    });
  });

  it("of a shadow, from its own table", async () => {
    const clickhouse = await storedSketches();
    const shadow = SKETCHES.map(([event_time, , , amount, currency], index): StoredPrediction => ({
      offset: index,
      transaction_id: `t${index % 7}`,
      card_id: `c${index}`,
      event_time,
      amount,
      currency,
      scoring_ms: 2,
      score: index === 0 ? 1 : 0.5,
      decision: index === 0 ? "decline" : "approve",
      model: "cards@2",
    }));
    await storePredictions(clickhouse, shadow, "shadow_predictions");
    expect(await modelMetrics(clickhouse, { ...request, role: "shadow" })).toMatchObject({
      rows: 14,
      evaluated: 12,
      labelled: 8,
      precision: 1,
      recall: near(1 / 5),
      roc_auc: near((7 + 4 * 3.5) / 35),
      average_precision: near((1 + 4 * (5 / 12)) / 5),
      time_ms: 2,
    });
    expect(await modelMetrics(clickhouse, request)).toMatchObject({ roc_auc: near(19 / 35) });
  });

  it("null if nothing can be computed", async () => {
    const clickhouse = await clickhouseDatabase();
    expect(await newestEvent(clickhouse)).toBeNull();
    const empty = {
      exact: true,
      rows: 0,
      evaluated: 0,
      labelled: 0,
      precision: null,
      recall: null,
      accuracy: null,
      f1: null,
      baseline_accuracy: null,
      alert_rate: null,
      roc_auc: null,
      average_precision: null,
      confusion: { true_positives: 0, false_positives: 0, false_negatives: 0, true_negatives: 0 },
      false_positives_per_fraud_caught: null,
      recall_by_value: null,
      value: [],
      time_ms: null,
      scoring_ms_p50: null,
      scoring_ms_p99: null,
      declined: { rows: 0, labelled: 0, frauds: 0 },
    };
    expect(await modelMetrics(clickhouse, request)).toEqual(empty);
    expect(await modelMetrics(clickhouse, { ...request, slices: { by: "day", group: "decision" } })).toEqual({
      ...empty,
      series: [],
      groups: [],
    });

    const row: StoredPrediction = {
      offset: 0,
      transaction_id: "a",
      card_id: "c",
      event_time: at(3, 30),
      amount: -5,
      currency: "EUR",
      scoring_ms: 4,
      score: 0.9,
      decision: "review",
      model: "cards@2",
    };
    await storePredictions(clickhouse, [row]);
    expect(await modelMetrics(clickhouse, request)).toEqual({
      ...empty,
      rows: 1,
      alert_rate: 1,
      time_ms: 4,
      scoring_ms_p50: 4,
      scoring_ms_p99: 4,
    });
    // Frauds only, worth nothing: no curve, no share of the value.
    await storeLabels(clickhouse, [{ offset: 0, transaction_id: "a", card_id: "c", is_fraud: true }]);
    expect(await modelMetrics(clickhouse, request)).toMatchObject({
      evaluated: 1,
      precision: 1,
      recall: 1,
      accuracy: 1,
      baseline_accuracy: 0,
      roc_auc: null,
      average_precision: 1,
      recall_by_value: null,
      value: [{ currency: "EUR", detected: 0, missed: 0, recall: null }],
    });
  });

  it("binned beyond the limit, close to the exact ones", async () => {
    const clickhouse = await storedSketches();
    const binned = await modelMetrics(clickhouse, request, 13);
    expect(binned).toEqual({ ...(await modelMetrics(clickhouse, request)), exact: false });
    expect((await modelMetrics(clickhouse, request, 14)).exact).toBe(true);
    // Scores that differ by less than a bin are a tie there.
    const pair = [0.5, 0.5000001].map((score, index): StoredPrediction => ({
      offset: 900 + index,
      transaction_id: `p${index}`,
      card_id: "p",
      event_time: NEWEST,
      amount: 1,
      currency: "EUR",
      scoring_ms: 1,
      score,
      decision: "review",
      model: "cards@3",
    }));
    await storePredictions(clickhouse, pair);
    await storeLabels(
      clickhouse,
      pair.map(({ transaction_id, card_id }, index) => ({
        offset: 900 + index,
        transaction_id,
        card_id,
        is_fraud: index === 1,
      })),
    );
    const ofPair = { ...request, model: "cards@3" };
    expect(await modelMetrics(clickhouse, ofPair)).toMatchObject({ exact: true, roc_auc: 1 });
    expect(await modelMetrics(clickhouse, ofPair, 1)).toMatchObject({ exact: false, roc_auc: 0.5 });
  });

  it("takes a model's name as a value, whatever it contains", async () => {
    const clickhouse = await storedSketches();
    const model = "cards@2' OR 1=1 -- {x: String} \\";
    expect(await modelMetrics(clickhouse, { ...request, model })).toMatchObject({ rows: 0 });
    const currency = "E'\\); DROP";
    await storePredictions(clickhouse, [
      {
        offset: 700,
        transaction_id: "q",
        card_id: "q",
        event_time: NEWEST,
        amount: 1,
        currency: "E\\'\\\\); DROP",
        scoring_ms: 1,
        score: 0.5,
        decision: "review",
        model: "cards@9",
      },
    ]);
    expect(
      (await modelMetrics(clickhouse, { ...request, model: "cards@9", slices: { group: "currency" } })).groups,
    ).toMatchObject([{ currency, rows: 1 }]);
  });
});
