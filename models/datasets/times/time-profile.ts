import { momentOf, orderShownBy, parseDate, readClock, type DayOrder } from "./date-text.js";

/** So many cells that are no dates end the looking for them, where they outnumber the dates. */
const ENOUGH_OTHERS = 20;

/** What the cells of a column say of dates and times. */
export class TimeProfile {
  /** Cells that are dates, and how many of those name a time of day. */
  dates = 0;
  timed = 0;
  /** Cells that are neither, and are not empty. */
  others = 0;
  /** Times of day without a date. */
  clocks = 0;
  /** Whether a date names no zone. */
  zoneless = false;
  /** Dates that leave open which number is the day, and those written with points. */
  open = 0;
  dotted = 0;
  /** The first cell that shows either order. */
  dayFirst: { line: number; text: string } | null = null;
  monthFirst: { line: number; text: string } | null = null;
  /** The first open date, for messages. */
  firstOpen: { line: number; text: string } | null = null;
  leastYear = Number.POSITIVE_INFINITY;
  greatestYear = Number.NEGATIVE_INFINITY;
  /** Steps from a date to a later one, and to an earlier one, in the file's order. */
  ups = 0;
  downs = 0;
  #last = Number.NaN;

  /** @param text trimmed, not empty */
  add(text: string, line: number): void {
    if (this.others > ENOUGH_OTHERS && this.others > this.dates + this.clocks) return;
    const parts = parseDate(text);
    if (parts === null) {
      if (text.includes(":") && readClock(` ${text}`)?.rest.trim() === "") this.clocks += 1;
      else this.others += 1;
      return;
    }
    this.dates += 1;
    if (parts.timed) this.timed += 1;
    if (parts.zone === null) this.zoneless = true;
    this.leastYear = Math.min(this.leastYear, parts.year);
    this.greatestYear = Math.max(this.greatestYear, parts.year);
    if (parts.open) {
      this.open += 1;
      if (parts.dotted) this.dotted += 1;
      this.firstOpen ??= { line, text };
      const shown = orderShownBy(parts);
      if (shown === "day first") this.dayFirst ??= { line, text };
      else if (shown === "month first") this.monthFirst ??= { line, text };
    }
    const moment = momentOf(parts, this.dayFirst === null ? "month first" : "day first");
    if (moment > this.#last) this.ups += 1;
    else if (moment < this.#last) this.downs += 1;
    this.#last = moment;
  }

  /** Whether every cell that holds something is a date. */
  get allDates(): boolean {
    return this.dates > 0 && this.others === 0 && this.clocks === 0;
  }

  /** Whether every cell that holds something is a time of day. */
  get allClocks(): boolean {
    return this.clocks > 0 && this.others === 0 && this.dates === 0;
  }

  /** The order that the cells show; null: they leave it open, "both": some show one, some the other. */
  get order(): DayOrder | "both" | null {
    if (this.dayFirst !== null && this.monthFirst !== null) return "both";
    if (this.dayFirst !== null) return "day first";
    if (this.monthFirst !== null) return "month first";
    return this.open > 0 && this.dotted === this.open ? "day first" : null;
  }
}
