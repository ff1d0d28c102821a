import { setTimeout as sleep } from "node:timers/promises";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { cardIn, readPrediction, transaction, transactionRecord } from "../support/transactions.js";
import type { TestSystem } from "../support/workers-system.js";

const TICK_MS = 100;
const CARDS_PER_PARTITION = 20;
/** Longer than a broker is frozen: what is published waits, in its order, and is stored once. */
const PATIENCE_MS = 10 * 60_000;
/** Between two tries of an observer. */
const AGAIN_MS = 100;

/** When something happened in each partition, epoch milliseconds, in order. */
export type Times = number[][];

/**
 * Transactions `<mark>-<partition>-<n>` at a steady rate, from a producer for each partition: one that waits holds no
 * other up.
 */
export class Traffic {
  /** Of each partition: when its batches were acknowledged. */
  readonly acknowledged: Times;
  /** Unlike that of any other run: a card must not repeat an id. */
  readonly #mark = Date.now().toString(36);
  readonly #counts: number[];
  readonly #running: Promise<void>[];
  readonly #clusters: KafkaCluster[] = [];
  readonly #producers: BatchProducer[] = [];
  #stopping = false;

  private constructor(partitions: number) {
    this.acknowledged = Array.from({ length: partitions }, () => []);
    this.#counts = this.acknowledged.map(() => 0);
    this.#running = [];
  }

  /** @param perTick transactions of each partition, ten times a second */
  static async start(system: TestSystem, perTick: number): Promise<Traffic> {
    const { partitions, name } = system.topics.transactions;
    const traffic = new Traffic(partitions);
    for (let partition = 0; partition < partitions; partition++) {
      const cluster = new KafkaCluster(system.kafka, `fleet-traffic-${partition}`);
      const producer = await BatchProducer.open(cluster, { patienceMs: PATIENCE_MS });
      traffic.#clusters.push(cluster);
      traffic.#producers.push(producer);
      const cards = Array.from({ length: CARDS_PER_PARTITION }, (_, n) => cardIn(partition, partitions, n));
      traffic.#running.push(traffic.#publish(producer, { topic: name, partition, cards, perTick }));
    }
    return traffic;
  }

  /** Ids of everything that is acknowledged. */
  get ids(): string[] {
    return this.#counts.flatMap((count, partition) => Array.from({ length: count }, (_, n) => this.#id(partition, n)));
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
    await Promise.all(this.#producers.map((producer) => producer.close()));
    await Promise.all(this.#clusters.map((cluster) => cluster.close()));
  }

  #id(partition: number, n: number): string {
    return `${this.#mark}-${partition}-${n}`;
  }

  async #publish(
    producer: BatchProducer,
    { topic, partition, cards, perTick }: { topic: string; partition: number; cards: string[]; perTick: number },
  ): Promise<void> {
    while (!this.#stopping) {
      const from = this.#counts[partition];
      const records = Array.from({ length: perTick }, (_, i) =>
        transactionRecord(
          transaction(from + i, {
            transaction_id: this.#id(partition, from + i),
            card_id: cards[(from + i) % cards.length],
          }),
        ),
      );
      await producer.publishTo(topic, partition, records);
      this.#counts[partition] += perTick;
      this.acknowledged[partition].push(Date.now());
      await sleep(TICK_MS);
    }
  }
}

/** A consumer of predictions, with a reader for each partition, that notes when it saw them. */
export class PredictionWatch {
  readonly seen: Times;
  /** How often each transaction was predicted. */
  readonly predicted = new Map<string, number>();
  readonly #cluster: KafkaCluster;
  readonly #readers: PartitionReader[];
  readonly #running: Promise<void>[];
  #stopping = false;

  constructor(system: TestSystem) {
    const { name, partitions } = system.topics.predictions;
    this.#cluster = new KafkaCluster(system.kafka, "fleet-watch");
    this.#readers = Array.from(
      { length: partitions },
      (_, partition) => new PartitionReader(this.#cluster, name, partition, { maxWaitMs: 100, patienceMs: 1 }),
    );
    this.seen = this.#readers.map(() => []);
    this.#running = this.#readers.map((reader, partition) => this.#follow(reader, this.seen[partition]));
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
    await Promise.all(this.#readers.map((reader) => reader.close()));
    await this.#cluster.close();
  }

  async #follow(reader: PartitionReader, seen: number[]): Promise<void> {
    for (let next = 0; !this.#stopping;) {
      try {
        const records = await reader.fetch(next);
        for (let i = 0; i < records.count; i++) {
          const { transaction_id } = readPrediction(
            Buffer.from(records.bytes.subarray(records.valueAt[i], records.valueAt[i] + records.valueLength[i])),
          );
          this.predicted.set(transaction_id, (this.predicted.get(transaction_id) ?? 0) + 1);
        }
        if (records.count > 0) seen.push(Date.now());
        next = records.nextOffset;
      } catch {
        await sleep(AGAIN_MS);
      }
    }
  }
}

/** The longest that nothing happened in each partition between two moments, milliseconds. */
export function gapsOf(times: Times, from: number, to: number): number[] {
  return times.map((of) => {
    const before = of.filter((time) => time < from).at(-1) ?? from;
    const within = [before, ...of.filter((time) => time >= from && time <= to), to];
    return Math.max(...within.slice(1).map((time, i) => time - within[i]));
  });
}
