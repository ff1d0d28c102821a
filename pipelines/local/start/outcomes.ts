import type { Rows } from "../replay/label-schedule.js";
import type { Decision } from "../../../schemas/generated.js";
import { LatencyHistogram } from "./latency.js";

/** What a reader of the predictions topic must know of each to keep count. */
export interface SeenPrediction {
  transaction_id: string;
  card_id: string;
  merchant_id: string;
  amount: number;
  currency: string;
  event_time: number;
  score: number;
  decision: Decision;
  stale: boolean;
  source_partition: number;
  source_offset: number;
}

const ALERTS_KEPT = 3;

/**
 * Keeps count of what became of the transactions of this run: each one that was sent must come back once, as a
 * prediction or as a dead letter. Where a transaction stands in its topic tells it apart, so that somebody else's are
 * not mistaken for doubled ones.
 */
export class Outcomes {
  readonly latency = new LatencyHistogram();
  /** What stands for a card on the predictions topic. */
  readonly #cardOf: (id: string) => string;
  /** Since `recentLatency` was last taken. */
  #recent = new LatencyHistogram();
  /** Sent and not seen again, with the time of sending; a list where a file repeats an id. */
  readonly #waiting = new Map<string, number | number[]>();
  readonly #seen = new Map<number, OffsetSet>();
  readonly decisions: Record<Decision, number> = { approve: 0, review: 0, decline: 0 };
  /** The last alerts, newest first. */
  readonly alerts: SeenPrediction[] = [];
  sent = 0;
  /** Predictions for transactions of this run, and for others' that came meanwhile. */
  predicted = 0;
  others = 0;
  othersStale = 0;
  /** Predictions for a place in the transactions topic that had one already. */
  doubled = 0;
  /** Predictions of this run whose features lacked what should have been known. */
  stale = 0;
  /** Of transactions, this run's or others'. */
  deadLetters = 0;
  lastDeadLetter: { code: string; reason: string } | null = null;
  firstEventTime: number | null = null;
  lastEventTime: number | null = null;

  constructor(cardOf: (id: string) => string = (id) => id) {
    this.#cardOf = cardOf;
  }

  /** Transactions are about to be sent. */
  send({ dataset, start, end }: Rows, timestamp: number): void {
    for (let row = start; row < end; row++) {
      const key = keyOf(this.#cardOf(dataset.cardId[row]), dataset.transactionId[row]);
      const waiting = this.#waiting.get(key);
      this.#waiting.set(key, waiting === undefined ? timestamp : [waiting, timestamp].flat());
    }
    this.sent += end - start;
    this.firstEventTime ??= dataset.eventTime[start];
    this.lastEventTime = dataset.eventTime[end - 1];
  }

  /** A read_committed reader has seen a prediction at `now`. */
  prediction(seen: SeenPrediction, now: number): void {
    if (!this.#offsets(seen.source_partition).add(seen.source_offset)) {
      this.doubled += 1;
      return;
    }
    const sentAt = this.#answer(keyOf(seen.card_id, seen.transaction_id));
    if (sentAt === null) {
      // Not in what is shown of this run.
      this.others += 1;
      if (seen.stale) this.othersStale += 1;
      return;
    }
    this.predicted += 1;
    if (seen.stale) this.stale += 1;
    this.latency.add(now - sentAt);
    this.#recent.add(now - sentAt);
    this.decisions[seen.decision] += 1;
    if (seen.decision === "approve") return;
    this.alerts.unshift(seen);
    this.alerts.length = Math.min(this.alerts.length, ALERTS_KEPT);
  }

  deadLetter(code: string, reason: string): void {
    this.deadLetters += 1;
    this.lastDeadLetter = { code, reason };
  }

  /** Transactions of this run that have no prediction yet; dead letters don't tell whose they are. */
  get missing(): number {
    return this.sent - this.predicted;
  }

  /** Latencies since the last call. */
  recentLatency(): LatencyHistogram {
    const recent = this.#recent;
    this.#recent = new LatencyHistogram();
    return recent;
  }

  #answer(key: string): number | null {
    const waiting = this.#waiting.get(key);
    if (waiting === undefined) return null;
    if (typeof waiting === "number") {
      this.#waiting.delete(key);
      return waiting;
    }
    const [first, ...rest] = waiting;
    this.#waiting.set(key, rest.length === 1 ? rest[0] : rest);
    return first;
  }

  #offsets(partition: number): OffsetSet {
    const known = this.#seen.get(partition) ?? new OffsetSet();
    this.#seen.set(partition, known);
    return known;
  }
}

function keyOf(cardId: string, transactionId: string): string {
  return `${cardId}\n${transactionId}`;
}

const PAGE_BITS = 65_536;

/** Offsets of one partition, a bit each. */
class OffsetSet {
  readonly #pages = new Map<number, Uint8Array>();

  /** False when it is in there already. */
  add(offset: number): boolean {
    const number = Math.floor(offset / PAGE_BITS);
    let page = this.#pages.get(number);
    if (page === undefined) this.#pages.set(number, (page = new Uint8Array(PAGE_BITS / 8)));
    const bit = offset - number * PAGE_BITS;
    const mask = 1 << (bit & 7);
    if ((page[bit >> 3] & mask) !== 0) return false;
    page[bit >> 3] |= mask;
    return true;
  }
}
