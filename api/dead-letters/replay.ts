import { setTimeout as sleep } from "node:timers/promises";
import { SEALED_KEY, type CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import { KafkaError } from "../../infra/kafka/errors.js";
import { LABEL_ORDER } from "../../infra/kafka/label-order.js";
import { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { partitionOfKey } from "../../infra/kafka/murmur2.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { readHeaders } from "../../infra/kafka/records.js";
import { TransactionalProducer } from "../../infra/kafka/transactional-producer.js";
import { ROLES } from "../../infra/roles.js";
import { appendReplayed } from "../../models/control/redrives.js";
import type { LetterCoordinates } from "../../models/control/state.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import { HttpProblem } from "../plugins/errors.js";

/** Where a dead letter stands in fraud.dead-letters. */
export interface DeadLetterCoordinates {
  partition: number;
  offset: number;
}

export interface ReplayResult {
  replayed: DeadLetterCoordinates[];
  /** Those that were left alone, each with its reason. */
  skipped: (DeadLetterCoordinates & {
    reason: "already_replayed" | "not_found" | "no_bytes" | "unknown_source" | "sealed" | "next_time";
  })[];
}

/** What is sent in the place of a dead letter's own bytes. */
export interface MendedRecord {
  sourceTopic: string;
  partition: number;
  key: Buffer;
  value: Buffer;
}

interface Letter {
  coordinates: DeadLetterCoordinates;
  sourceTopic: string;
  partition: number;
  key: Buffer | null;
  value: Buffer;
  headers: Buffer;
}

/** Header that names the dead letter that a record was sent again for. */
const REDRIVE_OF = "fraudstream-redrive-of";
/** What one Kafka transaction carries at most; the rest is for another call. */
const MAX_BYTES = 64 * 1024 * 1024;
/** How often a call takes the transactional id back from others, and about how long it leaves it to them. */
const MOST_TRIES = 8;
const PAUSE_MS = 250;

/**
 * Sends dead letters again to where they came from, each once, however often this is called and whichever API copy
 * dies: the records and the control events that say so are one Kafka transaction, under one transactional id for all
 * copies, begun after the id was taken over and fraud.control was read to its end (ARCHITECTURE.md#guarantee-6).
 *
 * @param mended replaces the bytes of the (one) letter
 * @throws HttpProblem 409 `replay_under_way` when others keep taking the id over
 */
export async function replayDeadLetters(
  context: ApiContext,
  who: string,
  wanted: readonly DeadLetterCoordinates[],
  mended: MendedRecord | null = null,
): Promise<ReplayResult> {
  for (let tries = 1; ; tries++) {
    try {
      return await replayOnce(context, who, wanted, mended);
    } catch (error) {
      // Another call has taken the id over. Taking it back settles what became of this one's transaction.
      if (!(error instanceof KafkaError && error.fenced)) throw error;
      if (tries === MOST_TRIES)
        throw new HttpProblem(
          "replay_under_way",
          "another request is sending dead letters again; look at them and repeat",
        );
      await sleep(Math.random() * PAUSE_MS * tries);
    }
  }
}

async function replayOnce(
  context: ApiContext,
  who: string,
  wanted: readonly DeadLetterCoordinates[],
  mended: MendedRecord | null,
): Promise<ReplayResult> {
  const { cluster, config, control, topics } = context;
  const producer = await TransactionalProducer.open(cluster, config.topicPrefix + ROLES.api.transactional.name);
  try {
    await control.readToEnd();
    const letterAt = (at: DeadLetterCoordinates): LetterCoordinates => ({ topic: topics.deadLetters.name, ...at });
    const isReplayed = (at: DeadLetterCoordinates): boolean => control.state.replayOf(letterAt(at)) !== undefined;
    const result: ReplayResult = { replayed: [], skipped: [] };
    const letters: Letter[] = [];
    const seen = new Set<string>();
    let bytes = 0;
    for (const coordinates of wanted) {
      const key = `${coordinates.partition}/${coordinates.offset}`;
      if (seen.has(key)) continue;
      seen.add(key);
      if (isReplayed(coordinates)) {
        result.skipped.push({ ...coordinates, reason: "already_replayed" });
        continue;
      }
      const letter = bytes < MAX_BYTES ? await readLetter(context, coordinates, mended) : "next_time";
      if (typeof letter === "string") result.skipped.push({ ...coordinates, reason: letter });
      else {
        letters.push(letter);
        bytes += letter.value.length;
      }
    }
    if (letters.length === 0) return result;

    const outputs = new Map<string, PartitionOutput>();
    const outputTo = (topic: string, partition: number): PartitionOutput => {
      const name = `${topic}/${partition}`;
      const output = outputs.get(name) ?? new PartitionOutput(topic, partition);
      outputs.set(name, output);
      return output;
    };
    const decisions = control.output();
    const at = Date.now();
    for (const { coordinates, sourceTopic, partition, key, value, headers } of letters) {
      appendReplayed(control, decisions, { who, at }, letterAt(coordinates));
      outputTo(sourceTopic, partition).append(key, value, headers);
      result.replayed.push(coordinates);
    }
    const all = [decisions, ...outputs.values()];
    producer.begin(all, null);
    await producer.commit(all, at);
    // Its marker may reach fraud.control a moment later.
    for (const coordinates of result.replayed)
      while (!isReplayed(coordinates)) await control.readPast(control.position);
    return result;
  } finally {
    await producer.close();
  }
}

/** What was sealed where card ids have pseudonyms; null: with another key than this copy's. */
function opened(cards: CardPseudonyms | null, key: Buffer | null, value: Buffer): Pick<Letter, "key" | "value"> | null {
  try {
    return cards && { key: key === null || key.length === 0 ? null : cards.open(key), value: cards.open(value) };
  } catch (error) {
    if (error instanceof FraudstreamError && error.code === "unsealable") return null;
    throw error;
  }
}

/**
 * The partition in which a record is published again: the one it came from. What came from a partition that was added
 * to the topic goes to its key's partition: cards keep the configured ones. Scoring and merchants forward a record
 * whose key is not its card.
 */
function partitionFor(source: number, partitions: number, key: Buffer | null): number {
  if (source < partitions) return source;
  return key === null ? source % partitions : partitionOfKey(key, 0, key.length, partitions);
}

/** The letter as Kafka has it, or why it can't be sent again. */
async function readLetter(
  context: ApiContext,
  coordinates: DeadLetterCoordinates,
  mended: MendedRecord | null,
): Promise<Letter | "not_found" | "no_bytes" | "unknown_source" | "sealed"> {
  const { cluster, topics, cards } = context;
  if (coordinates.partition >= topics.deadLetters.partitions) return "not_found";
  const reader = new PartitionReader(cluster, topics.deadLetters.name, coordinates.partition, {
    maxWaitMs: 100,
    maxBytes: 64 * 1024,
  });
  try {
    const [first, end] = await Promise.all([reader.firstOffset(), reader.endOffset()]);
    if (coordinates.offset < first || coordinates.offset >= end) return "not_found";
    const records = await reader.fetch(coordinates.offset);
    if (records.count === 0 || records.offset[0] !== coordinates.offset) return "not_found";
    const headers = new Map(readHeaders(records, 0));
    const text = (name: string): string => headers.get(name)?.toString() ?? "";
    const sources = new Map([topics.transactions, topics.labels].map((topic) => [topic.name, topic.partitions]));
    const sourceTopic = text("topic");
    const partitions = sources.get(sourceTopic);
    const sourcePartition = Number(text("partition"));
    if (partitions === undefined || !(sourcePartition >= 0)) return "unknown_source";
    const again: (readonly [string, string])[] = [
      ["attempt", String((Number(text("attempt")) || 1) + 1)],
      [REDRIVE_OF, `${topics.deadLetters.name}/${coordinates.partition}/${coordinates.offset}`],
    ];
    if (mended !== null) {
      const { partition, key, value } = mended;
      return sourceTopic === mended.sourceTopic
        ? {
            coordinates,
            sourceTopic,
            partition,
            key,
            value,
            headers: encodeHeaders(
              sourceTopic === topics.labels.name ? [...again, [LABEL_ORDER, String(Date.now())]] : again,
            ),
          }
        : "unknown_source";
    }
    // Too large to be kept: only its length and hash are here.
    if (records.valueLength[0] < 0 || headers.has("key-sha256")) return "no_bytes";
    const replyTo = headers.get("reply-to");
    const labelOrder = headers.get(LABEL_ORDER);
    const key =
      records.keyLength[0] < 0
        ? null
        : Buffer.from(records.bytes.subarray(records.keyAt[0], records.keyAt[0] + records.keyLength[0]));
    const value = Buffer.from(records.bytes.subarray(records.valueAt[0], records.valueAt[0] + records.valueLength[0]));
    const sealedKey = headers.get(SEALED_KEY);
    const source = sealedKey === undefined ? { key, value } : opened(cards, sealedKey, value);
    if (source === null) return "sealed";
    return {
      coordinates,
      sourceTopic,
      partition: partitionFor(sourcePartition, partitions, source.key),
      ...source,
      headers: encodeHeaders([
        ...again,
        ...(replyTo ? [["reply-to", replyTo] as const] : []),
        ...(labelOrder ? [[LABEL_ORDER, labelOrder] as const] : []),
      ]),
    };
  } finally {
    await reader.close();
  }
}
