/**
 * Metrics of a model over one day and over thirty, at 333,333 transactions a day, every one labelled: in a table of
 * three days, and in one of ten times as many.
 *
 *   CLICKHOUSE_URL=http://127.0.0.1:8123 node dist/tests/bench/metrics.js [rows of the larger table, 10000000]
 * Prints the least and the median seconds of several runs, turn by turn in both tables, and what placing the labels
 * took.
 */
import { modelMetrics, type MetricsRequest, newestEvent } from "../../api/queries/metrics.js";
import { type ClickHouse, createClickHouse } from "../../infra/clickhouse/client.js";
import { lastPlacement, placeLabels } from "../../infra/clickhouse/label-placement.js";
import { migrate } from "../../infra/clickhouse/migrate.js";
import { readConfig } from "../../infra/config/config.js";
import { createLogger } from "../../infra/logging.js";
import { DAY_MS } from "../../models/evaluation/stored-outcomes.js";
import { UsageError } from "../../schemas/errors.js";

const ROWS_A_DAY = 333_333;
const START = Date.UTC(2026, 0, 1);
const BLOCK = 500_000;
const RUNS = 7;

async function main(rows: number): Promise<void> {
  const config = readConfig();
  if (config.clickhouse === null) throw new UsageError("no_clickhouse", "CLICKHOUSE_URL must name a server");
  const { clickhouse: server } = config;
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const tables: { clickhouse: ClickHouse; rows: number }[] = [];
  try {
    for (const size of [Math.round(rows / 10), rows]) {
      const database = { ...server, database: `bench_metrics_${process.pid}_${size}` };
      await migrate(database, createLogger({ logLevel: "warn" }, "bench"));
      const clickhouse = createClickHouse(database, { requestTimeoutMs: 600_000 });
      tables.push({ clickhouse, rows: size });
      for (let from = 0; from < size; from += BLOCK) await fill(clickhouse, from, Math.min(size, from + BLOCK));
      const [seconds, placements] = await placeAll(clickhouse);
      print(`${size} labels placed among ${size} predictions: ${placements} placements, ${seconds.toFixed(1)} s`);
    }
    await measure("one day", 1, tables, print);
    await measure("30 days", 30, tables.slice(1), print);
  } finally {
    for (const { clickhouse } of tables) {
      await clickhouse.command(`DROP DATABASE IF EXISTS ${clickhouse.database}`);
      await clickhouse.close();
    }
  }
}

/** Days that end in the middle of the table's third day, or with its newest event. */
async function measure(
  name: string,
  days: number,
  tables: { clickhouse: ClickHouse; rows: number }[],
  print: (line: string) => void,
): Promise<void> {
  const seconds = tables.map((): number[] => []);
  const counted: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    for (const [index, { clickhouse }] of tables.entries()) {
      const newest = (await newestEvent(clickhouse)) ?? 0;
      const to = days === 1 ? START + 2.5 * DAY_MS : newest + 1;
      const request: MetricsRequest = {
        model: "card-payments@3",
        role: "champion",
        from: to - days * DAY_MS,
        to,
        maturedBefore: newest - 30 * DAY_MS,
        slices: {},
      };
      const started = performance.now();
      const { evaluated, exact } = await modelMetrics(clickhouse, request);
      seconds[index].push((performance.now() - started) / 1000);
      if (!exact) throw new Error("these should be exact");
      counted[index] = evaluated;
    }
  }
  for (const [index, { rows }] of tables.entries()) {
    const sorted = seconds[index].sort((a, b) => a - b);
    print(
      `${name} (${counted[index]} rows) of ${rows}: least ${sorted[0].toFixed(2)} s, median ` +
        `${sorted[RUNS >> 1].toFixed(2)} s of ${RUNS} runs`,
    );
  }
}

/** Places labels as the sink does, without waiting for them to settle. */
async function placeAll(clickhouse: ClickHouse): Promise<[seconds: number, placements: number]> {
  const started = performance.now();
  let placements = 0;
  for (let last = await lastPlacement(clickhouse); last.waiting > 0; last = await lastPlacement(clickhouse)) {
    await placeLabels(clickhouse, last, { settleMs: 0 });
    placements += 1;
  }
  return [(performance.now() - started) / 1000, placements];
}

/** Random ids and cards, so that labels lie in another order than predictions; nearly every score is one of its own. */
async function fill(clickhouse: ClickHouse, from: number, to: number): Promise<void> {
  const params = { from, count: to - from, start: START, step: DAY_MS / ROWS_A_DAY };
  const ids =
    "lower(hex(sipHash64(number))) AS transaction_id, concat('card-', toString(sipHash64(number, 1) % " +
    "200000)) AS card_id";
  const time = "fromUnixTimestamp64Milli(toInt64({start: Int64} + number * {step: Float64}), 'UTC')";
  await clickhouse.command(
    `INSERT INTO predictions (topic, partition, offset, transaction_id, card_id, merchant_id, amount, currency,
      event_time, scored_at, scoring_ms, score, decision, model, epoch)
     SELECT 'p', number % 4, number, ${ids}, 'm', (sipHash64(number, 2) % 100000) / 100, ['EUR', 'USD', 'GBP'][1 +
       number % 3], ${time}, ${time}, (sipHash64(number, 3) % 1000) / 100,
       toFloat32(pow((sipHash64(number, 4) % 16777216) / 16777216, 6)) AS points, multiIf(points > 0.9, 'decline',
         points > 0.7, 'review', 'approve'), 'card-payments@3', 17
     FROM numbers({from: UInt64}, {count: UInt64})`,
    params,
  );
  await clickhouse.command(
    `INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time)
     SELECT 'l', number % 4, number, ${ids}, sipHash64(number, 5) % 1000 < 30 * pow((sipHash64(number, 4) % 16777216) /
       16777216, 6), ${time}
     FROM numbers({from: UInt64}, {count: UInt64})`,
    params,
  );
}

await main(Number(process.argv[2] ?? 10_000_000));
