import type { Conditions } from "../../infra/health/conditions.js";
import { LATENESS_MS, MAX_CARD_EVENTS } from "../../models/features/history-terms.js";
import type { FoldCounts } from "./steps/fold-history.js";

const HOUR_MS = 3_600_000;
/** What was seen is reported for so long after it was seen last. */
const REPORTED_MS = 5 * 60_000;
const LOOK_EVERY_MS = 10_000;
/** Fewer late transactions than one of ten are stragglers. */
const MANY = 0.1;

/** What is looked at to tell a few from many. */
interface Seen { transactions: number; late: number; since: number }

/** Reports why predictions of a partition are stale, for as long as they are: late streams, cards with too many transactions, lost records. */
export class HistoryConditions {
  readonly #conditions: Conditions;
  readonly #seen = new Map<string, Seen>();
  /** By code and partition: when it was last seen. */
  readonly #raised = new Map<string, { code: string; subject: string; at: number }>();
  readonly #timer: NodeJS.Timeout;

  constructor(conditions: Conditions) {
    this.#conditions = conditions;
    this.#timer = setInterval(() => this.#clearOld(), LOOK_EVERY_MS);
    this.#timer.unref();
  }

  /**
   * A batch of a partition was committed.
   *
   * @param clock how far the partition's event time has come, epoch milliseconds
   * @param lostUntil transactions up to this event time may have been lost
   */
  committed(topic: string, partition: number, { clock, lostUntil }: { clock: number; lostUntil: number }, { transactions, late, beyondReach, lacking }: FoldCounts & { transactions: number }): void {
    const subject = `${topic}[${partition}]`;
    const now = Date.now();
    if (beyondReach > 0) {
      this.#raise("card_beyond_reach", subject, now, `${subject}: a card has more than ${MAX_CARD_EVENTS} transactions in a window: windows that hold more have no value, and its predictions are stale. Is it a card, or a number that many share?`);
    }
    if (lacking > 0) {
      this.#raise("history_incomplete", subject, now, `${subject}: records were lost before they were scored, or from the history of cards, up to ${timeOf(lostUntil)} of event time at most: predictions with a window that reaches back to there are stale, until the windows have moved past it`);
    }
    const seen = this.#seen.get(subject) ?? { transactions: 0, late: 0, since: now };
    this.#seen.set(subject, seen);
    seen.transactions += transactions;
    seen.late += late;
    if (seen.late > 0 && seen.late >= MANY * seen.transactions) {
      this.#raise("late_transactions", subject, now, `${subject}: ${seen.late} of the last ${seen.transactions} transactions are more than ${LATENESS_MS / HOUR_MS} hours older than the partition has come to (${timeOf(clock)}): they are scored as stale, and merchants don't count them. Old transactions belong into a TOPIC_PREFIX of their own`);
    }
    if (now - seen.since >= LOOK_EVERY_MS) this.#seen.set(subject, { transactions: 0, late: 0, since: now });
  }

  /** The partition has moved to another worker. */
  forget(topic: string, partition: number): void {
    const subject = `${topic}[${partition}]`;
    this.#seen.delete(subject);
    for (const [key, raised] of this.#raised) if (raised.subject === subject) this.#clear(key);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #raise(code: string, subject: string, at: number, message: string): void {
    this.#raised.set(`${code} ${subject}`, { code, subject, at });
    this.#conditions.raise(code, subject, message, { blocking: false });
  }

  #clearOld(): void {
    const before = Date.now() - REPORTED_MS;
    for (const [key, { at }] of this.#raised) if (at < before) this.#clear(key);
  }

  #clear(key: string): void {
    const raised = this.#raised.get(key);
    if (raised === undefined) return;
    this.#raised.delete(key);
    this.#conditions.clear(raised.code, raised.subject);
  }
}

function timeOf(clock: number): string {
  return Number.isFinite(clock) ? new Date(clock).toISOString() : "nowhere";
}
