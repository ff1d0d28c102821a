import type { ClickHouseReader, QueryParams } from "../../infra/clickhouse/client.js";
import { LABELLED_COLUMNS, type LabelledRow } from "../predictions/prediction-view.js";

/** Which stored predictions are listed; what isn't given doesn't matter. */
export interface PredictionFilter {
  /** Event times, epoch milliseconds, `to` exclusive. */
  from?: number | undefined;
  to?: number | undefined;
  decision?: string | undefined;
  minScore?: number | undefined;
  cardId?: string | undefined;
  merchantId?: string | undefined;
  model?: string | undefined;
  /** By the last label of the transaction. */
  labelled?: "true" | "false" | "fraud" | "genuine" | undefined;
}

/** Where a row stands in the list: event time, topic, partition, offset. */
export type PlaceInList = readonly [number, string, number, number];

export interface ListedRow extends LabelledRow {
  topic: string;
  partition: number;
  offset: number;
}

/** The table's own key: a row that was stored twice has the same, and is one row. */
const KEY = "event_time, topic, partition, offset";
const NEWEST_FIRST = "event_time DESC, topic DESC, partition DESC, offset DESC";
const LABEL_OF: Readonly<Record<NonNullable<PredictionFilter["labelled"]>, (labels: string) => string>> = {
  true: (labels) => `(card_id, transaction_id) IN (${labels})`,
  false: (labels) => `(card_id, transaction_id) NOT IN (${labels})`,
  fraud: (labels) => `(card_id, transaction_id) IN (${labels} WHERE is_fraud)`,
  genuine: (labels) => `(card_id, transaction_id) IN (${labels} WHERE NOT is_fraud)`,
};

/** The rows behind a place, newest first, at most `limit` of them, each with its last label. */
export async function listPredictions(
  clickhouse: ClickHouseReader,
  filter: PredictionFilter,
  { after, limit }: { after: PlaceInList | null; limit: number },
): Promise<ListedRow[]> {
  const { condition, params } = conditionFor(filter, after);
  const page =
    `SELECT * FROM predictions WHERE ${condition} ORDER BY ${NEWEST_FIRST} LIMIT 1 BY ${KEY} LIMIT ` +
    "{limit: UInt32}";
  return clickhouse.query<ListedRow>(
    `
    WITH page AS (${page})
    SELECT p.topic AS topic, p.partition AS partition, p.offset AS offset, ${LABELLED_COLUMNS}
    FROM page AS p
    LEFT JOIN (SELECT * FROM labels FINAL WHERE (card_id, transaction_id) IN (SELECT card_id, transaction_id FROM page))
      AS l ON l.card_id = p.card_id AND l.transaction_id = p.transaction_id
    ORDER BY p.event_time DESC, p.topic DESC, p.partition DESC, p.offset DESC`,
    { ...params, limit },
    { settings: { join_use_nulls: 0 } },
  );
}

/** How many rows there are, counted up to `most`; null: there are more. */
export async function countPredictions(
  clickhouse: ClickHouseReader,
  filter: PredictionFilter,
  most: number,
): Promise<number | null> {
  const { condition, params } = conditionFor(filter, null);
  const [{ count }] = await clickhouse.query<{ count: number }>(
    `SELECT count() AS count FROM (SELECT DISTINCT ${KEY} FROM predictions WHERE ${condition} LIMIT {most: UInt32})`,
    { ...params, most: most + 1 },
  );
  return count > most ? null : count;
}

/** The position of the last row of a page if more rows follow; null: there are none. */
export async function placeAfter(
  clickhouse: ClickHouseReader,
  filter: PredictionFilter,
  { after, limit }: { after: PlaceInList | null; limit: number },
): Promise<PlaceInList | null> {
  const { condition, params } = conditionFor(filter, after);
  const sql = `
    SELECT toUnixTimestamp64Milli(at) AS ms, topic, partition, offset
    FROM (SELECT event_time AS at, topic, partition, offset FROM predictions WHERE ${condition} ORDER BY ${NEWEST_FIRST}
      LIMIT 1 BY ${KEY} LIMIT 2 OFFSET {skip: UInt32})
    ORDER BY at DESC, topic DESC, partition DESC, offset DESC`;
  const rows = await clickhouse.query<{ ms: number; topic: string; partition: number; offset: number }>(sql, {
    ...params,
    skip: limit - 1,
  });
  return rows.length < 2 ? null : [rows[0].ms, rows[0].topic, rows[0].partition, rows[0].offset];
}

function conditionFor(filter: PredictionFilter, after: PlaceInList | null): { condition: string; params: QueryParams } {
  const { from, to, decision, minScore, cardId, merchantId, model, labelled } = filter;
  const time = (name: string): string => `fromUnixTimestamp64Milli({${name}: Int64}, 'UTC')`;
  const conditions = [
    ...(from === undefined ? [] : [`event_time >= ${time("from")}`]),
    ...(to === undefined ? [] : [`event_time < ${time("to")}`]),
    ...(decision === undefined ? [] : ["decision = {decision: String}"]),
    ...(minScore === undefined ? [] : ["score >= {minScore: Float64}"]),
    ...(cardId === undefined ? [] : ["card_id = {cardId: String}"]),
    ...(merchantId === undefined ? [] : ["merchant_id = {merchantId: String}"]),
    ...(model === undefined ? [] : ["model = {model: String}"]),
    // The first of the two lets the table's key pick the parts.
    ...(after === null
      ? []
      : [
          `event_time <= ${time("afterTime")}`,
          `(event_time, topic, partition, offset) < (${time("afterTime")}, {afterTopic: String}, ` +
            "{afterPartition: UInt32}, {afterOffset: UInt64})",
        ]),
  ];
  const ofLabels =
    "SELECT card_id, transaction_id FROM labels " +
    `FINAL${cardId === undefined ? "" : " PREWHERE card_id = {cardId: String}"}`;
  if (labelled !== undefined) conditions.push(LABEL_OF[labelled](ofLabels));
  const [afterTime, afterTopic, afterPartition, afterOffset] = after ?? [];
  const given = Object.entries({
    from,
    to,
    decision,
    minScore,
    cardId,
    merchantId,
    model,
    afterTime,
    afterTopic,
    afterPartition,
    afterOffset,
  }).filter(([, value]) => value !== undefined);
  return { condition: conditions.join(" AND ") || "1", params: Object.fromEntries(given) };
}
