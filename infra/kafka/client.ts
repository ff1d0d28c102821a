import type { Admin, Kafka, KafkaConfig as KafkaJsConfig, LogEntry } from "kafkajs";
import { RETRY, retry } from "../async/retry.js";
import type { KafkaConfig, Replication } from "../config/config.js";
import type { Logger } from "../logging.js";
import type { TopicSpec } from "../../schemas/topics.js";
import { messageOf, UsageError } from "../../schemas/errors.js";
import { isAway, kafkajs, onceReached } from "./kafkajs.js";
import { refusalOf } from "./refusals.js";
import { replicationFor, warnOfRisk } from "./replication.js";
import { SilentBrokers } from "./silent-brokers.js";
import { watchedSockets } from "./watched-socket.js";

const { logLevel } = kafkajs;

/** The kafkajs client: administration and group membership, and producing off the hot path. */
export function createKafka(config: KafkaConfig, clientId: string, log: Logger): Kafka {
  const silent = new SilentBrokers();
  return new kafkajs.Kafka({
    clientId,
    // Brokers that were silent are tried last, also by clients created later.
    brokers: () => silent.sort(config.brokers, (broker) => broker),
    socketFactory: watchedSockets(
      (broker, answered) => silent.note(broker, answered),
      (broker) => silent.has(broker),
    ),
    ssl: config.ssl,
    // A copy: kafkajs modifies what it is given.
    ...(config.sasl ? { sasl: { ...config.sasl } as NonNullable<KafkaJsConfig["sasl"]> } : {}),
    connectionTimeout: 4_000,
    requestTimeout: 10_000,
    retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: 20 },
    logLevel: logLevel.WARN,
    // Only the message: kafkajs adds payload details that may contain keys.
    logCreator: () => (entry: LogEntry) => {
      log[entry.level <= logLevel.ERROR ? "warn" : "debug"](
        { component: `kafkajs/${entry.namespace}` },
        entry.log.message,
      );
    },
  });
}

export interface EnsureTopicsOptions {
  /** Number of copies of new topics. @default as many as suit the number of brokers */
  replication?: Replication | undefined;
  /** Where to report topics from which the loss of a single broker can take records. @default nowhere */
  log?: Logger;
}

/**
 * Creates the missing topics. If the cluster goes away meanwhile, retries for a minute.
 *
 * @throws UsageError `unreachable` when it stays away, `partition_count` when one has fewer partitions than configured
 *   (more are reported by LogWatch), `kafka_refused` when the brokers reject this client or don't let it see or create
 *   a topic
 */
export async function ensureTopics(
  kafka: Kafka,
  topics: readonly TopicSpec[],
  options: EnsureTopicsOptions = {},
): Promise<void> {
  const admin = kafka.admin();
  try {
    await onceReached(kafka, async () => {
      await admin.connect();
      await createMissing(admin, topics, options);
    });
  } catch (error) {
    throw refusalOf(error) ?? (isAway(error) ? staysAway(error) : error);
  } finally {
    await admin.disconnect();
  }
}

/** The addresses in KAFKA_BROKERS have answered once: the addresses that brokers advertise may be other ones. */
function staysAway(error: unknown): UsageError {
  return new UsageError(
    "unreachable",
    "KAFKA_BROKERS: the cluster went away, or the addresses that its brokers advertise " +
      `(advertised.listeners) can't be reached from here: ${messageOf(error)}`,
    { cause: error },
  );
}

async function createMissing(
  admin: Admin,
  topics: readonly TopicSpec[],
  { replication = { factor: null, minInsync: null }, log }: EnsureTopicsOptions,
): Promise<void> {
  const brokers = (await admin.describeCluster()).brokers.length;
  const copies = replicationFor(brokers, replication);
  const existing = new Set(await admin.listTopics());
  const missing = topics.filter((topic) => !existing.has(topic.name));
  if (missing.length > 0) {
    // Two roles may create a topic at once: that it exists already is fine, too (createTopics then answers false).
    await admin.createTopics({
      // We wait ourselves: kafkajs treats a broker that hasn't heard of the topic yet as a failure.
      waitForLeaders: false,
      topics: missing.map(({ name, partitions, settings }) => ({
        topic: name,
        numPartitions: partitions,
        replicationFactor: copies.factor,
        configEntries: Object.entries({ ...copies.settings, ...settings }).map(([key, value]) => ({
          name: key,
          value,
        })),
      })),
    });
  }
  await onceKnown(() => checkPartitions(admin, topics));
  if (log !== undefined)
    await onceKnown(() =>
      warnOfRisk(
        admin,
        topics.map(({ name }) => name),
        brokers,
        log,
      ),
    );
}

const NOT_YET = new Set<unknown>(["UNKNOWN_TOPIC_OR_PARTITION", "LEADER_NOT_AVAILABLE"]);

/** Retries what fails because a topic that was just created isn't known to every broker yet. */
function onceKnown(ask: () => Promise<void>): Promise<void> {
  return retry(ask, RETRY.newTopic, { again: (error) => NOT_YET.has((error as { type?: unknown }).type) });
}

async function checkPartitions(admin: Admin, topics: readonly TopicSpec[]): Promise<void> {
  const { topics: found } = await admin.fetchTopicMetadata({ topics: topics.map((topic) => topic.name) });
  for (const spec of topics) {
    const partitions = found.find((topic) => topic.name === spec.name)?.partitions.length ?? 0;
    if (partitions < spec.partitions) {
      throw new UsageError(
        "partition_count",
        `topic ${spec.name} has ${partitions} partitions, not ${spec.partitions}: set TOPIC_PARTITIONS to ` +
          "what the topics were created with, or, where this one was created again with fewer, add partitions " +
          `to it (kafka-topics.sh --alter --topic ${spec.name} --partitions ${spec.partitions})`,
      );
    }
  }
}
