import { Growing } from "./attribute-builder.js";
import { EARLIEST_TIME, LATEST_TIME, parseDateTime, parseNumber, quoted, timeOf, timeUnit } from "./values.js";

/**
 * Reads a time column: dates or numbers, as its first cell is. What numbers count shows only in the greatest of them,
 * so they are kept and converted at the end, with the lines of the extremes for messages.
 */
export class TimeBuilder {
  readonly #column: string;
  readonly #values = new Growing(Float64Array);
  #numeric = false;
  #zoneless = false;
  #least = { value: Infinity, line: 0 };
  #greatest = { value: -Infinity, line: 0 };

  constructor(column: string) {
    this.#column = column;
  }

  /** Takes a trimmed cell; the answer is what is wrong with it, if something is. */
  add(text: string, line: number): string | null {
    const number = parseNumber(text);
    if (this.#values.length === 0) this.#numeric = !Number.isNaN(number);
    const value = this.#numeric ? number : parseDateTime(text);
    if (Number.isNaN(value))
      return this.#numeric
        ? `${quoted(text)} is not a number, as the times before it are`
        : `${quoted(text)} is not a time (ISO 8601, YYYY-MM-DD HH:MM:SS or a number)`;
    if (!this.#numeric) {
      if (value < EARLIEST_TIME || value > LATEST_TIME) return beyond(text);
      this.#zoneless ||= !/(Z|UTC|[+-]\d\d(:?\d\d)?)$/i.test(text) || text.length === 10;
    }
    if (value < this.#least.value) this.#least = { value, line };
    if (value > this.#greatest.value) this.#greatest = { value, line };
    this.#values.push(value);
    return null;
  }

  /** Epoch milliseconds in the file's order, and how they were read; or the first cell that is out of range. */
  finish(): { times: Float64Array; note: string; problem: { line: number; message: string } | null } {
    const times = this.#values.take(null);
    if (!this.#numeric)
      return { times, note: this.#zoneless ? "dates, UTC where they name no zone" : "dates", problem: null };
    const unit = timeUnit(this.#column, this.#greatest.value);
    for (let row = 0; row < times.length; row++) times[row] = timeOf(times[row], unit);
    const note = unit.startsWith("relative") ? `${unit} from 2013-09-01` : unit;
    for (const { value, line } of [this.#least, this.#greatest]) {
      const time = timeOf(value, unit);
      if (!(time >= EARLIEST_TIME && time <= LATEST_TIME))
        return { times, note, problem: { line, message: `${beyond(String(value))}, read as ${unit}` } };
    }
    return { times, note, problem: null };
  }
}

function beyond(text: string): string {
  return `${quoted(text)} is not a time from 2000 to 9999`;
}
