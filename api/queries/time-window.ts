import { parseTime } from "../../schemas/time-text.js";
import type { BadField } from "../plugins/bad-fields.js";

/** A length of time as ISO 8601 writes it; its calendar parts depend on when it ends. */
export interface Duration {
  years: number;
  months: number;
  days: number;
  ms: number;
}

/** Event times, epoch milliseconds. */
export interface TimeWindow {
  from: number;
  /** Exclusive. */
  to: number;
}

export interface WindowQuery {
  window?: string | undefined;
  from?: string | undefined;
  to?: string | undefined;
}

/** A window of a query: one that ends now, or one between two times, the present where `to` isn't given. */
export type AskedWindow = { duration: Duration } | { from: number; to: number | null };

export const DEFAULT_WINDOW = "P30D";

const DAYS = /(?:(\d{1,4})Y)?(?:(\d{1,5})M)?(?:(\d{1,5})W)?(?:(\d{1,6})D)?/.source;
const HOURS = /(?:(\d{1,7})H)?(?:(\d{1,9})M)?(?:(\d{1,10})(?:[.,](\d{1,3}))?S)?/.source;
const DURATION = new RegExp(`^P(?=.)${DAYS}(?:T(?=.)${HOURS})?$`);
const EARLIEST = Date.UTC(1970, 0, 1);

/** A duration like P30D, P1M or PT36H; null: it isn't one, or it is empty. Fractions only of seconds. */
export function parseDuration(text: string): Duration | null {
  const match = DURATION.exec(text);
  if (match === null) return null;
  const [years, months, weeks, days, hours, minutes, seconds] = match
    .slice(1, 8)
    .map((part: string | undefined) => Number(part ?? 0));
  const millis = Number((match[8] ?? "").padEnd(3, "0"));
  const duration = {
    years,
    months,
    days: weeks * 7 + days,
    ms: ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis,
  };
  return Object.values(duration).some((part) => part > 0) ? duration : null;
}

/** The time that lies a duration before another, in UTC; a day that the month doesn't have becomes its last. */
export function before(time: number, { years, months, days, ms }: Duration): number {
  const date = new Date(time);
  const month = date.getUTCMonth() - months - 12 * years;
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), month + 1, 0)).getUTCDate();
  date.setUTCMonth(month, Math.min(date.getUTCDate(), lastDay));
  const from = date.getTime() - days * 86_400_000 - ms;
  return Number.isNaN(from) ? EARLIEST : Math.max(EARLIEST, from);
}

/** What a query asks for, or the fields that say it wrongly. */
export function askedWindow({ window, from, to }: WindowQuery): AskedWindow | BadField[] {
  const errors: BadField[] = [];
  const bad = (field: string, code: string, message: string): void =>
    void errors.push({ in: "query", field, code, message });
  if (window !== undefined && (from !== undefined || to !== undefined))
    bad("window", "conflict", "can't be given with from or to");
  if (to !== undefined && from === undefined && window === undefined)
    bad("from", "required", "is missing: to needs it");
  const duration = parseDuration(window ?? DEFAULT_WINDOW);
  if (duration === null) bad("window", "duration", "must be an ISO 8601 duration longer than zero, like P30D or PT6H");
  const times = { from: timeOf(from), to: timeOf(to) };
  for (const field of ["from", "to"] as const) {
    if (Number.isNaN(times[field]))
      bad(field, "format", "must be a time in ISO 8601 with a zone, from 1970 on, like 2026-03-01T00:00:00Z");
  }
  if (times.from !== null && times.to !== null && times.from >= times.to) bad("to", "range", "must lie after from");
  if (errors.length > 0 || duration === null) return errors;
  return times.from === null ? { duration } : { from: times.from, to: times.to };
}

/** NaN: not a time that a column can hold. */
function timeOf(text: string | undefined): number | null {
  if (text === undefined) return null;
  const time = parseTime(text);
  return time >= EARLIEST && time < LATEST ? time : NaN;
}

const LATEST = Date.UTC(2299, 0, 1);

/**
 * The window in event time. It ends at the present, whatever was scored last: a single payment must not move
 * everybody's window.
 */
export function resolveWindow(asked: AskedWindow, now: number): TimeWindow {
  // The present is the window's last moment, and a window of a day before it begins just after its first.
  if ("duration" in asked) return { from: before(now, asked.duration) + 1, to: now + 1 };
  return { from: asked.from, to: asked.to ?? Math.max(asked.from, now + 1) };
}
