import { describe, expect, it } from "vitest";
import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { Random } from "../../pipelines/local/simulator/random.js";
import {
  countPredictions,
  hasLabels,
  runMetrics,
  type TopicWindow,
} from "../../pipelines/local/start/summary-queries.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";

interface Scored {
  id: number;
  score: number;
  decision: string;
  /** Null: no label. */
  fraud: boolean | null;
}

/** Scores in steps of 1/100, so that many rows share one. */
function scoredRows(): Scored[] {
  const random = new Random(17);
  return Array.from({ length: 1_200 }, (_, id) => {
    const fraud = random.chance(0.05);
    const score = Math.round(Math.min(1, random.uniform() * 0.8 + (fraud ? 0.4 * random.uniform() : 0)) * 100) / 100;
    return { id, score, decision: score >= 0.9 ? "decline" : score >= 0.75 ? "review" : "approve", fraud };
  });
}

/** Each row stands at partition id % 3, offset 100 + id. */
async function store(clickhouse: ClickHouse, rows: Scored[]): Promise<void> {
  const scored = rows.map(({ id, score, decision }) => `(${id}, ${score}, '${decision}')`).join(",");
  await clickhouse.command(
    `INSERT INTO predictions (topic, partition, offset, transaction_id, card_id, event_time, score, decision,
      source_topic, source_partition, source_offset)
     SELECT 'p', r.1 % 3, 100 + r.1, concat('t', toString(intDiv(r.1, 2))), concat('c', toString(r.1 % 2)),
       toDateTime64('2026-01-01', 3, 'UTC') + r.1, r.2, r.3, 't', 0, r.1
     FROM (SELECT arrayJoin([${scored}]) AS r)`,
  );
  const labelled = rows.flatMap(({ id, fraud }) => (fraud === null ? [] : [`(${id}, ${fraud})`])).join(",");
  await clickhouse.command(
    `INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time)
     SELECT 'l', r.1 % 3, 100 + r.1, concat('t', toString(intDiv(r.1, 2))), concat('c', toString(r.1 % 2)), r.2,
       toDateTime64('2026-01-08', 3, 'UTC')
     FROM (SELECT arrayJoin([${labelled}]) AS r)`,
  );
}

const everything: TopicWindow = { topic: "p", starts: [0, 0, 0], ends: [10_000, 10_000, 10_000] };

describe("the summary's queries", () => {
  it("agree with scikit-learn 1.9.1, ties included, even if rows were written twice", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = scoredRows();
    await store(clickhouse, rows);
    // The same coordinates in blocks cut differently, and a label that was wrong at first.
    await store(clickhouse, rows.slice(300, 700));
    await clickhouse.command(
      "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time, version) " +
        "SELECT 'earlier', partition, 1000000, transaction_id, card_id, NOT is_fraud, label_time, 0 FROM " +
        "labels FINAL",
    );
    expect(await countPredictions(clickhouse, everything)).toEqual({ rows: 1_200, transactions: 1_200 });
    const metrics = await runMetrics(clickhouse, everything);
    expect(metrics).toMatchObject({ labelled: 1_200, frauds: 58, alerts: 87 });
    // roc_auc_score, average_precision_score, precision_score and recall_score of these rows
    expect(metrics.roc_auc).toBeCloseTo(0.697468144211607, 12);
    expect(metrics.average_precision).toBeCloseTo(0.2496905390519617, 12);
    expect(metrics.precision).toBeCloseTo(0.14942528735632185, 12);
    expect(metrics.recall).toBeCloseTo(0.22413793103448276, 12);
  });

  it("look only at a run's part of the topic and at labelled transactions", async () => {
    const clickhouse = await clickhouseDatabase();
    const rows = scoredRows()
      .slice(0, 300)
      .map((row) => ({ ...row, fraud: row.id < 200 ? row.fraud : null }));
    await store(clickhouse, rows);
    const part = { topic: "p", starts: [100, 250, 100], ends: [300, 260, 100] };
    const inPart = rows.filter(({ id }) => (id % 3 === 0 && id < 200) || (id % 3 === 1 && id >= 150 && id < 160));
    expect(await countPredictions(clickhouse, part)).toEqual({ rows: inPart.length, transactions: inPart.length });
    expect(await runMetrics(clickhouse, part)).toMatchObject({
      labelled: inPart.length,
      frauds: inPart.filter(({ fraud }) => fraud).length,
    });
    expect(await runMetrics(clickhouse, { ...everything, starts: [350, 350, 350] })).toMatchObject({ labelled: 0 });
    expect(await countPredictions(clickhouse, { ...everything, topic: "other" })).toEqual({ rows: 0, transactions: 0 });
  });

  it("return null for what can't be computed", async () => {
    const clickhouse = await clickhouseDatabase();
    expect(await runMetrics(clickhouse, everything)).toEqual({
      labelled: 0,
      frauds: 0,
      alerts: 0,
      roc_auc: null,
      average_precision: null,
      precision: null,
      recall: null,
    });
    await store(clickhouse, [{ id: 0, score: 0.2, decision: "approve", fraud: false }]);
    expect(await runMetrics(clickhouse, everything)).toEqual({
      labelled: 1,
      frauds: 0,
      alerts: 0,
      roc_auc: null,
      average_precision: null,
      precision: null,
      recall: null,
    });
    await store(clickhouse, [{ id: 1, score: 0.9, decision: "decline", fraud: true }]);
    expect(await runMetrics(clickhouse, everything)).toEqual({
      labelled: 2,
      frauds: 1,
      alerts: 1,
      roc_auc: 1,
      average_precision: 1,
      precision: 1,
      recall: 1,
    });
  });

  it("know when the last label of every partition has arrived", async () => {
    const clickhouse = await clickhouseDatabase();
    await store(clickhouse, scoredRows().slice(0, 30));
    expect(await hasLabels(clickhouse, { topic: "l", starts: [100, 100, 100], ends: [128, 129, 130] })).toBe(true);
    expect(await hasLabels(clickhouse, { topic: "l", starts: [100, 100, 100], ends: [128, 132, 130] })).toBe(false);
    expect(await hasLabels(clickhouse, { topic: "l", starts: [140, 140, 140], ends: [140, 140, 140] })).toBe(true);
    expect(await hasLabels(clickhouse, { topic: "l", starts: [140, 140, 140], ends: [141, 140, 140] })).toBe(false);
  });
});
