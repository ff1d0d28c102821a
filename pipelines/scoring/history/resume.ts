import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { SEALED_KEY, type CardPseudonyms } from "../../../infra/privacy/card-pseudonyms.js";
import type { KafkaCluster } from "../../../infra/kafka/cluster.js";
import { KafkaError } from "../../../infra/kafka/errors.js";
import { PartitionReader } from "../../../infra/kafka/partition-reader.js";
import { readHeaders, type FetchedRecords } from "../../../infra/kafka/records.js";
import type { Schemas } from "../../../infra/kafka/schemas.js";
import { FraudstreamError, UsageError } from "../../../schemas/errors.js";
import type { Prediction } from "../../../schemas/generated.js";
import type { Topics } from "../../../schemas/topics.js";
import { CLOCK_SKEW_MS, TransactionReader } from "../../../schemas/transaction-reader.js";
import type { Tenure } from "../../runtime/partition-consumer.js";
import { forwardedFrom } from "../../transactions/placement.js";
import { decodeTransactions, learnSchemas } from "../../transactions/decode-transactions.js";
import { TransactionBatch } from "../../transactions/transaction-batch.js";
import { isOfFormerTopic, SOURCE_LOG } from "../../runtime/dead-letters.js";

export interface ResumeOptions {
  cluster: KafkaCluster;
  topics: Pick<Topics, "transactions" | "predictions" | "deadLetters">;
  schemas: Schemas;
  group: string;
  cards: CardPseudonyms | null;
}

/** One output of scoring, and the position of the record that it was made from. */
interface Output {
  position: number;
  timestamp: number;
  source: number;
  /** The last offset that it covers: one output covers all records of a batch that could not be read. */
  last?: number;
  isOf: (record: SourceRecord) => boolean;
}

interface SourceRecord {
  value: Buffer | null;
  timestamp: number;
  transactionId: string | null;
}

const LOOK_AGAIN_MS = 20;
/** An output is never older than its source, except by as much as a producer's clock may be ahead. */
const CLOCKS_DIFFER_MS = CLOCK_SKEW_MS;
/** Searched around the last outputs of a partition, for what else its last batches may have written. */
const MARGIN_MS = 600_000;
const FIRST_STEP = 8;
/** How many outputs are held at once. */
const PART = 4_096;

/**
 * How far scoring of a partition had come, judging by its outputs, if the group's committed offset doesn't tell: each
 * batch writes its outputs in the same Kafka transaction as its offset, so the newest output belongs to the newest
 * record that was scored. An output counts if the source's log still has the record that it was made from; outputs of
 * an earlier topic of this name, or of records that the log has lost, don't count.
 *
 * The former owner must have been fenced.
 *
 * @returns the offset after the newest record that was scored; null: no record of this log was
 * @throws UsageError `offset_lost` if there were outputs but they have been deleted, so that nothing tells
 */
export async function findProgress(options: ResumeOptions, tenure: Tenure): Promise<number | null> {
  const { cluster, topics } = options;
  const { partition, signal } = tenure;
  const outputs = partition % topics.predictions.partitions;
  const source = new SourceLog(options, tenure);
  const predictions = new PartitionReader(cluster, topics.predictions.name, outputs, { signal });
  const letters = new PartitionReader(cluster, topics.deadLetters.name, outputs, { signal });
  try {
    const { first, end } = await source.bounds();
    if (end === 0) return null;
    const [ofPredictions, ofLetters] = await Promise.all([
      stableBounds(predictions, signal),
      stableBounds(letters, signal),
    ]);
    const scored = await newestOf(predictionsOf(predictions, options, tenure), ofPredictions, source);
    const since = scored === null ? Number.NEGATIVE_INFINITY : scored.timestamp - MARGIN_MS;
    const refusedFrom = scored === null ? ofLetters.first : Math.max(ofLetters.first, await letters.offsetAt(since));
    const refused = await newestIn(lettersOf(letters, tenure), { first: refusedFrom, end: ofLetters.end }, source);
    const newest = [scored, refused].filter((output) => output !== null);
    const sent = await newestForwarded(options, tenure, source, newest);
    const progress = Math.max(-1, ...[...newest, ...sent].map((output) => output.last ?? output.source)) + 1;
    if (progress > 0) return progress;
    // Outputs that match no record belong to another log. A complete absence of outputs proves nothing if retention has
    // deleted some. (A log that begins at 0 has lost none: an output in it without a record belongs to an aborted
    // transaction.)
    const gone = ofPredictions.first > 0 && !(await hasRecords(predictions, ofPredictions));
    if (gone) throw lost(options, tenure, first);
    return null;
  } finally {
    await Promise.all([source.close(), predictions.close(), letters.close()]);
  }
}

function lost({ group, topics }: ResumeOptions, { topic, partition }: Tenure, first: number): UsageError {
  return new UsageError(
    "offset_lost",
    `${topic}[${partition}]: Kafka has forgotten where ${group} stood (offsets.retention.minutes), and ` +
      `${topics.predictions.name}[${partition}] has been emptied by retention, so nothing tells which ` +
      "transactions were scored: find the last one, for instance by max(source_offset) of this partition in " +
      `ClickHouse's table predictions, set the offset behind it with kafka-consumer-groups.sh --group ${group} ` +
      `--topic ${topic}:${partition} --reset-offsets --to-offset N --execute, and start again (--to-offset ` +
      `${first} scores all that is left, --to-latest none of it)`,
  );
}

/** Reads the records that scoring reads, one at a time. */
class SourceLog {
  readonly #schemas: Schemas;
  readonly #tenure: Tenure;
  readonly #reader: PartitionReader;
  readonly #batch = new TransactionBatch([]);
  readonly #transactions: TransactionReader;
  #bounds = { first: 0, end: 0 };

  constructor({ cluster, schemas, cards }: ResumeOptions, tenure: Tenure) {
    const {
      topic,
      partition,
      signal,
      mark: { topicId },
    } = tenure;
    this.#schemas = schemas;
    this.#tenure = tenure;
    this.#reader = new PartitionReader(cluster, topic, partition, { signal, maxBytes: 1, topicId });
    this.#transactions = new TransactionReader(this.#batch, cards, schemas.shapes.transactions);
  }

  async bounds(): Promise<{ first: number; end: number }> {
    return (this.#bounds = { first: await this.#reader.firstOffset(), end: await this.#reader.endOffset() });
  }

  /**
   * Whether the log has the record that an output was made from. A record deleted by retention passes for it: nothing
   * before it is left to score.
   */
  async has({ source, timestamp, isOf }: Output): Promise<boolean> {
    if (source < this.#bounds.first) return true;
    if (source >= this.#bounds.end) return false;
    const record = await this.#read(source);
    if (record === null) return false;
    // A record newer than the output is another one. A time in the future means that a producer's clock is wrong.
    if (record.timestamp > timestamp + CLOCKS_DIFFER_MS && record.timestamp <= Date.now()) return false;
    return isOf(record);
  }

  async #read(offset: number): Promise<SourceRecord | null> {
    this.#tenure.signal.throwIfAborted();
    const records = await this.#reader.fetch(offset);
    if (records.count === 0 || records.offset[0] !== offset) return null;
    await learnSchemas(records, this.#transactions, this.#schemas);
    decodeTransactions(records, this.#transactions, this.#batch);
    const batch = this.#batch;
    const decoded = batch.length > 0 && batch.record[0] === 0;
    const transactionId = decoded
      ? batch.bytes[0].toString(
          "utf8",
          batch.transactionIdAt[0],
          batch.transactionIdAt[0] + batch.transactionIdLength[0],
        )
      : null;
    return { value: valueOf(records, 0), timestamp: records.timestamp[0], transactionId };
  }

  close(): Promise<void> {
    return this.#reader.close();
  }
}

interface Bounds {
  first: number;
  end: number;
}
/** The outputs of one source partition in a topic that it writes to: those in a fetch from an offset on. */
type OutputsFrom = (offset: number) => Promise<{ outputs: Output[]; next: number }>;

/**
 * Where a log ends once no transaction is open in it: the markers of a committed transaction reach its partitions one
 * by one.
 */
async function stableBounds(reader: PartitionReader, signal: AbortSignal): Promise<Bounds> {
  const first = await reader.firstOffset();
  const written = await reader.writtenEnd();
  for (;;) {
    const end = await reader.endOffset();
    if (end >= written) return { first, end };
    await sleep(LOOK_AGAIN_MS, undefined, { signal });
  }
}

async function hasRecords(reader: PartitionReader, { first, end }: Bounds): Promise<boolean> {
  for (let next = first; next < end;) {
    const records = await reader.fetch(next);
    if (records.count > 0) return true;
    next = records.nextOffset;
  }
  return false;
}

/** All outputs between two positions. */
async function outputsBetween(from: OutputsFrom, first: number, end: number): Promise<Output[]> {
  const all: Output[] = [];
  for (let next = first; next < end;) {
    const fetched = await from(next);
    all.push(...fetched.outputs.filter(({ position }) => position < end));
    next = fetched.next;
  }
  return all;
}

/** The first output at or after a position. */
async function outputAt(from: OutputsFrom, first: number, end: number): Promise<Output | null> {
  for (let next = first; next < end;) {
    const fetched = await from(next);
    if (fetched.outputs.length > 0) return fetched.outputs[0].position < end ? fetched.outputs[0] : null;
    next = fetched.next;
  }
  return null;
}

/**
 * The newest output whose source is in the log. Nearly always that is the last one; otherwise it is searched backwards,
 * in growing steps, and then between the last two: what a log has lost is its end.
 */
async function newestOf(from: OutputsFrom, { first, end }: Bounds, source: SourceLog): Promise<Output | null> {
  let bad = end;
  let good: Output | null = null;
  for (let step = FIRST_STEP; good === null && bad > first; step *= 4) {
    const at = Math.max(first, end - step);
    if (step === FIRST_STEP) {
      for (const output of (await outputsBetween(from, at, end)).reverse()) if (await source.has(output)) return output;
    } else {
      const output = await outputAt(from, at, bad);
      if (output !== null && (await source.has(output))) good = output;
    }
    if (good === null) bad = at;
  }
  while (good !== null && bad - good.position > 1) {
    const middle = Math.floor((good.position + bad) / 2);
    const output: Output | null = await outputAt(from, middle, bad);
    if (output !== null && output.position > good.position && (await source.has(output))) good = output;
    else bad = middle;
  }
  return good;
}

/**
 * The output of the newest record, among outputs that are not in the order of the records throughout the log: some were
 * sent again, or belong to another topic. Searches backwards from the end, one part at a time: earlier parts hold
 * almost nothing newer than what was found.
 */
async function newestIn(from: OutputsFrom, { first, end }: Bounds, source: SourceLog): Promise<Output | null> {
  let newest: Output | null = null;
  for (let to = end; to > first; to -= PART) {
    const outputs = await outputsBetween(from, Math.max(first, to - PART), to);
    for (const output of outputs.sort((a, b) => b.source - a.source)) {
      if (newest !== null && output.source <= newest.source) break;
      if (await source.has(output)) newest = output;
    }
  }
  return newest;
}

function predictionsOf(reader: PartitionReader, { schemas }: ResumeOptions, { topic, partition }: Tenure): OutputsFrom {
  return async (offset) => {
    const records = await reader.fetch(offset);
    const outputs: Output[] = [];
    for (let i = 0; i < records.count; i++) {
      const value = valueOf(records, i);
      if (value === null) continue;
      const prediction = await readPrediction(schemas, value);
      if (prediction === null || prediction.source_topic !== topic || prediction.source_partition !== partition)
        continue;
      const isOf = ({ transactionId }: SourceRecord): boolean => transactionId === prediction.transaction_id;
      outputs.push({
        position: records.offset[i],
        timestamp: records.timestamp[i],
        source: Number(prediction.source_offset),
        isOf,
      });
    }
    return { outputs, next: records.nextOffset };
  };
}

/** Null: it can't be read any more, or is not a prediction. */
async function readPrediction(schemas: Schemas, value: Buffer): Promise<Prediction | null> {
  try {
    return (await schemas.decode("predictions", value)) as Prediction;
  } catch (error) {
    if (error instanceof FraudstreamError && !error.retriable) return null;
    throw error;
  }
}

function lettersOf(reader: PartitionReader, { topic, partition, mark }: Tenure): OutputsFrom {
  return async (offset) => {
    const records = await reader.fetch(offset);
    const outputs: Output[] = [];
    for (let i = 0; i < records.count; i++) {
      const headers = new Map(readHeaders(records, i).map(([name, value]) => [name, value?.toString() ?? ""]));
      if (
        headers.get("topic") !== topic ||
        headers.get("partition") !== String(partition) ||
        isOfFormerTopic(headers.get(SOURCE_LOG), mark)
      )
        continue;
      // A value that was too large, or that is sealed, isn't the source's value: then coordinates and time must
      // suffice.
      const value = headers.has(SEALED_KEY) || headers.has("length") ? null : valueOf(records, i);
      const isOf = hasValue(value);
      outputs.push({
        position: records.offset[i],
        timestamp: records.timestamp[i],
        source: Number(headers.get("offset")),
        last: Number(headers.get("last-offset") ?? headers.get("offset")),
        isOf,
      });
    }
    return { outputs, next: records.nextOffset };
  };
}

/**
 * What was last forwarded to other partitions. Searched only if scoring has written anything, around the time of that.
 */
async function newestForwarded(
  { cluster, topics }: ResumeOptions,
  { topic, partition, signal }: Tenure,
  source: SourceLog,
  newest: readonly Output[],
): Promise<Output[]> {
  const found: Output[] = [];
  const times = newest.map(({ timestamp }) => timestamp);
  const since = times.length === 0 ? 0 : Math.min(...times) - MARGIN_MS;
  const until = (await lastOutputTime(cluster, topics, signal)) + MARGIN_MS;
  for (let home = 0; home < topics.transactions.partitions && Number.isFinite(until); home++) {
    if (home === partition) continue;
    const reader = new PartitionReader(cluster, topics.transactions.name, home, { signal });
    try {
      const [first, end] = [await reader.firstOffset(), await reader.endOffset()];
      const bounds = {
        first: Math.max(first, await offsetAt(reader, since, first)),
        end: Math.min(end, await offsetAt(reader, until, end)),
      };
      const output = await newestIn(forwardedOf(reader, topic, partition), bounds, source);
      if (output !== null) found.push(output);
    } finally {
      await reader.close();
    }
  }
  return found;
}

/**
 * A time's position in the log of transactions. To find it, a broker unpacks batches, and runs out of memory if one of
 * them is a decompression bomb: then nothing is left out.
 */
async function offsetAt(reader: PartitionReader, time: number, otherwise: number): Promise<number> {
  try {
    return await reader.offsetAt(time);
  } catch (error) {
    if (error instanceof KafkaError && error.code === "kafka_unknown_server_error") return otherwise;
    throw error;
  }
}

function forwardedOf(reader: PartitionReader, topic: string, partition: number): OutputsFrom {
  return async (offset) => {
    const records = await reader.fetch(offset);
    const outputs: Output[] = [];
    for (let i = 0; i < records.count; i++) {
      const place = forwardedFrom(records, i);
      if (place?.topic !== topic || place.partition !== partition) continue;
      const value = valueOf(records, i);
      const isSame = hasValue(value);
      const isOf = (record: SourceRecord): boolean => value !== null && record.value !== null && isSame(record);
      outputs.push({ position: records.offset[i], timestamp: records.timestamp[i], source: place.offset, isOf });
    }
    return { outputs, next: records.nextOffset };
  };
}

/** When the group last wrote a prediction or a dead letter; -Infinity: never, as far as records are left. */
async function lastOutputTime(
  cluster: KafkaCluster,
  topics: Pick<Topics, "predictions" | "deadLetters">,
  signal: AbortSignal,
): Promise<number> {
  let last = Number.NEGATIVE_INFINITY;
  for (const { name, partitions } of [topics.predictions, topics.deadLetters]) {
    for (let partition = 0; partition < partitions; partition++) {
      const reader = new PartitionReader(cluster, name, partition, { signal });
      try {
        const { first, end } = await stableBounds(reader, signal);
        for (let next = Math.max(first, end - FIRST_STEP); next < end;) {
          const records = await reader.fetch(next);
          for (let i = 0; i < records.count; i++) last = Math.max(last, records.timestamp[i]);
          next = records.nextOffset;
        }
      } finally {
        await reader.close();
      }
    }
  }
  return last;
}

/** Whether a record may have a value, of which only the digest is kept; null: the value is not known. */
function hasValue(value: Buffer | null): (record: SourceRecord) => boolean {
  if (value === null) return () => true;
  const digest = digestOf(value);
  return (record) => record.value === null || digestOf(record.value) === digest;
}

function digestOf(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("base64");
}

function valueOf({ bytes, valueAt, valueLength }: FetchedRecords, index: number): Buffer | null {
  return valueLength[index] < 0 ? null : bytes.subarray(valueAt[index], valueAt[index] + valueLength[index]);
}
