const DAY_MS = 86_400_000;
/** Dates outside of these years are mistakes, or numbers that count something else than milliseconds. */
const EARLIEST = Date.UTC(1800, 0, 1);
const LATEST = Date.UTC(2200, 0, 1);
/** Of a number: days since 1970, as Avro's date has them; no time of day in milliseconds is so near to 1970. */
const MOST_DAYS = 100_000;
/** The widest offset of a time zone. */
const MOST_ZONE_MINUTES = 14 * 60;

/** The moment, in epoch milliseconds, that a number of an attribute is; NaN: none that is plausible. */
export function timeOfNumber(value: number): number {
  return plausible(Math.abs(value) <= MOST_DAYS ? value * DAY_MS : value);
}

/** A moment, epoch milliseconds; NaN: it is no plausible one. */
export function plausible(time: number): number {
  return time >= EARLIEST && time < LATEST ? time : Number.NaN;
}

/**
 * The moment that an ISO 8601 text names, epoch milliseconds: a date (midnight, UTC), or a date and a time with a zone;
 * NaN: it is neither, or not plausible. Reads what schemas/time-text.ts reads, but of bytes: it makes no strings.
 */
export function timeOfText(bytes: Uint8Array, at: number, length: number): number {
  const end = at + length;
  if (length < 10 || bytes[at + 4] !== HYPHEN || bytes[at + 7] !== HYPHEN) return Number.NaN;
  const year = digits(bytes, at, 4);
  const month = digits(bytes, at + 5, 2);
  const day = digits(bytes, at + 8, 2);
  if (!(month >= 1 && month <= 12 && day >= 1 && day <= daysOf(year, month))) return Number.NaN;
  const date = daysSince1970(year, month, day) * DAY_MS;
  const time = length === 10 ? 0 : timeOfDay(bytes, at + 10, end);
  return plausible(date + time);
}

const HYPHEN = 0x2d;
const PLUS = 0x2b;
const POINT = 0x2e;
const COLON = 0x3a;
const ZERO = 0x30;
/** Makes a letter of ASCII a small one. */
const SMALL = 0x20;
const T = 0x74;
const Z = 0x7a;

/** `THH:MM[:SS[.fff]](Z|+HH:MM)` in milliseconds, less its zone; NaN: it is none. */
function timeOfDay(bytes: Uint8Array, from: number, end: number): number {
  if ((bytes[from] | SMALL) !== T || end < from + 7 || bytes[from + 3] !== COLON) return Number.NaN;
  const hour = digits(bytes, from + 1, 2);
  const minute = digits(bytes, from + 4, 2);
  let at = from + 6;
  let second = 0;
  let millis = 0;
  if (bytes[at] === COLON) {
    second = at + 3 <= end ? digits(bytes, at + 1, 2) : Number.NaN;
    at += 3;
    if (at < end && bytes[at] === POINT) {
      let unit = 100;
      const first = ++at;
      for (; at < end && isDigit(bytes[at]); at++, unit = Math.floor(unit / 10)) millis += (bytes[at] - ZERO) * unit;
      if (at === first || at - first > 9) return Number.NaN;
    }
  }
  if (!(hour <= 23 && minute <= 59 && second <= 59)) return Number.NaN;
  return ((hour * 60 + minute - zone(bytes, at, end)) * 60 + second) * 1000 + millis;
}

/** Minutes of a zone that is all that is left; NaN: it is none. */
function zone(bytes: Uint8Array, at: number, end: number): number {
  if (at >= end) return Number.NaN;
  if ((bytes[at] | SMALL) === Z) return at + 1 === end ? 0 : Number.NaN;
  const sign = bytes[at] === PLUS ? 1 : bytes[at] === HYPHEN ? -1 : Number.NaN;
  const colon = end - at === 6 && bytes[at + 3] === COLON;
  if (!colon && end - at !== 5) return Number.NaN;
  const minutes = digits(bytes, colon ? at + 4 : at + 3, 2);
  const whole = digits(bytes, at + 1, 2) * 60 + minutes;
  return minutes <= 59 && whole <= MOST_ZONE_MINUTES ? sign * whole : Number.NaN;
}

function digits(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let i = at; i < at + count; i++) {
    if (!isDigit(bytes[i])) return Number.NaN;
    value = value * 10 + bytes[i] - ZERO;
  }
  return value;
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= ZERO + 9;
}

function daysOf(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

/** Of a date of the Gregorian calendar; years begin in March, so that leap days are their last. */
function daysSince1970(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}
