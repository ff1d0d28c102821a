import type { Section } from "../../infra/snapshots.js";
import { float64Of } from "./columns.js";
import { LATENESS_MS, LEAP_MS } from "./history-terms.js";

/** Transactions of a block: what half of them say together moves the clock of a busy partition. */
export const BLOCK_ROWS = 256;
/** A partition is busy while the medians of two blocks in a row lie no further apart than this. */
const BUSY_MS = LEAP_MS / 2;
/** Size of the saved state beside the block's times. */
const HEAD = 6;

/**
 * How far the event time of a partition has come: a fold of its accepted transactions, in the order of the log. It is
 * the greatest event time that was believed, so a few transactions that are far ahead of the others must not be:
 *
 * - In a busy partition, nothing is believed that lies more than LEAP_MS ahead of the median of the last block of 256
 *   transactions. Payments at the present among a stream that lies weeks behind don't move it, unless they are the
 *   majority.
 * - In a quiet one, where gaps of a day are usual, a leap of more than LEAP_MS is believed once two transactions in a
 *   row made it.
 */
export class PartitionClock {
  /** Epoch milliseconds; -Infinity at first. */
  time = Number.NEGATIVE_INFINITY;
  /** Event time of the last transaction, where it leapt; else NaN. */
  #leap = Number.NaN;
  /** Median of the last whole block; -Infinity: none yet. */
  #median = Number.NEGATIVE_INFINITY;
  #busy = false;
  /** What the clock was raised to by others (`raise`). */
  #floor = Number.NEGATIVE_INFINITY;
  readonly #block = new Float64Array(BLOCK_ROWS);
  #filled = 0;

  /** The next accepted transaction. A late one does not move the clock. */
  advance(time: number): void {
    if (time < this.time - LATENESS_MS) {
      this.#leap = Number.NaN;
      return;
    }
    this.#believe(time);
    this.#block[this.#filled++] = time;
    if (this.#filled === BLOCK_ROWS) this.#endBlock();
  }

  /** Takes over the time of another clock. */
  raise(time: number): void {
    this.#floor = Math.max(this.#floor, time);
    if (!(time > this.time)) return;
    this.time = time;
    this.#leap = Number.NaN;
  }

  copyFrom(other: PartitionClock): void {
    this.time = other.time;
    this.#leap = other.#leap;
    this.#median = other.#median;
    this.#busy = other.#busy;
    this.#floor = other.#floor;
    this.#filled = other.#filled;
    this.#block.set(other.#block.subarray(0, other.#filled));
  }

  /** The state, for a snapshot. */
  section(name: string): Section {
    const data = new Float64Array(HEAD + this.#filled);
    data.set([this.time, this.#leap, this.#median, Number(this.#busy), this.#floor, this.#filled]);
    data.set(this.#block.subarray(0, this.#filled), HEAD);
    return { name, data };
  }

  /** Snapshots of earlier versions have no such section: the clock then stands at `time`. */
  static restore(sections: ReadonlyMap<string, ArrayBufferView>, name: string, time: number): PartitionClock {
    const clock = new PartitionClock();
    clock.time = time;
    if (!sections.has(name)) return clock;
    const data = float64Of(sections, name);
    const [, leap, median, busy, floor, filled] = data;
    clock.#leap = leap;
    clock.#median = median;
    clock.#busy = busy === 1;
    clock.#floor = floor;
    clock.#filled = filled;
    clock.#block.set(data.subarray(HEAD, HEAD + filled));
    return clock;
  }

  #believe(time: number): void {
    if (this.#busy) {
      if (time <= Math.max(this.#median, this.#floor) + LEAP_MS) this.time = Math.max(this.time, time);
      return;
    }
    const leaps = time > this.time + LEAP_MS && this.time !== Number.NEGATIVE_INFINITY;
    if (!leaps) this.time = Math.max(this.time, time);
    else if (!Number.isNaN(this.#leap)) this.time = Math.min(this.#leap, time);
    this.#leap = leaps ? time : Number.NaN;
  }

  #endBlock(): void {
    const before = this.#median;
    this.#median = Float64Array.from(this.#block).sort()[BLOCK_ROWS / 2 - 1];
    this.#busy = Math.abs(this.#median - before) <= BUSY_MS;
    this.time = Math.max(this.time, this.#median);
    this.#leap = Number.NaN;
    this.#filled = 0;
  }
}
