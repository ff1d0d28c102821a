import { EARLIEST_EVENT_TIME, CLOCK_SKEW_MS } from "../../../schemas/transaction-reader.js";
import { RELATIVE_TIME_BASE } from "../values.js";

/** What the numbers of a time column count. */
export interface TimeUnit {
  name: string;
  /** Milliseconds of one. */
  ms: number;
  /** Epoch milliseconds of zero. */
  from: number;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** As a time of the year means nothing where only months are known. */
const MONTH = 30 * DAY;

export const LENGTHS = {
  nanoseconds: 1e-6,
  microseconds: 1e-3,
  milliseconds: 1,
  seconds: SECOND,
  minutes: MINUTE,
  hours: HOUR,
  days: DAY,
  weeks: 7 * DAY,
  months: MONTH,
} as const;
export type Length = keyof typeof LENGTHS;

/** Day 0 of spreadsheets. */
const EXCEL_EPOCH = Date.UTC(1899, 11, 30);

export function sinceEpoch(length: Length): TimeUnit {
  return { name: `epoch ${length}`, ms: LENGTHS[length], from: 0 };
}

export const EXCEL_DAYS: TimeUnit = { name: "a spreadsheet's days", ms: DAY, from: EXCEL_EPOCH };

/**
 * Since a start of the file's own, which is taken to be 2013-09-01, or earlier where that would lead into the future.
 */
export function sinceStart(length: Length, greatest: number, now: number): TimeUnit {
  const latest = Math.floor((now - greatest * LENGTHS[length]) / DAY) * DAY;
  const from = Math.max(EARLIEST_EVENT_TIME, Math.min(RELATIVE_TIME_BASE, latest));
  return { name: `relative ${length}`, ms: LENGTHS[length], from };
}

/** A number in epoch milliseconds. */
export function timeOf(number: number, { ms, from }: TimeUnit): number {
  return from + Math.round(number * ms);
}

/** How a unit is told in a note. */
export function describeUnit(unit: TimeUnit): string {
  return unit.name.startsWith("relative")
    ? `${unit.name} from ${new Date(unit.from).toISOString().slice(0, 10)}`
    : unit.name;
}

/** By what is plausible: each takes numbers of another size, so that no two fit. */
const EPOCH_LENGTHS: readonly Length[] = ["seconds", "milliseconds", "microseconds", "nanoseconds"];
/** The same of larger units, whose numbers other counts may reach, too. */
const COARSE: readonly TimeUnit[] = [sinceEpoch("minutes"), sinceEpoch("hours"), sinceEpoch("days"), EXCEL_DAYS];
/** A greatest time after this is none at all, not one to come. */
const FAR = Date.UTC(2100, 0, 1);

/** The unit since a fixed day that numbers from `least` to `greatest` must count, by their size; null: none. */
export function fixedUnit(least: number, greatest: number, now: number): TimeUnit | null {
  for (const length of EPOCH_LENGTHS) {
    const time = greatest * LENGTHS[length];
    if (time >= EARLIEST_EVENT_TIME && time < FAR) return sinceEpoch(length);
  }
  // What counts from the file's start begins close to zero, compared with where it ends.
  for (const unit of COARSE)
    if (
      least > greatest / 4 &&
      timeOf(least, unit) >= EARLIEST_EVENT_TIME &&
      timeOf(greatest, unit) <= now + CLOCK_SKEW_MS
    )
      return unit;
  return null;
}

/** The unit that a column's name tells; null: it tells none. */
export function namedLength(column: string): Length | null {
  const name = column.toLowerCase();
  for (const [pattern, length] of [
    [/nano|(^|[_\W])ns$/, "nanoseconds"],
    [/micro|(^|[_\W])us$/, "microseconds"],
    [/milli|(^|[_\W])ms$/, "milliseconds"],
    [/second|(^|[_\W])secs?($|[_\W])|_s$/, "seconds"],
    [/minute|(^|[_\W])mins?($|[_\W])/, "minutes"],
    [/hour|(^|[_\W])hrs?($|[_\W])/, "hours"],
    [/days?($|[_\W])/, "days"],
    [/weeks?($|[_\W])/, "weeks"],
    [/months?($|[_\W])/, "months"],
  ] as const)
    if (pattern.test(name)) return length;
  return null;
}
