import { describe, expect, test } from "vitest";
import { buildModel } from "../../../../models/build-model.js";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import type { Dataset } from "../../../../models/datasets/dataset.js";
import { featureMatrices, featureMatrix, repeatedRows } from "../../../../models/features/feature-matrix.js";
import { historyFeature } from "../../../../models/features/history-features.js";
import { HistoryPlan, historySlotsOf } from "../../../../models/features/history-plan.js";
import { FeaturePlan, featureHash, type FeatureSpec } from "../../../../models/features/plan.js";
import { featuresNamed, selectFeatures } from "../../../../models/features/select.js";
import { seededRandom } from "../../../../models/training/random.js";
import { fileWith } from "../datasets/csv-files.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 0, 1);

/** Seven weeks in the order of time, with repeats, labels that come late and a gap of four days. */
function town(seed: number, length = 6000): Dataset {
  const random = seededRandom(seed);
  const rows = Array.from({ length }, (_, row) => row);
  let time = START;
  const eventTime = Float64Array.from(
    rows,
    (row) =>
      (time = Math.floor(time + random() * 24 * 60_000 * (random() < 0.02 ? 0 : 1) + (row === 3000 ? 4 * DAY : 0))),
  );
  const label = Uint8Array.from(rows, () => Number(random() < 0.1));
  return {
    source: "town",
    length,
    notes: [],
    eventTime,
    label,
    historyRows: 0,
    hasCards: true,
    hasMerchants: true,
    attributes: new Map(),
    transactionId: rows.map((row) => `t${random() < 0.01 ? Math.max(0, row - 1) : row}`),
    cardId: rows.map(() => `c${Math.floor(random() * 3)}`),
    merchantId: rows.map(() => `m${Math.floor(random() * 40)}`),
    currency: rows.map(() => "EUR"),
    amount: Float64Array.from(rows, () => Math.round(random() * 10_000) / 100),
    labelTime: Float64Array.from(rows, (row) =>
      random() < 0.1 ? Number.NaN : eventTime[row] + (random() < 0.1 ? 9 : 5) * DAY,
    ),
  };
}

describe("training's fold of a data set", () => {
  const NAMES = [
    "merchant_count_1d",
    "merchant_fraud_share_1d",
    "merchant_count_30d",
    "merchant_fraud_share_30d",
    "merchant_fraud_share_5h",
    "card_fraud_share_12h",
    "card_fraud_share_30d",
    "card_count_30d",
    "amount",
  ];

  test("gives merchants' and cards' delayed windows by their definition, repeats left out", () => {
    const dataset = town(1);
    const repeats = new Set(repeatedRows(dataset));
    expect(repeats.size).toBeGreaterThan(10);
    const specs = featuresNamed(dataset, NAMES);
    // The first row after the gap lets nothing be sealed: a leap is believed once two have made it.
    const rows = Uint32Array.from({ length: dataset.length }, (_, row) => row).filter(
      (row) => !repeats.has(row) && row % 3 === 0 && row !== 3000,
    );
    const matrix = featureMatrix(dataset, specs, rows);
    let wrong = 0;
    rows.forEach((row, i) => {
      const { eventTime, cardId, merchantId, label, labelTime, amount } = dataset;
      const end = Math.floor((eventTime[row] - 7 * DAY) / HOUR) - 1;
      const earlier = Array.from({ length: row }, (_, other) => other).filter((other) => !repeats.has(other));
      const within = (hours: number, ids: string[]): number[] =>
        earlier.filter(
          (other) =>
            ids[other] === ids[row] &&
            Math.floor(eventTime[other] / HOUR) < end &&
            Math.floor(eventTime[other] / HOUR) >= end - hours,
        );
      const isFraud = (other: number): boolean =>
        label[other] === 1 && (labelTime?.[other] ?? 0) <= (Math.floor(eventTime[other] / HOUR) + 1) * HOUR + 7 * DAY;
      const share = (others: number[]): number =>
        others.length === 0 ? 0 : others.filter(isFraud).length / others.length;
      const expected = [
        within(24, merchantId).length,
        share(within(24, merchantId)),
        within(720, merchantId).length,
        share(within(720, merchantId)),
        share(within(5, merchantId)),
        share(within(12, cardId)),
        share(within(720, cardId)),
        1 +
          earlier.filter((other) => cardId[other] === cardId[row] && eventTime[other] > eventTime[row] - 30 * DAY)
            .length,
        amount[row],
      ];
      expected.forEach(
        (value, feature) => matrix.values[i * specs.length + feature] === Math.fround(value) || (wrong += 1),
      );
    });
    expect(wrong).toBe(0);
    expect(matrix.values.reduce((sum, value, i) => sum + (i % specs.length === 3 ? value : 0), 0)).toBeGreaterThan(10);
  });

  test("is the same for rows in any order and number of sets", () => {
    const dataset = town(2, 5000);
    const specs = featuresNamed(dataset, NAMES);
    const all = featureMatrix(
      dataset,
      specs,
      Uint32Array.from({ length: dataset.length }, (_, row) => row),
    );
    const sets = [Uint32Array.of(4999, 3, 4096, 4095), Uint32Array.of(), Uint32Array.of(0, 3, 4500)];
    featureMatrices(dataset, specs, sets).forEach((matrix, set) => {
      expect([matrix.rows, matrix.features]).toEqual([sets[set].length, NAMES.length]);
      sets[set].forEach((row, i) =>
        expect(matrix.values.slice(i * NAMES.length, (i + 1) * NAMES.length)).toEqual(
          all.values.slice(row * NAMES.length, (row + 1) * NAMES.length),
        ),
      );
    });
  });

  test("makes rows before the training range history of the others, and leaves repeats out of training", async () => {
    const dataset = town(3, 3000);
    const [from, to, later] = [10, 14, 18].map((days) => START + days * DAY);
    const { manifest, split, notes } = await buildModel(dataset, {
      model: "town@1",
      features: NAMES,
      params: { num_iterations: 3 },
      train: { from, to },
      test: { from: to, to: later },
    });
    expect(notes[0]).toBe(
      `left out: ${repeatedRows(dataset).length} rows that repeat a transaction of their card within a day, ` +
        "as the stream leaves them out",
    );
    const repeats = new Set(repeatedRows(dataset));
    const expected = Array.from(dataset.eventTime.keys()).filter(
      (row) => !repeats.has(row) && dataset.eventTime[row] >= from && dataset.eventTime[row] < to,
    );
    expect([...split.train, ...split.validation]).toEqual(expected);
    expect(manifest.features.map(({ name }) => name)).toEqual(NAMES);
    const whole = await buildModel(
      { ...dataset, historyRows: 1000 },
      { model: "town@1", features: NAMES, params: { num_iterations: 3 } },
    );
    expect(Math.min(...whole.split.train)).toBeGreaterThanOrEqual(1000);
  });
});

describe("windowed features", () => {
  test("are offered where cards and merchants are real", async () => {
    const rows = Array.from({ length: 20 }, (_, row) => `2026-01-${10 + row} 10:00:00,c${row % 2},m,5,${row % 2}`).join(
      "\n",
    );
    const named = (specs: readonly FeatureSpec[]): string[] =>
      specs.map(({ name }) => name).filter((name) => /^(card|merchant)_/.test(name));
    const all = named(
      selectFeatures(await readCsv(fileWith(`event_time,card_id,merchant_id,amount,label\n${rows}\n`))),
    );
    expect(all).toContain("card_amount_over_mean_30d");
    expect(all).toContain("merchant_fraud_share_7d");
    expect(named(selectFeatures(await readCsv(fileWith(`event_time,x,merchant_id,amount,label\n${rows}\n`))))).toEqual(
      all.filter((name) => name.startsWith("merchant")),
    );
    const timeless = await readCsv(fileWith(`x,card_id,merchant_id,amount,label\n${rows}\n`), {
      columns: { event_time: null },
    });
    expect(named(selectFeatures(timeless))).toEqual([]);
  });

  test.each<[string, FeatureSpec["source"] | null]>([
    ["card_mean_7d", { kind: "card", aggregate: "mean", window: "P7D" }],
    ["card_distinct_merchants_90m", { kind: "card", aggregate: "distinct_merchants", window: "PT90M" }],
    ["card_seconds_since_last", { kind: "card", aggregate: "seconds_since_last" }],
    ["card_fraud_share_36h", { kind: "card", aggregate: "fraud_share", window: "PT36H", delay: "P7D", bucket: "PT1H" }],
    [
      "merchant_fraud_share_30d",
      { kind: "merchant", aggregate: "fraud_share", window: "P30D", delay: "P7D", bucket: "PT1H" },
    ],
    ["merchant_count_30m", null],
    ["merchant_mean_7d", null],
    ["card_count_31d", null],
    ["card_count_0d", null],
    ["card_count", null],
    ["xcard_count_1d", null],
  ])("are named: %s", (name, source) => {
    expect(historyFeature(name)?.source ?? null).toEqual(source);
    if (source === null)
      expect(() => featuresNamed({ attributes: new Map() }, [name])).toThrow(
        expect.objectContaining({ code: "unknown_feature" }) as Error,
      );
  });

  const spec = (source: FeatureSpec["source"]): FeatureSpec => ({ name: "x", type: "number", source, default: null });
  const delayed = { kind: "merchant", aggregate: "count", window: "P1D", delay: "P7D", bucket: "PT1H" } as const;

  test.each<[FeatureSpec["source"], RegExp]>([
    [{ kind: "card", aggregate: "sum", window: "P31D" }, /PT1M to P30D/],
    [{ kind: "card", aggregate: "sum", window: "PT59S" }, /PT1M to P30D/],
    [{ kind: "card", aggregate: "sum", window: "1 day" }, /PT1M to P30D/],
    [{ ...delayed, window: "PT90M" }, /whole hours/],
    [{ ...delayed, delay: "P6D" }, /only P7D/],
    [{ ...delayed, bucket: "P1D" }, /only PT1H/],
  ])("that nobody computes are refused, naming what there is: %j", (source, message) => {
    const refusal = expect.objectContaining({
      code: "unknown_feature",
      message: expect.stringMatching(message) as string,
    }) as Error;
    expect(() => historySlotsOf([[spec(source)]])).toThrow(refusal);
    expect(() => featureHash([spec(source)])).toThrow(refusal);
  });

  test("written in another way are the same slot and hash", () => {
    const [day, hours] = [
      spec({ kind: "card", aggregate: "sum", window: "P1D" }),
      spec({ kind: "card", aggregate: "sum", window: "PT24H" }),
    ];
    expect(historySlotsOf([[day], [hours]])).toHaveLength(1);
    expect(featureHash([day])).toBe(featureHash([hours]));
    expect(featureHash([day])).not.toBe(featureHash([spec({ kind: "card", aggregate: "sum", window: "PT23H" })]));
    expect(new HistoryPlan(historySlotsOf([[day], [spec(delayed)]])).needsMerchants).toBe(true);
    const out = new Float32Array(1);
    new FeaturePlan(
      [{ ...hours, default: 9 }],
      [],
      [delayed, { kind: "card", aggregate: "sum", window: "P1D" }],
    ).compute(
      {
        length: 1,
        eventTime: new Float64Array(1),
        amount: new Float64Array(1),
        slots: new Float64Array(0),
        slotCount: 0,
        history: Float64Array.of(3, Number.NaN),
        historyCount: 2,
      },
      out,
    );
    expect([...out]).toEqual([9]);
  });
});
