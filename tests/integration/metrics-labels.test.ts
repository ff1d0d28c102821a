import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { modelMetrics, type MetricsRequest } from "../../api/queries/metrics.js";
import type { SliceMetrics } from "../../api/queries/metrics-schema.js";
import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { lastPlacement, NO_PLACEMENT, placeLabels, type PlaceOptions } from "../../infra/clickhouse/label-placement.js";
import { createLogger } from "../../infra/logging.js";
import { Random } from "../../pipelines/local/simulator/random.js";
import { startPlacingLabels } from "../../pipelines/sink/place-labels.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import {
  type StoredLabel,
  type StoredPrediction,
  storeLabels,
  storePredictions,
} from "../support/stored-predictions.js";

const HOUR = 3_600_000;
const FIRST = Date.UTC(2026, 0, 20);
const ROWS = 600;
const LAST = FIRST + (ROWS - 1) * HOUR;
const MATURED_BEFORE = LAST - 150 * HOUR;
const request: MetricsRequest = {
  model: "cards@2",
  role: "champion",
  from: FIRST,
  to: LAST + 1,
  maturedBefore: MATURED_BEFORE,
  slices: {},
};

/** An hour apart, over two months; scores in steps of 1/50, so that many tie. */
function someRows(): StoredPrediction[] {
  const random = new Random(5);
  return Array.from({ length: ROWS }, (_, offset) => {
    const score = Math.round(random.uniform() * 50) / 50;
    return {
      offset,
      transaction_id: `t${Math.floor(offset / 3)}`,
      card_id: `c${offset % 3}`,
      event_time: FIRST + offset * HOUR,
      amount: Math.round(random.uniform() * 800) / 4 - 20,
      currency: offset % 4 === 0 ? "CHF" : "EUR",
      scoring_ms: offset % 16,
      score,
      decision: score > 0.9 ? "decline" : score > 0.7 ? "review" : "approve",
      model: "cards@2",
    };
  });
}

function labelsOf(rows: readonly StoredPrediction[], firstOffset: number, seed: number): StoredLabel[] {
  const random = new Random(seed);
  return rows.map(({ transaction_id, card_id, score }, index) => ({
    offset: firstOffset + index,
    transaction_id,
    card_id,
    is_fraud: random.chance(score * score),
  }));
}

type Counted = Pick<
  SliceMetrics,
  "rows" | "evaluated" | "labelled" | "roc_auc" | "average_precision" | "precision" | "recall" | "value"
>;

/**
 * The same from rows in memory, pair by pair: what is stored may be merged, placed or neither, it makes no difference.
 */
function byHand(
  rows: readonly StoredPrediction[],
  labels: readonly StoredLabel[],
  maturedBefore: number | null,
): Counted {
  const last = new Map<string, StoredLabel>();
  for (const label of labels) {
    const key = `${label.card_id} ${label.transaction_id}`;
    if (label.offset > (last.get(key)?.offset ?? -1)) last.set(key, label);
  }
  const all = rows.map((row) => ({
    ...row,
    score: Math.fround(row.score),
    label: last.get(`${row.card_id} ${row.transaction_id}`),
  }));
  const judged = all.filter(
    ({ label, event_time }) => label !== undefined || (maturedBefore !== null && event_time < maturedBefore),
  );
  const frauds = judged.filter(({ label }) => label?.is_fraud);
  const genuine = judged.filter(({ label }) => !label?.is_fraud);
  const alerts = judged.filter(({ decision }) => decision !== "approve");
  const caught = frauds.filter(({ decision }) => decision !== "approve");
  const pairs = frauds.flatMap((fraud) =>
    genuine.map((other): number => (fraud.score > other.score ? 1 : fraud.score === other.score ? 0.5 : 0)),
  );
  const precisions = frauds.map(
    ({ score }) =>
      frauds.filter((other) => other.score >= score).length / judged.filter((other) => other.score >= score).length,
  );
  const worth = (of: typeof all): number => of.reduce((sum, { amount }) => sum + Math.max(0, amount), 0);
  return {
    rows: rows.length,
    evaluated: judged.length,
    labelled: judged.filter(({ label }) => label !== undefined).length,
    roc_auc: pairs.reduce((sum, pair) => sum + pair, 0) / pairs.length,
    average_precision: precisions.reduce((sum, precision) => sum + precision, 0) / precisions.length,
    precision: caught.length / alerts.length,
    recall: caught.length / frauds.length,
    value: ["CHF", "EUR"].map((currency) => {
      const [detected, missed] = [
        worth(caught.filter((row) => row.currency === currency)),
        worth(frauds.filter((row) => row.currency === currency && row.decision === "approve")),
      ];
      return { currency, detected, missed, recall: detected / (detected + missed) };
    }),
  };
}

/** Numbers to twelve digits: sums of fractions depend on their order. */
function rounded(metrics: unknown): unknown {
  return JSON.parse(JSON.stringify(metrics), (_, value: unknown) =>
    typeof value === "number" ? Number(value.toPrecision(12)) : value,
  );
}

async function expectSame(
  clickhouse: ClickHouse,
  rows: readonly StoredPrediction[],
  labels: readonly StoredLabel[],
): Promise<void> {
  for (const maturedBefore of [MATURED_BEFORE, null]) {
    const metrics = await modelMetrics(clickhouse, { ...request, maturedBefore });
    expect(rounded(metrics)).toMatchObject(rounded(byHand(rows, labels, maturedBefore)) as object);
  }
}

/** Places what was stored before this moment. */
async function place(clickhouse: ClickHouse, options: PlaceOptions = {}): Promise<boolean> {
  await sleep(5);
  return placeLabels(clickhouse, await lastPlacement(clickhouse), { settleMs: 0, ...options });
}

async function count(clickhouse: ClickHouse, sql: string): Promise<number> {
  const [{ n }] = await clickhouse.query<{ n: number }>(`SELECT count() AS n FROM ${sql}`);
  return n;
}

describe("labels and metrics", () => {
  it("each prediction and label counts once, however often and in whatever blocks it was written", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = someRows();
    const labels = labelsOf(rows.slice(0, 400), 0, 1);
    await storePredictions(clickhouse, rows);
    await storeLabels(clickhouse, labels);
    await expectSame(clickhouse, rows, labels);
    for (const [from, to] of [
      [0, 600],
      [13, 214],
      [150, 151],
      [200, 450],
      [333, 600],
    ]) {
      await storePredictions(clickhouse, rows.slice(from, to));
      await storeLabels(clickhouse, labels.slice(from, to));
    }
    expect(await count(clickhouse, "predictions")).toBeGreaterThan(ROWS);
    await expectSame(clickhouse, rows, labels);
    await place(clickhouse);
    await storePredictions(clickhouse, rows.slice(90, 95));
    await storeLabels(clickhouse, labels.slice(80, 99));
    await expectSame(clickhouse, rows, labels);
    await clickhouse.command("OPTIMIZE TABLE predictions FINAL");
    await clickhouse.command("OPTIMIZE TABLE labels FINAL");
    await clickhouse.command("OPTIMIZE TABLE labels_by_event FINAL");
    await expectSame(clickhouse, rows, labels);
  });

  it("late and corrected labels count from when they are stored, placed or not", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = someRows();
    await storePredictions(clickhouse, rows);
    let labels: StoredLabel[] = [];
    const known = async (more: StoredLabel[]): Promise<void> => {
      labels = [...labels, ...more];
      await storeLabels(clickhouse, more);
      await expectSame(clickhouse, rows, labels);
    };
    await known(labelsOf(rows.slice(0, 200), 1_000, 1));
    expect(await place(clickhouse)).toBe(true);
    expect(await lastPlacement(clickhouse)).toMatchObject({ waiting: 0 });
    await expectSame(clickhouse, rows, labels);
    await known(labelsOf(rows.slice(100, 300), 2_000, 2));
    // Older than what was placed: a sink that reads again brings them once more.
    await known(labelsOf(rows.slice(0, 50), 500, 3));
    await place(clickhouse);
    await expectSame(clickhouse, rows, labels);
    await known(labelsOf(rows.slice(0, 20), 3_000, 4));
    await place(clickhouse);
    await place(clickhouse);
    await expectSame(clickhouse, rows, labels);
    expect(await count(clickhouse, "labels_by_event FINAL")).toBe(300);
    expect(await count(clickhouse, "labels_without_event")).toBe(0);
  });

  it("labels that come before their predictions are kept until the predictions come", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = someRows();
    const labels = labelsOf(rows, 0, 1);
    await storePredictions(clickhouse, rows.slice(0, 100));
    await storeLabels(clickhouse, labels);
    await place(clickhouse);
    expect(await count(clickhouse, "labels_by_event FINAL")).toBe(100);
    await storePredictions(clickhouse, rows.slice(100, 350));
    await expectSame(clickhouse, rows.slice(0, 350), labels);
    await place(clickhouse);
    expect(await count(clickhouse, "labels_by_event FINAL")).toBe(350);
    await expectSame(clickhouse, rows.slice(0, 350), labels);
    await storePredictions(clickhouse, rows.slice(350));
    await place(clickhouse);
    await expectSame(clickhouse, rows, labels);
    // Nothing is left to look at.
    expect(await place(clickhouse)).toBe(false);
  });

  it("labels are placed a few at a time, and by several processes at once", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = someRows();
    const labels = labelsOf(rows, 0, 1);
    await storePredictions(clickhouse, rows.slice(0, 500));
    for (let at = 0; at < ROWS; at += 100) {
      await storeLabels(clickhouse, labels.slice(at, at + 100));
      await sleep(5);
    }
    let rounds = 0;
    for (let left = ROWS; left > 0; rounds++) {
      await Promise.all([place(clickhouse, { mostLabels: 250 }), place(clickhouse, { mostLabels: 150 })]);
      const { waiting } = await lastPlacement(clickhouse);
      expect(waiting).toBeLessThan(left);
      left = waiting;
      await expectSame(clickhouse, rows.slice(0, 500), labels);
    }
    expect(rounds).toBe(3);
    await storePredictions(clickhouse, rows.slice(500));
    await Promise.all([place(clickhouse), place(clickhouse), place(clickhouse)]);
    await expectSame(clickhouse, rows, labels);
    expect(await count(clickhouse, "labels_by_event FINAL")).toBe(ROWS);
  });

  it("a placement that stops midway changes nothing, and the next one makes up for it", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = someRows();
    const labels = labelsOf(rows, 0, 1);
    await storePredictions(clickhouse, rows.slice(0, 400));
    await storeLabels(clickhouse, labels.slice(0, 300));
    await place(clickhouse);
    await storeLabels(clickhouse, labels.slice(300));
    for (const statements of [0, 1, 2]) {
      let left = statements;
      const dying: ClickHouse = {
        ...clickhouse,
        command: (sql, params) => (left-- > 0 ? clickhouse.command(sql, params) : Promise.reject(new Error("gone"))),
      };
      await expect(placeLabels(dying, await lastPlacement(clickhouse), { settleMs: 0 })).rejects.toThrow("gone");
      expect(await lastPlacement(clickhouse)).toMatchObject({ waiting: 300 });
      await expectSame(clickhouse, rows.slice(0, 400), labels);
    }
    await place(clickhouse);
    await storePredictions(clickhouse, rows.slice(400));
    await expectSame(clickhouse, rows, labels);
    await place(clickhouse);
    await expectSame(clickhouse, rows, labels);
  });

  it("a placement that was overtaken, and whose labels were removed, doesn't count", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = someRows();
    const labels = labelsOf(rows, 0, 1);
    await storeLabels(clickhouse, labels);
    await place(clickhouse);
    const last = await lastPlacement(clickhouse);
    const overtaken: ClickHouse = {
      ...clickhouse,
      async command(sql, params) {
        if (sql.includes("INTO labels_by_event"))
          await clickhouse.command(`ALTER TABLE labels_without_event DROP PARTITION '${last.id}'`);
        await clickhouse.command(sql, params);
      },
    };
    await placeLabels(overtaken, last, { settleMs: 0 });
    expect((await lastPlacement(clickhouse)).id).toBe(last.id);
  });

  it("young labels are left waiting; without a placement, all are", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = someRows();
    expect(await lastPlacement(clickhouse)).toEqual({ ...NO_PLACEMENT, waiting: 0, settled: 0 });
    await storePredictions(clickhouse, rows);
    await storeLabels(clickhouse, labelsOf(rows, 0, 1));
    expect(await placeLabels(clickhouse, await lastPlacement(clickhouse))).toBe(false);
    expect(await lastPlacement(clickhouse)).toEqual({ ...NO_PLACEMENT, waiting: ROWS, settled: 0 });
    // A narrow window, with more labels waiting than it has rows.
    const day = rows.slice(300, 324);
    expect(
      rounded(await modelMetrics(clickhouse, { ...request, from: day[0].event_time, to: day[23].event_time + 1 })),
    ).toMatchObject(rounded(byHand(day, labelsOf(rows, 0, 1), MATURED_BEFORE)) as object);
  });

  it("labels are placed again when the last placement is so old that its labels may be gone", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = someRows();
    const labels = labelsOf(rows, 0, 1);
    await storePredictions(clickhouse, rows.slice(0, 500));
    await storeLabels(clickhouse, labels);
    await place(clickhouse);
    const first = await lastPlacement(clickhouse);
    const aged = async (days: number): Promise<void> => {
      await clickhouse.command("TRUNCATE TABLE label_placements");
      await clickhouse.command(
        "INSERT INTO label_placements (placement, cut, labels, finished_at) SELECT {id: UUID}, " +
          "fromUnixTimestamp64Milli({cut: Int64}, 'UTC'), 1, now64(3) - toIntervalDay({days: UInt32})",
        { id: first.id, cut: first.cut, days },
      );
    };
    await aged(6);
    expect(await lastPlacement(clickhouse)).toMatchObject({ id: first.id, waiting: 0 });
    expect(await place(clickhouse)).toBe(true);
    expect((await lastPlacement(clickhouse)).finishedAt).toBeGreaterThan(Date.now() - HOUR);
    await aged(8);
    await clickhouse.command("TRUNCATE TABLE labels_without_event");
    expect(await lastPlacement(clickhouse)).toMatchObject({ ...NO_PLACEMENT, waiting: ROWS });
    await storePredictions(clickhouse, rows.slice(500));
    await expectSame(clickhouse, rows, labels);
    await place(clickhouse);
    expect(await lastPlacement(clickhouse)).toMatchObject({ waiting: 0 });
    await expectSame(clickhouse, rows, labels);
  });

  it("the sink places labels periodically, also after a failure", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = someRows();
    const labels = labelsOf(rows, 0, 1);
    await storePredictions(clickhouse, rows);
    await storeLabels(clickhouse, labels);
    let failures = 2;
    const unsteady: ClickHouse = {
      ...clickhouse,
      command: (sql, params) => (failures-- > 0 ? Promise.reject(new Error("away")) : clickhouse.command(sql, params)),
    };
    let stop = (): Promise<void> | void => {};
    startPlacingLabels(
      { add: (_, end) => void (stop = end) },
      { clickhouse: unsteady, log: createLogger({ logLevel: "silent" }, "test"), lookEveryMs: 20, settleMs: 0 },
    );
    try {
      await expect.poll(async () => (await lastPlacement(clickhouse)).waiting, { timeout: 30_000 }).toBe(0);
    } finally {
      await stop();
    }
    expect(await count(clickhouse, "labels_by_event FINAL")).toBe(ROWS);
    await expectSame(clickhouse, rows, labels);
  });
});
