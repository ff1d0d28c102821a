import { expect, test } from "vitest";
import type { Dataset } from "../../../../models/datasets/dataset.js";
import { BucketBuilder } from "../../../../models/features/bucket-builder.js";
import { CardHistory } from "../../../../models/features/card-history.js";
import { DatasetHistory } from "../../../../models/features/dataset-history.js";
import { HistoryPlan } from "../../../../models/features/history-plan.js";
import type { HistoryRows } from "../../../../models/features/history-rows.js";
import { MerchantWindows } from "../../../../models/features/merchant-windows.js";
import { RandomSource } from "../../../support/random-source.js";
import { rowsOf } from "./bucket-rows.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 0, 1);
const delayed = { window: "P1D", delay: "P7D", bucket: "PT1H" } as const;
const plan = new HistoryPlan([
  { kind: "merchant", aggregate: "count", ...delayed },
  { kind: "merchant", aggregate: "fraud_share", ...delayed },
  { kind: "card", aggregate: "fraud_share", ...delayed },
  { kind: "card", aggregate: "count", window: "P30D" },
  { kind: "card", aggregate: "seconds_since_last" },
]);

/** Two months of a small town, in the order of time: repeats at any distance, and nights of up to ten days. */
function town(random: RandomSource): Dataset {
  const length = 3_000;
  const rows = Array.from({ length }, (_, row) => row);
  let time = START;
  const eventTime = Float64Array.from(rows, () => {
    const night = random.int(300) === 0 ? random.int(10) * DAY : 0;
    return (time += random.int(20 * 60_000) + night);
  });
  return {
    source: "town",
    length,
    notes: [],
    eventTime,
    label: Uint8Array.from(rows, () => Number(random.int(10) === 0)),
    labelTime: null,
    historyRows: 0,
    hasCards: true,
    hasMerchants: true,
    attributes: new Map(),
    transactionId: rows.map((row) => `t${random.int(40) === 0 ? Math.max(0, row - random.int(200)) : row}`),
    cardId: rows.map(() => `c${random.int(4)}`),
    merchantId: rows.map(() => `m${random.int(6)}`),
    currency: rows.map(() => "EUR"),
    amount: Float64Array.from(rows, () => random.int(10_000) / 4),
  };
}

/**
 * What the stream's two roles make of the same rows in one partition, merchants ahead of scoring: one row after the
 * other, in objects of their own. Null: a repeat.
 */
function streamed(dataset: Dataset): (Float64Array | null)[] {
  const builder = new BucketBuilder();
  const windows = new MerchantWindows(1);
  const cards = new CardHistory();
  return Array.from({ length: dataset.length }, (_, row) => {
    const [id, card, merchant] = [dataset.transactionId[row], dataset.cardId[row], dataset.merchantId[row]];
    const one = rowsOf({ id, card, merchant, time: dataset.eventTime[row] });
    builder.sealAndAdd(one, 0, (kind, bytes, bucket, count, frauds) =>
      windows.add(kind, bytes, 0, bytes.length, 0, bucket, count, frauds),
    );
    windows.watermark(0, builder.sealed);
    const rows: HistoryRows = { ...one, amount: Float64Array.of(dataset.amount[row]) };
    const out = new Float64Array(plan.size);
    const isRepeat = cards.fold(rows, 0, row, plan, windows, out, 0) >= 0;
    cards.commit();
    if (isRepeat) return null;
    windows.lookup(rows, 0, plan, out, 0);
    if (dataset.label[row] === 1) {
      const ids = Buffer.from(card + id);
      builder.label(ids, 0, card.length, card.length, id.length, true, dataset.eventTime[row] + 7 * DAY);
    }
    return out;
  });
}

test("a data set with leaps in time and repeats is folded as the stream folds it, bit for bit", () => {
  for (let seed = 0; seed < 4; seed++) {
    const random = new RandomSource(seed);
    const dataset = town(random);
    const history = new DatasetHistory(dataset, plan);
    const expected = streamed(dataset);
    const repeats = new Set<number>();
    for (let from = 0, to: number; from < dataset.length; from = to) {
      to = Math.min(dataset.length, from + 1 + random.int(500));
      const out = new Float64Array((to - from) * plan.size);
      history.fold(from, to, out, (row) => repeats.add(row));
      for (let row = from; row < to; row++) {
        const values = out.subarray((row - from) * plan.size, (row - from + 1) * plan.size);
        const want = expected[row] ?? new Float64Array(plan.size).fill(Number.NaN);
        expect(values, `seed ${seed}, row ${row}`).toEqual(want);
      }
    }
    expect([...repeats]).toEqual(expected.flatMap((values, row) => (values === null ? [row] : [])));
    expect(repeats.size).toBeGreaterThan(5);
  }
});
