import type { EachBatchPayload, Kafka } from "kafkajs";

/** A record as kafkajs gives it. */
export interface Seen {
  partition: number;
  offset: number;
  timestamp: number;
  key: string;
  value: Buffer;
  headers: Record<string, string>;
}

const MARK = "end-of-check";
const PATIENCE_MS = 900_000;

/**
 * Writes a last record to each partition: whoever has read it has read everything. To be called when all roles have
 * stopped.
 */
export async function markEnds(kafka: Kafka, topics: readonly { name: string; partitions: number }[]): Promise<void> {
  const producer = kafka.producer({ allowAutoTopicCreation: false });
  await producer.connect();
  const topicMessages = topics.map(({ name, partitions }) => ({
    topic: name,
    messages: Array.from({ length: partitions }, (_, partition) => ({ partition, key: MARK, value: null })),
  }));
  await producer.sendBatch({ topicMessages });
  await producer.disconnect();
}

export interface ReadOptions {
  /** Also what was given up. */
  uncommitted?: boolean;
  /** The last record of each partition, where it has no mark: it is seen, too. */
  isLast?: (record: Seen) => boolean;
}

let readers = 0;

/**
 * Reads topics up to the marks with kafkajs as a read_committed consumer: none of our code is between it and the log.
 * Records of a partition come in their order.
 *
 * @returns records before the marks, by topic
 */
export async function readTopics(
  kafka: Kafka,
  topics: readonly { name: string; partitions: number }[],
  see: (topic: string, record: Seen) => void,
  { uncommitted = false, isLast }: ReadOptions = {},
): Promise<Map<string, number>> {
  const consumer = kafka.consumer({
    groupId: `check-${process.pid}-${(readers += 1)}`,
    readUncommitted: uncommitted,
    maxWaitTimeInMs: 100,
    maxBytesPerPartition: 4 << 20,
    sessionTimeout: 60_000,
    rebalanceTimeout: 60_000,
  });
  await consumer.connect();
  for (const { name } of topics) await consumer.subscribe({ topic: name, fromBeginning: true });
  const counts = new Map(topics.map(({ name }) => [name, 0]));
  /** A reader that was too slow for its group begins again: what it has seen already is passed over. */
  const next = new Map<string, number>();
  const open = new Set(
    topics.flatMap(({ name, partitions }) =>
      Array.from({ length: partitions }, (_, partition) => `${name}/${partition}`),
    ),
  );
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () =>
          reject(
            new Error(
              `${[...open].join(", ")} could not be read to the end within ${PATIENCE_MS / 1_000} s: a ` +
                "transaction hangs",
            ),
          ),
        PATIENCE_MS,
      );
      const eachBatch = ({ batch: { topic, partition, messages } }: EachBatchPayload): Promise<void> => {
        const key = `${topic}/${partition}`;
        for (const message of messages) {
          if (!open.has(key)) break;
          if (Number(message.offset) < (next.get(key) ?? 0)) continue;
          next.set(key, Number(message.offset) + 1);
          if (message.key?.toString() === MARK) {
            open.delete(key);
            break;
          }
          counts.set(topic, (counts.get(topic) ?? 0) + 1);
          const headers = Object.fromEntries(
            Object.entries(message.headers ?? {}).map(([name, text]) => [name, String(text)]),
          );
          const seen: Seen = {
            partition,
            offset: Number(message.offset),
            timestamp: Number(message.timestamp),
            key: message.key?.toString() ?? "",
            value: message.value ?? Buffer.alloc(0),
            headers,
          };
          see(topic, seen);
          if (isLast?.(seen) === true) open.delete(key);
        }
        if (open.size === 0) {
          clearTimeout(timer);
          resolve();
        }
        return Promise.resolve();
      };
      consumer.run({ eachBatch, partitionsConsumedConcurrently: 4 }).catch(reject);
    });
  } finally {
    await consumer.disconnect();
  }
  return counts;
}
