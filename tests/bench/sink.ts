/**
 * The sink without Kafka: predictions in Avro, as a fetch brings them, into a local ClickHouse.
 *
 *   CLICKHOUSE_URL=http://127.0.0.1:8123 node dist/tests/bench/sink.js [rows, 1000000] [features, 29]
 * Prints rows a second, CPU-seconds of this process a million rows (ClickHouse is another one), the longest delay of
 * the event loop, and checks that ClickHouse counts every row once.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import avro from "avsc";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { migrate } from "../../infra/clickhouse/migrate.js";
import { readConfig } from "../../infra/config/config.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { createLogger } from "../../infra/logging.js";
import { predictionRows } from "../../pipelines/sink/rows/avro-rows.js";
import { SinkPipeline } from "../../pipelines/sink/sink-pipeline.js";
import type { AvroSchema } from "../../schemas/avro-cursor.js";
import { UsageError } from "../../schemas/errors.js";
import { predictionSchema, type Prediction } from "../../schemas/generated.js";
import { fetchedRecords } from "../support/fetched-records.js";

const TOPIC = "bench.predictions";
const SCHEMA_ID = 1_000_002;
/** Records a fetch; about 1 MiB, as the consumer's. */
const BATCH = 4_000;
/** Different batches in memory, given again under other offsets. */
const BATCHES = 25;
const PARTITIONS = 4;

async function main(rows: number, features: number): Promise<void> {
  const config = readConfig();
  if (config.clickhouse === null) throw new UsageError("no_clickhouse", "CLICKHOUSE_URL must name a server");
  const log = createLogger({ logLevel: "warn" }, "bench");
  const database = { ...config.clickhouse, database: `bench_sink_${process.pid}` };
  await migrate(database, log);
  const clickhouse = createClickHouse(database);
  const abort = new AbortController();
  const deps = {
    lookup: () => Promise.resolve(predictionSchema as unknown as AvroSchema),
    backoff: { firstMs: 100, mostMs: 1_000, signal: abort.signal },
    log,
  };
  const fail = (error: unknown): void => {
    throw error;
  };
  let commits = 0;
  const commit = (): Promise<void> => Promise.resolve(void (commits += 1));
  const sink = new SinkPipeline({
    clickhouse,
    routes: new Map([[TOPIC, { table: "predictions", rows: predictionRows(deps) }]]),
    commit,
    log,
    fail,
  });
  try {
    const batches = Array.from({ length: BATCHES }, (_, i) => makeBatch(i, features));
    const valueBytes = batches[0].bytes.length / BATCH;
    await deliver(sink, batches, Math.min(rows, 200_000), 0); // warms up
    const before = process.cpuUsage();
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    const started = performance.now();
    await deliver(sink, batches, rows, 1_000_000_000);
    const seconds = (performance.now() - started) / 1000;
    delay.disable();
    const cpu = process.cpuUsage(before);
    const cpuSeconds = (cpu.user + cpu.system) / 1e6;
    const [{ count }] = await clickhouse.query<{ count: number }>(
      "SELECT count() AS count FROM predictions FINAL WHERE offset >= 1000000000",
    );
    if (count !== rows) throw new Error(`ClickHouse counts ${count} of ${rows} rows`);
    process.stdout.write(
      `${rows} predictions, ${features} features, ${valueBytes.toFixed(0)} bytes each: ` +
        `${(rows / seconds).toFixed(0)} rows/s (clock), ` +
        (`${((cpuSeconds / rows) * 1e6).toFixed(2)} CPU-seconds of the sink a million rows = ` +
          `${(rows / cpuSeconds).toFixed(0)} rows/s a core, `) +
        (`longest event-loop delay ${(delay.max / 1e6).toFixed(0)} ms, ${sink.counts.blocks} blocks, ` +
          `${commits} commits, `) +
        `resident ${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MB\n`,
    );
  } finally {
    await clickhouse.command(`DROP DATABASE IF EXISTS ${database.database}`);
    await clickhouse.close();
  }
}

/** Hands `rows` records in, partitions in turn as their fetches would come, and returns when all are stored. */
async function deliver(
  sink: SinkPipeline,
  batches: FetchedRecords[],
  rows: number,
  firstOffset: number,
): Promise<void> {
  const signal = new AbortController().signal;
  const tenures = await Promise.all(
    Array.from({ length: PARTITIONS }, (_, partition) =>
      sink.open({
        topic: TOPIC,
        partition,
        signal,
        committed: () => Promise.resolve({ offset: firstOffset, why: "committed" }),
      }),
    ),
  );
  let left = rows;
  const consume = async (partition: number): Promise<void> => {
    for (let offset = firstOffset; left > 0; offset += BATCH) {
      const count = Math.min(BATCH, left);
      left -= count;
      const batch = batches[(offset / BATCH + partition * 7) % BATCHES];
      const offsets = batch.offset.map((_, i) => offset + i);
      await tenures[partition].handler.process({
        ...batch,
        partition,
        count,
        offset: offsets,
        nextOffset: offset + count,
      });
    }
  };
  await Promise.all(tenures.map((_, partition) => consume(partition)));
  await sink.flush();
}

function makeBatch(number: number, features: number): FetchedRecords {
  const type = avro.Type.forSchema(predictionSchema as unknown as avro.Schema);
  const header = Buffer.alloc(5);
  header.writeUInt32BE(SCHEMA_ID, 1);
  const list = Array.from({ length: BATCH }, (_, i) => {
    const n = number * BATCH + i;
    const time = Date.UTC(2026, 2, 1) + n * 37;
    const prediction: Prediction = {
      transaction_id: `t-${100_000_000 + n}`,
      card_id: `card-${n % 5_000}`,
      merchant_id: `m-${n % 997}`,
      amount: (n % 100_000) / 100,
      currency: "EUR",
      event_time: time,
      scored_at: time + 12,
      scoring_ms: 3.5,
      score: (n % 1000) / 1000,
      decision: "approve",
      model: "card-payments@3",
      epoch: 17,
      features: Array.from({ length: features }, (_f, f) => Math.fround(Math.sin(n + f))),
      stale: false,
      reasons:
        n % 200 === 0
          ? [
              { feature: "amount", contribution: 1.25 },
              { feature: "hour", contribution: 0.5 },
            ]
          : null,
      source_topic: "bench.transactions",
      source_partition: 1,
      source_offset: n,
    };
    return {
      key: Buffer.from(prediction.card_id),
      value: Buffer.concat([header, type.toBuffer(prediction)]),
      timestamp: time,
    };
  });
  return fetchedRecords({ topic: TOPIC }, list);
}

await main(Number(process.argv[2] ?? 1_000_000), Number(process.argv[3] ?? 29));
