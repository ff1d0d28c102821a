import type { Placement } from "../../infra/clickhouse/label-placement.js";

/** Part of a topic: offsets `starts[p]` to below `ends[p]` of each partition p. */
export interface TopicWindow {
  topic: string;
  starts: number[];
  ends: number[];
}

/** Champions' and shadows'. A model may have rows in both, never two for one transaction. */
export const PREDICTION_TABLES = ["predictions", "shadow_predictions"] as const;
export type PredictionTable = (typeof PREDICTION_TABLES)[number];

/** Which stored predictions are looked at. Every bound is in event time, epoch milliseconds, `to` exclusive. */
export interface Scope {
  table: PredictionTable;
  from: number;
  to: number;
  /** name@version; every model when it isn't given. */
  model?: string;
  /** Only these records of the predictions' topic. */
  records?: TopicWindow;
  /** Name of a table (day Date, card_id String): cards whose transactions of a day (UTC) are left out. */
  without?: string;
}

/** What labels are looked for with. */
export interface Labels {
  placement: Placement;
  /** About how many predictions are looked at, repeats included. */
  rows: number;
  /**
   * A transaction without a label counts as genuine when it is older than this, epoch milliseconds; null: it is left
   * out.
   */
  maturedBefore: number | null;
}

export const DECISIONS = ["approve", "review", "decline"] as const;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;

const IN_TIME =
  "event_time >= fromUnixTimestamp64Milli({from: Int64}, 'UTC') AND event_time < " +
  "fromUnixTimestamp64Milli({to: Int64}, 'UTC')";
const IN_RECORDS =
  "topic = {topic: String} AND offset >= {starts: Array(UInt64)}[partition + 1] AND offset < {ends: " +
  "Array(UInt64)}[partition + 1]";
const NOT_EXCLUDED = "(toDate(event_time), card_id) NOT IN (SELECT day, card_id FROM {without: Identifier})";

/**
 * The label's version and verdict in one number that grows with the version, so that the greatest is the last label; 0:
 * no label.
 */
const CODE = "(version + 1) * 2 + toUInt64(is_fraud)";

/** Of `labelledRows`: rows whose outcome is known, or taken for known; a fraud's code is odd. */
export const HAS_VERDICT =
  "(code > 0 OR ({matured: UInt8} = 1 AND event_time < fromUnixTimestamp64Milli({maturedBefore: Int64}, 'UTC')))";

/** The last join is with few labels: scattering the window's rows among threads would cost more than it saves. */
export const SETTINGS = { join_use_nulls: 0, join_algorithm: "hash", max_execution_time: 55 };

/** The condition that picks a scope's rows; its parameters are those of `scopeParams`. */
export function conditionOf({ model, records, without }: Scope): string {
  return [
    IN_TIME,
    ...(model === undefined ? [] : ["model = {model: String}"]),
    ...(records === undefined ? [] : [IN_RECORDS]),
    ...(without === undefined ? [] : [NOT_EXCLUDED]),
  ].join(" AND ");
}

export function scopeParams({ from, to, model, records, without }: Scope): Record<string, unknown> {
  return { from, to, ...(model !== undefined && { model }), ...records, ...(without !== undefined && { without }) };
}

/** Parameters of `withLabels` and `HAS_VERDICT`. */
export function labelParams({ placement, maturedBefore }: Labels): Record<string, unknown> {
  return {
    placement: placement.id,
    cut: placement.cut,
    matured: maturedBefore === null ? 0 : 1,
    maturedBefore: maturedBefore ?? 0,
  };
}

/** The predictions of a scope, repeats removed, as a query. */
function rowsOf(scope: Scope, columns: readonly string[]): string {
  return `SELECT ${columns.join(", ")} FROM ${scope.table} FINAL WHERE ${conditionOf(scope)}`;
}

/** The predictions of a scope as `withLabels` gives them. */
export function labelledRows(scope: Scope, columns: readonly string[], labels: Labels): string {
  return withLabels(
    rowsOf(scope, [...KEY, ...columns]),
    columns,
    `SELECT transaction_id FROM ${scope.table} WHERE ${conditionOf(scope)}`,
    labels,
  );
}

/** What rows must have to be labelled. */
export const KEY = ["event_time", "card_id", "transaction_id"] as const;

/**
 * Rows with event_time, card_id and some columns, each with the `code` of its last label: among those placed at its
 * event time, and those still waiting. Where both sides of the first join are sorted by event time, it streams: memory
 * doesn't grow with the window.
 *
 * @param rows a query for them, of the window {from}, {to}
 * @param ids a query for their transaction_id, cheaper than `rows`
 */
export function withLabels(
  rows: string,
  columns: readonly string[],
  ids: string,
  { placement, rows: count }: Labels,
): string {
  // Only worth its set of the scope's ids when that is the smaller side.
  const inScope = placement.waiting > count ? `AND transaction_id IN (${ids})` : "";
  const of = (table: string): string => columns.map((column) => `${table}.${column} AS ${column}`).join(", ");
  return `
        SELECT p.event_time AS event_time, p.card_id AS card_id, ${of("p")}, greatest(p.code, w.code) AS code
        FROM (
          SELECT s.event_time AS event_time, s.card_id AS card_id, s.transaction_id AS transaction_id, ${of("s")},
            l.code AS code
          FROM (${rows}) AS s
          LEFT JOIN (SELECT event_time, card_id, transaction_id, ${CODE} AS code FROM labels_by_event FINAL WHERE
            ${IN_TIME}) AS l USING (event_time, card_id, transaction_id)
          SETTINGS join_algorithm = 'full_sorting_merge'
        ) AS p
        LEFT JOIN (
          SELECT card_id, transaction_id, max(code) AS code
          FROM (
            SELECT card_id, transaction_id, ${CODE} AS code FROM labels WHERE inserted_at >=
              fromUnixTimestamp64Milli({cut: Int64}, 'UTC') ${inScope}
            UNION ALL
            SELECT card_id, transaction_id, ${CODE} AS code FROM labels_without_event WHERE placement = {placement:
              UUID} ${inScope}
          )
          GROUP BY card_id, transaction_id
        ) AS w USING (card_id, transaction_id)
      `;
}
