import { createClickHouse } from "../../infra/clickhouse/client.js";
import type { RowBinaryReader } from "../../infra/clickhouse/row-binary-reader.js";
import { streamRows } from "../../infra/clickhouse/stream-rows.js";
import type { ClickHouseConfig } from "../../infra/config/config.js";
import { RequestError } from "../../schemas/errors.js";
import { RETENTION_MS } from "../features/history-terms.js";
import type { Dataset } from "./dataset.js";
import { StoredColumns } from "./stored-columns.js";
import { EARLIEST_EVENT_TIME } from "../../schemas/transaction-reader.js";

export interface StoredOptions {
  /** Event times, epoch milliseconds: from `from` up to, not including, `to`. */
  from: number;
  to: number;
  /** How old a transaction must be for its missing label to mean genuine, milliseconds. */
  maturityMs: number;
  /** Epoch milliseconds that age is counted back from. */
  now: number;
  /** Most transactions. */
  maxRows: number;
  /** Attributes that features are made of: see `operandAttributes`. */
  operands?: readonly string[];
  onProgress?: (percent: number, rows: number) => void;
  signal?: AbortSignal;
}

/** Rows that are asked for at once: a server that can't send piece by piece holds this many. */
const SLICE_ROWS = 200_000;
/** Parts of the range that rows are counted in, to cut it into slices. */
const BUCKETS = 10_000;
/** The latest time that DateTime64(3) holds. */
const LATEST_STORED = Date.UTC(2299, 11, 31);

const COUNTS = `
SELECT intDiv(toUnixTimestamp64Milli(event_time) - {from: Int64}, {bucket: Int64}) AS bucket, count() AS rows
FROM transactions
WHERE event_time >= fromUnixTimestamp64Milli({from: Int64}) AND event_time < fromUnixTimestamp64Milli({to: Int64})
GROUP BY bucket
ORDER BY bucket`;

/**
 * No label joins as false: genuine. Labels are looked up by their key, since a range of event time is no range of
 * theirs.
 */
const ROWS = `
WITH
  fromUnixTimestamp64Milli({from: Int64}) AS since,
  fromUnixTimestamp64Milli({to: Int64}) AS until
SELECT
  t.transaction_id, toUnixTimestamp64Milli(t.event_time), t.card_id, t.merchant_id, t.amount, t.currency, t.numbers,
    t.texts, t.flags,
  l.is_fraud, toUnixTimestamp64Milli(l.label_time)
FROM (
  SELECT *
  FROM transactions FINAL
  WHERE event_time >= since AND event_time < until
    AND (topic, partition, offset) NOT IN (
      SELECT source_topic, assumeNotNull(source_partition), assumeNotNull(source_offset)
      FROM dead_letters
      WHERE source_partition IS NOT NULL AND source_offset IS NOT NULL
    )
) AS t
LEFT JOIN (
  SELECT card_id, transaction_id, is_fraud, label_time
  FROM labels FINAL
  WHERE (card_id, transaction_id) IN (SELECT card_id, transaction_id FROM transactions WHERE event_time >= since AND
    event_time < until)
) AS l ON l.card_id = t.card_id AND l.transaction_id = t.transaction_id
ORDER BY t.event_time, t.topic, t.partition, t.offset`;

/**
 * Stored transactions with their labels, in the order of event time, after those that are their history. Only those
 * that are old enough for their label to be known are taken, labelled or not: among younger ones the frauds are known
 * first. Dead-lettered ones are left out.
 *
 * @throws RequestError `dataset_empty`, `dataset_too_many_rows`
 * @throws FraudstreamError those of `streamRows`
 */
export async function readStored(config: ClickHouseConfig, options: StoredOptions): Promise<Dataset> {
  const matured = options.now - options.maturityMs;
  const from = Math.max(options.from, EARLIEST_EVENT_TIME);
  const historyFrom = Math.max(from - RETENTION_MS, EARLIEST_EVENT_TIME);
  const to = Math.min(options.to, matured, LATEST_STORED);
  const title = `stored transactions, ${iso(options.from)} to ${iso(options.to)}`;
  const slices = from < to ? await slicesOf(config, historyFrom, to, options.signal) : [];
  const expected = slices.reduce((sum, { rows }) => sum + rows, 0);
  if (expected > options.maxRows)
    throw new RequestError(
      "dataset_too_many_rows",
      `${title}: about ${expected} rows; ${options.maxRows} are the most that are taken`,
    );
  const columns = new StoredColumns(options.operands);
  for (const { from: since, to: until } of slices) {
    const params = { from: since, to: until };
    await streamRows(config, ROWS, (reader) => readRow(reader, columns), {
      params,
      ...(options.signal && { signal: options.signal }),
    });
    options.onProgress?.(Math.min(100, (100 * columns.length) / expected), columns.length);
  }
  const young =
    options.to > matured ? [`transactions from ${iso(matured)} on are left out: their labels may still come`] : [];
  const dataset = columns.finish(title, from, young);
  if (dataset.historyRows === dataset.length) {
    const old = young.length === 0 ? "" : ` that are ${Math.round(options.maturityMs / 86_400_000)} days old`;
    throw new RequestError("dataset_empty", `${title}: there are none${old}`);
  }
  const { historyRows } = dataset;
  return historyRows === 0
    ? dataset
    : { ...dataset, notes: [`${historyRows} earlier transactions are taken as history only`, ...dataset.notes] };
}

interface Slice {
  from: number;
  to: number;
  rows: number;
}

/** Ranges of about as many rows each, in order. Rows that are stored twice until they are merged count twice here. */
async function slicesOf(config: ClickHouseConfig, from: number, to: number, signal?: AbortSignal): Promise<Slice[]> {
  const bucket = Math.max(1_000, Math.ceil((to - from) / BUCKETS));
  const clickhouse = createClickHouse(config);
  try {
    const counts = await clickhouse.query<{ bucket: number; rows: number }>(
      COUNTS,
      { from, to, bucket },
      { ...(signal && { signal }) },
    );
    const slices: Slice[] = [];
    for (const { bucket: index, rows } of counts) {
      const end = Math.min(to, from + (index + 1) * bucket);
      const last = slices.at(-1);
      if (last !== undefined && last.rows + rows <= SLICE_ROWS)
        Object.assign(last, { to: end, rows: last.rows + rows });
      else slices.push({ from: from + index * bucket, to: end, rows });
    }
    return slices;
  } finally {
    await clickhouse.close();
  }
}

/** Reads all of a row before any of it is kept, since it may not all have arrived. */
function readRow(reader: RowBinaryReader, columns: StoredColumns): void {
  const transactionId = reader.string();
  const eventTime = reader.int64();
  const cardId = reader.string();
  const merchantId = reader.string();
  const amount = reader.float64();
  const currency = reader.string();
  const numbers = entries(reader, () => reader.float64());
  const texts = entries(reader, () => reader.string());
  const flags = entries(reader, () => reader.byte());
  const label = reader.byte();
  const labelTime = reader.int64();
  columns.add({
    transactionId,
    eventTime,
    cardId,
    merchantId,
    amount,
    currency,
    numbers,
    texts,
    flags,
    label,
    labelTime: labelTime === 0 ? Number.NaN : labelTime,
  });
}

function entries<T>(reader: RowBinaryReader, value: () => T): [string, T][] {
  const pairs: [string, T][] = [];
  for (let count = reader.count(); count > 0; count--) pairs.push([reader.string(), value()]);
  return pairs;
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
