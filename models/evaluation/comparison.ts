import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import type { OutcomeSum } from "./outcome-metrics.js";
import { CURRENCY, type OutcomeOptions, placeOfDecision, sumOutcomes } from "./stored-outcomes.js";
import {
  conditionOf,
  HAS_VERDICT,
  KEY,
  labelParams,
  type Labels,
  PREDICTION_TABLES,
  type PredictionTable,
  type Scope,
  scopeParams,
  SETTINGS,
  withLabels,
} from "./stored-rows.js";

/** The two models, and the window of event time, epoch milliseconds, `to` exclusive. */
export interface Comparison {
  a: string;
  b: string;
  from: number;
  to: number;
}

/** Where a model has rows in the window. */
export interface ModelRows {
  rows: number;
  tables: PredictionTable[];
  currencies: string[];
}

/**
 * Transactions that both models scored, by what they decided (from 1, a place in `DECISIONS`), currency and outcome.
 */
export interface PairSum {
  a: number;
  b: number;
  /** From 1: its place in the list of currencies that was asked with. */
  currency: number;
  outcome: "fraud" | "genuine" | "unknown";
  rows: number;
  /** The sum of amounts, refunds as zero, in major units. */
  value: number;
}

/** Milliseconds of scoring over all pairs, of either model. */
export interface PairTimes {
  time_ms: number;
  p50: number;
  p99: number;
}

/** What is joined: the record of the transaction that was scored. */
const SOURCE = ["source_topic", "source_partition", "source_offset"] as const;

/** Of each side of the join. */
const SIDE = ["score", "decision", "scoring_ms"] as const;

/** Rows of a model in a window, and of which tables they are: as a champion's, as a shadow's. */
export async function modelRows(
  clickhouse: ClickHouseReader,
  model: string,
  { from, to }: Comparison,
): Promise<ModelRows> {
  const found: ModelRows = { rows: 0, tables: [], currencies: [] };
  for (const table of PREDICTION_TABLES) {
    const scope: Scope = { table, model, from, to };
    const sql =
      `SELECT count() AS rows, groupUniqArray(toString(currency)) AS currencies FROM ${table} FINAL WHERE ` +
      `${conditionOf(scope)}`;
    const [{ rows, currencies }] = await clickhouse.query<{ rows: number; currencies: string[] }>(
      sql,
      scopeParams(scope),
      { settings: SETTINGS },
    );
    if (rows === 0) continue;
    found.rows += rows;
    found.tables.push(table);
    found.currencies = [...new Set([...found.currencies, ...currencies])].sort();
  }
  return found;
}

/** The pairs of two models, and how they are asked for. */
export class ModelPairs {
  readonly #clickhouse: ClickHouseReader;
  readonly #pairs: string;
  readonly #ids: string;
  readonly #params: Record<string, unknown>;

  /** @param tables where each model has rows; neither may be empty */
  constructor(
    clickhouse: ClickHouseReader,
    { a, b, from, to }: Comparison,
    tables: { a: readonly PredictionTable[]; b: readonly PredictionTable[] },
  ) {
    this.#clickhouse = clickhouse;
    this.#params = { from, to, a, b };
    const rowsOf = (side: "a" | "b", columns: readonly string[]): string =>
      tables[side]
        .map(
          (table) =>
            `SELECT ${columns.join(", ")} FROM ${table} FINAL WHERE ${conditionOf({ table, from, to })} AND ` +
            `model = {${side}: String}`,
        )
        .join(" UNION ALL ");
    const join = ["event_time", ...SOURCE].map((column) => `a.${column} = b.${column}`).join(" AND ");
    this.#pairs = `
      SELECT a.event_time AS event_time, a.card_id AS card_id, a.transaction_id AS transaction_id, a.amount AS amount,
        a.currency AS currency,
        ${SIDE.flatMap((column) => [`a.${column} AS ${column}_a`, `b.${column} AS ${column}_b`]).join(", ")}
      FROM (${rowsOf("a", [...KEY, ...SOURCE, "amount", "currency", ...SIDE])}) AS a
      INNER JOIN (${rowsOf("b", ["event_time", ...SOURCE, ...SIDE])}) AS b ON ${join}
      SETTINGS join_algorithm = 'full_sorting_merge'`;
    this.#ids = rowsOf("a", ["transaction_id"]);
  }

  /** What became of the pairs, and how long each model took for them. */
  async sums(
    labels: Labels,
    currencies: readonly string[],
  ): Promise<{ sums: PairSum[]; times: { a: PairTimes; b: PairTimes } | null }> {
    const latencies = (["a", "b"] as const).map(
      (side) =>
        `avg(scoring_ms_${side}) AS mean_${side}, ` +
        `quantilesExactInclusive(0.5, 0.99)(scoring_ms_${side}) AS quantiles_${side}`,
    );
    const sql = `
SELECT
  decided_a AS a, decided_b AS b, coin AS currency, outcome,
  grouping(outcome) AS whole,
  count() AS rows,
  sum(greatest(amount, 0)) AS value,
  ${latencies.join(",\n  ")}
FROM (
  SELECT *, ${placeOfDecision("decision_a")} AS decided_a, ${placeOfDecision("decision_b")} AS decided_b, ${CURRENCY} AS
    coin,
    multiIf(NOT ${HAS_VERDICT}, 'unknown', code % 2 = 1, 'fraud', 'genuine') AS outcome
  FROM (${this.#labelled(labels)})
)
GROUP BY GROUPING SETS ((decided_a, decided_b, coin, outcome), ())`;
    type Row = PairSum & {
      whole: number;
      mean_a: number;
      mean_b: number;
      quantiles_a: number[];
      quantiles_b: number[];
    };
    const rows = await this.#clickhouse.query<Row>(
      sql,
      { ...this.#params, ...labelParams(labels), currencies },
      { settings: SETTINGS },
    );
    const all = rows.find(({ whole, rows: count }) => whole === 1 && count > 0);
    const times = (mean: number, [p50, p99]: number[]): PairTimes => ({ time_ms: mean, p50, p99 });
    return {
      sums: rows
        .filter(({ whole }) => whole === 0)
        .map(({ a, b, currency, outcome, rows: count, value }) => ({ a, b, currency, outcome, rows: count, value })),
      times:
        all === undefined ? null : { a: times(all.mean_a, all.quantiles_a), b: times(all.mean_b, all.quantiles_b) },
    };
  }

  /** Outcomes of the pairs as `outcomeSums` has them: `grp` 1 of model a, 2 of model b. */
  async outcomes(labels: Labels, options: Pick<OutcomeOptions, "currencies" | "binned">): Promise<OutcomeSum[]> {
    const rows = `
      SELECT event_time, amount, currency, code, toUInt32(0) AS at, toUInt16(side) AS grp, points AS score, decided AS
        decision
      FROM (${this.#labelled(labels)})
      ARRAY JOIN [1, 2] AS side, [score_a, score_b] AS points, [decision_a, decision_b] AS decided`;
    return sumOutcomes(this.#clickhouse, labels.placement, { rows, params: this.#params }, { ...labels, ...options });
  }

  #labelled(labels: Labels): string {
    return withLabels(
      this.#pairs,
      ["amount", "currency", ...SIDE.flatMap((column) => [`${column}_a`, `${column}_b`])],
      this.#ids,
      labels,
    );
  }
}
