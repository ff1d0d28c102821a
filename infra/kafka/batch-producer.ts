import { setTimeout as sleep } from "node:timers/promises";
import { RETRY, retry, type RetryPolicy } from "../async/retry.js";
import { Turns } from "../async/turns.js";
import { call, type BrokerAddress, type KafkaCluster } from "./cluster.js";
import { ConnectionsByBroker } from "./connections-by-broker.js";
import { KafkaError, toKafkaError } from "./errors.js";
import { partitionOfKey } from "./murmur2.js";
import { PartitionOutput } from "./partition-output.js";
import { produce } from "./produce.js";
import { initProducerIdV4 } from "./wire.js";

/** A record to publish. `headers` as `encodeHeaders` gives them. */
export interface OutgoingRecord {
  key: Buffer | null;
  value: Buffer | null;
  headers?: Buffer | null;
}

export interface BatchProducerOptions {
  /** How long passing trouble is waited out before `publish` fails, milliseconds. */
  patienceMs?: number;
}

/** How long `close` waits for batches under way. */
const CLOSE_WITHIN_MS = 3_000;

/**
 * An idempotent producer of whole batches, outside of transactions: what is acknowledged is stored once and in the
 * order of the calls, even if requests had to be repeated. After an error it must be discarded, since the outcome of
 * the batch under way is unknown: calls queued behind it fail, too.
 */
export class BatchProducer {
  readonly #cluster: KafkaCluster;
  readonly #policy: RetryPolicy;
  readonly #producerId: bigint;
  readonly #producerEpoch: number;
  readonly #connections: ConnectionsByBroker;
  readonly #sequences = new Map<string, number>();
  readonly #partitionCounts = new Map<string, number>();
  readonly #turns = new Turns();
  readonly #closing = new AbortController();
  /**
   * The error for a batch that may or may not have been stored: another batch under its sequence number could be taken
   * for it.
   */
  #failure: KafkaError | null = null;

  private constructor(
    cluster: KafkaCluster,
    connections: ConnectionsByBroker,
    policy: RetryPolicy,
    producerId: bigint,
    producerEpoch: number,
  ) {
    this.#cluster = cluster;
    this.#connections = connections;
    this.#policy = policy;
    this.#producerId = producerId;
    this.#producerEpoch = producerEpoch;
  }

  static async open(cluster: KafkaCluster, options: BatchProducerOptions = {}): Promise<BatchProducer> {
    const { patienceMs = RETRY.kafkaRequest.forMs } = options;
    const policy = { ...RETRY.kafkaRequest, forMs: patienceMs };
    return retry(async () => {
      const connections = new ConnectionsByBroker(cluster);
      try {
        const opened = await call(
          await connections.to(await cluster.anyBroker()),
          initProducerIdV4.api,
          [null, 0, -1n, -1],
          "asking for a producer id",
        );
        return new BatchProducer(cluster, connections, policy, opened.producerId, opened.producerEpoch);
      } catch (error) {
        await connections.close();
        throw error;
      }
    }, policy);
  }

  /**
   * Publishes records, each to the partition of its key (murmur2, as Kafka's own clients do).
   *
   * @param to a topic, with the number of partitions to spread keys over if the topic may have more of them
   */
  publish(to: string | { name: string; partitions: number }, records: readonly OutgoingRecord[]): Promise<void> {
    return this.#inTurn(async () => {
      const topic = typeof to === "string" ? to : to.name;
      const count = typeof to === "string" ? await this.#partitionsOf(topic) : to.partitions;
      const outputs = new Map<number, PartitionOutput>();
      for (const { key, value, headers } of records) {
        const partition = partitionOf(key, count);
        let output = outputs.get(partition);
        if (output === undefined) {
          output = new PartitionOutput(topic, partition);
          outputs.set(partition, output);
        }
        output.append(key, value, headers ?? null);
      }
      await Promise.all([...outputs.values()].map((output) => this.#send(output)));
    });
  }

  /**
   * Publishes records to one partition. @param timestamp of the records, epoch milliseconds @returns the offset of the
   * first
   */
  publishTo(topic: string, partition: number, records: readonly OutgoingRecord[], timestamp?: number): Promise<number> {
    return this.#inTurn(async () => {
      const output = new PartitionOutput(topic, partition);
      for (const { key, value, headers } of records) output.append(key, value, headers ?? null);
      return this.#send(output, timestamp);
    });
  }

  /** Waits a few seconds for batches under way, then closes the connections: what is not acknowledged by then fails. */
  async close(): Promise<void> {
    await Promise.race([this.#turns.over(), sleep(CLOSE_WITHIN_MS, undefined, { ref: false })]);
    this.#closing.abort();
    await this.#connections.close();
    await this.#turns.over();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.take(async () => {
      if (this.#failure !== null)
        throw new KafkaError("PRODUCER_FAILED", "an earlier batch of this producer failed; it must be opened anew", {
          retriable: true,
          cause: this.#failure,
        });
      return work();
    });
  }

  async #partitionsOf(topic: string): Promise<number> {
    let count = this.#partitionCounts.get(topic);
    if (count === undefined) {
      count = await retry(() => this.#cluster.partitionsOf(topic), this.#policy, { signal: this.#closing.signal });
      this.#partitionCounts.set(topic, count);
    }
    return count;
  }

  async #send(output: PartitionOutput, timestamp = Date.now()): Promise<number> {
    const { topic, partition } = output;
    const key = `${topic}[${partition}]`;
    let first = -1;
    for (const builder of output.batches) {
      const firstSequence = this.#sequences.get(key) ?? 0;
      const batch = builder.finish(timestamp, {
        producerId: this.#producerId,
        producerEpoch: this.#producerEpoch,
        firstSequence,
        transactional: false,
      });
      const offset = await this.#sendBatch(topic, partition, batch);
      this.#sequences.set(key, (firstSequence + builder.count) & 0x7fffffff);
      if (first < 0) first = offset;
    }
    return first;
  }

  /**
   * After trouble the same bytes are sent again: the broker recognises them by their sequence number and stores them
   * once.
   */
  async #sendBatch(topic: string, partition: number, batch: Buffer): Promise<number> {
    let moved = false;
    const sent = retry(
      async () => {
        const address: BrokerAddress = await this.#cluster.leaderOf(topic, partition, moved);
        try {
          const [offset] = await produce(await this.#connections.to(address), null, [{ topic, partition, batch }]);
          return offset;
        } catch (error) {
          if (error instanceof KafkaError && error.code === "kafka_duplicate_sequence_number") return -1;
          moved = true;
          if (error instanceof KafkaError && error.code === "kafka_network") await this.#connections.drop(address);
          throw error;
        }
      },
      this.#policy,
      { signal: this.#closing.signal },
    );
    return sent.catch((error: unknown) => {
      this.#failure ??= toKafkaError(error, `producing to ${topic}[${partition}]`);
      throw error;
    });
  }
}

/** The partition of a key; records without a key go to the first. */
export function partitionOf(key: Buffer | null, partitions: number): number {
  return key === null ? 0 : partitionOfKey(key, 0, key.length, partitions);
}
