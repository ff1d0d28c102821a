import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { lastPlacement } from "../../infra/clickhouse/label-placement.js";
import { cardPrecision, type CardPrecisionDay } from "../../models/evaluation/card-precision.js";
import { type OutcomeSum, outcomeMetrics } from "../../models/evaluation/outcome-metrics.js";
import {
  DAY_MS,
  DECISIONS,
  HOUR_MS,
  outcomeSums,
  type Scope,
  type ScoringSum,
  scoringSums,
  type Slices,
} from "../../models/evaluation/stored-outcomes.js";
import type { CardPrecision, SeriesMetrics, SliceMetrics, WindowMetrics } from "./metrics-schema.js";

export type Role = "champion" | "shadow";

export interface MetricsRequest {
  model: string;
  role: Role;
  /** Event times, epoch milliseconds, `to` exclusive. */
  from: number;
  to: number;
  /** A transaction without a label counts as genuine when it is older than this; null: it is left out. */
  maturedBefore: number | null;
  slices: Slices;
  /** Also card precision, of so many cards a day. */
  cardsADay?: number | undefined;
}

/** Up to so many predictions, areas under curves are exact. */
export const EXACT_ROWS = 10_000_000;

const TABLES = { champion: "predictions", shadow: "shadow_predictions" } as const;

/** The newest event that was scored; a question of the table's parts, not of its rows. */
const NEWEST = "SELECT count() AS rows, toUnixTimestamp64Milli(max(event_time)) AS newest FROM predictions";

/** Event time of the newest prediction, epoch milliseconds; null: there is none. */
export async function newestEvent(clickhouse: ClickHouseReader): Promise<number | null> {
  const [{ rows, newest }] = await clickhouse.query<{ rows: number; newest: number }>(NEWEST);
  return rows === 0 ? null : newest;
}

/**
 * The metrics of one model, computed by ClickHouse from stored predictions and labels: of all of them, and by slice.
 *
 * @param exactRows beyond so many rows scores are binned
 */
export async function modelMetrics(
  clickhouse: ClickHouseReader,
  request: MetricsRequest,
  exactRows = EXACT_ROWS,
): Promise<WindowMetrics> {
  const {
    model,
    role,
    from,
    to,
    maturedBefore,
    slices: { by, group },
    cardsADay,
  } = request;
  const scope: Scope = { table: TABLES[role], model, from, to };
  const [all] = await scoringSums(clickhouse, scope);
  if (all === undefined)
    return {
      exact: true,
      ...sliceMetrics(NOTHING, [], []),
      ...(by && { series: [] }),
      ...(group && { groups: [] }),
      ...(cardsADay !== undefined && { card_precision: cardPrecisionView(cardsADay, []) }),
    };

  const { currencies, rows } = all;
  const exact = rows <= exactRows;
  const placement = await lastPlacement(clickhouse);
  const measure = async (slices: Slices, scoring?: ScoringSum[]): Promise<Slice[]> => {
    const sums = scoring ?? (await scoringSums(clickhouse, scope, slices, currencies));
    const outcomes = await outcomeSums(clickhouse, placement, scope, slices, {
      currencies,
      maturedBefore,
      rows,
      binned: !exact,
    });
    const bySlice = groupBy(outcomes, keyOf);
    return sums.map((sum) => ({
      at: sum.at,
      grp: sum.grp,
      metrics: sliceMetrics(sum, bySlice.get(keyOf(sum)) ?? [], currencies),
    }));
  };

  const [{ metrics }] = await measure({}, [all]);
  const answer: WindowMetrics = { exact, ...metrics };
  if (by) answer.series = seriesOf(await measure({ by }), by);
  if (cardsADay !== undefined)
    answer.card_precision = cardPrecisionView(
      cardsADay,
      await cardPrecision(clickhouse, { ...scope, from: all.first, to: all.last + 1 }, cardsADay, {
        placement,
        rows,
        maturedBefore,
      }),
    );
  if (group) {
    const names = group === "currency" ? currencies : DECISIONS;
    const crossed = by && groupBy(await measure({ by, group }), ({ grp }) => grp);
    answer.groups = (await measure({ group })).map(({ grp, metrics: ofGroup }) => ({
      [group]: names[grp - 1],
      ...ofGroup,
      ...(by && { series: seriesOf(crossed?.get(grp) ?? [], by) }),
    }));
  }
  return answer;
}

interface Slice {
  at: number;
  grp: number;
  metrics: SliceMetrics;
}

/** What is known of predictions without their labels. */
type Scoring = Pick<ScoringSum, "rows" | "alerts" | "declined"> & {
  [Time in "time_ms" | "p50" | "p99"]: number | null;
};

export const NOTHING: Scoring = { rows: 0, alerts: 0, declined: 0, time_ms: null, p50: null, p99: null };

/** @param outcomes of one slice, with the currencies that they were asked with */
export function sliceMetrics(
  scoring: Scoring,
  outcomes: readonly OutcomeSum[],
  currencies: readonly string[],
): SliceMetrics {
  const { rows, alerts, declined, time_ms, p50, p99 } = scoring;
  const metrics = outcomeMetrics(outcomes, currencies);
  return {
    rows,
    ...metrics,
    alert_rate: rows === 0 ? null : alerts / rows,
    time_ms,
    scoring_ms_p50: p50,
    scoring_ms_p99: p99,
    declined: { rows: declined, ...metrics.declined },
  };
}

function cardPrecisionView(k: number, days: readonly CardPrecisionDay[]): CardPrecision {
  const mean = days.length === 0 ? null : days.reduce((sum, { precision }) => sum + precision, 0) / days.length;
  return { k, mean, days: days.map((day) => ({ ...day, at: new Date(day.at).toISOString() })) };
}

function seriesOf(slices: Slice[], by: "hour" | "day"): SeriesMetrics[] {
  return slices.map(({ at, metrics }) => ({
    at: new Date(at * (by === "hour" ? HOUR_MS : DAY_MS)).toISOString(),
    ...metrics,
  }));
}

function groupBy<Item, Key>(items: readonly Item[], key: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group === undefined) groups.set(key(item), [item]);
    else group.push(item);
  }
  return groups;
}

function keyOf({ at, grp }: { at: number; grp: number }): string {
  return `${at}/${grp}`;
}
