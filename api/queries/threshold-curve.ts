import { type Static, Type } from "@sinclair/typebox";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { lastPlacement, type Placement } from "../../infra/clickhouse/label-placement.js";
import {
  conditionOf,
  DAY_MS,
  HAS_VERDICT,
  HOUR_MS,
  labelledRows,
  labelParams,
  PREDICTION_TABLES,
  type Scope,
  scopeParams,
  SETTINGS,
} from "../../models/evaluation/stored-rows.js";
import type { Thresholds } from "../deployments/decide.js";
import type { TimeWindow } from "./time-window.js";
import { LabelsChoice, shownWindowFields } from "./window-query.js";

const orNull = (description: string, schema = Type.Number({ minimum: 0 })) =>
  Type.Union([schema, Type.Null()], { description });
const Caught = Type.Object({
  currency: Type.String(),
  caught: Type.Number({ minimum: 0, description: "Of the frauds that would be alerts; refunds have no value." }),
  missed: Type.Number({ minimum: 0, description: "Of the other frauds." }),
});
const Point = Type.Object(
  {
    threshold: Type.Number({ description: "Transactions that score at least this are alerts." }),
    present: Type.Array(Type.Union([Type.Literal("review"), Type.Literal("decline")]), {
      description: "Which of the model's current thresholds this is; empty: neither.",
    }),
    alerts: Type.Integer({
      minimum: 0,
      description: "Predictions of the window that would be alerts, labelled or not.",
    }),
    alerts_per_day: orNull("Over `days`; null: there are no predictions."),
    alert_rate: orNull("Share of all predictions."),
    true_positives: Type.Integer({ minimum: 0 }),
    false_positives: Type.Integer({ minimum: 0 }),
    precision: orNull("Of the alerts whose outcome is known, the share of frauds; null: there are none."),
    recall: orNull("Of the frauds that are known, the share that would be alerts; null: there are none."),
    value: Type.Array(Caught, { description: "The frauds' value, by currency; of currencies that have a fraud." }),
  },
  { title: "ThresholdPoint" },
);

export const ThresholdCurve = Type.Object(
  {
    model: Type.String({ description: "name@version" }),
    ...shownWindowFields,
    labels: LabelsChoice,
    days: orNull(
      "Days from the model's first prediction in the window to its last, an hour at least; null: there are none.",
    ),
    rows: Type.Integer({ minimum: 0, description: "The model's predictions in the window, as champion or shadow." }),
    evaluated: Type.Integer({ minimum: 0, description: "Those whose outcome is known or assumed." }),
    frauds: Type.Integer({ minimum: 0 }),
    thresholds: Type.Union([Type.Object({ review: Type.Number(), decline: Type.Number() }), Type.Null()], {
      description:
        "The current thresholds: those that the model is deployed with, or would be; null: its manifest " +
        "cannot be read.",
    }),
    points: Type.Array(Point, { description: "By rising threshold." }),
  },
  {
    title: "ThresholdCurve",
    description: "What each threshold would mean.",
    examples: [
      {
        model: "cards@1",
        from: "2026-10-23T09:30:00.000Z",
        to: "2026-11-22T09:30:00.000Z",
        newest_event: "2026-11-22T09:29:58.120Z",
        labels: "matured",
        days: 30,
        rows: 57_000,
        evaluated: 51_000,
        frauds: 171,
        thresholds: { review: 0.4, decline: 0.8 },
        points: [
          {
            threshold: 0.3,
            present: [],
            alerts: 243,
            alerts_per_day: 8.1,
            alert_rate: 0.00426,
            true_positives: 118,
            false_positives: 62,
            precision: 0.656,
            recall: 0.69,
            value: [{ currency: "EUR", caught: 45_120.5, missed: 12_910 }],
          },
          {
            threshold: 0.4,
            present: ["review"],
            alerts: 174,
            alerts_per_day: 5.8,
            alert_rate: 0.00305,
            true_positives: 106,
            false_positives: 25,
            precision: 0.809,
            recall: 0.62,
            value: [{ currency: "EUR", caught: 41_200.5, missed: 16_830 }],
          },
        ],
      },
    ],
  },
);
export type ThresholdCurve = Static<typeof ThresholdCurve>;

export interface CurveRequest extends TimeWindow {
  model: string;
  /**
   * A transaction without a label counts as genuine when it is older than this, epoch milliseconds; null: it is left
   * out.
   */
  maturedBefore: number | null;
  /** Which are asked for, beside the present ones. */
  grid: readonly number[];
  thresholds: Thresholds | null;
}

/** What lies between two neighbouring thresholds, of one currency. */
interface Step {
  at: number;
  coin: string;
  n: number;
  frauds: number;
  genuine: number;
  fraud_value: number;
}
interface Extent {
  rows: number;
  first: number;
  last: number;
}

/**
 * Alerts, precision, recall and value caught for each threshold, counted by ClickHouse in one reading of the window.
 */
export async function thresholdCurve(
  clickhouse: ClickHouseReader,
  request: CurveRequest,
): Promise<Pick<ThresholdCurve, "days" | "rows" | "evaluated" | "frauds" | "thresholds" | "points">> {
  const { thresholds, grid } = request;
  const edges = [...new Set([...grid, ...(thresholds === null ? [] : [thresholds.review, thresholds.decline])])].sort(
    (a, b) => a - b,
  );
  const placement = await lastPlacement(clickhouse);
  const steps: Step[] = [];
  const extents: Extent[] = [];
  for (const table of PREDICTION_TABLES) {
    const scope: Scope = { table, model: request.model, from: request.from, to: request.to };
    const extent = await extentOf(clickhouse, scope);
    if (extent.rows === 0) continue;
    extents.push(extent);
    steps.push(
      ...(await stepsOf(clickhouse, scope, edges, placement, {
        rows: extent.rows,
        maturedBefore: request.maturedBefore,
      })),
    );
  }
  const span =
    extents.length === 0
      ? null
      : Math.max(...extents.map(({ last }) => last)) - Math.min(...extents.map(({ first }) => first));
  const days = span === null ? null : Math.max(span, HOUR_MS) / DAY_MS;
  const sum = (of: readonly Step[], what: "n" | "frauds" | "genuine" | "fraud_value"): number =>
    of.reduce((total, step) => total + step[what], 0);
  const [rows, frauds, genuine] = [sum(steps, "n"), sum(steps, "frauds"), sum(steps, "genuine")];
  const currencies = [...new Set(steps.filter((step) => step.frauds > 0).map(({ coin }) => coin))].sort();
  const points = edges.map((threshold, place) => {
    // Step i lies from the i-th edge on, so that those behind are alerts.
    const over = steps.filter(({ at }) => at > place);
    const [alerts, caught, wrong] = [sum(over, "n"), sum(over, "frauds"), sum(over, "genuine")];
    return {
      threshold,
      present: (["review", "decline"] as const).filter((name) => thresholds?.[name] === threshold),
      alerts,
      alerts_per_day: days === null ? null : alerts / days,
      alert_rate: rows === 0 ? null : alerts / rows,
      true_positives: caught,
      false_positives: wrong,
      precision: caught + wrong === 0 ? null : caught / (caught + wrong),
      recall: frauds === 0 ? null : caught / frauds,
      value: currencies.map((currency) => {
        const ofCurrency = steps.filter(({ coin }) => coin === currency);
        return {
          currency,
          caught: sum(
            ofCurrency.filter(({ at }) => at > place),
            "fraud_value",
          ),
          missed: sum(
            ofCurrency.filter(({ at }) => at <= place),
            "fraud_value",
          ),
        };
      }),
    };
  });
  return { days, rows, evaluated: frauds + genuine, frauds, thresholds, points };
}

async function extentOf(clickhouse: ClickHouseReader, scope: Scope): Promise<Extent> {
  const [extent] = await clickhouse.query<Extent>(
    "SELECT count() AS rows, toUnixTimestamp64Milli(min(event_time)) AS first, " +
      `toUnixTimestamp64Milli(max(event_time)) AS last FROM ${scope.table} WHERE ${conditionOf(scope)}`,
    scopeParams(scope),
    { settings: SETTINGS },
  );
  return extent;
}

/** Scores are compared as the workers compare them: a float32's exact value with the threshold. */
async function stepsOf(
  clickhouse: ClickHouseReader,
  scope: Scope,
  edges: readonly number[],
  placement: Placement,
  labels: { rows: number; maturedBefore: number | null },
): Promise<Step[]> {
  const options = { placement, ...labels };
  const sql = `
SELECT
  toUInt32(indexOf({edges: Array(Float64)}, roundDown(toFloat64(score), {edges: Array(Float64)}))) - 1 AS at,
  toString(currency) AS coin,
  count() AS n,
  countIf(known AND code % 2 = 1) AS frauds,
  countIf(known AND code % 2 = 0) AS genuine,
  sumIf(greatest(amount, 0), known AND code % 2 = 1) AS fraud_value
FROM (SELECT score, currency, amount, code, ${HAS_VERDICT} AS known FROM
  (${labelledRows(scope, ["score", "currency", "amount"], options)}))
GROUP BY at, coin`;
  // The lowest edge is below every score: what lies there is not an alert at any threshold.
  return clickhouse.query<Step>(
    sql,
    { ...scopeParams(scope), ...labelParams(options), edges: [-1, ...edges] },
    { settings: SETTINGS },
  );
}
