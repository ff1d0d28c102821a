import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import type { Placement } from "../../infra/clickhouse/label-placement.js";
import type { OutcomeSum } from "./outcome-metrics.js";

/** Part of a topic: offsets `starts[p]` to below `ends[p]` of each partition p. */
export interface TopicWindow {
  topic: string;
  starts: number[];
  ends: number[];
}

/** Which stored predictions are looked at. Every bound is in event time, epoch milliseconds, `to` exclusive. */
export interface Scope {
  table: "predictions" | "shadow_predictions";
  from: number;
  to: number;
  /** name@version; every model when it isn't given. */
  model?: string;
  /** Only these records of the predictions' topic. */
  records?: TopicWindow;
}

/** What predictions are told apart by; each combination that occurs is a slice of its own. */
export interface Slices {
  by?: "hour" | "day" | undefined;
  group?: "currency" | "decision" | undefined;
}

/** A slice: the number of its hour or day since 1970, and the number (from 1) of its currency or decision; 0: not told apart. */
export interface SliceKey { at: number; grp: number }

/** What is known of the predictions of a slice without their labels; times in milliseconds, of scoring. */
export interface ScoringSum extends SliceKey {
  rows: number;
  alerts: number;
  declined: number;
  time_ms: number;
  p50: number;
  p99: number;
  currencies: string[];
  /** First and last event time, epoch milliseconds. */
  first: number;
  last: number;
}

export interface OutcomeOptions {
  /** The currencies of the scope; an outcome names its currency by its place among them, from 1. */
  currencies: readonly string[];
  /** A transaction without a label counts as genuine when it is older than this, epoch milliseconds; null: it is left out. */
  maturedBefore: number | null;
  /** How many predictions the scope has, repeats included. */
  rows: number;
  /** True: scores are rounded (to 16 of their 24 bits) before they are ranked. */
  binned?: boolean;
}

export const DECISIONS = ["approve", "review", "decline"] as const;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;

const IN_TIME = "event_time >= fromUnixTimestamp64Milli({from: Int64}, 'UTC') AND event_time < fromUnixTimestamp64Milli({to: Int64}, 'UTC')";
const OF_MODEL = "model = {model: String}";
const IN_RECORDS = "topic = {topic: String} AND offset >= {starts: Array(UInt64)}[partition + 1] AND offset < {ends: Array(UInt64)}[partition + 1]";

const AT = {
  none: "toUInt32(0)",
  hour: `toUInt32(intDiv(toUnixTimestamp64Milli(event_time), ${HOUR_MS}))`,
  day: `toUInt32(intDiv(toUnixTimestamp64Milli(event_time), ${DAY_MS}))`,
} as const;
const CURRENCY = "toUInt16(indexOf({currencies: Array(String)}, toString(currency)))";
const GROUP = {
  none: "toUInt16(0)",
  currency: CURRENCY,
  decision: `toUInt16(indexOf([${DECISIONS.map((decision) => `'${decision}'`).join(", ")}], toString(decision)))`,
} as const;

/** The label's offset and verdict in one number that grows with the offset, so that the greatest is the last label; 0: no label. */
const CODE = "(offset + 1) * 2 + toUInt64(is_fraud)";

/** Clearing the last bits of a float's mantissa keeps the order, and bins as finely near 0 as near 1. */
const SCORE = { exact: "score", binned: "reinterpretAsFloat32(bitAnd(reinterpretAsUInt32(score), toUInt32(4294967040)))" } as const;

/** The last join is with few labels: scattering the window's rows among threads would cost more than it saves. */
const SETTINGS = { join_use_nulls: 0, join_algorithm: "hash", max_execution_time: 55 };

/** Rows, alerts and times of a scope by slice; currencies are only known from a call without `group`. Empty slices are absent. */
export async function scoringSums(clickhouse: ClickHouseReader, scope: Scope, { by, group }: Slices = {}, currencies: readonly string[] = []): Promise<ScoringSum[]> {
  const sql = `
SELECT
  ${AT[by ?? "none"]} AS at,
  ${GROUP[group ?? "none"]} AS grp,
  count() AS rows,
  countIf(decision != 'approve') AS alerts,
  countIf(decision = 'decline') AS declined,
  avg(scoring_ms) AS time_ms,
  quantilesExactInclusive(0.5, 0.99)(scoring_ms) AS quantiles,
  quantiles[1] AS p50,
  quantiles[2] AS p99,
  arraySort(groupUniqArray(toString(currency))) AS currencies,
  toUnixTimestamp64Milli(min(event_time)) AS first,
  toUnixTimestamp64Milli(max(event_time)) AS last
FROM ${scope.table} FINAL
WHERE ${conditionOf(scope)}
GROUP BY at, grp
ORDER BY at, grp`;
  return clickhouse.query<ScoringSum>(sql, { ...paramsOf(scope), currencies }, { settings: SETTINGS });
}

/**
 * Predictions of a scope joined with the last label of each, counted by slice, currency and outcome, with what areas under
 * curves are made of. Repeated rows count once, whether they were merged yet or not.
 *
 * Both sides of the join are sorted by event time, so it streams: memory doesn't grow with the window. What follows groups
 * by score, and a window over falling scores counts the frauds and the genuine transactions that score at least as much;
 * rows of one score are peers of its frame, which is what makes ties count as in scikit-learn.
 */
export async function outcomeSums(clickhouse: ClickHouseReader, placement: Placement, scope: Scope, { by, group }: Slices, options: OutcomeOptions): Promise<OutcomeSum[]> {
  const { currencies, maturedBefore, rows, binned = false } = options;
  const params = {
    ...paramsOf(scope), currencies,
    placement: placement.id, cut: placement.cut,
    matured: maturedBefore === null ? 0 : 1, maturedBefore: maturedBefore ?? 0,
  };
  const sql = `
SELECT
  at, grp, coin AS currency, cell,
  sum(n) AS rows,
  sum(amount) AS value,
  sum(n * if(bitTest(cell, 0), genuine_above, frauds_above)) AS pairs,
  sum(n * (frauds_above / (frauds_above + genuine_above))) AS precision_sum
FROM (
  SELECT at, grp, coin, cell, n, amount, sumIf(n, bitTest(cell, 0)) OVER falling AS frauds_above, sumIf(n, NOT bitTest(cell, 0)) OVER falling AS genuine_above
  FROM (
    SELECT at, grp, coin, points, cell, count() AS n, sum(stake) AS amount
    FROM (
      SELECT
        ${AT[by ?? "none"]} AS at,
        ${GROUP[group ?? "none"]} AS grp,
        ${CURRENCY} AS coin,
        ${SCORE[binned ? "binned" : "exact"]} AS points,
        toUInt8(code % 2 + 2 * (code > 0) + 4 * (decision != 'approve') + 8 * (decision = 'decline')) AS cell,
        greatest(amount, 0) AS stake
      FROM (${labelled(scope, placement.waiting > rows)})
      WHERE code > 0 OR ({matured: UInt8} = 1 AND event_time < fromUnixTimestamp64Milli({maturedBefore: Int64}, 'UTC'))
    )
    GROUP BY at, grp, coin, points, cell
  )
  WINDOW falling AS (PARTITION BY at, grp ORDER BY points DESC RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
GROUP BY at, grp, coin, cell
ORDER BY at, grp, coin, cell`;
  return clickhouse.query<OutcomeSum>(sql, params, { settings: SETTINGS });
}

/** The predictions of a scope, each with the code of its last label: among those placed at its event time, and those still waiting. */
function labelled(scope: Scope, manyWaiting: boolean): string {
  // Only worth its set of the scope's ids when that is the smaller side.
  const inScope = manyWaiting ? `AND transaction_id IN (SELECT transaction_id FROM ${scope.table} WHERE ${conditionOf(scope)})` : "";
  return `
        SELECT p.event_time AS event_time, p.score AS score, p.decision AS decision, p.amount AS amount, p.currency AS currency, greatest(p.code, w.code) AS code
        FROM (
          SELECT s.event_time AS event_time, s.card_id AS card_id, s.transaction_id AS transaction_id, s.score AS score, s.decision AS decision, s.amount AS amount, s.currency AS currency, l.code AS code
          FROM (SELECT event_time, card_id, transaction_id, score, decision, amount, currency FROM ${scope.table} FINAL WHERE ${conditionOf(scope)}) AS s
          LEFT JOIN (SELECT event_time, card_id, transaction_id, ${CODE} AS code FROM labels_by_event FINAL WHERE ${IN_TIME}) AS l USING (event_time, card_id, transaction_id)
          SETTINGS join_algorithm = 'full_sorting_merge'
        ) AS p
        LEFT JOIN (
          SELECT card_id, transaction_id, max(code) AS code
          FROM (
            SELECT card_id, transaction_id, ${CODE} AS code FROM labels WHERE inserted_at >= fromUnixTimestamp64Milli({cut: Int64}, 'UTC') ${inScope}
            UNION ALL
            SELECT card_id, transaction_id, ${CODE} AS code FROM labels_without_event WHERE placement = {placement: UUID} ${inScope}
          )
          GROUP BY card_id, transaction_id
        ) AS w USING (card_id, transaction_id)
      `;
}

function conditionOf({ model, records }: Scope): string {
  return [IN_TIME, ...(model === undefined ? [] : [OF_MODEL]), ...(records === undefined ? [] : [IN_RECORDS])].join(" AND ");
}

function paramsOf({ from, to, model, records }: Scope): Record<string, unknown> {
  return { from, to, ...(model !== undefined && { model }), ...records };
}

