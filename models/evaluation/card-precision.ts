import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import {
  DAY_MS,
  HAS_VERDICT,
  labelledRows,
  labelParams,
  type Labels,
  type Scope,
  scopeParams,
  SETTINGS,
} from "./stored-rows.js";

/** Of one day. */
export interface CardPrecisionDay {
  /** The beginning of the day, epoch milliseconds, UTC. */
  at: number;
  /** Cards that were looked at: k, or all where there are fewer. */
  cards: number;
  /** Those of them with a fraud that day. */
  caught: number;
  /** caught / k */
  precision: number;
}

interface TopCard {
  card_id: string;
  fraud: number;
}

/**
 * Card precision@k as the Fraud Detection Handbook defines it: each day (UTC), cards are ranked by the highest score of
 * their transactions, and the first k are looked at; the share of k with a fraud that day. A card that was caught isn't
 * looked at again on later days. Ties are broken by card_id. Only transactions with a verdict count, and days that have
 * any.
 * A query reads one day, so memory doesn't grow with the window; since every day depends on those before, they are
 * asked for in turn, each for as many cards more as were caught.
 */
export async function cardPrecision(
  clickhouse: ClickHouseReader,
  scope: Scope,
  k: number,
  labels: Labels,
): Promise<CardPrecisionDay[]> {
  const days: CardPrecisionDay[] = [];
  const caught = new Set<string>();
  const first = Math.floor(scope.from / DAY_MS) * DAY_MS;
  for (let at = first; at < scope.to; at += DAY_MS) {
    const day: Scope = { ...scope, from: Math.max(scope.from, at), to: Math.min(scope.to, at + DAY_MS) };
    const ofDay = { ...labels, rows: (labels.rows * DAY_MS) / (scope.to - scope.from) };
    const top = await topCards(clickhouse, day, k + caught.size, ofDay);
    if (top.length === 0) continue;
    const cards = top.filter(({ card_id }) => !caught.has(card_id)).slice(0, k);
    const found = cards.filter(({ fraud }) => fraud === 1);
    for (const { card_id } of found) caught.add(card_id);
    days.push({ at, cards: cards.length, caught: found.length, precision: found.length / k });
  }
  return days;
}

async function topCards(clickhouse: ClickHouseReader, scope: Scope, most: number, labels: Labels): Promise<TopCard[]> {
  const sql = `
SELECT card_id, max(code % 2) AS fraud
FROM (${labelledRows(scope, ["score"], labels)})
WHERE ${HAS_VERDICT}
GROUP BY card_id
ORDER BY max(score) DESC, card_id
LIMIT {most: UInt64}`;
  return clickhouse.query<TopCard>(
    sql,
    { ...scopeParams(scope), ...labelParams(labels), most },
    { settings: SETTINGS },
  );
}
