import type { ClickHouseReader } from "../../../infra/clickhouse/client.js";
import { lastPlacement } from "../../../infra/clickhouse/label-placement.js";
import { TIME_RANGE } from "../../../infra/clickhouse/tables.js";
import { outcomeMetrics } from "../../../models/evaluation/outcome-metrics.js";
import { outcomeSums, type Scope, scoringSums, type TopicWindow } from "../../../models/evaluation/stored-outcomes.js";

export type { TopicWindow };

/** How the scores of a window did against the labels that are known of it; null: can't be computed. */
export interface RunMetrics {
  labelled: number;
  frauds: number;
  alerts: number;
  roc_auc: number | null;
  average_precision: number | null;
  precision: number | null;
  recall: number | null;
}

const IN_WINDOW = `topic = {topic: String}
  AND offset >= {starts: Array(UInt64)}[partition + 1]
  AND offset < {ends: Array(UInt64)}[partition + 1]`;

/** What ClickHouse has of a window: rows, and transactions that they are for. */
const COUNT_PREDICTIONS = `
SELECT count() AS rows, uniqExact(source_topic, source_partition, source_offset) AS transactions
FROM predictions FINAL
WHERE ${IN_WINDOW}`;

/**
 * The last label stored of each partition that has any of the window. Among repeated ones the last is the one that is
 * kept.
 */
const LAST_LABELS = `
SELECT partition, max(offset) AS last
FROM labels
WHERE ${IN_WINDOW}
GROUP BY partition`;

/** All of the table, repeats included: what the server knows without looking. */
const STORED_PREDICTIONS = "SELECT count() AS rows FROM predictions";

export async function countPredictions(
  clickhouse: ClickHouseReader,
  window: TopicWindow,
): Promise<{ rows: number; transactions: number }> {
  const [counts] = await clickhouse.query<{ rows: number; transactions: number }>(COUNT_PREDICTIONS, { ...window });
  return counts;
}

/** Whether the window's last label of every partition is stored. */
export async function hasLabels(clickhouse: ClickHouseReader, window: TopicWindow): Promise<boolean> {
  const rows = await clickhouse.query<{ partition: number; last: number }>(LAST_LABELS, { ...window });
  const last = new Map(rows.map((row) => [row.partition, row.last]));
  return window.ends.every((end, partition) => end === window.starts[partition] || last.get(partition) === end - 1);
}

/** About how many rows the predictions table has. */
export async function storedPredictions(clickhouse: ClickHouseReader): Promise<number> {
  const [counts] = await clickhouse.query<{ rows: number }>(STORED_PREDICTIONS);
  return counts.rows;
}

/**
 * How a window's predictions did against the labels that are known of them, computed by ClickHouse as the API's metrics
 * are.
 *
 * @param times the event times of the run: what others published meanwhile, from other times, is left out
 */
export async function runMetrics(
  clickhouse: ClickHouseReader,
  window: TopicWindow,
  times: { from: number; to: number } = { from: TIME_RANGE.least, to: TIME_RANGE.most },
): Promise<RunMetrics> {
  const scope: Scope = { table: "predictions", ...times, records: window };
  const [all] = await scoringSums(clickhouse, scope);
  const { currencies = [], rows = 0, first = 0, last = 0 } = all ?? {};
  const outcomes = await outcomeSums(
    clickhouse,
    await lastPlacement(clickhouse),
    { ...scope, from: first, to: last + 1 },
    {},
    { currencies, maturedBefore: null, rows },
  );
  const { labelled, roc_auc, average_precision, precision, recall, confusion } = outcomeMetrics(outcomes, currencies);
  return {
    labelled,
    roc_auc,
    average_precision,
    precision,
    recall,
    frauds: confusion.true_positives + confusion.false_negatives,
    alerts: confusion.true_positives + confusion.false_positives,
  };
}
