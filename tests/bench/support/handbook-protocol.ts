import type { ClickHouse } from "../../../infra/clickhouse/client.js";
import { lastPlacement } from "../../../infra/clickhouse/label-placement.js";
import { cardPrecision, type CardPrecisionDay } from "../../../models/evaluation/card-precision.js";
import { outcomeMetrics, type OutcomeMetrics } from "../../../models/evaluation/outcome-metrics.js";
import { outcomeSums, scoringSums } from "../../../models/evaluation/stored-outcomes.js";
import {
  DAY_MS,
  labelledRows,
  labelParams,
  type Labels,
  type Scope,
  scopeParams,
} from "../../../models/evaluation/stored-rows.js";
import { RequestError } from "../../../schemas/errors.js";

// The protocol of the Fraud Detection Handbook's baseline table (Le Borgne, Siblini, Lebichot, Bontempi, 2022): a week
// to train on, a week in which its labels arrive, and a week to test on, the last of the data.

/** Event times, epoch milliseconds, `to` exclusive. */
export interface Week {
  from: number;
  to: number;
}

export interface ProtocolWeeks {
  training: Week;
  test: Week;
}

const WEEK_DAYS = 7;
/** On a test day the frauds of days up to this long before it are known: the delay of labels, and the day itself. */
const KNOWN_AFTER_DAYS = 8;

/** The Handbook's fifteen features. */
export const HANDBOOK_FEATURES = [
  "amount",
  "weekend",
  "night",
  ...["1d", "7d", "30d"].flatMap((window) => [
    `card_count_${window}`,
    `card_mean_${window}`,
    `merchant_count_${window}`,
    `merchant_fraud_share_${window}`,
  ]),
];

/**
 * The weeks of data, from its first and last event time: the test week ends with the last day.
 *
 * @throws RequestError `too_few_rows`
 */
export function protocolWeeks(first: number, last: number): ProtocolWeeks {
  const end = Math.floor(last / DAY_MS + 1) * DAY_MS;
  const week = (weeksBefore: number): Week => ({
    from: end - (weeksBefore + 1) * WEEK_DAYS * DAY_MS,
    to: end - weeksBefore * WEEK_DAYS * DAY_MS,
  });
  const [training, test] = [week(2), week(0)];
  if (first >= training.from + DAY_MS)
    throw new RequestError(
      "too_few_rows",
      `the data begins on ${new Date(first).toISOString()}; its training week would on ` +
        `${new Date(training.from).toISOString()}`,
    );
  return { training, test };
}

export interface ProtocolResult extends Pick<
  OutcomeMetrics,
  "roc_auc" | "average_precision" | "evaluated" | "labelled"
> {
  frauds: number;
  days: CardPrecisionDay[];
  /** The mean of the days. */
  cardPrecision: number;
}

/**
 * How stored predictions of the test week did against the stored labels, without the cards that were known by then:
 * computed by ClickHouse, through the queries of the API's metrics.
 *
 * @param k cards that are looked at in a day
 */
export async function testWeekMetrics(
  clickhouse: ClickHouse,
  model: string,
  weeks: ProtocolWeeks,
  k: number,
): Promise<ProtocolResult> {
  const placement = await lastPlacement(clickhouse);
  const known = await knownCards(clickhouse, model, weeks, { placement, rows: 0, maturedBefore: null });
  const scope: Scope = { table: "predictions", model, ...weeks.test, without: known };
  const [all] = await scoringSums(clickhouse, scope);
  if (all === undefined) throw new Error("ClickHouse has no prediction of the test week");
  const { rows, currencies } = all;
  const { roc_auc, average_precision, evaluated, labelled, confusion } = outcomeMetrics(
    await outcomeSums(clickhouse, placement, scope, {}, { currencies, rows, maturedBefore: null }),
    currencies,
  );
  const days = await cardPrecision(clickhouse, scope, k, { placement, rows, maturedBefore: null });
  return {
    roc_auc,
    average_precision,
    evaluated,
    labelled,
    days,
    frauds: confusion.true_positives + confusion.false_negatives,
    cardPrecision: days.reduce((sum, { precision }) => sum + precision, 0) / days.length,
  };
}

/**
 * Writes a table of the cards that are left out on each test day: those with a fraud since the first day of the
 * training week that is known by that day. @returns the table
 */
async function knownCards(
  clickhouse: ClickHouse,
  model: string,
  { training, test }: ProtocolWeeks,
  labels: Labels,
): Promise<string> {
  const table = "handbook_known_cards";
  const scope: Scope = { table: "predictions", model, from: training.from, to: test.to };
  await clickhouse.command(
    `CREATE TABLE IF NOT EXISTS ${table} (day Date, card_id String) ENGINE = MergeTree ORDER BY (day, card_id)`,
  );
  await clickhouse.command(`TRUNCATE TABLE ${table}`);
  await clickhouse.command(
    `INSERT INTO ${table}
     SELECT DISTINCT toDate({testDay: UInt32}) + days.number AS day, frauds.card_id
     FROM (SELECT toDate(event_time) AS day, card_id FROM (${labelledRows(scope, ["score"], labels)}) WHERE code % 2 =
       1) AS frauds
     CROSS JOIN numbers(${WEEK_DAYS}) AS days
     WHERE frauds.day <= toDate({testDay: UInt32}) + days.number - ${KNOWN_AFTER_DAYS}`,
    { ...scopeParams(scope), ...labelParams(labels), testDay: test.from / DAY_MS },
  );
  return table;
}
