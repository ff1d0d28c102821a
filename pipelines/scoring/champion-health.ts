/** This many rows without a score tell against a champion that has failed on more rows than it has scored. */
const TELLING_FAILURES = 8;
/** In this many rows, a tenth without a score tells against the champion, too. */
const TELLING_ROWS = 100;
const TELLING_SHARE = 0.1;
/** Beyond this many rows, the older ones count half. */
const REMEMBERED_ROWS = 512;
/** Two unfinished runs within this time are not a coincidence. */
const INTERRUPTIONS_WITHIN_MS = 5 * 60_000;

/**
 * The health of a champion in one worker: it tells a model that doesn't work from payments that it has no score for.
 * Rows that say nothing about the model (dead letters that are sent again, values that no upload is checked with)
 * aren't counted.
 */
export class ChampionHealth {
  #scored = 0;
  #failed = 0;
  #interruptedAt = Number.NEGATIVE_INFINITY;

  /** Counts the rows of a batch. */
  add(scored: number, failed: number): void {
    this.#scored += scored;
    this.#failed += failed;
    if (this.#scored + this.#failed <= REMEMBERED_ROWS) return;
    this.#scored /= 2;
    this.#failed /= 2;
  }

  /** A run hung, or its process died. @returns whether that has happened before, recently */
  interrupted(now: number): boolean {
    const again = now - this.#interruptedAt < INTERRUPTIONS_WITHIN_MS;
    this.#interruptedAt = now;
    return again;
  }

  /** Whether it has given a score, ever. */
  get hasScored(): boolean {
    return this.#scored > 0;
  }

  /** Why the model is the one to fail, for people; null: it is not. */
  get fault(): string | null {
    const rows = this.#scored + this.#failed;
    const mostly = this.#failed >= TELLING_FAILURES && this.#failed > this.#scored;
    const often = rows >= TELLING_ROWS && this.#failed > rows * TELLING_SHARE;
    return mostly || often ? `of its last ${Math.round(rows)} payments ${Math.round(this.#failed)} got no score` : null;
  }
}
