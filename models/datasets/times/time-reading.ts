import { RequestError } from "../../../schemas/errors.js";
import { CLOCK_SKEW_MS, eventTimeFault } from "../../../schemas/transaction-reader.js";
import type { ColumnProfile } from "../column-profile.js";
import { readNumber } from "../numbers.js";
import { parseNumber, quoted } from "../values.js";
import { momentOf, parseDate, type DayOrder } from "./date-text.js";
import type { TimeFormat } from "./time-format.js";
import { describeUnit, fixedUnit, namedLength, sinceStart, timeOf, type Length, type TimeUnit } from "./time-units.js";

/** What the user says of times, and what is known beforehand. */
export interface TimeOptions {
  format?: TimeFormat;
  dayFirst?: boolean;
  /** What the numbers of a data set of this header count. */
  knownLength: Length | null;
  now: number;
}

/** How the cells of the time column are read. */
export interface TimeReading {
  /** Epoch milliseconds; NaN: the text is no such time. */
  parse: (text: string) => number;
  /** For the note. */
  how: string;
  /** What a cell must be, for messages. */
  wanted: string;
}

/**
 * How a column's times are read, by what the user says, and else by its cells.
 *
 * @param where file, line 1 and column, for messages
 * @throws RequestError `csv_ambiguous` where the cells can be read in more than one way
 */
export function readingOf(file: string, column: ColumnProfile, options: TimeOptions): TimeReading {
  const { format, now } = options;
  const { times, numbers } = column;
  if (format?.kind === "pattern")
    return { parse: format.parse, how: `by ${format.pattern}`, wanted: `a time like ${format.pattern}` };
  if (format !== undefined) {
    const { greatest } = numbers;
    return numeric(format.kind === "unit" ? format.unit : sinceStart(format.length, greatest, now));
  }
  const { count: epochLike } = epochUnit(column, now);
  if (times.dates > 0 && times.dates >= times.others && !(epochLike > times.dates))
    return dated(file, column, options.dayFirst);
  if (numbers.numbers > 0) return numeric(unitOf(file, column, options));
  return dated(file, column, options.dayFirst);
}

/** The unit since a fixed day that all numbers of a column fit, and how many they are. */
export function epochUnit(
  { numbers }: Pick<ColumnProfile, "numbers">,
  now: number,
): { unit: TimeUnit | null; count: number } {
  const { least, greatest } = numbers;
  const unit = numbers.numbers === 0 ? null : fixedUnit(least, greatest, now);
  return { unit, count: unit === null ? 0 : numbers.numbers };
}

function unitOf(file: string, { name, numbers }: ColumnProfile, { knownLength, now }: TimeOptions): TimeUnit {
  const { least, greatest } = numbers;
  const fixed = knownLength === null ? fixedUnit(least, greatest, now) : null;
  if (fixed !== null) return fixed;
  const length = knownLength ?? namedLength(name);
  if (length !== null) return sinceStart(length, greatest, now);
  throw new RequestError(
    "csv_ambiguous",
    `${file} line 1, column ${JSON.stringify(name)}: its numbers, ${shown(least)} to ${shown(greatest)}, may be ` +
      "seconds, minutes, hours or days: say which with --time-format seconds (or minutes, hours, days, epoch-days ...)",
  );
}

function shown(number: number): string {
  return Number.isInteger(number) ? number.toLocaleString("en-US") : String(number);
}

function numeric(unit: TimeUnit): TimeReading {
  return {
    parse: (text) => {
      const number = readNumber(text, ".");
      return Number.isNaN(number) ? preciseNumber(text, unit) : timeOf(preciseNumber(text, unit), unit);
    },
    how: describeUnit(unit),
    wanted: `a number, as the times before it are`,
  };
}

/** float64 holds no nanoseconds since 1970, but a count of milliseconds is cut off exactly. */
function preciseNumber(text: string, unit: TimeUnit): number {
  if (unit.ms < 1e-3 && /^\d{16,21}$/.test(text)) return Number(text.slice(0, -6)) * 1e6;
  return parseNumber(text);
}

function dated(file: string, { name, times }: ColumnProfile, dayFirst: boolean | undefined): TimeReading {
  const zone = times.zoneless ? ", UTC where they name no zone" : "";
  const order = dayFirst === undefined ? times.order : dayFirst ? "day first" : "month first";
  const where = `${file} line ${times.firstOpen?.line ?? 1}, column ${JSON.stringify(name)}`;
  if (order === "both")
    throw new RequestError(
      "csv_ambiguous",
      `${where}: line ${times.dayFirst?.line ?? 0} (${times.dayFirst?.text ?? ""}) has the day first, line ` +
        `${times.monthFirst?.line ?? 0} (${times.monthFirst?.text ?? ""}) the month: write all dates in one order`,
    );
  if (order === null && times.open > 0)
    throw new RequestError(
      "csv_ambiguous",
      `${where}: ${quoted(times.firstOpen?.text ?? "")} has the day first or the month, and no date of the column ` +
        "tells: say --day-first, or --no-day-first where the month comes first",
    );
  const chosen: DayOrder = order ?? "day first";
  return {
    parse: (text) => {
      const parts = parseDate(text);
      return parts === null ? Number.NaN : momentOf(parts, chosen);
    },
    how: `dates${times.open > 0 ? `, ${chosen}` : ""}${zone}`,
    wanted: "a time (ISO 8601, YYYY-MM-DD HH:MM:SS or a number)",
  };
}

/** Of a date whose parts stand in columns of their own. */
export const IN_PARTS: TimeReading = {
  parse: (text) => {
    const parts = parseDate(text);
    return parts === null ? Number.NaN : momentOf(parts, "month first");
  },
  how: "a date in parts, UTC where it names no zone",
  wanted: "a date (year, month, day, and a time)",
};

/** What is wrong with an event time, in words; null: nothing. @param text as the file has it */
export function timeProblem(time: number, text: string, how: string, now: number): string | null {
  const fault = eventTimeFault(time, now);
  if (fault === null) return null;
  const read = how.includes("date") ? "" : `, read as ${how}`;
  if (fault === "early") return `${quoted(text)} is not a time from 2000 on${read}`;
  return (
    `${quoted(text)}${read} lies more than ${CLOCK_SKEW_MS / 60_000} minutes in the future, which the stream ` +
    "refuses: say how it is meant with --time-format, or take another column with --columns event_time=NAME"
  );
}

/** Which of several columns has which part of a time. */
export interface TimeParts {
  /** Columns that are joined by a space, in order. */
  joined: number[];
  /** Digits of a time of day that is written as a number: hours and minutes (4), and seconds (6). */
  clockDigits?: 4 | 6;
  year?: number;
  month?: number;
  day?: number;
  hour?: number;
  minute?: number;
  second?: number;
}

/** One text of the cells that make up a time. */
export function composedTime(parts: TimeParts, cells: readonly string[]): string {
  const { joined, year, month, day } = parts;
  const texts: string[] = [];
  if (year !== undefined && month !== undefined && day !== undefined) {
    const name = cells[month].trim();
    texts.push(
      [cells[year].trim(), /^\d/.test(name) ? whole(name) : name.slice(0, 3), whole(cells[day].trim())].join("-"),
    );
  }
  for (const index of joined)
    texts.push(
      index === joined.at(-1) && texts.length > 0
        ? clock(cells[index].trim(), parts.clockDigits ?? 4)
        : cells[index].trim(),
    );
  if (parts.hour !== undefined) {
    const two = (index: number | undefined): string => (index === undefined ? "00" : whole(cells[index].trim()));
    texts.push(`${two(parts.hour)}:${two(parts.minute)}:${two(parts.second)}`);
  }
  return texts.join(" ");
}

/** `3`, `3.0` and `03` as `03`. */
function whole(text: string): string {
  return text.replace(/\.0+$/, "").padStart(2, "0");
}

/** A time of day that was written as a number: `93045` is 09:30:45, `930` is 09:30. */
function clock(text: string, digits: 4 | 6): string {
  if (!/^\d{1,6}$/.test(text)) return text;
  return text
    .padStart(digits, "0")
    .padEnd(6, "0")
    .replace(/^(\d\d)(\d\d)(\d\d)$/, "$1:$2:$3");
}
