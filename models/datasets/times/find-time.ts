import { FURTHER_NAMES, NAMES } from "../column-names.js";
import type { ColumnProfile } from "../column-profile.js";
import { epochUnit, type TimeParts } from "./time-reading.js";

/** Where a file's event times stand. */
export interface FoundTime {
  /** Columns; empty: there are none. */
  indexes: number[];
  parts: TimeParts;
  why: string;
  /** For people. */
  notes: string[];
}

/** Names of a date's parts. */
const PARTS = {
  year: /^(trans(action)?|tx|txn|event)?(year|yr|yyyy)$/,
  month: /^(trans(action)?|tx|txn|event)?(month|mon|mm)$/,
  day: /^(trans(action)?|tx|txn|event)?(day|dd|dayofmonth)$/,
  hour: /^(trans(action)?|tx|txn|event)?(hour|hr|hh)$/,
  minute: /^(trans(action)?|tx|txn|event)?(minute|min|mi)$/,
  second: /^(trans(action)?|tx|txn|event)?(second|sec|ss)$/,
  clock: /^(trans(action)?|tx|txn|event)?(time|timeofday|hhmm|hhmmss)$/,
  date: /date|^day$|^dt$/,
} as const;
/** Times that are not the transaction's. */
const OTHER_TIMES = new RegExp(
  "birth|dob|born|expir|valid|open|signup|regist|member|login|since|join|issue|label|fraud|chargeback|report|settle|" +
    "post(ed|ing)|update|modif|load|ingest|clos|due|activat",
);
const TIMELY = /time|date|creat|when|stamp|occur|event|trans|purchase|(at|ts|dt)$/;

/**
 * Finds the event time: a date in parts (year, month, day ...), a date and a time of day in two columns, a column of
 * one of the names, or one whose cells are times, whatever it is called.
 *
 * @param given columns that are to have it; null: they are to be found
 * @param taken columns of other roles
 */
export function findTime(
  columns: readonly ColumnProfile[],
  names: readonly string[],
  given: readonly number[] | null,
  taken: ReadonlySet<number>,
  now: number,
): FoundTime {
  const free = names.map((_, index) => index).filter((index) => !taken.has(index) && !columns[index].isEmpty);
  if (given !== null) return { indexes: [...given], parts: partsOf(given, columns, names), why: "", notes: [] };
  const inParts = dateInParts(free, columns, names);
  if (inParts !== null) return inParts;
  const named = [...NAMES.event_time, ...FURTHER_NAMES.event_time]
    .map((alias) => free.find((index) => names[index] === alias && mayBeTime(columns[index])))
    .find((index) => index !== undefined);
  if (named !== undefined) return withClock(named, free, columns, names, "by its name");
  return byCells(free, columns, names, now);
}

function mayBeTime({ times, numbers }: ColumnProfile): boolean {
  return times.dates > 0 || times.clocks > 0 || numbers.numbers > 0 || times.others > 0;
}

/** What each of the columns has of a time. */
function partsOf(indexes: readonly number[], columns: readonly ColumnProfile[], names: readonly string[]): TimeParts {
  const clock = columns[indexes[indexes.length - 1]].numbers;
  const parts: TimeParts = { joined: [], clockDigits: clock.greatest > 2359 ? 6 : 4 };
  if (indexes.length === 1) return { joined: [indexes[0]] };
  for (const index of indexes) {
    const part = (["year", "month", "day", "hour", "minute", "second"] as const).find(
      (candidate) => PARTS[candidate].test(names[index]) && columns[index].times.dates === 0,
    );
    if (part !== undefined && parts[part] === undefined) parts[part] = index;
    else parts.joined.push(index);
  }
  if (parts.year !== undefined && parts.month !== undefined && parts.day !== undefined) return parts;
  if (parts.year === undefined && parts.month === undefined && parts.day === undefined) return parts;
  return { joined: [...indexes], clockDigits: parts.clockDigits ?? 4 };
}

function dateInParts(
  free: readonly number[],
  columns: readonly ColumnProfile[],
  names: readonly string[],
): FoundTime | null {
  const find = (part: keyof typeof PARTS): number | undefined =>
    free.find((index) => PARTS[part].test(names[index]) && columns[index].times.dates === 0);
  const [year, month, day, hour, clock] = [find("year"), find("month"), find("day"), find("hour"), find("clock")];
  if (year === undefined || month === undefined || day === undefined) return null;
  const fourDigits = columns[year].numbers.least >= 1900 && columns[year].numbers.greatest < 2200;
  if (!fourDigits) return null;
  const indexes = [year, month, day];
  if (clock !== undefined && columns[clock].times.clocks + columns[clock].numbers.numbers > 0) indexes.push(clock);
  else if (hour !== undefined)
    indexes.push(hour, ...[find("minute"), find("second")].filter((index) => index !== undefined));
  return { indexes, parts: partsOf(indexes, columns, names), why: "a date in several columns", notes: [] };
}

/** A date without a time of day takes that of another column, and the other way round. */
function withClock(
  index: number,
  free: readonly number[],
  columns: readonly ColumnProfile[],
  names: readonly string[],
  why: string,
): FoundTime {
  const { times } = columns[index];
  const others = free.filter((other) => other !== index);
  const join = (indexes: number[]): FoundTime => ({
    indexes,
    parts: partsOf(indexes, columns, names),
    why: "a date and a time in two columns",
    notes: [],
  });
  if (times.allClocks) {
    const dates = others.filter((other) => columns[other].times.allDates && columns[other].times.timed === 0);
    const date = dates.find((other) => PARTS.date.test(names[other])) ?? dates.at(0);
    if (date !== undefined) return join([date, index]);
  }
  if (times.allDates && times.timed === 0) {
    const clock =
      others.find((other) => columns[other].times.allClocks) ??
      others.find((other) => PARTS.hour.test(names[other]) && columns[other].numbers.greatest <= 23);
    if (clock !== undefined) return join([index, clock]);
  }
  return { indexes: [index], parts: { joined: [index] }, why, notes: [] };
}

function byCells(
  free: readonly number[],
  columns: readonly ColumnProfile[],
  names: readonly string[],
  now: number,
): FoundTime {
  const scored = free
    .map((index) => ({ index, score: scoreOf(columns[index], names[index], now) }))
    .filter(({ score }) => score !== null)
    .sort((a, b) => (b.score ?? 0) - (a.score ?? 0));
  const best = scored.at(0);
  const quote = ({ index }: { index: number }): string => JSON.stringify(columns[index].name);
  if (best === undefined) return { indexes: [], parts: { joined: [] }, why: "", notes: [] };
  if ((best.score ?? 0) < 0)
    return {
      indexes: [],
      parts: { joined: [] },
      why: "",
      notes: [
        `column ${quote(best)} holds times, but not the transactions', by its name: --columns event_time=NAME takes it`,
      ],
    };
  const found = withClock(best.index, free, columns, names, "its cells are times");
  const rest = scored.slice(1).filter(({ index }) => !found.indexes.includes(index));
  if (rest.length > 0)
    found.notes.push(`${rest.map(quote).join(", ")} hold times, too: choose with --columns event_time=NAME`);
  return found;
}

/** How likely a column's cells are the event times; null: they are no times. */
function scoreOf({ times, numbers, rows }: ColumnProfile, name: string, now: number): number | null {
  const timely = TIMELY.test(name);
  const other = OTHER_TIMES.test(name) ? -10 : 0;
  if (times.allDates && times.dates === rows && times.leastYear >= 2000 && times.ups + times.downs > 0) {
    // Row ids of eight digits may be dates by chance, but not all of them.
    const sorted = times.ups > 100 * times.downs ? 2 : 0;
    return other + (times.timed > 0 ? 3 : 0) + (timely ? 2 : 0) + sorted;
  }
  const whole = numbers.numbers === rows && numbers.otherCount === 0 && numbers.greatest > numbers.least;
  if (!whole || !timely || numbers.least < 9e8) return null;
  const { unit } = epochUnit({ numbers }, now);
  return unit === null ? null : other + 1;
}
