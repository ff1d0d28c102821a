const DAY_MS = 86_400_000;
const BLOCK = 256;

/**
 * How far a partition has come, by the words of infra/decisions/0016-time-and-ranges.md, with nothing of the code under
 * test.
 */
export class ReferenceClock {
  time = -Infinity;
  #leapt: number | null = null;
  #block: number[] = [];
  readonly #medians: number[] = [];

  advance(time: number): void {
    if (time < this.time - DAY_MS) {
      this.#leapt = null;
      return;
    }
    const [last, before] = [this.#medians.at(-1), this.#medians.at(-2)];
    if (last !== undefined && before !== undefined && Math.abs(last - before) <= DAY_MS / 2) {
      if (time <= last + DAY_MS) this.time = Math.max(this.time, time);
    } else {
      const leaps = this.time !== -Infinity && time > this.time + DAY_MS;
      if (!leaps) this.time = Math.max(this.time, time);
      else if (this.#leapt !== null) this.time = Math.min(this.#leapt, time);
      this.#leapt = leaps ? time : null;
    }
    if (this.#block.push(time) < BLOCK) return;
    const median = this.#block.sort((a, b) => a - b)[BLOCK / 2 - 1];
    this.#block = [];
    this.#medians.push(median);
    this.#leapt = null;
    this.time = Math.max(this.time, median);
  }
}
