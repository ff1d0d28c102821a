import type { FetchedRecords } from "../../infra/kafka/records.js";
import type { Rejection } from "./steps/decode-transactions.js";

/** What a worker has done since it was last asked. */
export interface ScoringCounts {
  transactions: number;
  deadLetters: number;
  batches: number;
  /** Longest time from the start of a batch to its commit, milliseconds. */
  slowestBatchMs: number;
  /** Records behind the last committed one, over all partitions. */
  lag: number;
}

/** Counts what has been committed. */
export class ScoringMeter {
  #transactions = 0;
  #deadLetters = 0;
  #batches = 0;
  #slowestBatchMs = 0;
  readonly #lag = new Map<number, number>();

  committed(records: FetchedRecords, accepted: number, rejections: Rejection[], batchMs: number): void {
    this.#transactions += accepted;
    this.#deadLetters += rejections.length;
    this.#batches += 1;
    this.#slowestBatchMs = Math.max(this.#slowestBatchMs, batchMs);
    this.#lag.set(records.partition, Math.max(0, records.lastStableOffset - records.nextOffset));
  }

  /** The partition has moved to another worker. */
  forget(partition: number): void {
    this.#lag.delete(partition);
  }

  /** The counts since the last call. */
  take(): ScoringCounts {
    let lag = 0;
    for (const behind of this.#lag.values()) lag += behind;
    const counts = { transactions: this.#transactions, deadLetters: this.#deadLetters, batches: this.#batches, slowestBatchMs: this.#slowestBatchMs, lag };
    this.#transactions = this.#deadLetters = this.#batches = this.#slowestBatchMs = 0;
    return counts;
  }
}
