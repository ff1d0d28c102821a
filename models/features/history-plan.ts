import { CARD_AGGREGATES, CARD_AGGREGATE_NAMES, isCardAggregate, type CardAggregate } from "./card-aggregates.js";
import {
  BUCKET_MS,
  LABEL_DELAY_MS,
  LONGEST_WINDOW_MS,
  REPEAT_HORIZON_MS,
  historyTerm,
  type CardSource,
  type HistoryTerm,
  type MerchantAggregate,
  type MerchantSource,
} from "./history-terms.js";

/** One value that history gives a transaction. */
export type HistorySlot = CardSource | MerchantSource;

function isHistorySlot(source: { kind: string }): source is HistorySlot {
  return source.kind === "card" || source.kind === "merchant";
}

/** Equal for sources that mean the same, however they are written. */
export function historyKey(slot: HistorySlot): string {
  const { kind, aggregate, windowMs } = historyTerm(slot);
  return `${kind} ${aggregate} ${windowMs}`;
}

/**
 * How long after the first transaction of all a feature may still be growing, since its window isn't full;
 * milliseconds, 0 for one without a history.
 */
export function fillingMs(source: { kind: string }): number {
  if (!isHistorySlot(source)) return 0;
  const { windowMs } = historyTerm(source);
  return (windowMs || LONGEST_WINDOW_MS) + ("delay" in source ? LABEL_DELAY_MS + 2 * BUCKET_MS : 0);
}

/**
 * The history that a set of models reads, each value once, in a stable order.
 *
 * @throws FraudstreamError `unknown_feature` if a model asks for something that is not computed
 */
export function historySlotsOf(models: readonly (readonly { source: { kind: string } }[])[]): HistorySlot[] {
  const slots = new Map<string, HistorySlot>();
  for (const specs of models) {
    for (const { source } of specs) {
      if (!isHistorySlot(source)) continue;
      const key = historyKey(source);
      if (!slots.has(key)) slots.set(key, source);
    }
  }
  return [...slots.values()];
}

/** A card's exact window: what is written when the walk back in time passes its start. */
export interface CardWindow {
  windowMs: number;
  /** Places in CARD_AGGREGATE_NAMES. */
  aggregates: Uint8Array;
  /** The slot of each. */
  slots: Uint16Array;
}

/** A window of whole buckets: how many, and the slot. */
export interface BucketWindow<Aggregate> {
  aggregate: Aggregate;
  buckets: number;
  slot: number;
}

/** What a set of models asks of history, compiled. Slot `i` is written to `out[at + i]`. */
export class HistoryPlan {
  readonly slots: readonly HistorySlot[];
  /** Values a transaction. */
  readonly size: number;
  /** Whether any value needs sealed buckets: a merchant's, or a card's fraud share. */
  readonly needsMerchants: boolean;
  /** Ascending, each length once. */
  readonly cardWindows: readonly CardWindow[];
  /** Of `seconds_since_last`; -1: not asked for. */
  readonly lastSlot: number;
  readonly cardShares: readonly BucketWindow<"fraud_share">[];
  readonly merchantWindows: readonly BucketWindow<MerchantAggregate>[];
  /** The longest window of whole buckets, of any kind, of cards' fraud shares, and of merchants; 0: there is none. */
  readonly longestBuckets: number;
  readonly longestShareBuckets: number;
  readonly longestMerchantBuckets: number;
  /** What the walk has to add up. */
  readonly needsSquares: boolean;
  readonly needsDistinct: boolean;
  /** How far back the walk goes at most, and how far for the windows alone. */
  readonly reachMs: number;
  readonly windowsReachMs: number;

  /** @throws FraudstreamError `unknown_feature` */
  constructor(slots: readonly HistorySlot[]) {
    this.slots = slots;
    this.size = slots.length;
    const terms = slots.map((slot, at) => ({ ...historyTerm(slot), at }));
    const exact = terms.filter(isExact);
    this.cardWindows = [...new Set(exact.map(({ windowMs }) => windowMs))]
      .sort((a, b) => a - b)
      .map((windowMs) => {
        const mine = exact.filter((term) => term.windowMs === windowMs);
        return {
          windowMs,
          aggregates: Uint8Array.from(mine, ({ aggregate }) => CARD_AGGREGATE_NAMES.indexOf(aggregate)),
          slots: Uint16Array.from(mine, ({ at }) => at),
        };
      });
    this.lastSlot = terms.findIndex(({ aggregate }) => aggregate === "seconds_since_last");
    this.cardShares = terms.flatMap(({ kind, aggregate, windowMs, at }) =>
      kind === "card" && aggregate === "fraud_share" ? [{ aggregate, buckets: windowMs / BUCKET_MS, slot: at }] : [],
    );
    this.merchantWindows = terms.flatMap(({ kind, aggregate, windowMs, at }) =>
      kind === "merchant" && (aggregate === "count" || aggregate === "fraud_share")
        ? [{ aggregate, buckets: windowMs / BUCKET_MS, slot: at }]
        : [],
    );
    this.needsMerchants = this.cardShares.length + this.merchantWindows.length > 0;
    this.longestShareBuckets = Math.max(0, ...this.cardShares.map(({ buckets }) => buckets));
    this.longestMerchantBuckets = Math.max(0, ...this.merchantWindows.map(({ buckets }) => buckets));
    this.longestBuckets = Math.max(this.longestShareBuckets, this.longestMerchantBuckets);
    const shareReach = this.cardShares.map(({ buckets }) => LABEL_DELAY_MS + (buckets + 2) * BUCKET_MS);
    this.windowsReachMs = Math.max(0, ...exact.map(({ windowMs }) => windowMs), ...shareReach);
    this.reachMs = Math.max(REPEAT_HORIZON_MS, this.windowsReachMs);
    this.needsSquares = exact.some(({ aggregate }) => CARD_AGGREGATES[aggregate].needs === "squares");
    this.needsDistinct = exact.some(({ aggregate }) => CARD_AGGREGATES[aggregate].needs === "distinct");
  }

  /**
   * Whether a value that a transaction has of its card depends on what happened at a time or before.
   *
   * @param values of the transaction, by slot from `at` on
   */
  looksBackTo(time: number, eventTime: number, values: Float64Array, at: number): boolean {
    const longest = this.cardWindows.at(-1)?.windowMs ?? 0;
    if (time > eventTime - longest) return true;
    if (
      this.cardShares.length > 0 &&
      time >= (Math.floor((eventTime - LABEL_DELAY_MS) / BUCKET_MS) - 1 - this.longestShareBuckets) * BUCKET_MS
    )
      return true;
    if (this.lastSlot < 0 || time <= eventTime - LONGEST_WINDOW_MS) return false;
    const last = values[at + this.lastSlot];
    return Number.isNaN(last) || time >= eventTime - last * 1_000;
  }
}

function isExact<T extends HistoryTerm>(term: T): term is T & { aggregate: CardAggregate } {
  return term.kind === "card" && isCardAggregate(term.aggregate);
}
