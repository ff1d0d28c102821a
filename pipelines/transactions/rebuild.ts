import type { CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import { createClickHouse, type ClickHouse } from "../../infra/clickhouse/client.js";
import type { RowBinaryReader } from "../../infra/clickhouse/row-binary-reader.js";
import { ownedSince } from "../../infra/clickhouse/owner.js";
import { streamRows } from "../../infra/clickhouse/stream-rows.js";
import type { ClickHouseConfig } from "../../infra/config/config.js";
import type { TopicPartition } from "../../infra/kafka/group-membership.js";
import { partitionOfKey } from "../../infra/kafka/murmur2.js";
import type { CardHistory } from "../../models/features/card-history.js";
import type { HistoryRows } from "../../models/features/history-rows.js";
import { RETENTION_MS } from "../../models/features/history-terms.js";
import { FraudstreamError, UsageError } from "../../schemas/errors.js";
import type { OffsetMark } from "../../infra/kafka/offset-mark.js";
import { isOfFormerTopic, SOURCE_LOG } from "../runtime/dead-letters.js";
import { NO_VALUES } from "./reread.js";

/** How many offsets are requested at once: a server that can't stream holds all their rows. */
const SLICE_OFFSETS = 200_000;
/** A longer stretch of offsets without a trace is neither markers nor an aborted transaction: it is a loss. */
const LONGEST_UNTRACED = 10_000;
/** Rows that tell how old the records before, after or among them are: several blocks of a partition's clock. */
const LOOKED_AT = 2_000;

/** Offsets in rows from before the database was taken over belong to another cluster. */
const OURS = "inserted_at >= fromUnixTimestamp64Milli({since: Int64}, 'UTC')";
const STORED =
  "topic = {topic: String} AND partition = {partition: UInt32} AND offset >= {from: UInt64} AND offset < {to: " +
  `UInt64} AND ${OURS}`;
const SOURCE =
  "source_topic = {topic: String} AND source_partition = {partition: UInt32} AND source_offset >= {from: " +
  `UInt64} AND source_offset < {to: UInt64} AND ${OURS}`;
const REFUSED =
  `SELECT assumeNotNull(source_offset) AS refused FROM dead_letters WHERE ${SOURCE} AND source_offset ` + "IS NOT NULL";

/**
 * An event time that the fold's clock has reached at least: three of four of the last rows are as late, so two of them
 * are consecutive, and the median of one of the last blocks is as late (PartitionClock). The greatest event time may be
 * a stray, which moves no clock.
 */
const REACHED = `
SELECT count() AS rows, quantileExactLow(0.25)(time) AS reached
FROM (
  SELECT toUnixTimestamp64Milli(event_time) AS time FROM transactions
  WHERE ${STORED} AND offset NOT IN (${REFUSED})
  ORDER BY offset DESC LIMIT {limit: UInt32}
)`;

const FIRST_NEEDED = `
SELECT count() AS rows, min(offset) AS first
FROM transactions
WHERE ${STORED} AND event_time > fromUnixTimestamp64Milli({horizon: Int64})`;

/** Transactions that were scored but aren't stored. */
const LOST = `
SELECT count() AS count, min(source_offset) AS first, max(source_offset) AS last
FROM (SELECT DISTINCT source_offset FROM predictions WHERE ${SOURCE} AND event_time > fromUnixTimestamp64Milli({horizon:
  Int64}))
WHERE source_offset NOT IN (SELECT offset FROM transactions WHERE ${STORED})`;

/** The last stretch of offsets without a trace that is too long. */
const UNTRACED = `
SELECT previous + 1 AS first, offset - 1 AS last
FROM (
  SELECT offset, lagInFrame(offset, 1, {before: Int64}) OVER (ORDER BY offset ASC ROWS BETWEEN UNBOUNDED PRECEDING AND
    CURRENT ROW) AS previous
  FROM (
    SELECT toInt64(offset) AS offset FROM transactions WHERE ${STORED}
    UNION ALL SELECT toInt64(refused) FROM (${REFUSED})
    UNION ALL SELECT {end: Int64}
  )
)
WHERE last - first >= {longest: Int64}
ORDER BY first DESC
LIMIT 1`;

const AGE_BEHIND = `
SELECT count() AS rows, max(toUnixTimestamp64Milli(event_time)) AS newest
FROM (SELECT event_time FROM transactions WHERE ${STORED} ORDER BY offset LIMIT {limit: UInt32})`;

const ROWS = `
SELECT offset, transaction_id, toUnixTimestamp64Milli(event_time), card_id, merchant_id, amount
FROM transactions FINAL
WHERE ${STORED} AND offset NOT IN (${REFUSED})
ORDER BY offset`;

/** Offsets of a partition, and since when rows count. */
interface StoredRange {
  topic: string;
  partition: number;
  from: number;
  to: number;
  since: number;
}

export interface RebuildOptions {
  clickhouse: ClickHouseConfig | null;
  source: TopicPartition;
  /** Partitions of the topic. */
  partitions: number;
  /** Replaces card ids: rows may have been stored before there were pseudonyms. */
  cards: CardPseudonyms | null;
  signal: AbortSignal;
}

/** What is rebuilt. */
export interface RebuildTarget {
  /** For messages. */
  what: string;
  /**
   * Rows that aren't newer than this event time are of no use to it, once its clock has reached a given time
   * (-Infinity: there is nothing to rebuild).
   */
  horizon(reached: number): number;
  fold(rows: HistoryRows, row: number, offset: number): void;
  /** After each slice. */
  commit(): void;
}

/** Cards, which look back RETENTION_MS. */
export function cardsTarget(cards: CardHistory): RebuildTarget {
  return {
    what: "the history of cards",
    horizon: (reached) => Math.max(cards.clock, reached) - RETENTION_MS,
    fold: (rows, row, offset) => void cards.fold(rows, row, offset, NO_VALUES, null, NOWHERE, 0),
    commit: () => cards.commit(),
  };
}

/**
 * Folds the transactions between two offsets from the rows that the sink has stored: Kafka no longer has them. Begins a
 * little before the first one that the target still looks at, so that its clock is right by then.
 *
 * @throws FraudstreamError `history_gap` naming the offsets if some of them are missing
 * @throws UsageError `history_gap` if no ClickHouse is configured
 */
export async function rebuild(
  options: RebuildOptions,
  target: RebuildTarget,
  from: number,
  to: number,
): Promise<number> {
  const { clickhouse: config, source, partitions, cards, signal } = options;
  const where = `${source.topic}[${source.partition}]`;
  if (config === null) {
    throw new UsageError(
      "history_gap",
      `${where}: ${target.what} needs the records from offset ${from} to ${to - 1}, which Kafka has deleted: ` +
        "set CLICKHOUSE_URL to where the sink has stored them",
    );
  }
  const clickhouse = createClickHouse(config, { requestTimeoutMs: 300_000 });
  let params: StoredRange;
  let start: number;
  try {
    params = { topic: source.topic, partition: source.partition, from, to, since: await ownedSince(clickhouse) };
    const [{ rows, reached }] = await clickhouse.query<{ rows: number; reached: number }>(
      REACHED,
      { ...params, limit: LOOKED_AT },
      { signal },
    );
    const wanted = target.horizon(rows > 0 ? reached : -Infinity);
    const horizon = Number.isFinite(wanted) ? Math.max(0, wanted) : 0;
    const [needed] = await clickhouse.query<{ rows: number; first: number }>(
      FIRST_NEEDED,
      { ...params, horizon },
      { signal },
    );
    start = needed.rows > 0 ? Math.max(from, needed.first - LOOKED_AT) : to;
    await checkComplete(clickhouse, params, horizon, `${where}: ${target.what}`, signal);
  } finally {
    await clickhouse.close();
  }
  let folded = 0;
  const row = new StoredRow(cards);
  for (
    let slice = { ...params, from: start, to: Math.min(to, start + SLICE_OFFSETS) };
    slice.from < to;
    slice = { ...slice, from: slice.to, to: Math.min(to, slice.to + SLICE_OFFSETS) }
  ) {
    await streamRows(
      config,
      ROWS,
      (reader) => {
        row.read(reader);
        // Forwarded to its own partition, where it is stored, too.
        if (partitionOfKey(row.bytes[0], row.cardIdAt[0], row.cardIdLength[0], partitions) !== source.partition) return;
        target.fold(row, 0, row.offset);
        folded += 1;
      },
      { params: slice, signal },
    );
    target.commit();
  }
  return folded;
}

/**
 * The offsets between two whose records became dead letters, for any reason or for a given one, as the sink has stored
 * those.
 *
 * @param about with the mark of the topic that the offsets belong to: dead letters about a former topic name the same
 *   offsets
 */
export async function storedRefusals(
  { clickhouse: config, source, signal }: { clickhouse: ClickHouseConfig; source: TopicPartition; signal: AbortSignal },
  about: { from: number; to: number; code?: string; mark: OffsetMark },
): Promise<number[]> {
  const { from, to, code = "", mark } = about;
  const clickhouse = createClickHouse(config);
  try {
    const range: StoredRange = {
      topic: source.topic,
      partition: source.partition,
      from,
      to,
      since: await ownedSince(clickhouse),
    };
    const rows = await clickhouse.query<{ refused: number; log: string }>(
      `SELECT DISTINCT assumeNotNull(source_offset) AS refused, headers['${SOURCE_LOG}'] AS log FROM dead_letters
       WHERE ${SOURCE} AND source_offset IS NOT NULL AND ({code: String} = '' OR code = {code: String})`,
      { ...range, code },
      { signal },
    );
    return rows.filter(({ log }) => !isOfFormerTopic(log, mark)).map(({ refused }) => refused);
  } finally {
    await clickhouse.close();
  }
}

const NOWHERE = new Float64Array(0);

/**
 * Offsets have natural gaps (markers, aborted records), so missing records are recognised by what was derived from
 * them, or by the size of the gap.
 */
async function checkComplete(
  clickhouse: ClickHouse,
  params: StoredRange,
  horizon: number,
  where: string,
  signal: AbortSignal,
): Promise<void> {
  const missing = (first: number, last: number, why: string): FraudstreamError =>
    new FraudstreamError(
      "history_gap",
      `${where} can't be rebuilt: of offsets ${first} to ${last}, which Kafka has deleted, ${why}`,
    );
  const [{ count, first, last }] = await clickhouse.query<{ count: number; first: number; last: number }>(
    LOST,
    { ...params, horizon },
    { signal },
  );
  if (count > 0)
    throw missing(first, last, `${count} have a prediction in ClickHouse but no row in the table transactions`);
  const [stretch] = await clickhouse.query<{ first: number; last: number }>(
    UNTRACED,
    { ...params, before: params.from - 1, end: params.to, longest: LONGEST_UNTRACED },
    { signal },
  );
  if ((stretch as typeof stretch | undefined) === undefined) return;
  const [{ rows, newest }] = await clickhouse.query<{ rows: number; newest: number }>(
    AGE_BEHIND,
    { ...params, from: stretch.last + 1, limit: LOOKED_AT },
    { signal },
  );
  // Records before transactions that nobody looks at any more aren't missed.
  if (rows === 0 || newest > horizon) throw missing(stretch.first, stretch.last, "there is no trace in ClickHouse");
}

/** One stored transaction, in the shape of a batch. */
class StoredRow implements HistoryRows {
  offset = 0;
  readonly eventTime = new Float64Array(1);
  readonly amount = new Float64Array(1);
  readonly bytes = [Buffer.alloc(1024)];
  readonly transactionIdAt = new Int32Array(1);
  readonly transactionIdLength = new Int32Array(1);
  readonly cardIdAt = new Int32Array(1);
  readonly cardIdLength = new Int32Array(1);
  readonly merchantIdAt = new Int32Array(1);
  readonly merchantIdLength = new Int32Array(1);
  readonly #cards: CardPseudonyms | null;

  constructor(cards: CardPseudonyms | null) {
    this.#cards = cards;
  }

  /** Reads a whole row before any of it counts, since it may not have arrived completely. */
  read(reader: RowBinaryReader): void {
    this.offset = reader.int64();
    const transactionId = reader.string();
    this.eventTime[0] = reader.int64();
    const stored = reader.string();
    const cardId = this.#cards === null ? stored : this.#cards.ofText(stored);
    const merchantId = reader.string();
    this.amount[0] = reader.float64();
    const [bytes] = this.bytes;
    // Ids have at most 256 bytes.
    this.transactionIdLength[0] = bytes.write(transactionId, 0);
    this.cardIdAt[0] = this.transactionIdLength[0];
    this.cardIdLength[0] = bytes.write(cardId, this.cardIdAt[0]);
    this.merchantIdAt[0] = this.cardIdAt[0] + this.cardIdLength[0];
    this.merchantIdLength[0] = bytes.write(merchantId, this.merchantIdAt[0]);
  }
}
