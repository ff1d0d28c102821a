import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import type { Placement } from "../../infra/clickhouse/label-placement.js";
import type { OutcomeSum } from "./outcome-metrics.js";
import {
  conditionOf,
  DAY_MS,
  DECISIONS,
  HAS_VERDICT,
  HOUR_MS,
  labelledRows,
  labelParams,
  type Labels,
  type Scope,
  scopeParams,
  SETTINGS,
  type TopicWindow,
} from "./stored-rows.js";

/** What predictions are grouped by; each combination that occurs is one slice. */
export interface Slices {
  by?: "hour" | "day" | undefined;
  group?: "currency" | "decision" | undefined;
}

/**
 * A slice: the number of its hour or day since 1970, and the number (from 1) of its currency or decision; 0: not told
 * apart.
 */
interface SliceKey {
  at: number;
  grp: number;
}

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

export type { Scope, TopicWindow };
export { DAY_MS, DECISIONS, HOUR_MS };

export interface OutcomeOptions extends Omit<Labels, "placement"> {
  /** The currencies of the scope; an outcome names its currency by its place among them, from 1. */
  currencies: readonly string[];
  /** True: scores are rounded (to 16 of their 24 bits) before they are ranked. */
  binned?: boolean;
}

const AT = {
  none: "toUInt32(0)",
  hour: `toUInt32(intDiv(toUnixTimestamp64Milli(event_time), ${HOUR_MS}))`,
  day: `toUInt32(intDiv(toUnixTimestamp64Milli(event_time), ${DAY_MS}))`,
} as const;

/** A currency's place among {currencies}, a decision's among `DECISIONS`, from 1. */
export const CURRENCY = "toUInt16(indexOf({currencies: Array(String)}, toString(currency)))";
export const placeOfDecision = (column: string): string =>
  `toUInt16(indexOf([${DECISIONS.map((decision) => `'${decision}'`).join(", ")}], toString(${column})))`;
const GROUP = { none: "toUInt16(0)", currency: CURRENCY, decision: placeOfDecision("decision") } as const;

/** Clearing the last bits of a float's mantissa keeps the order, and bins as finely near 0 as near 1. */
const SCORE = {
  exact: "score",
  binned: "reinterpretAsFloat32(bitAnd(reinterpretAsUInt32(score), toUInt32(4294967040)))",
} as const;

/**
 * Rows, alerts and times of a scope by slice; currencies are only known from a call without `group`. Empty slices are
 * absent.
 */
export async function scoringSums(
  clickhouse: ClickHouseReader,
  scope: Scope,
  { by, group }: Slices = {},
  currencies: readonly string[] = [],
): Promise<ScoringSum[]> {
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
  return clickhouse.query<ScoringSum>(sql, { ...scopeParams(scope), currencies }, { settings: SETTINGS });
}

/**
 * Predictions of a scope joined with the last label of each, counted by slice, currency and outcome, with what areas
 * under curves are made of. Repeated rows count once, whether they were merged yet or not.
 */
export async function outcomeSums(
  clickhouse: ClickHouseReader,
  placement: Placement,
  scope: Scope,
  { by, group }: Slices,
  options: OutcomeOptions,
): Promise<OutcomeSum[]> {
  const rows =
    `SELECT *, ${AT[by ?? "none"]} AS at, ${GROUP[group ?? "none"]} AS grp FROM ` +
    `(${labelledRows(scope, ["score", "decision", "amount", "currency"], { placement, ...options })})`;
  return sumOutcomes(clickhouse, placement, { rows, params: scopeParams(scope) }, options);
}

/**
 * Outcomes of any rows, ranked within each slice.
 * They are grouped by score, and a window over falling scores counts the frauds and the genuine transactions that score
 * at least as much; rows of one score are peers of its frame, which is what makes ties count as in scikit-learn.
 *
 * @param source a query for at, grp, score, decision, amount, currency, event_time and the `code` of `withLabels`
 */
export async function sumOutcomes(
  clickhouse: ClickHouseReader,
  placement: Placement,
  source: { rows: string; params: Record<string, unknown> },
  options: OutcomeOptions,
): Promise<OutcomeSum[]> {
  const { currencies, binned = false } = options;
  const sql = `
SELECT
  at, grp, coin AS currency, cell,
  sum(n) AS rows,
  sum(amount) AS value,
  sum(n * if(bitTest(cell, 0), genuine_above, frauds_above)) AS pairs,
  sum(n * (frauds_above / (frauds_above + genuine_above))) AS precision_sum
FROM (
  SELECT at, grp, coin, cell, n, amount, sumIf(n, bitTest(cell, 0)) OVER falling AS frauds_above, sumIf(n, NOT
    bitTest(cell, 0)) OVER falling AS genuine_above
  FROM (
    SELECT at, grp, coin, points, cell, count() AS n, sum(stake) AS amount
    FROM (
      SELECT
        at, grp,
        ${CURRENCY} AS coin,
        ${SCORE[binned ? "binned" : "exact"]} AS points,
        toUInt8(code % 2 + 2 * (code > 0) + 4 * (decision != 'approve') + 8 * (decision = 'decline')) AS cell,
        greatest(amount, 0) AS stake
      FROM (${source.rows})
      WHERE ${HAS_VERDICT}
    )
    GROUP BY at, grp, coin, points, cell
  )
  WINDOW falling AS (PARTITION BY at, grp ORDER BY points DESC RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
GROUP BY at, grp, coin, cell
ORDER BY at, grp, coin, cell`;
  return clickhouse.query<OutcomeSum>(
    sql,
    { ...source.params, ...labelParams({ placement, ...options }), currencies },
    { settings: SETTINGS },
  );
}
