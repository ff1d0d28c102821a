/**
 * Latency at 1,000 transactions a second, exactly once: from before a transaction is produced until a read_committed
 * consumer has its prediction; both in this process, so on one clock. 15 s of warm-up are left out.
 *
 *   npm run bench -- latency
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BatchProducer, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { AvroCursor } from "../../schemas/avro-cursor.js";
import { WIRE_HEAD_BYTES } from "../../schemas/wire-format.js";
import { startRole } from "./support/child.js";
import { BenchCluster } from "./support/cluster.js";
import type { BenchContext } from "./support/context.js";
import { Peers } from "./support/peers.js";

const RATE = 1_000;
const WARM_SECONDS = 15;
const MEASURED_SECONDS = 30;
const TICK_MS = 5;
const PARTITIONS = 4;

export async function benchLatency(context: BenchContext): Promise<void> {
  const { config, log, print } = context;
  const peers = await Peers.prepare(config.dataDir, print);
  const bench = new BenchCluster(context.kafka, `bench-latency-${Date.now()}.`, PARTITIONS, log);
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  await bench.reset();
  const artifact = await peers.artifact(config.artifacts);
  await bench.deploy(artifact, { schemaRegistryUrl: null, schemasDir: null });
  const worker = startRole("pipelines/scoring/main", { KAFKA_BROKERS: bench.bootstrap, TOPIC_PREFIX: bench.prefix, DATA_DIR: config.dataDir, ARTIFACTS: config.artifacts, LOG_LEVEL: "warn" }, join(config.dataDir, "bench-latency-worker.log"));
  const total = RATE * (WARM_SECONDS + MEASURED_SECONDS);
  const sentAt = new Float64Array(total);
  const seenAt = new Float64Array(total);
  const abort = new AbortController();
  const reading = Array.from({ length: PARTITIONS }, (_, partition) => readPredictions(bench, partition, seenAt, abort.signal));
  const producer = await BatchProducer.open(bench.cluster);
  try {
    await sleep(3_000);
    const cpuBefore = worker.cpuSeconds();
    await produce(bench, producer, schemas, sentAt, total);
    for (let waited = 0; seenAt.includes(0) && waited < 10_000; waited += 100) await sleep(100);
    const cpu = worker.cpuSeconds() - cpuBefore;
    const missing = seenAt.reduce((count, time) => count + (time === 0 ? 1 : 0), 0);
    if (missing > 0) throw new Error(`${missing} of ${total} predictions have not arrived`);
    const latencies = Float64Array.from({ length: total - RATE * WARM_SECONDS }, (_, i) => seenAt[i + RATE * WARM_SECONDS] - sentAt[i + RATE * WARM_SECONDS]).sort();
    const at = (share: number): string => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))].toFixed(1);
    print(`latency at ${RATE} a second: p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms; ${total} of ${total} seen; worker ${cpu.toFixed(1)} CPU-s in ${WARM_SECONDS + MEASURED_SECONDS} s`);
  } finally {
    abort.abort();
    await Promise.all(reading);
    await producer.close();
    await worker.stop();
    await bench.close();
  }
}

async function produce(bench: BenchCluster, producer: BatchProducer, schemas: Schemas, sentAt: Float64Array, total: number): Promise<void> {
  const started = performance.now();
  const attributes = Object.fromEntries(Array.from({ length: 28 }, (_, i) => [`v${i + 1}`, Math.sin(i)]));
  let sent = 0;
  const inFlight = new Set<Promise<void>>();
  while (sent < total) {
    const due = Math.min(total, Math.floor(((performance.now() - started) / 1000) * RATE));
    const records: OutgoingRecord[] = [];
    for (; sent < due; sent++) {
      const card = `card_${(sent * 7919) % 50_000}`;
      const value = schemas.encode("transactions", { transaction_id: String(sent), event_time: Date.now(), card_id: card, merchant_id: `m_${sent % 5_000}`, amount: (sent % 1_000) / 10, currency: "EUR", attributes });
      records.push({ key: Buffer.from(card), value });
      sentAt[sent] = performance.now();
    }
    if (records.length > 0) {
      const publishing: Promise<void> = producer.publish(bench.topics.transactions.name, records).finally(() => inFlight.delete(publishing));
      inFlight.add(publishing);
    }
    await sleep(TICK_MS);
  }
  await Promise.all(inFlight);
}

async function readPredictions(bench: BenchCluster, partition: number, seenAt: Float64Array, signal: AbortSignal): Promise<void> {
  const reader = new PartitionReader(bench.cluster, bench.topics.predictions.name, partition, { signal });
  const cursor = new AvroCursor();
  const onAbort = (): void => void reader.close();
  signal.addEventListener("abort", onAbort);
  try {
    for (let offset = 0; !signal.aborted; ) {
      const records = await reader.fetch(offset);
      const now = performance.now();
      for (let i = 0; i < records.count; i++) {
        cursor.set(records.bytes, records.valueAt[i] + WIRE_HEAD_BYTES, records.valueAt[i] + records.valueLength[i]);
        const id = Number(cursor.string());
        if (seenAt[id] !== 0) throw new Error(`prediction of ${id} seen twice`);
        seenAt[id] = now;
      }
      offset = records.nextOffset;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
