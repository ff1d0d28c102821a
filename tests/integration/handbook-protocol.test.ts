import { expect, it } from "vitest";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import { type StoredPrediction, storeLabels, storePredictions } from "../support/stored-predictions.js";
import { protocolWeeks, testWeekMetrics } from "../bench/support/handbook-protocol.js";

const DAY = 86_400_000;
/** The first day of the training week; the test week's is day 14. */
const START = Date.UTC(2026, 2, 2);

/** Day, card, score, fraud. */
type Sketch = [day: number, card: string, score: number, fraud: boolean];

it("the Handbook's protocol leaves out, day by day, cards whose fraud is already known", async () => {
  const clickhouse = await clickhouseDatabase();
  const sketches: Sketch[] = [
    // Known on every test day: a fraud in the training week. One before it, or after what is known on the first day, is
    // not.
    [0, "early", 0.1, true],
    [6, "known", 0.1, true],
    [-1, "before", 0.1, true],
    [7, "later", 0.1, true],
    [13, "last", 0.1, true],
    // First test day: later and last are still in.
    [14, "early", 0.99, true],
    [14.1, "known", 0.98, false],
    [14.2, "before", 0.9, true],
    [14.3, "later", 0.8, false],
    [14.4, "last", 0.7, true],
    [14.5, "x", 0.1, false],
    // Second day: the fraud of day 7 is known.
    [15, "later", 0.95, true],
    [15.1, "last", 0.6, true],
    [15.2, "x", 0.2, false],
    // Last day: that of day 12 is, of day 13 isn't.
    [12, "twelfth", 0.1, true],
    [20, "twelfth", 0.97, true],
    [20.1, "last", 0.5, false],
    [20.2, "x", 0.3, true],
    // After the test week.
    [21, "y", 0.9, true],
  ];
  const rows = sketches.map(([day, card_id, score], offset): StoredPrediction => ({
    offset,
    transaction_id: `t${offset}`,
    card_id,
    event_time: START + day * DAY,
    amount: 1,
    currency: "EUR",
    scoring_ms: 1,
    score,
    decision: "approve",
    model: "handbook@1",
  }));
  await storePredictions(clickhouse, rows);
  await storePredictions(
    clickhouse,
    rows.map((row) => ({ ...row, offset: row.offset + 500, model: "other@1" })),
  );
  await storeLabels(
    clickhouse,
    sketches.map(([, card_id, , is_fraud], offset) => ({ offset, transaction_id: `t${offset}`, card_id, is_fraud })),
  );

  const weeks = protocolWeeks(START - DAY, START + 20.5 * DAY);
  const { evaluated, labelled, frauds, roc_auc, average_precision, days, cardPrecision } = await testWeekMetrics(
    clickhouse,
    "handbook@1",
    weeks,
    2,
  );
  // Frauds .9 .7 .6 .3, genuine .8 .1 .2 .5
  expect({ evaluated, labelled, frauds }).toEqual({ evaluated: 8, labelled: 8, frauds: 4 });
  expect(roc_auc).toBeCloseTo((4 + 3 + 3 + 2) / 16, 12);
  expect(average_precision).toBeCloseTo((1 + 2 / 3 + 3 / 4 + 4 / 6) / 4, 12);
  // before and later; last and x; x alone, since last was caught.
  expect(days.map(({ at, cards, caught }) => [(at - START) / DAY, cards, caught])).toEqual([
    [14, 2, 1],
    [15, 2, 1],
    [20, 1, 1],
  ]);
  expect(cardPrecision).toBeCloseTo(0.5, 12);
});
