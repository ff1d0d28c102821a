/** So many rows without a score tell of a champion that never gave one, or gives fewer than it doesn't. */
const TELLING_FAILURES = 8;
/** Of so many rows, a tenth without a score tells of the champion, too. */
const TELLING_ROWS = 100;
const TELLING_SHARE = 0.1;
/** Beyond so many rows the older ones count half. */
const REMEMBERED_ROWS = 512;
/** Two runs that didn't end within this time are no chance. */
const INTERRUPTIONS_WITHIN_MS = 5 * 60_000;

/**
 * How a champion does in one worker: it tells a model that doesn't work from payments that it has no score for. Rows
 * that say nothing of the model (dead letters that are sent again, values that no upload is checked with) aren't
 * counted.
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

  /** A run hung, or its process died. @returns whether that has happened before, not long ago */
  interrupted(now: number): boolean {
    const again = now - this.#interruptedAt < INTERRUPTIONS_WITHIN_MS;
    this.#interruptedAt = now;
    return again;
  }

  /** Whether it has given a score, ever. */
  get hasScored(): boolean {
    return this.#scored > 0;
  }

  /** Whether it is the model that fails; null: it is not. For people. */
  get fault(): string | null {
    const rows = this.#scored + this.#failed;
    const mostly = this.#failed >= TELLING_FAILURES && this.#failed > this.#scored;
    const often = rows >= TELLING_ROWS && this.#failed > rows * TELLING_SHARE;
    return mostly || often ? `of its last ${Math.round(rows)} payments ${Math.round(this.#failed)} got no score` : null;
  }
}
