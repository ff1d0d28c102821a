import { randomUUID } from "node:crypto";
import type { ClickHouseReader, ClickHouseWriter } from "./client.js";

/**
 * How far labels have been placed at the event time of their transactions (migration 0004, decision 0005). Labels that
 * were inserted before the cut are in `labels_by_event`, or in `labels_without_event` under the placement's id; those
 * from the cut on are in `labels` only.
 */
export interface Placement {
  id: string;
  /** Epoch milliseconds. */
  cut: number;
  finishedAt: number;
  /** Labels inserted since the cut, and how many of them could be placed now. */
  waiting: number;
  settled: number;
}

/** Labels younger than this are left alone: an insert that began earlier may still be under way. */
const SETTLE_MS = 300_000;

export interface PlaceOptions {
  /** How long ago a label must have been inserted, milliseconds. @default 300_000 */
  settleMs?: number;
  /** About how many labels are placed in one go. @default 1_000_000 */
  mostLabels?: number;
  /**
   * Days after which a label whose transaction never came is given up, equal to its table's retention; 0: never.
   * @default 730
   */
  keepDays?: number;
}

/** A placement is made again after this long, even if nothing is new, before it ceases to count. */
const RENEW_MS = 86_400_000;

/** Nothing has been placed: every label is still waiting. */
export const NO_PLACEMENT = { id: "00000000-0000-0000-0000-000000000000", cut: 0, finishedAt: 0 } as const;

/** A placement counts for less time than its labels are kept; after that, all labels are placed again. */
const LAST = `
SELECT toString(placement) AS id, toUnixTimestamp64Milli(cut) AS cut, toUnixTimestamp64Milli(finished_at) AS finishedAt
FROM label_placements
WHERE label_placements.finished_at > now64(3) - toIntervalDay(7)
ORDER BY label_placements.cut DESC, label_placements.finished_at DESC
LIMIT 1`;

const WAITING = `
SELECT count() AS waiting, countIf(inserted_at < now64(3) - toIntervalMillisecond({settle: UInt64})) AS settled
FROM labels
WHERE inserted_at >= fromUnixTimestamp64Milli({cut: Int64}, 'UTC')`;

/** Where the next placement may end: after about this many labels, but after at least one point in time. */
const NEXT_CUT = `
SELECT toUnixTimestamp64Milli(if(countIf(total <= {most: UInt64}) = 0, min(moment), maxIf(moment, total <= {most:
  UInt64}))) + 1 AS cut, count() AS moments
FROM (
  SELECT moment, sum(labels) OVER (ORDER BY moment) AS total
  FROM (
    SELECT inserted_at AS moment, count() AS labels
    FROM labels
    WHERE inserted_at >= fromUnixTimestamp64Milli({cut: Int64}, 'UTC') AND inserted_at < now64(3) -
      toIntervalMillisecond({settle: UInt64})
    GROUP BY inserted_at
  )
)`;

/** The last label of each transaction among the labels examined: new ones, and those whose transaction had not come. */
const CANDIDATES = `
  SELECT card_id, transaction_id, argMax(verdict, order) AS is_fraud, max(order) AS version, max(since) AS inserted_at
  FROM (
    SELECT card_id, transaction_id, is_fraud AS verdict, version AS order, inserted_at AS since
    FROM labels
    WHERE inserted_at >= fromUnixTimestamp64Milli({from: Int64}, 'UTC') AND inserted_at < fromUnixTimestamp64Milli({to:
      Int64}, 'UTC')
    UNION ALL
    SELECT card_id, transaction_id, is_fraud AS verdict, version AS order, inserted_at AS since
    FROM labels_without_event
    WHERE placement = {last: UUID} AND ({keepDays: UInt32} = 0 OR inserted_at > now64(3) - toIntervalDay({keepDays:
      UInt32}))
  )
  GROUP BY card_id, transaction_id`;

/** In one thread, and into any number of months: a backlog must not slow the server down for queries that wait. */
const GENTLY = "SETTINGS max_threads = 1, max_insert_threads = 1, max_partitions_per_insert_block = 0";

/**
 * This comes first, so that a prediction that arrives in between leaves its label in both tables rather than in
 * neither.
 */
const KEEP_WITHOUT_EVENT = `
INSERT INTO labels_without_event (placement, card_id, transaction_id, is_fraud, version, inserted_at) ${GENTLY}
SELECT {id: UUID}, card_id, transaction_id, is_fraud, version, inserted_at
FROM (${CANDIDATES})
WHERE (card_id, transaction_id) NOT IN (
  SELECT card_id, transaction_id FROM predictions WHERE transaction_id IN (SELECT transaction_id FROM (${CANDIDATES}))
)`;

const PLACE = `
INSERT INTO labels_by_event (event_time, card_id, transaction_id, is_fraud, version, inserted_at) ${GENTLY}
SELECT DISTINCT p.event_time, c.card_id, c.transaction_id, c.is_fraud, c.version, c.inserted_at
FROM predictions AS p
INNER JOIN (${CANDIDATES}) AS c ON c.card_id = p.card_id AND c.transaction_id = p.transaction_id`;

const FINISH =
  "INSERT INTO label_placements (placement, cut, labels) SELECT {id: UUID}, fromUnixTimestamp64Milli({to: " +
  "Int64}, 'UTC'), {labels: UInt64}";

const WITHOUT_EVENT = "SELECT count() AS labels FROM labels_without_event WHERE placement = {last: UUID}";

/** What belongs to older placements, or to placements that never finished; queries that read it ended long ago. */
const OUTDATED = `
SELECT DISTINCT partition AS id
FROM system.parts
WHERE database = currentDatabase() AND table = 'labels_without_event' AND active
  AND partition NOT IN ({id: String}, {last: String}) AND modification_time < now() - INTERVAL 6 HOUR`;

/** How far labels have been placed. */
export async function lastPlacement(clickhouse: ClickHouseReader): Promise<Placement> {
  const [last = NO_PLACEMENT] = await clickhouse.query<Omit<Placement, "waiting" | "settled">>(LAST);
  const [counts] = await clickhouse.query<{ waiting: number; settled: number }>(WAITING, {
    cut: last.cut,
    settle: SETTLE_MS,
  });
  return { ...last, ...counts };
}

/**
 * Places the labels that have come since the last placement, and those that had no prediction then. Nothing that is
 * read changes until its last statement, so it may fail anywhere, and several may run at once: each finished one is
 * complete on its own.
 *
 * @returns false if there was nothing to examine
 */
export async function placeLabels(
  clickhouse: ClickHouseReader & ClickHouseWriter,
  last: Placement,
  options: PlaceOptions = {},
): Promise<boolean> {
  const { settleMs = SETTLE_MS, mostLabels = 1_000_000, keepDays = 730 } = options;
  const [next] = await clickhouse.query<{ cut: number; moments: number }>(NEXT_CUT, {
    cut: last.cut,
    settle: settleMs,
    most: mostLabels,
  });
  const to = next.moments === 0 ? last.cut : next.cut;
  const id = randomUUID();
  const params = { id, last: last.id, from: last.cut, to, keepDays };
  const [before] = await clickhouse.query<{ labels: number }>(WITHOUT_EVENT, params);
  const [{ labels }] = await clickhouse.query<{ labels: number }>(
    `SELECT count() AS labels FROM (${CANDIDATES})`,
    params,
  );
  if (labels === 0 && (last.cut === 0 || Date.now() - last.finishedAt < RENEW_MS)) return false;
  await clickhouse.command(KEEP_WITHOUT_EVENT, params);
  await clickhouse.command(PLACE, params);
  const [after] = await clickhouse.query<{ labels: number }>(WITHOUT_EVENT, params);
  // A faster copy has placed these labels and removed what this one was reading: its placement counts.
  if (after.labels !== before.labels) return true;
  await clickhouse.command(FINISH, { ...params, labels });
  for (const part of await clickhouse.query<{ id: string }>(OUTDATED, params)) {
    if (/^[0-9a-f-]{36}$/.test(part.id))
      await clickhouse.command(`ALTER TABLE labels_without_event DROP PARTITION '${part.id}'`);
  }
  return true;
}
