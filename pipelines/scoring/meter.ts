import type { FetchedRecords } from "../../infra/kafka/records.js";
import { Counter, Histogram, Registry } from "../../infra/metrics/registry.js";
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

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Counts what has been committed, for the log and for /metrics: once a batch, never once a transaction. */
export class ScoringMeter {
  #transactions = 0;
  #deadLetters = 0;
  #batches = 0;
  #slowestBatchMs = 0;
  readonly #lag = new Map<number, number>();
  readonly #predictions: Counter;
  readonly #deadLettersByCode: Counter<"code">;
  readonly #batchSize: Histogram;
  readonly #batchSeconds: Histogram;
  readonly #latency: Histogram;
  readonly #swapSeconds: Histogram;

  constructor(registry = new Registry()) {
    const registers = [registry];
    this.#predictions = new Counter({ name: "fraudstream_scoring_transactions_total", help: "Transactions that got their prediction.", registers });
    this.#deadLettersByCode = new Counter({ name: "fraudstream_scoring_dead_letters_total", help: "Records that became dead letters.", labelNames: ["code"], registers });
    this.#batchSize = new Histogram({ name: "fraudstream_scoring_batch_records", help: "Records of a batch.", buckets: [1, 4, 16, 64, 256, 1_024, 4_096, 16_384], registers });
    this.#batchSeconds = new Histogram({ name: "fraudstream_scoring_batch_seconds", help: "From the start of a batch to its commit.", buckets: SECONDS, registers });
    this.#latency = new Histogram({ name: "fraudstream_scoring_latency_seconds", help: "From the time stamp of a batch's first record, its longest waiting one, to the commit.", buckets: SECONDS, registers });
    this.#swapSeconds = new Histogram({ name: "fraudstream_scoring_swap_seconds", help: "From the reading of a deployment to when its models, loaded and warm, score the next batch.", buckets: SECONDS, registers });
  }

  committed(records: FetchedRecords, accepted: number, rejections: Rejection[], batchMs: number): void {
    this.#transactions += accepted;
    this.#deadLetters += rejections.length;
    this.#batches += 1;
    this.#slowestBatchMs = Math.max(this.#slowestBatchMs, batchMs);
    this.#lag.set(records.partition, Math.max(0, records.lastStableOffset - records.nextOffset));
    this.#predictions.inc(accepted);
    for (const { code } of rejections) this.#deadLettersByCode.inc({ code });
    this.#batchSeconds.observe(batchMs / 1_000);
    if (records.count === 0) return;
    this.#batchSize.observe(records.count);
    // The clock that set the time stamp may be ahead of this one.
    this.#latency.observe(Math.max(0, Date.now() - records.timestamp[0]) / 1_000);
  }

  swapped(ms: number): void {
    this.#swapSeconds.observe(ms / 1_000);
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
