/** Which of a date's first two numbers is the day. */
export type DayOrder = "day first" | "month first";

/** A date's parts as they stand in a text. */
export interface DateParts {
  year: number;
  /** 1 to 12; where `order` is open, the first number. */
  month: number;
  day: number;
  /** Whether the text leaves open which number is the day: `3/4/2024`. */
  open: boolean;
  /** Its numbers are separated by points, as where the day comes first. */
  dotted: boolean;
  /** Milliseconds of the day. */
  time: number;
  /** Minutes ahead of UTC; null: the text names no zone. */
  zone: number | null;
  /** Whether it says a time of day. */
  timed: boolean;
}

const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH =
  "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|" +
  "nov(?:ember)?|dec(?:ember)?";
const WEEKDAY = /^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+/i;

/** Year, month, day. */
const YEAR_FIRST = /^(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?![\d])/;
const COMPACT = /^(\d{4})(\d\d)(\d\d)(?:[T _-]?(\d\d)(\d\d)(\d\d)?(?:\.(\d{1,9}))?)?(?=$|[ Z+-])/i;
const COMPACT_DATE = /^(\d{4})(\d\d)(\d\d)(?=[ T])/;
/** Two numbers, then the year. */
const YEAR_LAST = /^(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})(?![\d])/;
const DAY_MONTH_NAME = new RegExp(
  `^(\\d{1,2})(?:st|nd|rd|th)?[-/ .]{1,2}(${MONTH})\\.?[-/ .,]{1,2}(\\d{4}|\\d{2})(?!\\d)`,
  "i",
);
const MONTH_NAME_DAY = new RegExp(`^(${MONTH})\\.?[-/ ](\\d{1,2})(?:st|nd|rd|th)?,?[-/ ]{1,2}(\\d{4})(?!\\d)`, "i");
const YEAR_MONTH_NAME = new RegExp(`^(\\d{4})[-/ ](${MONTH})\\.?[-/ ](\\d{1,2})(?!\\d)`, "i");
/** As C's asctime and `date` write it: the year behind the time. */
const ASCTIME = new RegExp(
  `^(${MONTH})\\s+(\\d{1,2})\\s+(\\d\\d:\\d\\d:\\d\\d)(?:\\s+([A-Z]{3,4}|[+-]\\d{4}))?\\s+(\\d{4})$`,
  "i",
);

const CLOCK = new RegExp(
  /^(?:T|,?\s+(?:at\s+)?|_|-|:)?(\d{1,2})(?::(\d\d)(?::(\d\d)(?:[.,:](\d{1,9}))?)?)?\s*/.source +
    /([ap])?(?:\.?m\.?)?(?=$|[\sZ+-])/.source,
  "i",
);
const ZONE = /^\s*(Z|[A-Z]{2,4}|(?:UTC|GMT)?[+-]\d\d(?::?\d\d)?)?(?:\s*\([A-Za-z ]+\)|\[[A-Za-z_/]+\])?$/i;

/** Minutes ahead of UTC, of the names that mean one zone in mail and logs. */
const ZONES: Readonly<Record<string, number>> = {
  z: 0,
  utc: 0,
  gmt: 0,
  ut: 0,
  est: -300,
  edt: -240,
  cst: -360,
  cdt: -300,
  mst: -420,
  mdt: -360,
  pst: -480,
  pdt: -420,
  wet: 0,
  cet: 60,
  cest: 120,
  eet: 120,
  eest: 180,
  msk: 180,
};

/** A text's date and time; null: it is none, or one that no calendar has. */
export function parseDate(text: string): DateParts | null {
  // Most cells are no dates; no notation begins with anything else.
  const first = text.charCodeAt(0);
  if (text.length < 6 || text.length > 60) return null;
  if (first >= DIGIT_0 && first <= DIGIT_9) {
    if (text.charCodeAt(4) === DASH && text.charCodeAt(7) === DASH) {
      const plain = plainDate(text);
      if (plain !== undefined) return plain;
    }
    if (isNumber(text)) return text.length === 8 || text.length === 12 || text.length === 14 ? compactDate(text) : null;
    return compactDate(text) ?? dateAndClock(text);
  }
  if (!((first >= 65 && first <= 90) || (first >= 97 && first <= 122)) || !/\d/.test(text)) return null;
  const bare = text.replace(WEEKDAY, "");
  return asctime(bare) ?? compactDate(bare) ?? dateAndClock(bare);
}

const DIGIT_0 = 48;
const DIGIT_9 = 57;
const DASH = 45;

/**
 * `2024-03-01` and `2024-03-01 12:30:00`, which nearly all files have, without a regular expression. Undefined: another
 * notation.
 */
function plainDate(text: string): DateParts | null | undefined {
  const { length } = text;
  if (length !== 10 && length !== 19) return undefined;
  const year = digits(text, 0, 4);
  const month = digits(text, 5, 2);
  const day = digits(text, 8, 2);
  let time = 0;
  if (length === 19) {
    const [hour, minute, second] = [digits(text, 11, 2), digits(text, 14, 2), digits(text, 17, 2)];
    const between = text[10];
    if ((between !== " " && between !== "T") || text[13] !== ":" || text[16] !== ":") return undefined;
    time = clockMs(hour, minute, second, "");
  }
  if (Number.isNaN(year + month + day + time)) return undefined;
  return valid({ year, month, day, open: false, dotted: false, time, zone: null, timed: length === 19 });
}

/** NaN: they are none. */
function digits(text: string, from: number, count: number): number {
  let value = 0;
  for (let at = from; at < from + count; at++) {
    const digit = text.charCodeAt(at) - DIGIT_0;
    if (!(digit >= 0 && digit <= 9)) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}

/** Digits, perhaps with one point. */
function isNumber(text: string): boolean {
  let points = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 46) points += 1;
    else if (code < DIGIT_0 || code > DIGIT_9) return false;
  }
  return points < 2;
}

function compactDate(text: string): DateParts | null {
  const match = COMPACT.exec(text);
  if (match === null) return null;
  const [whole, year, month, day, hour, minute = "0", second = "0", fraction = ""] = match;
  const timed = (hour as string | undefined) !== undefined;
  const time = timed ? clockMs(Number(hour), Number(minute), Number(second), fraction) : 0;
  const zone = zoneOf(text.slice(whole.length));
  if (Number.isNaN(time) || zone === undefined) return null;
  return valid({
    year: Number(year),
    month: Number(month),
    day: Number(day),
    open: false,
    dotted: false,
    time,
    zone,
    timed,
  });
}

function asctime(text: string): DateParts | null {
  const match = ASCTIME.exec(text);
  if (match === null) return null;
  const [, month, day, clock, zoneName = "", year] = match;
  const [hour, minute, second] = clock.split(":").map(Number);
  const zone = zoneOf(zoneName);
  const time = clockMs(hour, minute, second, "");
  if (zone === undefined || Number.isNaN(time)) return null;
  return valid({
    year: Number(year),
    month: monthOf(month),
    day: Number(day),
    open: false,
    dotted: false,
    time,
    zone,
    timed: true,
  });
}

function dateAndClock(text: string): DateParts | null {
  const date = calendarDate(text);
  if (date === null) return null;
  const rest = text.slice(date.length);
  if (rest === "") return valid({ ...date, time: 0, zone: null, timed: false });
  const clock = readClock(rest);
  const zone = zoneOf(clock === null ? rest : clock.rest);
  // A zone without a time, as in `2024-03-01Z`, is one of a day.
  if (zone === undefined || (clock === null && zone === null)) return null;
  return valid({ ...date, time: clock?.time ?? 0, zone, timed: clock !== null });
}

type CalendarDate = Pick<DateParts, "year" | "month" | "day" | "open" | "dotted"> & {
  /** Of its text. */ length: number;
};

function calendarDate(text: string): CalendarDate | null {
  let match = YEAR_FIRST.exec(text);
  const at = (year: string, month: number, day: string, open = false, dotted = false): CalendarDate => ({
    year: fullYear(year),
    month,
    day: Number(day),
    open,
    dotted,
    length: (match as RegExpExecArray)[0].length,
  });
  if (match !== null) return at(match[1], Number(match[3]), match[4]);
  if ((match = YEAR_LAST.exec(text)) !== null) return at(match[4], Number(match[1]), match[3], true, match[2] === ".");
  if ((match = COMPACT_DATE.exec(text)) !== null) return at(match[1], Number(match[2]), match[3]);
  if ((match = DAY_MONTH_NAME.exec(text)) !== null) return at(match[3], monthOf(match[2]), match[1]);
  if ((match = MONTH_NAME_DAY.exec(text)) !== null) return at(match[3], monthOf(match[1]), match[2]);
  if ((match = YEAR_MONTH_NAME.exec(text)) !== null) return at(match[1], monthOf(match[2]), match[3]);
  return null;
}

/** The time of day that a text begins with, milliseconds, and what follows it; null: it begins with none. */
export function readClock(text: string): { time: number; rest: string } | null {
  const match = CLOCK.exec(text);
  if (match === null) return null;
  const [whole, hour, minute, second = "0", fraction = "", half] = match;
  // `2024-03-01 5` is no time, `5 PM` is.
  if ((minute as string | undefined) === undefined && (half as string | undefined) === undefined) return null;
  const twelve = (half as string | undefined) !== undefined;
  if (twelve && (Number(hour) < 1 || Number(hour) > 12)) return null;
  const hours = twelve ? (Number(hour) % 12) + (half.toLowerCase() === "p" ? 12 : 0) : Number(hour);
  const time = clockMs(hours, Number((minute as string | undefined) ?? 0), Number(second), fraction);
  return Number.isNaN(time) ? null : { time, rest: text.slice(whole.length) };
}

/** NaN: no clock shows it. 24:00 and a leap second are not taken: JavaScript's time line has neither. */
function clockMs(hour: number, minute: number, second: number, fraction: string): number {
  if (hour > 23 || minute > 59 || second > 59) return Number.NaN;
  const whole = ((hour * 60 + minute) * 60 + second) * 1000;
  return fraction === "" ? whole : whole + Math.floor(Number(`0.${fraction}0`) * 1000 + 1e-6);
}

/** Minutes ahead of UTC; null: none is named; undefined: the text is no zone. */
function zoneOf(text: string): number | null | undefined {
  const match = ZONE.exec(text);
  if (match === null) return undefined;
  const name = ((match[1] as string | undefined) ?? "").toLowerCase();
  if (name === "") return null;
  if (name in ZONES) return ZONES[name];
  const offset = /^(?:utc|gmt)?([+-])(\d\d):?(\d\d)?$/.exec(name);
  if (offset === null) return undefined;
  const minutes = Number(offset[2]) * 60 + Number((offset[3] as string | undefined) ?? "0");
  return minutes > 14 * 60 ? undefined : offset[1] === "-" ? -minutes : minutes;
}

function monthOf(name: string): number {
  return MONTHS.indexOf(name.slice(0, 3).toLowerCase()) + 1;
}

/** Two digits mean 1969 to 2068, as in C. */
function fullYear(text: string): number {
  const year = Number(text);
  return text.length > 2 ? year : year < 69 ? 2000 + year : 1900 + year;
}

/** Null: no calendar has that day, whichever number it is. */
function valid(parts: DateParts): DateParts | null {
  const { year, month, day, open } = parts;
  return isDay(year, month, day) || (open && isDay(year, day, month)) ? parts : null;
}

function isDay(year: number, month: number, day: number): boolean {
  if (month < 1 || month > 12 || day < 1) return false;
  if (month === 2) return day <= (year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28);
  return day <= (month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31);
}

/** Epoch milliseconds, in UTC where the text names no zone; NaN: in that order it is no date. */
export function momentOf({ year, month, day, open, time, zone }: DateParts, order: DayOrder): number {
  const [m, d] = open && order === "day first" ? [day, month] : [month, day];
  if (!isDay(year, m, d)) return Number.NaN;
  return Date.UTC(year, m - 1, d) + time - (zone ?? 0) * 60_000;
}

/** What a date says of the order of all dates of its column; null: nothing. */
export function orderShownBy({ month, day, open }: DateParts): DayOrder | null {
  if (!open) return null;
  return month > 12 ? "day first" : day > 12 ? "month first" : null;
}

/**
 * Epoch milliseconds of a date in a notation that leaves nothing open, in UTC where it has no zone; NaN for any other
 * text.
 */
export function parseDateTime(text: string): number {
  const parts = parseDate(text);
  return parts === null || parts.open ? Number.NaN : momentOf(parts, "day first");
}
