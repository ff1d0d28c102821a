import type { TopicSpec } from "../../schemas/topics.js";
import { messageOf } from "../../schemas/errors.js";
import type { Conditions } from "../health/conditions.js";
import type { Logger } from "../logging.js";
import { Counter, gauge, type Registry } from "../metrics/registry.js";
import { call, type KafkaCluster } from "./cluster.js";
import type { LogIncident } from "./log-incidents.js";
import { hasWaited, isWaiting, type OpenReader, type OpenTransactionWait } from "./open-readers.js";
import { describeProducersV0 } from "./wire.js";

export interface LogWatchOptions {
  cluster: KafkaCluster;
  conditions: Conditions;
  registry: Registry;
  log: Logger;
  /** The topics of the system, with their partitions as configured. */
  topics: readonly TopicSpec[];
  /** For messages: how an operator connects to the cluster. */
  brokers: readonly string[];
  /** Whether a reader behind an open transaction keeps the role from its work. */
  standstillBlocks: boolean;
}

const LOOK_EVERY_MS = 1_000;
/** Transactions of this system are open for milliseconds, or for a few seconds if a worker is stopped within one. */
const OPEN_FOR_MS = 5_000;
/** How long a one-off incident is reported; the counters keep it. */
const REPORTED_FOR_MS = 3_600_000;

/**
 * Reports what is wrong with the logs that a role reads: transactions that hold its readers up, topics that don't have
 * the configured partitions, and what its readers have met (LogIncidents). As conditions, and on /metrics.
 */
export class LogWatch {
  readonly #options: LogWatchOptions;
  readonly #timer: NodeJS.Timeout;
  /** Subjects of the current conditions: the readers of a partition come and go. */
  #held = new Set<string>();
  readonly #expiries = new Map<string, NodeJS.Timeout>();
  #looking: Promise<void> | null = null;
  #failing = false;

  constructor(options: LogWatchOptions) {
    this.#options = options;
    const { cluster, registry } = options;
    const incidents = new Counter({
      name: "fraudstream_log_incidents_total",
      help:
        "Where a reader's position and the log did not fit together, by kind: recreated, cut_off, " +
        "deleted, forgotten.",
      labelNames: ["kind", "topic"],
      registers: [registry],
    });
    const lost = new Counter({
      name: "fraudstream_log_lost_total",
      help: "Offsets that were lost before they were read: deleted by retention, or cut off the end of a log.",
      labelNames: ["kind", "topic"],
      registers: [registry],
    });
    const labelNames = ["topic", "partition"];
    const waits = (value: (wait: OpenTransactionWait) => number) => () =>
      [...waitsByPartition(cluster.readers)].map(([, { reader, wait }]) => ({
        labels: { topic: reader.topic, partition: String(reader.partition) },
        value: value(wait),
      }));
    gauge(registry, {
      name: "fraudstream_open_transaction_seconds",
      help: "How long a reader has stood behind a transaction that is still open.",
      labelNames,
      read: waits(({ since }) => (Date.now() - since) / 1_000),
    });
    gauge(registry, {
      name: "fraudstream_open_transaction_waiting",
      help: "Offsets that wait behind that transaction.",
      labelNames,
      read: waits(({ lastStableOffset, highWatermark }) => highWatermark - lastStableOffset),
    });
    cluster.incidents.listen((incident) => {
      incidents.inc({ kind: incident.kind, topic: incident.topic });
      lost.inc({ kind: incident.kind, topic: incident.topic }, incident.lost);
      this.#raise(incident);
    });
    this.#timer = setInterval(
      () => void (this.#looking ??= this.#look().finally(() => (this.#looking = null))),
      LOOK_EVERY_MS,
    );
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    for (const timer of this.#expiries.values()) clearTimeout(timer);
    await this.#looking;
  }

  #raise({ kind, topic, partition, message }: LogIncident): void {
    const { conditions } = this.#options;
    const code = `log_${kind}`;
    const subject = `${topic}[${partition}]`;
    // Raising a condition that already holds logs nothing: this is a new incident.
    conditions.clear(code, subject);
    conditions.raise(code, subject, message, { blocking: false });
    const key = `${code} ${subject}`;
    clearTimeout(this.#expiries.get(key));
    const timer = setTimeout(() => conditions.clear(code, subject), REPORTED_FOR_MS);
    timer.unref();
    this.#expiries.set(key, timer);
  }

  async #look(): Promise<void> {
    try {
      await this.#lookAtTransactions();
      await this.#lookAtPartitions();
      this.#failing = false;
    } catch (error) {
      // A cluster that is away is reported elsewhere.
      if (!this.#failing) this.#options.log.debug(`the topics can't be looked at: ${messageOf(error)}`);
      this.#failing = true;
    }
  }

  async #lookAtTransactions(): Promise<void> {
    const { cluster, conditions, standstillBlocks } = this.#options;
    const held = new Set<string>();
    for (const [subject, { reader, wait }] of waitsByPartition(cluster.readers)) {
      if (!hasWaited(wait, OPEN_FOR_MS, Date.now())) continue;
      held.add(subject);
      conditions.raise("open_transaction", subject, await this.#describe(reader, wait), { blocking: standstillBlocks });
    }
    for (const subject of this.#held) if (!held.has(subject)) conditions.clear("open_transaction", subject);
    this.#held = held;
  }

  async #describe(
    { topic, partition }: OpenReader,
    { since, lastStableOffset, highWatermark }: OpenTransactionWait,
  ): Promise<string> {
    const producer = await this.#producerOf(topic, partition, lastStableOffset).catch(() => null);
    const whose = producer === null ? "" : `of producer id ${producer.producerId} (epoch ${producer.producerEpoch}) `;
    const tool = `kafka-transactions.sh --bootstrap-server ${this.#options.brokers[0]}`;
    return (
      `${topic}[${partition}]: ${highWatermark - lastStableOffset} offsets wait since ` +
      `${new Date(since).toISOString()} behind a transaction ${whose}that begins at offset ` +
      `${lastStableOffset} and is neither committed nor aborted. ` +
      (`Kafka aborts it after its transaction.timeout.ms. To end it now: ${tool} abort --topic ${topic} ` +
        `--partition ${partition} --start-offset ${lastStableOffset}; ${tool} find-hanging --topic ${topic} ` +
        "lists such transactions")
    );
  }

  async #producerOf(
    topic: string,
    partition: number,
    startOffset: number,
  ): Promise<{ producerId: bigint; producerEpoch: number } | null> {
    const { cluster } = this.#options;
    const connection = await cluster.open(await cluster.leaderOf(topic, partition));
    try {
      const response = await call(
        connection,
        describeProducersV0.api,
        [[{ name: topic, partitionIndexes: [partition] }]],
        `asking for the producers of ${topic}[${partition}]`,
      );
      const { activeProducers } = response.topics[0].partitions[0];
      return activeProducers.find(({ currentTxnStartOffset }) => Number(currentTxnStartOffset) === startOffset) ?? null;
    } finally {
      await connection.close();
    }
  }

  async #lookAtPartitions(): Promise<void> {
    const { cluster, conditions, topics } = this.#options;
    const counts = await cluster.partitionCounts(topics.map(({ name }) => name));
    for (const { name, partitions } of topics) {
      const count = counts.get(name);
      if (count === undefined) continue;
      conditions.set(
        count === 0,
        "topic_missing",
        name,
        () => `${name} does not exist any more: restore it, or restart a role, which creates it empty`,
        { blocking: true },
      );
      conditions.set(
        count > 0 && count < partitions,
        "partitions_missing",
        name,
        () =>
          `${name} has ${partitionText(count)}, and TOPIC_PARTITIONS asks for ${partitions}: add partitions ` +
          `until there are so many (kafka-topics.sh --alter --topic ${name} --partitions ${partitions})`,
        { blocking: true },
      );
      conditions.set(count > partitions, "partitions_added", name, () => addedPartitionsText(name, count, partitions), {
        blocking: false,
      });
    }
  }
}

/** What having more partitions than configured means; also used by a role that starts. */
function addedPartitionsText(topic: string, count: number, configured: number): string {
  return (
    `${topic} has ${partitionText(count)}, ${configured} are configured: leave TOPIC_PARTITIONS as it is, ` +
    "cards keep their partitions. Transactions and labels that arrive in the additional ones are sent on to " +
    "the partition of their card, so nothing is lost; they arrive later and cost more than in the right one. " +
    `Have producers write to the first ${configured} again, or move to a new TOPIC_PREFIX with more partitions`
  );
}

function partitionText(count: number): string {
  return count === 1 ? "1 partition" : `${count} partitions`;
}

/** The longest wait among each partition's readers, by `topic[partition]`. */
function waitsByPartition(
  readers: Iterable<OpenReader>,
): Map<string, { reader: OpenReader; wait: OpenTransactionWait }> {
  const waits = new Map<string, { reader: OpenReader; wait: OpenTransactionWait }>();
  for (const reader of readers) {
    const { topic, partition, waiting: wait } = reader;
    if (wait === null || !isWaiting(wait, Date.now())) continue;
    const key = `${topic}[${partition}]`;
    const known = waits.get(key);
    if (known === undefined || known.wait.since > wait.since) waits.set(key, { reader, wait });
  }
  return waits;
}
