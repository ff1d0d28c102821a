const ISO_WITH_ZONE =
  /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(?:[Zz]|([+-])(\d{2}):?(\d{2}))$/;
/** The widest offset of a time zone. */
const MOST_ZONE_MINUTES = 14 * 60;

/**
 * The moment that an ISO 8601 text with a zone names, epoch milliseconds; further digits of a second are cut off. NaN:
 * it is none. Nothing is rolled over: neither February 30 nor hour 24, a 61st second or month 13 is a time.
 */
export function parseTime(text: string): number {
  const match = ISO_WITH_ZONE.exec(text);
  if (match === null) return Number.NaN;
  const [year, month, day, hour, minute] = match.slice(1, 6).map(Number);
  const second = Number((match[6] as string | undefined) ?? 0);
  const millis = Number(((match[7] as string | undefined) ?? "").slice(0, 3).padEnd(3, "0"));
  const zone = match[8] === undefined ? 0 : (match[8] === "-" ? -1 : 1) * (Number(match[9]) * 60 + Number(match[10]));
  if (month < 1 || month > 12 || day < 1 || day > daysOf(year, month) || hour > 23 || minute > 59 || second > 59)
    return Number.NaN;
  if (Math.abs(zone) > MOST_ZONE_MINUTES || Number(match[10] ?? 0) > 59) return Number.NaN;
  // Date.UTC takes years before 100 for those of the 20th century.
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute - zone, second, millis);
  return date.getTime();
}

function daysOf(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}
