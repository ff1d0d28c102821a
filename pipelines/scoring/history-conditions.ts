import type { Conditions } from "../../infra/health/conditions.js";
import { LATENESS_MS, MAX_CARD_EVENTS } from "../../models/features/history-terms.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import type { FoldCounts } from "./steps/fold-history.js";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** How long a symptom is reported after it was last seen. */
const REPORTED_MS = 5 * 60_000;
const LOOK_EVERY_MS = 10_000;
const MOST_IN_HEARTBEAT = 8;
/** If fewer than one in ten transactions are late, they are stragglers. */
const MANY = 0.1;

/** Counts that tell a few from many. `newestLate`: the greatest event time of the late ones. */
interface Seen {
  transactions: number;
  late: number;
  newestLate: number;
  since: number;
}

/**
 * Where a partition's clock stands after a batch, epoch milliseconds, and the latest event time of lost transactions.
 */
export interface BatchTimes {
  clockBefore: number;
  clock: number;
  lostUntil: number;
}

/** A batch that moved a clock by more than the time after which transactions are late. */
interface Leap {
  from: number;
  at: number;
  firstOffset: number;
  lastOffset: number;
}

/**
 * Reports why predictions of a partition are stale, for as long as they are: late streams, cards with too many
 * transactions, lost records.
 */
export class HistoryConditions {
  readonly #conditions: Conditions;
  readonly #seen = new Map<string, Seen>();
  /** By code and partition: when it was last seen. */
  readonly #raised = new Map<string, { code: string; subject: string; at: number; message: string }>();
  /** By partition: the last leap of its clock. */
  readonly #leaps = new Map<string, Leap>();
  readonly #timer: NodeJS.Timeout;

  constructor(conditions: Conditions) {
    this.#conditions = conditions;
    this.#timer = setInterval(() => this.#clearOld(), LOOK_EVERY_MS);
    this.#timer.unref();
  }

  /** One line each, for the worker's heartbeat, which is sent once a second: a few of many are enough. */
  get problems(): string[] {
    const messages = [...this.#raised.values()].map(({ message }) => message);
    const more = messages.length - MOST_IN_HEARTBEAT;
    return more > 0
      ? [
          ...messages.slice(0, MOST_IN_HEARTBEAT),
          `${more} further reasons why predictions are stale, in the worker's log`,
        ]
      : messages;
  }

  /** A batch was committed. */
  committed(
    records: Pick<FetchedRecords, "topic" | "partition" | "offset" | "nextOffset">,
    { clockBefore, clock, lostUntil }: BatchTimes,
    { transactions, late, newestLate, beyondReach, lacking }: FoldCounts & { transactions: number },
  ): void {
    const subject = `${records.topic}[${records.partition}]`;
    const now = Date.now();
    if (beyondReach > 0) {
      this.#raise(
        "card_beyond_reach",
        subject,
        now,
        `${subject}: a card has more than ${MAX_CARD_EVENTS} transactions in a window: windows that hold ` +
          "more have no value, and its predictions are stale. Is it a card, or a number that many share?",
      );
    }
    if (lacking > 0) {
      this.#raise(
        "history_incomplete",
        subject,
        now,
        `${subject}: records were lost before they were scored, or from the history of cards, up to ` +
          `${timeOf(lostUntil)} of event time at most: predictions with a window that reaches back to there ` +
          "are stale, until the windows have moved past it",
      );
    }
    if (clock - clockBefore > LATENESS_MS && Number.isFinite(clockBefore)) {
      this.#leaps.set(subject, {
        from: clockBefore,
        at: now,
        firstOffset: records.offset[0],
        lastOffset: records.nextOffset - 1,
      });
    }
    const seen = this.#seen.get(subject) ?? nothingSince(now);
    this.#seen.set(subject, seen);
    seen.transactions += transactions;
    seen.late += late;
    seen.newestLate = Math.max(seen.newestLate, newestLate);
    if (seen.late > 0 && seen.late >= MANY * seen.transactions) {
      this.#raise("late_transactions", subject, now, lateText(subject, seen, clock, this.#leaps.get(subject)));
    }
    if (now - seen.since >= LOOK_EVERY_MS) this.#seen.set(subject, nothingSince(now));
  }

  /** The partition has moved to another worker. */
  forget(topic: string, partition: number): void {
    const subject = `${topic}[${partition}]`;
    this.#seen.delete(subject);
    this.#leaps.delete(subject);
    for (const [key, raised] of this.#raised) if (raised.subject === subject) this.#clear(key);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #raise(code: string, subject: string, at: number, message: string): void {
    this.#raised.set(`${code} ${subject}`, { code, subject, at, message });
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

function nothingSince(since: number): Seen {
  return { transactions: 0, late: 0, newestLate: Number.NEGATIVE_INFINITY, since };
}

function lateText(
  subject: string,
  { transactions, late, newestLate }: Seen,
  clock: number,
  leap: Leap | undefined,
): string {
  const moved =
    leap === undefined
      ? "It stood there when this worker took the partition over, or came there in steps of less than a day."
      : `It leapt there from ${timeOf(leap.from)} at ${timeOf(leap.at)}, with transactions at offsets ` +
        `${leap.firstOffset} to ${leap.lastOffset}.`;
  return (
    `${subject}: ${late} of the last ${transactions} transactions are late: the partition's clock, the event ` +
    `time that it has come to, stands at ${timeOf(clock)}, ${((clock - newestLate) / DAY_MS).toFixed(1)} ` +
    `days ahead of the newest of them. ${moved} ` +
    (`Transactions that are more than ${LATENESS_MS / HOUR_MS} hours older than the clock are scored as ` +
      "stale, and merchants do not count them. This is over when their event times reach the clock; it cannot " +
      "be set back. Publish past and present payments under a TOPIC_PREFIX each")
  );
}

function timeOf(clock: number): string {
  return Number.isFinite(clock) ? new Date(clock).toISOString() : "nowhere";
}
