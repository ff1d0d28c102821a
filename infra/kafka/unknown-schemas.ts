import type { SchemaKey } from "../../schemas/wire-format.js";

/** How long an id that nobody knows is not asked for again. */
const UNKNOWN_FOR_MS = 5_000;
/** Ids come from producers: only a bounded number of them is remembered. */
const MOST_KEPT = 10_000;
/**
 * For this long after a wait in vain, other waits are short: whoever sends made-up ids must not hold up everybody else.
 */
const RESTED_MS = 30_000;
const SHORT_MS = 1_000;
/** This many ids are waited for in such a time, one after the other or at once: more than that are made up. */
const MOST_WAITED_FOR = 64;
const MOST_SHORT_WAITS = 10;

/** Tracks which schema ids nobody knows, and how long each may be waited for. */
export class UnknownSchemas {
  readonly #patienceMs: number;
  /** When each was last asked for in vain, oldest first. */
  readonly #since = new Map<SchemaKey, number>();
  #shortUntil = 0;
  #shortWaits = 0;

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** Whether an id was asked for in vain a moment ago. */
  has(key: SchemaKey): boolean {
    return Date.now() - (this.#since.get(key) ?? 0) < UNKNOWN_FOR_MS;
  }

  /** Until when an id may be retried, epoch milliseconds. @param underWay ids that are being asked for */
  deadline(key: SchemaKey, underWay: number): number {
    const now = Date.now();
    // An id that was waited for once is somebody's mistake by now.
    if (this.#since.has(key) || underWay > MOST_WAITED_FOR) return now;
    if (now >= this.#shortUntil) {
      this.#shortWaits = 0;
      return now + this.#patienceMs;
    }
    // Readers that look up one id after the other would otherwise be held up for as many seconds as there are ids.
    if (this.#shortWaits >= MOST_SHORT_WAITS) return now;
    this.#shortWaits += 1;
    return now + Math.min(SHORT_MS, this.#patienceMs);
  }

  /** Notes that an id was asked for in vain. */
  add(key: SchemaKey): void {
    if (!this.#since.has(key)) this.#shortUntil = Date.now() + RESTED_MS;
    this.#since.delete(key);
    this.#since.set(key, Date.now());
    for (const oldest of this.#since.keys()) {
      if (this.#since.size <= MOST_KEPT) break;
      this.#since.delete(oldest);
    }
  }
}
