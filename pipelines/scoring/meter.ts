import type { FetchedRecords } from "../../infra/kafka/records.js";
import { Counter, Histogram, Registry, gauge } from "../../infra/metrics/registry.js";
import type { PartitionHistories, PartitionHistory } from "./history/partition-histories.js";
import type { Rejection } from "../transactions/decode-transactions.js";

/** Of one batch. */
export interface BatchCounts {
  /** That got a prediction. */
  transactions: number;
  /** Forwarded to the partition of their card. */
  forwarded: number;
  /** Older than their partition's clock by more than the allowed lateness. */
  late: number;
  /** The greatest event time of those, epoch milliseconds; -Infinity: none was late. */
  newestLate: number;
  /** Scored without history that they should have had. */
  stale: number;
  /** Scored without some windows of their card, which has more transactions than are looked at. */
  beyondReach: number;
  /** Scored while a window of theirs may miss transactions that the log has lost. */
  lacking: number;
}

/** What a worker has done since it was last asked. */
export interface ScoringCounts {
  transactions: number;
  deadLetters: number;
  repeats: number;
  forwarded: number;
  late: number;
  stale: number;
  batches: number;
  /** Longest time from the start of a batch to its commit, milliseconds. */
  slowestBatchMs: number;
  /** Records behind the last committed one, over all partitions. */
  lag: number;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Counts what has been committed, for the log and for /metrics: once per batch, never once per transaction. */
export class ScoringMeter {
  #transactions = 0;
  #deadLetters = 0;
  #repeats = 0;
  #forwarded = 0;
  #late = 0;
  #stale = 0;
  #batches = 0;
  #slowestBatchMs = 0;
  readonly #lag = new Map<number, number>();
  readonly #predictions: Counter;
  readonly #deadLettersByCode: Counter<"code">;
  readonly #forwardedTotal: Counter;
  readonly #lateTotal: Counter;
  readonly #staleTotal: Counter;
  readonly #beyondReachTotal: Counter;
  readonly #lackingTotal: Counter;
  readonly #batchSize: Histogram;
  readonly #batchSeconds: Histogram;
  readonly #latency: Histogram;
  readonly #swapSeconds: Histogram;
  readonly #fallbacks: Counter<"model">;

  constructor(registry = new Registry()) {
    const registers = [registry];
    this.#predictions = new Counter({
      name: "fraudstream_scoring_transactions_total",
      help: "Transactions that got their prediction.",
      registers,
    });
    this.#deadLettersByCode = new Counter({
      name: "fraudstream_scoring_dead_letters_total",
      help: "Records that became dead letters.",
      labelNames: ["code"],
      registers,
    });
    this.#forwardedTotal = new Counter({
      name: "fraudstream_scoring_forwarded_total",
      help: "Transactions that were sent on to the partition of their card.",
      registers,
    });
    this.#lateTotal = new Counter({
      name: "fraudstream_scoring_late_total",
      help: "Transactions older than the clock of their partition by more than a day.",
      registers,
    });
    this.#staleTotal = new Counter({
      name: "fraudstream_scoring_stale_total",
      help: "Transactions that were scored without history that they should have had.",
      registers,
    });
    this.#beyondReachTotal = new Counter({
      name: "fraudstream_scoring_beyond_reach_total",
      help:
        "Transactions of cards that have more transactions than are looked at: windows that hold more than " +
        "those had no value.",
      registers,
    });
    this.#lackingTotal = new Counter({
      name: "fraudstream_scoring_lacking_total",
      help: "Transactions with a window that may miss others, which the log lost before they were read.",
      registers,
    });
    this.#batchSize = new Histogram({
      name: "fraudstream_scoring_batch_records",
      help: "Records of a batch.",
      buckets: [1, 4, 16, 64, 256, 1_024, 4_096, 16_384],
      registers,
    });
    this.#batchSeconds = new Histogram({
      name: "fraudstream_scoring_batch_seconds",
      help: "From the start of a batch to its commit.",
      buckets: SECONDS,
      registers,
    });
    this.#latency = new Histogram({
      name: "fraudstream_scoring_latency_seconds",
      help: "From the time stamp of a batch's first record, its longest waiting one, to the commit.",
      buckets: SECONDS,
      registers,
    });
    this.#fallbacks = new Counter({
      name: "fraudstream_scoring_fallbacks_total",
      help: "Champions that were put out of force in this worker, since they hung, failed or gave no scores.",
      labelNames: ["model"],
      registers,
    });
    this.#swapSeconds = new Histogram({
      name: "fraudstream_scoring_swap_seconds",
      help: "From the reading of a deployment to when its models, loaded and warm, score the next batch.",
      buckets: SECONDS,
      registers,
    });
  }

  /** A champion was put out of force. */
  fellBack(model: string): void {
    this.#fallbacks.inc({ model });
  }

  committed(records: FetchedRecords, counts: BatchCounts, rejections: Rejection[], batchMs: number): void {
    this.#transactions += counts.transactions;
    this.#forwarded += counts.forwarded;
    this.#late += counts.late;
    this.#stale += counts.stale;
    this.#deadLetters += rejections.length;
    this.#batches += 1;
    this.#slowestBatchMs = Math.max(this.#slowestBatchMs, batchMs);
    this.#lag.set(records.partition, Math.max(0, records.highWatermark - records.nextOffset));
    this.#predictions.inc(counts.transactions);
    this.#forwardedTotal.inc(counts.forwarded);
    this.#lateTotal.inc(counts.late);
    this.#staleTotal.inc(counts.stale);
    this.#beyondReachTotal.inc(counts.beyondReach);
    this.#lackingTotal.inc(counts.lacking);
    for (const { code } of rejections) {
      if (code === "repeated") this.#repeats += 1;
      this.#deadLettersByCode.inc({ code });
    }
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
    const counts = {
      transactions: this.#transactions,
      deadLetters: this.#deadLetters,
      repeats: this.#repeats,
      forwarded: this.#forwarded,
      late: this.#late,
      stale: this.#stale,
      batches: this.#batches,
      slowestBatchMs: this.#slowestBatchMs,
      lag,
    };
    this.#transactions =
      this.#deadLetters =
      this.#repeats =
      this.#forwarded =
      this.#late =
      this.#stale =
      this.#batches =
      this.#slowestBatchMs =
        0;
    return counts;
  }
}

/** What the card histories in memory hold. */
export function historyGauges(registry: Registry, histories: PartitionHistories): void {
  const sum = (of: (held: PartitionHistory) => number) => () => [
    { value: histories.held.reduce((total, held) => total + of(held), 0) },
  ];
  gauge(registry, {
    name: "fraudstream_scoring_clock_seconds",
    help:
      "The clock of a partition: the event time that it has come to, in seconds since 1970. Transactions a day " +
      "older are late.",
    labelNames: ["partition"],
    read: () =>
      histories.held
        .filter(({ cards }) => Number.isFinite(cards.clock))
        .map(({ partition, cards }) => ({ labels: { partition: String(partition) }, value: cards.clock / 1_000 })),
  });
  gauge(registry, {
    name: "fraudstream_scoring_cards",
    help: "Cards whose history is in memory.",
    read: sum(({ cards }) => cards.cards),
  });
  gauge(registry, {
    name: "fraudstream_scoring_card_events",
    help: "Transactions in the history of those cards.",
    read: sum(({ cards }) => cards.events),
  });
  gauge(registry, {
    name: "fraudstream_scoring_history_bytes",
    help: "Memory that the history of cards takes.",
    read: sum(({ cards }) => cards.bytes),
  });
  gauge(registry, {
    name: "fraudstream_scoring_snapshot_age_seconds",
    help: "Since the newest snapshot of a partition's history, or else since the history was made.",
    labelNames: ["partition"],
    read: () =>
      histories.held.map(({ partition, saved }) => ({
        labels: { partition: String(partition) },
        value: (Date.now() - saved.at) / 1_000,
      })),
  });
}
