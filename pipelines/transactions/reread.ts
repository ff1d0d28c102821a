import { setTimeout as sleep } from "node:timers/promises";
import type { CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import type { TopicPartition } from "../../infra/kafka/group-membership.js";
import type { Gap } from "../../infra/kafka/offset-mark.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";
import type { Logger } from "../../infra/logging.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { CardHistory } from "../../models/features/card-history.js";
import { HistoryPlan } from "../../models/features/history-plan.js";
import { LATENESS_MS } from "../../models/features/history-terms.js";
import { FraudstreamError } from "../../schemas/errors.js";
import { TransactionReader } from "../../schemas/transaction-reader.js";
import { forwardTo } from "./placement.js";
import { decodeTransactions, learnSchemas } from "./decode-transactions.js";
import { TransactionBatch } from "./transaction-batch.js";
import type { OffsetMark } from "../../infra/kafka/offset-mark.js";
import { isOfFormerTopic, SOURCE_LOG } from "../runtime/dead-letters.js";

/** A fold that is read again asks for no values. */
export const NO_VALUES = new HistoryPlan([]);
const LOOK_AGAIN_MS = 20;
const FETCH_BYTES = 4 * 1024 * 1024;

/** Reads a partition between two offsets, fetching ahead. An abort ends it with the signal's reason. */
async function* recordsBetween(
  cluster: KafkaCluster,
  { topic, partition, topicId = null }: TopicPartition & { topicId?: string | null },
  from: number,
  to: number,
  signal: AbortSignal,
): AsyncGenerator<FetchedRecords> {
  signal.throwIfAborted();
  const reader = new PartitionReader(cluster, topic, partition, { signal, maxBytes: FETCH_BYTES, topicId });
  const onAbort = (): void => void reader.close();
  signal.addEventListener("abort", onAbort, { once: true });
  const fetch = (at: number): Promise<FetchedRecords> => {
    const fetching = reader.fetch(at);
    fetching.catch(() => {}); // looked at in the next round, if there is one
    return fetching;
  };
  try {
    let next = from < to ? fetch(from) : null;
    while (next !== null) {
      const records = await next;
      next = records.nextOffset < to ? fetch(records.nextOffset) : null;
      yield records;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
    await reader.close();
  }
}

export interface RereadOptions {
  cluster: KafkaCluster;
  schemas: Schemas;
  source: TopicPartition;
  /** The topic of that name that the offsets belong to; null: the current one. */
  topicId: string | null;
  /** Partitions of the topic. */
  partitions: number;
  /** As they were when the history was scored. */
  cards: CardPseudonyms | null;
  log: Logger;
  signal: AbortSignal;
  /** Called with what the history continues without. */
  onLost: (gap: Gap) => void;
}

/** Offsets of a partition's records that became dead letters; incomplete if retention has deleted some of those. */
export interface Refused {
  offsets: Set<number>;
  complete: boolean;
}

/**
 * Folds the transactions between two offsets again, as they were when they were scored, without output. Decodes them
 * without any model's attributes: what a model of that time refused is among `refused`.
 *
 * @throws FraudstreamError `history_gap` if one that was scored can't be decoded any more: its writer's schema is gone
 */
export async function reread(
  { cluster, schemas, source, topicId, partitions, cards, log, signal, onLost }: RereadOptions,
  history: CardHistory,
  from: number,
  to: number,
  refused: Refused,
): Promise<number> {
  const batch = new TransactionBatch([]);
  const reader = new TransactionReader(batch, cards, schemas.shapes.transactions);
  let folded = 0;
  for await (const records of recordsBetween(cluster, { ...source, topicId }, from, to, signal)) {
    let lost: number | null = null;
    await learnSchemas(records, reader, schemas);
    for (const { record, code, reason } of decodeTransactions(records, reader, batch)) {
      const offset = records.offset[record];
      if (!refused.complete || offset >= to || refused.offsets.has(offset)) continue;
      const unread = records.unread?.get(record);
      if (unread !== undefined) {
        // Without a dead letter, it was scored before its bytes were damaged: the worker goes on without it rather than
        // not at all.
        if (coversAny(refused.offsets, offset, unread.lastOffset)) continue;
        log.error(
          { ...source, offset, lastOffset: unread.lastOffset },
          "a batch that was scored can't be read now; the history of its cards goes on without it, and " +
            "windows that may miss it are stale",
        );
        lost = offset;
        continue;
      }
      throw new FraudstreamError(
        "history_gap",
        `${source.topic}[${source.partition}]: the record at offset ${offset} was scored, and can't be read ` +
          `now (${code}: ${reason}); without it the history of its card would be wrong`,
      );
    }
    for (let row = 0; row < batch.length; row++) {
      const record = batch.record[row];
      const offset = records.offset[record];
      if (offset >= to) break;
      if (
        refused.offsets.has(offset) ||
        forwardTo(records, record, partitions, batch.bytes[row], batch.cardIdAt[row], batch.cardIdLength[row]) >= 0
      )
        continue;
      history.fold(batch, row, offset, NO_VALUES, null, batch.history, 0);
      folded += 1;
    }
    history.commit();
    // The records with it, or before it, tell when it was.
    if (lost !== null)
      onLost({ from: lost, to: lost, until: Number.isFinite(history.clock) ? history.clock + LATENESS_MS : null });
  }
  return folded;
}

function coversAny(offsets: ReadonlySet<number>, first: number, last: number): boolean {
  for (const offset of offsets) if (offset >= first && offset <= last) return true;
  return false;
}

/**
 * The offsets of a partition's records that became dead letters, as the partition of dead letters beside it tells.
 *
 * @param begin where to begin among the dead letters
 * @param about the source's records that matter: from one offset to before another, refused for any reason or for one;
 *   with the mark of their topic: letters about a former one name the same offsets
 * @returns also where dead letters begin that can be about later records, and whether none are missing that retention
 *   has deleted, that can't be read, or that were in a topic which had the name before
 */
export async function refusedOffsets(
  { cluster, source, signal }: Pick<RereadOptions, "cluster" | "source" | "signal">,
  deadLetters: string,
  begin: number,
  about: { from: number; to: number; code?: string; mark: OffsetMark },
): Promise<Refused & { next: number }> {
  const place = { topic: deadLetters, partition: source.partition };
  const asking = new PartitionReader(cluster, place.topic, place.partition, { signal });
  let first: number, end: number, written: number;
  try {
    first = await asking.firstOffset();
    // The markers of a committed transaction reach its partitions one by one, so the group's offset may be there before
    // the dead letters. Taking the transactional id over waits for them, but another worker may have taken it over in
    // turn since.
    written = await asking.writtenEnd();
    while ((end = await asking.endOffset()) < written) await sleep(LOOK_AGAIN_MS, undefined, { signal });
  } finally {
    await asking.close();
  }
  const offsets = new Set<number>();
  const isOfThisLog = begin <= written;
  let next = isOfThisLog ? Math.max(begin, first) : first;
  let whole = true;
  for await (const records of recordsBetween(cluster, place, next, end, signal)) {
    if (records.unread !== undefined) whole = false;
    for (let i = 0; i < records.count; i++) {
      const headers = new Map(readHeaders(records, i).map(([name, value]) => [name, value?.toString() ?? ""]));
      if (
        headers.get("topic") !== source.topic ||
        headers.get("partition") !== String(source.partition) ||
        isOfFormerTopic(headers.get(SOURCE_LOG), about.mark)
      )
        continue;
      const offset = Number(headers.get("offset"));
      if (offset >= about.to) continue;
      if (offset >= about.from && (about.code === undefined || headers.get("code") === about.code)) offsets.add(offset);
      next = records.offset[i] + 1;
    }
  }
  return { offsets, complete: whole && isOfThisLog && first <= begin, next };
}
