import type { ClickHouseReader } from "../../infra/clickhouse/client.js";

/** A run's part of a topic: offsets `starts[p]` to below `ends[p]` of each partition p. */
export interface TopicWindow {
  topic: string;
  starts: number[];
  ends: number[];
}

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

/** The last label stored of each partition that has any of the window. Among repeated ones the last is the one that is kept. */
const LAST_LABELS = `
SELECT partition, max(offset) AS last
FROM labels
WHERE ${IN_WINDOW}
GROUP BY partition`;

/** All of the table, repeats included: what the server knows without looking. */
const STORED_PREDICTIONS = "SELECT count() AS rows FROM predictions";

/**
 * Stored scores joined with stored labels. Rows of one score are one step of the curves, so that ties count as in
 * scikit-learn: average precision is the sum of precision times the recall gained at each step, ROC AUC the share of
 * (fraud, genuine) pairs in the right order, ties half.
 */
const METRICS = `
WITH scored AS (
    SELECT p.score AS score, p.decision != 'approve' AS alert, l.is_fraud AS fraud
    FROM (SELECT card_id, transaction_id, score, decision FROM predictions FINAL WHERE ${IN_WINDOW}) AS p
    INNER JOIN (SELECT card_id, transaction_id, is_fraud FROM labels FINAL) AS l USING (card_id, transaction_id)
  ),
  steps AS (
    SELECT score, count() AS rows, countIf(fraud) AS frauds
    FROM scored
    GROUP BY score
  ),
  curve AS (
    SELECT
      rows,
      frauds,
      sum(rows) OVER falling AS rows_above,
      sum(frauds) OVER falling AS frauds_above
    FROM steps
    WINDOW falling AS (ORDER BY score DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
  ),
  areas AS (
    SELECT
      sum(frauds) AS positives,
      sum(rows - frauds) AS negatives,
      sum((rows - frauds) * (frauds_above - frauds / 2)) AS ordered_pairs,
      sum(frauds * (frauds_above / rows_above)) AS precision_sum
    FROM curve
  ),
  alarms AS (
    SELECT count() AS labelled, countIf(fraud) AS frauds, countIf(alert) AS alerts, countIf(alert AND fraud) AS caught
    FROM scored
  )
SELECT
  labelled,
  frauds,
  alerts,
  if(positives > 0 AND negatives > 0, ordered_pairs / positives / negatives, NULL) AS roc_auc,
  if(positives > 0, precision_sum / positives, NULL) AS average_precision,
  if(alerts > 0, caught / alerts, NULL) AS precision,
  if(frauds > 0, caught / frauds, NULL) AS recall
FROM alarms CROSS JOIN areas`;

export async function countPredictions(clickhouse: ClickHouseReader, window: TopicWindow): Promise<{ rows: number; transactions: number }> {
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

/** ROC AUC, average precision, precision and recall of a window's predictions, computed by ClickHouse. */
export async function runMetrics(clickhouse: ClickHouseReader, window: TopicWindow): Promise<RunMetrics> {
  const [metrics] = await clickhouse.query<RunMetrics>(METRICS, { ...window });
  return metrics;
}
