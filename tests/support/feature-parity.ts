import { createClickHouse } from "../../infra/clickhouse/client.js";
import { streamRows } from "../../infra/clickhouse/stream-rows.js";
import type { ClickHouseConfig } from "../../infra/config/config.js";
import { readStored } from "../../models/datasets/read-stored.js";
import { CARD_AGGREGATES, type CardAggregate } from "../../models/features/card-aggregates.js";
import { featureMatrix, repeatedRows } from "../../models/features/feature-matrix.js";
import { historyTerm, type CardSource } from "../../models/features/history-terms.js";
import type { FeatureSpec } from "../../models/features/plan.js";

/** A model whose stored predictions are looked at. */
export interface ParityModel {
  id: string;
  features: readonly FeatureSpec[];
}

export interface ParityReport {
  /** Predictions that ClickHouse has, once each. */
  predictions: number;
  /** Those that aren't marked stale: all of their features are compared. */
  fresh: number;
  stale: number;
  /** Values that were compared. */
  compared: number;
  /** Values that differ, and by feature. */
  different: number;
  byFeature: Record<string, number>;
  /**
   * Fresh predictions of transactions that the trainer doesn't have, and transactions of the trainer without a
   * prediction.
   */
  unmatched: number;
  /** The first of either, a line each. */
  examples: string[];
}

const MOST_EXAMPLES = 20;
const MOST_ROWS = 10_000_000;

const PREDICTIONS = `
SELECT card_id, transaction_id, toUnixTimestamp64Milli(event_time), stale, toInt64(source_partition), source_offset,
  arrayMap(feature -> toFloat64(feature), features)
FROM predictions FINAL
WHERE model = {model: String}`;

/**
 * Holds every stored prediction's features to the trainer's, bit for bit in float32: what is in the tables
 * `transactions`, `labels` and `dead_letters` goes through the very path of a training on stored transactions
 * (readStored, featureMatrix). The trainer knows a transaction's last label only: labels must not have been corrected.
 */
export async function featureParity(config: ClickHouseConfig, model: ParityModel): Promise<ParityReport> {
  const dataset = await readStored(config, {
    ...(await storedTimes(config)),
    maturityMs: 0,
    now: Number.MAX_SAFE_INTEGER,
    maxRows: MOST_ROWS,
  });
  const names = model.features.map(({ name }) => name);
  const { values } = featureMatrix(
    dataset,
    model.features,
    Uint32Array.from({ length: dataset.length }, (_, row) => row),
  );
  const repeats = new Set(repeatedRows(dataset));
  const rows = new Map<string, number>();
  for (let row = 0; row < dataset.length; row++)
    if (!repeats.has(row))
      rows.set(`${dataset.cardId[row]}\0${dataset.transactionId[row]}\0${dataset.eventTime[row]}`, row);
  const report: ParityReport = {
    predictions: 0,
    fresh: 0,
    stale: 0,
    compared: 0,
    different: 0,
    byFeature: {},
    unmatched: 0,
    examples: [],
  };
  const tell = (line: string): void => void (report.examples.length < MOST_EXAMPLES && report.examples.push(line));
  const bits = new Float32Array(2);
  const words = new Uint32Array(bits.buffer);
  const same = (a: number, b: number): boolean => {
    bits[0] = a;
    bits[1] = b;
    return words[0] === words[1] || (Number.isNaN(a) && Number.isNaN(b));
  };
  const features = new Array<number>(names.length);
  await streamRows(
    config,
    PREDICTIONS,
    (reader) => {
      const [card, transaction, time, stale, partition, offset] = [
        reader.string(),
        reader.string(),
        reader.int64(),
        reader.byte(),
        reader.int64(),
        reader.int64(),
      ];
      const count = reader.count();
      if (count !== names.length)
        throw new Error(`a prediction of ${transaction} has ${count} features, the model ${names.length}`);
      for (let i = 0; i < count; i++) features[i] = reader.float64();
      report.predictions++;
      const key = `${card}\0${transaction}\0${time}`;
      const row = rows.get(key);
      rows.delete(key);
      if (stale === 1) {
        report.stale++;
        return;
      }
      report.fresh++;
      const where = `${transaction} of ${card} at ${new Date(time).toISOString()} (${partition}/${offset})`;
      if (row === undefined) {
        report.unmatched++;
        tell(`${where}: the trainer doesn't have it`);
        return;
      }
      for (let i = 0; i < count; i++) {
        const trained = values[row * names.length + i];
        report.compared++;
        if (same(features[i], trained)) continue;
        report.different++;
        report.byFeature[names[i]] = (report.byFeature[names[i]] ?? 0) + 1;
        tell(`${where}: ${names[i]} is ${features[i]}, the trainer has ${trained}`);
      }
    },
    { params: { model: model.id } },
  );
  for (const [key] of rows) tell(`${key.split("\0").join(" ")} has no prediction`);
  report.unmatched += rows.size;
  return report;
}

async function storedTimes(config: ClickHouseConfig): Promise<{ from: number; to: number }> {
  const clickhouse = createClickHouse(config);
  try {
    const [times] = await clickhouse.query<{ from: number; to: number }>(
      "SELECT toUnixTimestamp64Milli(min(event_time)) AS from, toUnixTimestamp64Milli(max(event_time)) + 1 " +
        "AS to FROM transactions",
    );
    return times;
  } finally {
    await clickhouse.close();
  }
}

/**
 * Whether every feature of every prediction is the trainer's, and none was computed without a bucket that it needed.
 */
export function holds(report: ParityReport): boolean {
  return report.predictions > 0 && report.stale === 0 && report.different === 0 && report.unmatched === 0;
}

export interface SqlParityReport {
  compared: number;
  different: number;
  byFeature: Record<string, number>;
}

/** Relative, or absolute below 1: features are float32. */
const TOLERANCE = 1e-6;

/** A RANGE of 30 days in milliseconds is more than the 31 bits that ClickHouse takes. Event times must be multiples. */
const UNIT_MS = 10;

/**
 * Holds the card windows of every stored prediction to ClickHouse's window functions over the table `transactions`:
 * another program's arithmetic, with nothing of ours. For transactions that came in the order of their times, which are
 * whole hundredths of a second. Of a card's transactions in one millisecond only the last is compared: a RANGE can't
 * leave out those behind.
 */
export async function windowParity(config: ClickHouseConfig, { id, features }: ParityModel): Promise<SqlParityReport> {
  const looked = features.flatMap(({ name, source, default: fallback }, index) =>
    source.kind === "card" && source.aggregate !== "fraud_share"
      ? [{ name, index: index + 1, fallback, term: historyTerm(source as CardSource) }]
      : [],
  );
  const over = (sql: string, ms: number): string =>
    `${sql} OVER (PARTITION BY card_id ORDER BY tick RANGE BETWEEN ${ms / UNIT_MS - 1} PRECEDING AND CURRENT ROW)`;
  const value = ({ aggregate, windowMs }: (typeof looked)[number]["term"]): string => {
    if (aggregate === "seconds_since_last")
      return `if(before = 0 OR ms - before > 30 * 86400000, nan, (ms - before) / 1000)`;
    return `toFloat64(${CARD_AGGREGATES[aggregate as CardAggregate].sql((sql) => over(sql, windowMs))})`;
  };
  const orDefault = (sql: string, fallback: number | null): string =>
    fallback === null ? sql : `if(isNaN(${sql}), ${fallback}, ${sql})`;
  const columns = looked.map(({ term, fallback }, i) => `${orDefault(value(term), fallback)} AS expected_${i}`);
  const rows = `
    SELECT source_partition, source_offset, isLast, ${columns.join(", ")}
    FROM (
      SELECT *,
        lagInFrame(ms, 1, 0) OVER (PARTITION BY card_id ORDER BY ms, source_offset ROWS BETWEEN UNBOUNDED PRECEDING AND
          CURRENT ROW) AS before,
        row_number() OVER (PARTITION BY card_id, ms ORDER BY source_offset DESC) = 1 AS isLast
      FROM (
        SELECT partition AS source_partition, offset AS source_offset, card_id, merchant_id, amount,
          toUnixTimestamp64Milli(event_time) AS ms, intDiv(ms, ${UNIT_MS}) AS tick
        FROM transactions FINAL
        WHERE (partition, offset) IN (SELECT source_partition, source_offset FROM predictions WHERE model = {model:
          String})
      )
    )`;
  const differs = looked.map(
    ({ index }, i) =>
      `NOT (abs(p.features[${index}] - e.expected_${i}) <= ${TOLERANCE} * greatest(1, abs(e.expected_${i})) ` +
      `OR (isNaN(p.features[${index}]) AND isNaN(e.expected_${i})))`,
  );
  const clickhouse = createClickHouse(config, { requestTimeoutMs: 600_000 });
  try {
    const [found] = await clickhouse.query<Record<string, number>>(
      `SELECT count() AS rows, ${differs.map((sql, i) => `countIf(${sql}) AS different_${i}`).join(", ")}
       FROM (SELECT * FROM predictions FINAL WHERE model = {model: String} AND NOT stale) AS p INNER JOIN (${rows}) AS e
         USING (source_partition, source_offset) WHERE e.isLast`,
      { model: id },
    );
    const byFeature = Object.fromEntries(looked.map(({ name }, i) => [name, found[`different_${i}`]]));
    return {
      compared: found["rows"] * looked.length,
      different: Object.values(byFeature).reduce((sum, count) => sum + count, 0),
      byFeature,
    };
  } finally {
    await clickhouse.close();
  }
}
