import { setTimeout } from "node:timers/promises";

/** How long to wait before looking again whether a row is due, milliseconds. */
const TICK_MS = 5;

export interface Clock {
  /** Milliseconds since some moment, never going back. */
  now(): number;
  sleep(ms: number): Promise<void>;
}

const systemClock: Clock = { now: () => performance.now(), sleep: (ms) => setTimeout(ms) };

/**
 * Deals out rows at a rate. What is due is reckoned from the start, so that late ticks and slow acknowledgements don't
 * add up: after a hold-up the rows that are due come at once.
 */
export class Pace {
  readonly #rate: number | null;
  readonly #clock: Clock;
  readonly #start: number;
  #dealt = 0;

  /** @param rate rows a second; null: as fast as possible */
  constructor(rate: number | null, clock: Clock = systemClock) {
    this.#rate = rate;
    this.#clock = clock;
    this.#start = clock.now();
  }

  /** Waits until a row is due; returns how many are, at most `most`; 0 when `signal` aborts first. */
  async take(most: number, signal: AbortSignal): Promise<number> {
    for (;;) {
      if (signal.aborted) return 0;
      const due =
        this.#rate === null ? most : Math.floor(((this.#clock.now() - this.#start) / 1000) * this.#rate) - this.#dealt;
      if (due >= 1) return Math.min(due, most);
      await this.#clock.sleep(TICK_MS);
    }
  }

  /** To be called with the number of rows that were sent. */
  sent(rows: number): void {
    this.#dealt += rows;
  }
}
