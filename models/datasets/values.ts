/**
 * Where relative times (ULB's `Time`, PaySim's `step`) and made-up ones are counted from: ULB was recorded in September
 * 2013.
 */
export const RELATIVE_TIME_BASE = Date.UTC(2013, 8, 1);
/** The stream takes no event time before 2000; nor does a data set. */
export const EARLIEST_TIME = Date.UTC(2000, 0, 1);
export const LATEST_TIME = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/** What a number in a time column counts. */
export type TimeUnit = "epoch seconds" | "epoch milliseconds" | "relative seconds" | "relative hours";

const DATE_TIME =
  /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?(?: ?(Z|UTC|[+-]\d\d(?::?\d\d)?))?$/i;

/**
 * A decimal number that is finite in float32, as models see it; NaN for any other text (empty, hexadecimal, `1,234`).
 */
export function parseNumber(text: string): number {
  const number = Number(text);
  if (text === "" || !Number.isFinite(Math.fround(number))) return Number.NaN;
  // Number() also reads 0x10, 0b1 and 0o7, which a spreadsheet never means.
  if (text.charCodeAt(0) === 48 && text.length > 2 && "xbo".includes(text[1].toLowerCase())) return Number.NaN;
  return number;
}

/**
 * Epoch milliseconds of `YYYY-MM-DD[ HH:MM[:SS[.fff]]]` or ISO 8601, in UTC where it has no zone; NaN for any other
 * text.
 */
export function parseDateTime(text: string): number {
  const match = DATE_TIME.exec(text);
  if (match === null) return Number.NaN;
  const [, year, month, day, hour = "0", minute = "0", second = "0", fraction = "", zone = ""] = match;
  // 24:00 and a leap second are not taken: JavaScript's time line has neither.
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return Number.NaN;
  const midnight = Date.UTC(Number(year), Number(month) - 1, Number(day));
  // Date.UTC rolls 31 February over into March.
  if (new Date(midnight).getUTCDate() !== Number(day) || Number(month) < 1 || Number(month) > 12) return Number.NaN;
  const milliseconds = Math.floor(Number(`0.${fraction}0`) * 1000 + 1e-6);
  const local = midnight + ((Number(hour) * 60 + Number(minute)) * 60 + Number(second)) * 1000 + milliseconds;
  return local - zoneOffset(zone);
}

function zoneOffset(zone: string): number {
  if (zone === "" || /^(z|utc)$/i.test(zone)) return 0;
  const digits = zone.slice(1).replace(":", "");
  const minutes = Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2) || "0");
  return (zone.startsWith("-") ? -1 : 1) * minutes * 60_000;
}

/**
 * What the numbers of a time column count, by its greatest: until 2000 is reached they are seconds since a start of the
 * file's own, after that seconds or milliseconds since 1970. PaySim's `step` counts hours.
 */
export function timeUnit(column: string, greatest: number): TimeUnit {
  if (column.toLowerCase() === "step") return "relative hours";
  if (greatest < EARLIEST_TIME / 1000) return "relative seconds";
  return greatest < 1e11 ? "epoch seconds" : "epoch milliseconds";
}

/** A number of a time column in epoch milliseconds. */
export function timeOf(number: number, unit: TimeUnit): number {
  switch (unit) {
    case "epoch seconds":
      return Math.round(number * 1000);
    case "epoch milliseconds":
      return Math.round(number);
    case "relative seconds":
      return RELATIVE_TIME_BASE + Math.round(number * 1000);
    case "relative hours":
      return RELATIVE_TIME_BASE + Math.round(number * 3_600_000);
  }
}

const LABELS = new Map([
  ["1", 1],
  ["1.0", 1],
  ["true", 1],
  ["t", 1],
  ["yes", 1],
  ["y", 1],
  ["0", 0],
  ["0.0", 0],
  ["false", 0],
  ["f", 0],
  ["no", 0],
  ["n", 0],
]);

/** 1 for fraud, 0 for genuine, undefined for any other text. */
export function parseLabel(text: string): number | undefined {
  return LABELS.get(text) ?? LABELS.get(text.toLowerCase());
}

/** What spreadsheets, R and Python write where a value is absent. */
export function isMissingMarker(text: string): boolean {
  return /^(nan|na|n\/a|null|none)$/i.test(text);
}

/** A cell as an error message quotes it. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}
