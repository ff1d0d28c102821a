import type { EachBatchPayload, Kafka } from "kafkajs";
import { kafkaJs } from "../support/workers-kafkajs.js";
import { readPrediction } from "../support/transactions.js";
import type { TestSystem } from "../support/workers-system.js";
import { BAD_EVERY, idOf, isBad } from "./stream.js";

/** The counts of a check, and everything that was wrong. */
export interface CheckReport {
  acknowledged: number;
  predictions: number;
  deadLetters: number;
  /** Written to the predictions' topic and given up: work that a fault hit in the middle of a transaction. */
  abortedPredictions: number;
  wrong: string[];
}

interface Seen {
  partition: number;
  key: string;
  value: Buffer | null;
  headers: Record<string, string>;
}

const MARK = "end-of-check";
const MOST_COMPLAINTS = 20;

/**
 * Counts, with kafkajs as a read_committed consumer (nothing of ours is between it and the log), what became of every
 * transaction: exactly one prediction or dead letter each, none without a transaction, in the order of the source, with
 * offsets committed to the end. To be called when the workers have caught up and stopped.
 */
export async function checkKafka(system: TestSystem, acknowledged: number): Promise<CheckReport> {
  const kafka = kafkaJs(system.kafka);
  const { transactions, predictions, deadLetters } = system.topics;
  const wrong: string[] = [];
  const complain = (text: string): void => void (wrong.length < MOST_COMPLAINTS ? wrong.push(text) : undefined);

  await checkCommitted(kafka, system, complain);
  for (const { name, partitions } of [transactions, predictions, deadLetters]) await mark(kafka, name, partitions);

  /** `partition/offset` of each transaction → its number, until its outcome is found. */
  const open = new Map<string, number>();
  const ids = new Set<number>();
  await readAll(kafka, system, transactions, false, ({ partition, headers }, offset) => {
    const n = Number(headers["n"]);
    open.set(`${partition}/${offset}`, n);
    ids.add(n);
  });
  if (open.size !== acknowledged || ids.size !== acknowledged)
    complain(`${acknowledged} transactions were acknowledged, ${open.size} are in the topic, with ${ids.size} ids`);

  const settle = (
    what: string,
    from: { partition: number; offset: number },
    partition: number,
    lastOffsets: Map<number, number>,
  ): number | undefined => {
    const coordinates = `${from.partition}/${from.offset}`;
    const n = open.get(coordinates);
    if (n === undefined)
      complain(`${what} of ${coordinates}: there is no such transaction, or it has an outcome already`);
    open.delete(coordinates);
    if (partition !== from.partition) complain(`${what} of ${coordinates} is in partition ${partition}`);
    if (from.offset <= (lastOffsets.get(partition) ?? -1))
      complain(`${what} of ${coordinates} comes after that of ${lastOffsets.get(partition)}`);
    lastOffsets.set(partition, from.offset);
    return n;
  };

  const predicted = new Map<number, number>();
  const lastOfCard = new Map<string, number>();
  const predictionCount = await readAll(kafka, system, predictions, false, ({ partition, key, value }) => {
    const prediction = readPrediction(value as Buffer);
    const n = settle(
      "a prediction",
      { partition: prediction.source_partition, offset: prediction.source_offset },
      partition,
      predicted,
    );
    if (n === undefined) return;
    if (isBad(n) || prediction.transaction_id !== idOf(n) || prediction.card_id !== key)
      complain(`the prediction of transaction ${n} is ${prediction.transaction_id}, keyed ${key}`);
    if (n <= (lastOfCard.get(key) ?? -1)) complain(`card ${key}: ${n} comes after ${lastOfCard.get(key)}`);
    lastOfCard.set(key, n);
  });
  const dead = new Map<number, number>();
  const deadLetterCount = await readAll(kafka, system, deadLetters, false, ({ partition, headers }) => {
    const n = settle(
      "a dead letter",
      { partition: Number(headers["partition"]), offset: Number(headers["offset"]) },
      partition,
      dead,
    );
    if (n !== undefined && (!isBad(n) || headers["code"] !== "avro_truncated"))
      complain(`transaction ${n} is a dead letter: ${headers["code"]}`);
  });
  for (const [coordinates, n] of [...open].slice(0, MOST_COMPLAINTS))
    complain(`transaction ${n} at ${coordinates} has neither prediction nor dead letter (${open.size} have not)`);
  const bad = Math.ceil(acknowledged / BAD_EVERY);
  if (predictionCount !== acknowledged - bad || deadLetterCount !== bad)
    complain(`${predictionCount} predictions and ${deadLetterCount} dead letters of ${acknowledged - bad} and ${bad}`);

  const written = await readAll(kafka, system, predictions, true, () => {});
  return {
    acknowledged,
    predictions: predictionCount,
    deadLetters: deadLetterCount,
    abortedPredictions: written - predictionCount,
    wrong,
  };
}

/** The group stands at the end of every partition. */
async function checkCommitted(kafka: Kafka, system: TestSystem, complain: (text: string) => void): Promise<void> {
  const admin = kafka.admin();
  await admin.connect();
  const { name } = system.topics.transactions;
  const ends = await admin.fetchTopicOffsets(name);
  const [{ partitions }] = await admin.fetchOffsets({ groupId: system.group, topics: [name] });
  await admin.disconnect();
  for (const { partition, high } of ends) {
    const committed = partitions.find((at) => at.partition === partition)?.offset;
    if (committed !== high) complain(`partition ${partition} ends at ${high}, the group has committed ${committed}`);
  }
}

/** Writes a last record to each partition: whoever has read it has read everything, unless a transaction hangs. */
async function mark(kafka: Kafka, topic: string, partitions: number): Promise<void> {
  const producer = kafka.producer();
  await producer.connect();
  const messages = Array.from({ length: partitions }, (_, partition) => ({ partition, key: MARK, value: null }));
  await producer.send({ topic, messages });
  await producer.disconnect();
}

let readers = 0;

/** Reads a topic up to the marks. @returns the records before them */
async function readAll(
  kafka: Kafka,
  system: TestSystem,
  { name, partitions }: { name: string; partitions: number },
  uncommitted: boolean,
  see: (record: Seen, offset: number) => void,
): Promise<number> {
  const consumer = kafka.consumer({
    groupId: `${system.prefix}check-${(readers += 1)}`,
    readUncommitted: uncommitted,
    maxWaitTimeInMs: 100,
  });
  await consumer.connect();
  await consumer.subscribe({ topic: name, fromBeginning: true });
  let count = 0;
  const done = new Set<number>();
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${name} could not be read to its end: a transaction hangs`)),
        180_000,
      );
      const eachBatch = ({ batch }: EachBatchPayload): Promise<void> => {
        for (const { key, value, offset, headers } of batch.messages) {
          if (key?.toString() === MARK) done.add(batch.partition);
          if (done.has(batch.partition)) continue;
          count += 1;
          see(
            {
              partition: batch.partition,
              key: key?.toString() ?? "",
              value,
              headers: Object.fromEntries(
                Object.entries(headers ?? {}).map(([header, text]) => [header, String(text)]),
              ),
            },
            Number(offset),
          );
        }
        if (done.size === partitions) {
          clearTimeout(timer);
          resolve();
        }
        return Promise.resolve();
      };
      consumer.run({ eachBatch }).catch(reject);
    });
  } finally {
    await consumer.disconnect();
  }
  return count;
}
