/**
 * Latency, exactly once: from before a transaction is produced until a read_committed consumer has its prediction; both
 * in this process, so on one clock. At 1,000 transactions a second, then Kafka Streams' `exactly_once_v2` by the same
 * probe on the same broker; with --curve at rates up to where the machine is full, with and without SCORING_LINGER_MS.
 *
 *   npm run bench -- latency [--curve] [--no-peer]
 */
import { readFile } from "node:fs/promises";
import { loadavg } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import avro from "avsc";
import { BatchProducer, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { AvroCursor } from "../../schemas/avro-cursor.js";
import { WIRE_HEAD_BYTES, writeWireHead } from "../../schemas/wire-format.js";
import { startCommand, startRole, type MeasuredProcess } from "./support/child.js";
import { BenchCluster } from "./support/cluster.js";
import type { BenchContext } from "./support/context.js";
import { quantile } from "./support/control-plane.js";
import { Peers } from "./support/peers.js";

const RATE = 1_000;
const LONG = { warmSeconds: 15, seconds: 30 };
const SHORT = { warmSeconds: 4, seconds: 8 };
const CURVE = [500, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000];
const LINGER_MS = 50;
const TICK_MS = 2;
const PARTITIONS = 4;
const PEER_SCHEMA_ID = 1;

export async function benchLatency(context: BenchContext): Promise<void> {
  const { config, log, print, options } = context;
  const peers = await Peers.prepare(config.dataDir, print);
  const schemasDir = join(config.dataDir, "schemas");
  await peers.writeSchemas(schemasDir);
  const bench = new BenchCluster(context.kafka, `bench-latency-${Date.now()}.`, PARTITIONS, log);
  await bench.reset();
  await bench.deploy(await peers.artifact(config.artifacts), { schemaRegistryUrl: null, schemasDir });
  const probe = new Probe(bench, await flatTransactions(join(schemasDir, `${PEER_SCHEMA_ID}.avsc`)));
  const [input, output] = [bench.topics.transactions.name, bench.topics.predictions.name];
  const worker = (lingerMs: number): MeasuredProcess =>
    startRole(
      "pipelines/scoring/main",
      {
        KAFKA_BROKERS: bench.bootstrap,
        TOPIC_PREFIX: bench.prefix,
        DATA_DIR: join(config.dataDir, "latency"),
        ARTIFACTS: config.artifacts,
        SCHEMAS_DIR: schemasDir,
        SCORING_LINGER_MS: String(lingerMs),
        LOG_LEVEL: "warn",
      },
      join(config.dataDir, "bench-latency-worker.log"),
    );
  try {
    for (const lingerMs of options.curve ? [0, LINGER_MS] : [0]) {
      const who = lingerMs === 0 ? "fraudstream" : `fraudstream, SCORING_LINGER_MS=${lingerMs}`;
      await measured(worker(lingerMs), async (role) => {
        print(await probe.run(who, role, { input, output, rate: RATE, ...LONG }));
        if (options.curve)
          for (const rate of CURVE) print(await probe.run(who, role, { input, output, rate, ...SHORT }));
      });
    }
    if (!options.peer) return;
    const [from, to] = [`${bench.prefix}streams-in`, `${bench.prefix}streams-out`];
    await peers.runJava("bench.Tool", "create", from, to, "--bootstrap", bench.bootstrap);
    const streams = peers.java(
      "bench.StreamsPeer",
      "--in",
      from,
      "--out",
      to,
      "--app",
      from,
      "--guarantee",
      "exactly_once_v2",
      "--latency",
      "yes",
      "--tmp",
      `${peers.folder}/tmp`,
      "--bootstrap",
      bench.bootstrap,
    );
    await measured(
      startCommand(streams, peers.folder, {}, join(config.dataDir, "bench-latency-streams.log")),
      async (peer) => {
        print(
          await probe.run("Kafka Streams, exactly_once_v2, commits every 100 ms", peer, {
            input: from,
            output: to,
            rate: RATE,
            ...LONG,
          }),
        );
      },
    );
  } finally {
    await bench.close();
  }
}

async function measured(process: MeasuredProcess, run: (process: MeasuredProcess) => Promise<void>): Promise<void> {
  try {
    // Both take a while until they are members of their group.
    await sleep(8_000);
    await run(process);
  } finally {
    await process.stop();
  }
}

interface Load {
  input: string;
  output: string;
  rate: number;
  warmSeconds: number;
  seconds: number;
}

/** Produces at a rate and sees the predictions come. */
class Probe {
  readonly #bench: BenchCluster;
  readonly #encode: (id: number) => OutgoingRecord;
  #nextId = 0;

  constructor(bench: BenchCluster, encode: (id: number) => OutgoingRecord) {
    this.#bench = bench;
    this.#encode = encode;
  }

  async run(who: string, process: MeasuredProcess, load: Load): Promise<string> {
    const total = load.rate * (load.warmSeconds + load.seconds);
    const firstId = this.#nextId;
    this.#nextId += total;
    const [sentAt, seenAt] = [new Float64Array(total), new Float64Array(total)];
    const abort = new AbortController();
    const reading = await Promise.all(
      Array.from({ length: PARTITIONS }, (_, partition) =>
        this.#read(load.output, partition, firstId, seenAt, abort.signal),
      ),
    );
    const producer = await BatchProducer.open(this.#bench.cluster);
    try {
      const cpuBefore = process.cpuSeconds();
      const started = performance.now();
      await this.#produce(producer, load, firstId, sentAt);
      const sentPerSecond = total / ((performance.now() - started) / 1000);
      for (let waited = 0; seenAt.includes(0) && waited < 60_000; waited += 100) await sleep(100);
      const missing = seenAt.reduce((count, time) => count + (time === 0 ? 1 : 0), 0);
      if (missing > 0) throw new Error(`${missing} of ${total} predictions have not arrived`);
      const skipped = load.rate * load.warmSeconds;
      const latencies = Float64Array.from(
        { length: total - skipped },
        (_, i) => seenAt[i + skipped] - sentAt[i + skipped],
      ).sort();
      const at = (share: number): string => quantile(latencies, share).toFixed(1);
      return (
        `latency, ${who}, ${load.rate} a second (sent ${sentPerSecond.toFixed(0)}): p50 ${at(0.5)} ms, p95 ` +
        `${at(0.95)}, p99 ${at(0.99)}, max ${at(1)}; ${total} of ${total} seen; ` +
        `${(process.cpuSeconds() - cpuBefore).toFixed(1)} CPU-s in ${load.warmSeconds + load.seconds} s; load ` +
        `${loadavg()[0].toFixed(1)}`
      );
    } finally {
      abort.abort();
      await Promise.all(reading.map(({ done }) => done));
      await producer.close();
    }
  }

  async #produce(producer: BatchProducer, { input, rate }: Load, firstId: number, sentAt: Float64Array): Promise<void> {
    const started = performance.now();
    const inFlight = new Set<Promise<void>>();
    for (let sent = 0; sent < sentAt.length;) {
      const due = Math.min(sentAt.length, Math.floor(((performance.now() - started) / 1000) * rate));
      const records: OutgoingRecord[] = [];
      for (; sent < due; sent++) {
        sentAt[sent] = performance.now();
        records.push(this.#encode(firstId + sent));
      }
      if (records.length > 0) {
        const publishing: Promise<void> = producer.publish(input, records).finally(() => inFlight.delete(publishing));
        inFlight.add(publishing);
      }
      await sleep(TICK_MS);
    }
    await Promise.all(inFlight);
  }

  /** From the end of a partition on. */
  async #read(
    topic: string,
    partition: number,
    firstId: number,
    seenAt: Float64Array,
    signal: AbortSignal,
  ): Promise<{ done: Promise<void> }> {
    const reader = new PartitionReader(this.#bench.cluster, topic, partition, { signal });
    const start = await reader.endOffset();
    const cursor = new AvroCursor();
    signal.addEventListener("abort", () => void reader.close());
    const read = async (): Promise<void> => {
      for (let offset = start; !signal.aborted;) {
        const records = await reader.fetch(offset);
        const now = performance.now();
        for (let i = 0; i < records.count; i++) {
          cursor.set(records.bytes, records.valueAt[i] + WIRE_HEAD_BYTES, records.valueAt[i] + records.valueLength[i]);
          const id = Number(cursor.string()) - firstId;
          if (seenAt[id] !== 0) throw new Error(`prediction of ${id + firstId} seen twice, or never sent`);
          seenAt[id] = now;
        }
        offset = records.nextOffset;
      }
    };
    return {
      done: read().catch((error: unknown) => {
        if (!signal.aborted) throw error;
      }),
    };
  }
}

/** Transactions as the peers' schema has them, each attribute a field of its own. */
async function flatTransactions(schemaFile: string): Promise<(id: number) => OutgoingRecord> {
  const type = avro.Type.forSchema(JSON.parse(await readFile(schemaFile, "utf8")) as avro.Schema);
  const attributes = Object.fromEntries(Array.from({ length: 28 }, (_, i) => [`v${i + 1}`, Math.sin(i)]));
  return (id) => {
    const card = `card_${(id * 7919) % 50_000}`;
    const body = type.toBuffer({
      transaction_id: String(id),
      event_time: Date.now(),
      card_id: card,
      merchant_id: `m_${id % 5_000}`,
      amount: (id % 1_000) / 10,
      currency: "EUR",
      ...attributes,
    });
    const value = Buffer.allocUnsafe(WIRE_HEAD_BYTES + body.length);
    writeWireHead(value, 0, PEER_SCHEMA_ID);
    body.copy(value, WIRE_HEAD_BYTES);
    return { key: Buffer.from(card), value };
  };
}
