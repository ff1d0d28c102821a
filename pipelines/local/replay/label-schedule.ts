import type { Dataset } from "../../../models/datasets/dataset.js";
import { LABEL_DELAY_MS } from "../simulator/simulate.js";

/** Rows of a data set, `end` not included. */
export interface Rows {
  dataset: Dataset;
  start: number;
  end: number;
}

/** Labels of transactions that were published, until they become known. Holds no copies. */
export class LabelSchedule {
  readonly #delayMs: number;
  /** In event-time order, like the rows within each. */
  readonly #waiting: Rows[] = [];
  readonly #most: number;
  #rows = 0;

  /**
   * @param delayMs from a transaction's event time to its label's label_time
   * @param most rows that may wait: further ones are never labelled
   */
  constructor(delayMs: number = LABEL_DELAY_MS, most = Number.POSITIVE_INFINITY) {
    this.#delayMs = delayMs;
    this.#most = most;
  }

  /** To be called in event-time order. */
  add({ dataset, start, end }: Rows): void {
    if (this.#rows >= this.#most) return;
    this.#rows += end - start;
    const last = this.#waiting.at(-1);
    if (last?.dataset === dataset && last.end === start) last.end = end;
    else if (end > start) this.#waiting.push({ dataset, start, end });
  }

  /** Takes the rows whose labels are known at `time` (their label_time is not after it), at most `most`. */
  take(time: number, most: number): Rows[] {
    const due: Rows[] = [];
    let left = most;
    while (left > 0) {
      const first = this.#waiting.at(0);
      if (first === undefined) break;
      const { dataset, start } = first;
      let end = start;
      while (end < first.end && end - start < left && dataset.eventTime[end] + this.#delayMs <= time) end++;
      if (end === start) break;
      due.push({ dataset, start, end });
      left -= end - start;
      this.#rows -= end - start;
      first.start = end;
      if (end < first.end) break;
      this.#waiting.shift();
    }
    return due;
  }

  /** Event time of the first transaction whose label hasn't been taken; null when there is none. */
  get next(): number | null {
    const first = this.#waiting.at(0);
    return first === undefined ? null : first.dataset.eventTime[first.start];
  }
}
