import type { FetchedRecords } from "../../../infra/kafka/records.js";
import { BEYOND_REACH, TOO_LATE, WARMED_ROWS, type CardHistory } from "../../../models/features/card-history.js";
import { LATENESS_MS } from "../../../models/features/history-terms.js";
import type { HistoryPlan } from "../../../models/features/history-plan.js";
import { MerchantWindows } from "../../../models/features/merchant-windows.js";
import { forwardTo } from "../../transactions/placement.js";
import type { TransactionBatch } from "../../transactions/transaction-batch.js";
import type { Rejection } from "../../transactions/decode-transactions.js";

/** The result of folding a batch into the history. */
export interface FoldCounts {
  late: number;
  /** The greatest event time of the late ones; -Infinity: none was. */ newestLate: number;
  stale: number;
  /** Of cards with more events than are examined (MAX_CARD_EVENTS). */ beyondReach: number;
  /** With a window that may miss lost transactions. */ lacking: number;
}

/** A transaction whose card belongs to another partition. */
export interface Misplaced {
  record: number;
  partition: number;
  card: Buffer;
}

/** What a worker knows of merchants (merchant-board.ts). */
export interface Merchants {
  readonly windows: MerchantWindows;
  /** Whether `windows` lack buckets from an index on that can still be read. */
  hasForgotten(bucket: number): boolean;
  /** Puts those into `windows`. @throws the signal's reason */
  recall(bucket: number, signal: AbortSignal): Promise<void>;
  /** @returns whether `windows.complete` has reached the bucket */
  waitFor(bucket: number, timeoutMs: number, signal: AbortSignal): Promise<boolean>;
}

/**
 * Waits for merchants' buckets, for a bounded time. After a wait in vain it doesn't wait again for that bucket or a
 * later one until something has arrived.
 */
export class MerchantWait {
  readonly #merchants: Merchants;
  readonly #longestMs: number;
  /** The last wait in vain: what it waited for, and what was there when it gave up. */
  #vain = { bucket: Infinity, complete: -Infinity };

  constructor(merchants: Merchants, longestMs: number) {
    this.#merchants = merchants;
    this.#longestMs = longestMs;
  }

  async until(bucket: number, signal: AbortSignal): Promise<void> {
    const { complete } = this.#merchants.windows;
    if (complete >= bucket || (bucket >= this.#vain.bucket && complete === this.#vain.complete)) return;
    const came = await this.#merchants.waitFor(bucket, this.#longestMs, signal);
    if (!came) this.#vain = { bucket, complete: this.#merchants.windows.complete };
  }
}

/**
 * The first bucket that a batch's windows look at among merchants' buckets, leaving out transactions that come too
 * late; Infinity: there are none.
 */
export function firstBucket(batch: TransactionBatch, clock: number, { longestBuckets }: HistoryPlan): number {
  let oldest = Infinity;
  for (let row = 0; row < batch.length; row++)
    if (batch.eventTime[row] >= clock - LATENESS_MS) oldest = Math.min(oldest, batch.eventTime[row]);
  return MerchantWindows.needed(oldest) - longestBuckets;
}

/** Takes transactions whose card belongs to another partition out of a batch. */
export function takeMisplaced(records: FetchedRecords, batch: TransactionBatch, partitions: number): Misplaced[] {
  const misplaced: Misplaced[] = [];
  let dropped: Uint8Array | null = null;
  for (let row = 0; row < batch.length; row++) {
    const record = batch.record[row];
    const bytes = batch.bytes[row];
    const cardAt = batch.cardIdAt[row];
    const cardLength = batch.cardIdLength[row];
    const partition = forwardTo(records, record, partitions, bytes, cardAt, cardLength);
    if (partition < 0) continue;
    dropped ??= new Uint8Array(batch.length);
    dropped[row] = 1;
    misplaced.push({ record, partition, card: bytes.subarray(cardAt, cardAt + cardLength) });
  }
  if (dropped !== null) batch.drop(dropped);
  return misplaced;
}

/** The bucket up to which merchants' windows must be complete for every transaction of a batch. */
export function neededBucket(batch: TransactionBatch): number {
  let newest = -Infinity;
  for (let row = 0; row < batch.length; row++) newest = Math.max(newest, batch.eventTime[row]);
  return MerchantWindows.needed(newest);
}

/**
 * Folds a batch's transactions in order into the history of their cards, and writes what the plan asks for into the
 * batch. Repeats are removed from it. A transaction that came too late, was processed without a bucket that it needs,
 * or may miss other transactions is stale.
 *
 * @param lostUntil transactions of this partition up to this event time may have been lost (GapBounds); -Infinity: none
 *   were
 */
export function foldHistory(
  records: FetchedRecords,
  batch: TransactionBatch,
  history: CardHistory,
  plan: HistoryPlan,
  windows: MerchantWindows,
  lostUntil: number,
): FoldCounts & { repeats: Rejection[] } {
  const { topic, partition, offset } = records;
  const { size, needsMerchants, longestBuckets } = plan;
  const repeats: Rejection[] = [];
  let dropped: Uint8Array | null = null;
  let late = 0;
  let newestLate = Number.NEGATIVE_INFINITY;
  let stale = 0;
  let beyondReach = 0;
  let lacking = 0;
  const { lackingBelow } = windows;
  for (let row = 0; row < batch.length; row++) {
    if (row % WARMED_ROWS === 0) history.warm(batch, row, Math.min(row + WARMED_ROWS, batch.length));
    const at = row * size;
    const outcome = history.fold(batch, row, offset[batch.record[row]], plan, windows, batch.history, at);
    if (outcome >= 0) {
      dropped ??= new Uint8Array(batch.length);
      dropped[row] = 1;
      repeats.push({
        record: batch.record[row],
        step: "history",
        code: "repeated",
        reason: `the card has had this transaction_id already, at ${topic}/${partition}/${outcome}`,
      });
      continue;
    }
    let behind = outcome === TOO_LATE || outcome === BEYOND_REACH;
    if (outcome === TOO_LATE) {
      late += 1;
      newestLate = Math.max(newestLate, batch.eventTime[row]);
    }
    if (outcome === BEYOND_REACH) beyondReach += 1;
    let lacks =
      lostUntil > Number.NEGATIVE_INFINITY && plan.looksBackTo(lostUntil, batch.eventTime[row], batch.history, at);
    if (needsMerchants) {
      windows.lookup(batch, row, plan, batch.history, at);
      const needed = MerchantWindows.needed(batch.eventTime[row]);
      // The oldest buckets may have been forgotten, and be gone from their topic.
      behind ||= needed > windows.complete || needed - longestBuckets < windows.oldest;
      lacks ||= needed - longestBuckets < lackingBelow;
    }
    if (lacks) lacking += 1;
    if (behind || lacks) {
      batch.stale[row] = 1;
      stale += 1;
    }
  }
  if (dropped !== null) batch.drop(dropped);
  return { repeats, late, newestLate, stale, beyondReach, lacking };
}
