import { HttpProblem } from "../plugins/errors.js";

export interface AdmissionOptions {
  /** Most that may be under way at a time, in units of `costOf`. */
  most: number;
  /**
   * How far behind the stream may be, as unanswered requests show it, before no more are taken, milliseconds. @default
   * 10_000
   */
  mostBehindMs?: number;
}

const MOST_BEHIND_MS = 10_000;
/** While the stream is behind, one request in so long goes through: its answer tells when the stream has caught up. */
const LOOK_EVERY_MS = 1_000;
/** Outcomes that haven't come are waited for no longer, and no more than so many: an answer can get lost. */
const KEPT_MS = 10 * 60 * 1_000;
const KEPT = 10_000;
const RETRY_AFTER_SECONDS = 5;

/**
 * Decides whether one more request for predictions is taken. A request that can't be answered in time is better refused
 * at once, with when to come again, than kept waiting: what waits takes memory, and its caller has gone away by then.
 */
export class Admission {
  readonly #most: number;
  readonly #mostBehindMs: number;
  /** When what has no outcome yet was asked for, by its reply-to, oldest first: only what had to wait too long. */
  readonly #unanswered = new Map<string, number>();
  #underWay = 0;
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor({ most, mostBehindMs = MOST_BEHIND_MS }: AdmissionOptions) {
    this.#most = most;
    this.#mostBehindMs = mostBehindMs;
  }

  /** What requests under way add up to. */
  get underWay(): number {
    return this.#underWay;
  }

  /**
   * Takes a request. It is under way until the returned function is called.
   *
   * @param waits whether its caller waits for an outcome
   * @throws HttpProblem 503 `overloaded` with Retry-After
   */
  enter(cost: number, waits: boolean): () => void {
    // One that is larger than the limit is taken when it is alone.
    if (this.#underWay > 0 && this.#underWay + cost > this.#most)
      throw overloaded("too many predictions are under way", 1);
    if (waits && this.#behind() && performance.now() - this.#lookedAt < LOOK_EVERY_MS)
      throw overloaded("scoring is too far behind to answer in time", RETRY_AFTER_SECONDS);
    if (waits) this.#lookedAt = performance.now();
    this.#underWay += cost;
    let left = false;
    return () => {
      if (!left) this.#underWay -= cost;
      left = true;
    };
  }

  /** An outcome came in time: the stream isn't behind. */
  inTime(): void {
    this.#unanswered.clear();
  }

  /** The wait for an outcome was over before it came. */
  late(replyTo: string, askedAt: number): void {
    if (this.#unanswered.size < KEPT) this.#unanswered.set(replyTo, askedAt);
  }

  /** An outcome came after all. */
  came(replyTo: string): void {
    this.#unanswered.delete(replyTo);
  }

  #behind(): boolean {
    const now = performance.now();
    for (const [replyTo, askedAt] of this.#unanswered) {
      if (now - askedAt < KEPT_MS) return now - askedAt > this.#mostBehindMs;
      this.#unanswered.delete(replyTo);
    }
    return false;
  }
}

/** What a record counts: one, and one more for each KB. */
export function costOf(records: readonly { value: Buffer | null }[]): number {
  return records.reduce((cost, { value }) => cost + 1 + ((value?.length ?? 0) >> 10), 0);
}

function overloaded(detail: string, seconds: number): HttpProblem {
  return new HttpProblem("overloaded", detail, { headers: { "retry-after": String(seconds) } });
}
