import { describe, expect, it } from "vitest";
import { simulateDataset } from "../../../../../pipelines/local/simulator/simulate.js";
import { LatencyHistogram } from "../../../../../pipelines/local/start/latency.js";
import { Outcomes, type SeenPrediction } from "../../../../../pipelines/local/start/outcomes.js";
import { problemsOf } from "../../../../../pipelines/local/start/summary.js";

const from = Date.UTC(2026, 2, 2);
const dataset = simulateDataset({ seed: 4, customers: 60, terminals: 20, from, to: from + 86_400_000 });

/** The prediction of a row whose transaction stands at partition 0 and the row's number. */
function predictionOf(row: number, others: Partial<SeenPrediction> = {}): SeenPrediction {
  return {
    transaction_id: dataset.transactionId[row],
    card_id: dataset.cardId[row],
    merchant_id: dataset.merchantId[row],
    amount: 1,
    currency: "EUR",
    event_time: dataset.eventTime[row],
    score: 0.1,
    decision: "approve",
    stale: false,
    source_partition: 0,
    source_offset: 70_000 + row,
    ...others,
  };
}

function run(): Outcomes {
  const outcomes = new Outcomes();
  outcomes.send({ dataset, start: 0, end: 50 }, 1_000);
  for (let row = 0; row < 50; row++) outcomes.prediction(predictionOf(row), 1_010);
  return outcomes;
}

/** What a run counts, with ClickHouse in step with the topic. */
function countsOf(outcomes: Outcomes): Parameters<typeof problemsOf>[0] {
  const { sent, predicted, doubled, stale, others, deadLetters, lastDeadLetter } = outcomes;
  return {
    published: sent,
    predicted,
    doubled,
    stale,
    others,
    deadLetters,
    lastDeadLetter,
    stored: { rows: predicted + doubled + others, transactions: predicted + others },
  };
}

describe("Outcomes", () => {
  it("finds nothing wrong when each transaction comes back once", () => {
    const outcomes = run();
    expect(outcomes).toMatchObject({
      sent: 50,
      predicted: 50,
      doubled: 0,
      others: 0,
      missing: 0,
      decisions: { approve: 50, review: 0, decline: 0 },
    });
    expect(problemsOf(countsOf(outcomes))).toEqual([]);
    expect(outcomes.latency.quantile(0.99)).toBeCloseTo(10, 0);
  });

  it("sees a doubled prediction, also of a transaction that is not this run's", () => {
    const outcomes = run();
    outcomes.prediction(predictionOf(7), 1_020);
    expect(outcomes).toMatchObject({ predicted: 50, doubled: 1 });
    expect(problemsOf(countsOf(outcomes))).toEqual(["with a second prediction: 1 transactions"]);
    const foreign = predictionOf(3, { transaction_id: "theirs", source_offset: 5 });
    outcomes.prediction(foreign, 1_020);
    outcomes.prediction(foreign, 1_020);
    expect(outcomes).toMatchObject({ predicted: 50, doubled: 2, others: 1 });
  });

  it("does not take others' transactions for doubled ones, at any partition", () => {
    const outcomes = run();
    outcomes.prediction(predictionOf(3, { transaction_id: "theirs", source_offset: 9_999_999 }), 1_020);
    outcomes.prediction(predictionOf(3, { transaction_id: "theirs too", source_partition: 1 }), 1_020);
    expect(outcomes).toMatchObject({ predicted: 50, doubled: 0, others: 2, missing: 0 });
    expect(problemsOf(countsOf(outcomes))).toEqual([]);
  });

  it("misses what doesn't come back, and says which dead letters there are", () => {
    const outcomes = run();
    outcomes.send({ dataset, start: 50, end: 53 }, 2_000);
    outcomes.prediction(predictionOf(50), 2_005);
    expect(outcomes.missing).toBe(2);
    expect(problemsOf(countsOf(outcomes))).toEqual(["without a prediction: 2 of 53 transactions"]);
    outcomes.deadLetter("invalid_amount", "the amount is NaN");
    expect(problemsOf(countsOf(outcomes))).toEqual([
      "without a prediction: 2 of 53 transactions; there are 1 dead letters, the last because of " +
        "invalid_amount: the amount is NaN",
    ]);
  });

  it("is not alarmed by others' dead letters", () => {
    const outcomes = run();
    outcomes.deadLetter("invalid_amount", "the amount is NaN");
    expect(problemsOf(countsOf(outcomes))).toEqual([]);
  });

  it("counts an id that a file repeats as often as it was sent", () => {
    const outcomes = run();
    for (let i = 0; i < 3; i++) outcomes.send({ dataset, start: 0, end: 1 }, 3_000);
    expect(outcomes.missing).toBe(3);
    for (let i = 0; i < 3; i++) outcomes.prediction(predictionOf(0, { source_offset: 200_000 + i }), 3_001);
    expect(outcomes).toMatchObject({ sent: 53, predicted: 53, doubled: 0, missing: 0 });
  });

  it("compares ClickHouse with the topic", () => {
    const counts = countsOf(run());
    expect(problemsOf({ ...counts, stored: { rows: 49, transactions: 49 } })).toEqual([
      "ClickHouse has 49 rows for 50 predictions on the topic",
    ]);
    expect(problemsOf({ ...counts, stored: { rows: 51, transactions: 50 } })).toEqual([
      "ClickHouse has 51 rows for 50 predictions on the topic",
    ]);
    expect(problemsOf({ ...counts, stored: { rows: 50, transactions: 49 } })).toEqual([
      "the rows in ClickHouse are for 49 transactions, those on the topic for 50",
    ]);
    expect(problemsOf({ ...counts, stored: null })).toEqual(["ClickHouse did not say what it has"]);
  });

  it("keeps the last alerts, newest first", () => {
    const outcomes = run();
    outcomes.send({ dataset, start: 50, end: 56 }, 2_000);
    for (let row = 50; row < 56; row++)
      outcomes.prediction(predictionOf(row, { decision: row % 2 === 0 ? "review" : "decline" }), 2_001);
    expect(outcomes.alerts.map(({ transaction_id }) => transaction_id)).toEqual(
      [55, 54, 53].map((row) => dataset.transactionId[row]),
    );
    expect(outcomes.decisions).toEqual({ approve: 50, review: 3, decline: 3 });
  });
});

describe("LatencyHistogram", () => {
  it("knows quantiles to two per cent", () => {
    const histogram = new LatencyHistogram();
    expect(histogram.quantile(0.5)).toBeNull();
    for (let ms = 1; ms <= 10_000; ms++) histogram.add(ms);
    for (const share of [0.01, 0.5, 0.9, 0.99, 1]) {
      const quantile = histogram.quantile(share) ?? Number.NaN;
      expect(quantile).toBeGreaterThanOrEqual(10_000 * share * 0.999);
      expect(quantile).toBeLessThanOrEqual(10_000 * share * 1.021);
    }
    histogram.add(0);
    histogram.add(1e12);
    expect(histogram.count).toBe(10_002);
  });
});
