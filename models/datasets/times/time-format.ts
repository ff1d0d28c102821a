import { RequestError } from "../../../schemas/errors.js";
import { EXCEL_DAYS, LENGTHS, sinceEpoch, type Length, type TimeUnit } from "./time-units.js";

/** What the user says of a time column: a unit that its numbers count, or a pattern that its texts follow. */
export type TimeFormat =
  | { kind: "unit"; unit: TimeUnit }
  /** Since the file's start, or 1970 where the numbers are of that size. */
  | { kind: "length"; length: Length }
  | { kind: "pattern"; pattern: string; parse: (text: string) => number };

const SHORT: Readonly<Record<string, Length>> = {
  ns: "nanoseconds",
  us: "microseconds",
  µs: "microseconds",
  ms: "milliseconds",
  s: "seconds",
  sec: "seconds",
  m: "minutes",
  min: "minutes",
  h: "hours",
  d: "days",
};

const MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split(" ");

/** Of strftime, and what each reads. */
const DIRECTIVES: Readonly<Record<string, string>> = {
  Y: "(?<year>\\d{4})",
  y: "(?<shortYear>\\d\\d)",
  m: "(?<month>\\d{1,2})",
  b: "(?<monthName>[A-Za-z]{3})",
  B: "(?<monthName>[A-Za-z]{3,9})",
  d: "(?<day>\\d{1,2})",
  e: "\\s*(?<day>\\d{1,2})",
  j: "(?<dayOfYear>\\d{1,3})",
  H: "(?<hour>\\d{1,2})",
  I: "(?<hour12>\\d{1,2})",
  M: "(?<minute>\\d{1,2})",
  S: "(?<second>\\d{1,2})",
  f: "(?<fraction>\\d{1,9})",
  p: "(?<half>[AaPp])\\.?[Mm]?\\.?",
  z: "(?<zone>[zZ]|[+-]\\d\\d(?::?\\d\\d)?)",
  Z: "[A-Za-z]+",
  a: "[A-Za-z]+",
  A: "[A-Za-z]+",
  "%": "%",
};

/** Java's and .NET's letters, as strftime has them; the longest first. */
const LETTERS: readonly [RegExp, string][] = [
  [/yyyy|uuuu|YYYY/g, "%Y"],
  [/yy|YY/g, "%y"],
  [/MMMM/g, "%B"],
  [/MMM/g, "%b"],
  [/MM/g, "%m"],
  [/dd|DD/g, "%d"],
  [/HH/g, "%H"],
  [/hh/g, "%I"],
  [/mm/g, "%M"],
  [/ss/g, "%S"],
  [/(?<!%)S{3,9}/g, "%f"],
  [/XXX|xx/g, "%z"],
  [/tt|(?<!%)a(?![a-z])/g, "%p"],
];

/**
 * Reads `--time-format`: a unit (`seconds`, `epoch-ms`, `excel-days`, ...) or a pattern, strftime's (`%d/%m/%Y %H:%M`)
 * or with Java's letters (`dd/MM/yyyy HH:mm`).
 *
 * @throws RequestError `bad_time_format`
 */
export function parseTimeFormat(text: string): TimeFormat {
  const name = text
    .trim()
    .toLowerCase()
    .replace(/[\s_]+/g, "-");
  if (/^excel(-days)?$/.test(name)) return { kind: "unit", unit: EXCEL_DAYS };
  const fixed = /^(?:unix|epoch)(?:-(.+))?$/.exec(name);
  const length = lengthOf(fixed === null ? name : (fixed[1] ?? "seconds"));
  if (length !== null && fixed !== null) return { kind: "unit", unit: sinceEpoch(length) };
  if (length !== null) return { kind: "length", length };
  const pattern = text.includes("%")
    ? text.trim()
    : LETTERS.reduce((all, [letters, to]) => all.replace(letters, to), text.trim());
  if (!/%[YymdbBjHIMS]/.test(pattern)) throw bad(text);
  return { kind: "pattern", pattern: text.trim(), parse: parserOf(pattern, text) };
}

function lengthOf(name: string): Length | null {
  const found = SHORT[name] as Length | undefined;
  if (found !== undefined) return found;
  const plural = name.endsWith("s") ? name : `${name}s`;
  return plural in LENGTHS ? (plural as Length) : null;
}

function bad(text: string): RequestError {
  return new RequestError(
    "bad_time_format",
    `--time-format ${JSON.stringify(text)}: it must be a unit (seconds, minutes, hours, days since the file's start; ` +
      "epoch-s, epoch-ms, epoch-us, epoch-ns, epoch-days since 1970; excel-days) or a pattern such as %d/%m/%Y %H:%M",
  );
}

function parserOf(pattern: string, text: string): (text: string) => number {
  let source = "";
  for (let i = 0; i < pattern.length; i++) {
    if (pattern[i] !== "%") {
      source += pattern[i] === " " ? "\\s+" : pattern[i].replace(/[.*+?^${}()|[\]\\/-]/, "\\$&");
      continue;
    }
    i += 1;
    const expanded = { T: "%H:%M:%S", F: "%Y-%m-%d", D: "%m/%d/%y", R: "%H:%M" }[pattern[i]];
    if (expanded !== undefined) {
      pattern = pattern.slice(0, i - 1) + expanded + pattern.slice(i + 1);
      i -= 2;
      continue;
    }
    const directive = DIRECTIVES[pattern[i]] as string | undefined;
    if (directive === undefined) throw bad(text);
    source += directive;
  }
  let compiled: RegExp;
  try {
    compiled = new RegExp(`^${source}$`);
  } catch {
    // A directive twice.
    throw bad(text);
  }
  return (cell) => momentFrom(compiled.exec(cell)?.groups);
}

/** NaN: the text doesn't follow the pattern, or names no moment. */
function momentFrom(groups: Record<string, string | undefined> | undefined): number {
  if (groups === undefined) return Number.NaN;
  const number = (name: string, otherwise: number): number =>
    groups[name] === undefined ? otherwise : Number(groups[name]);
  const short = number("shortYear", 70);
  const year = number("year", short < 69 ? 2000 + short : 1900 + short);
  const name = groups["monthName"];
  const month = name === undefined ? number("month", 1) : MONTHS.indexOf(name.slice(0, 3).toLowerCase()) + 1;
  const day = number("day", 1);
  const half = groups["half"]?.toLowerCase();
  const twelve = number("hour12", 0);
  const hour = groups["hour12"] === undefined ? number("hour", 0) : (twelve % 12) + (half === "p" ? 12 : 0);
  const [minute, second] = [number("minute", 0), number("second", 0)];
  const date = new Date(Date.UTC(year, month - 1, day));
  if (month < 1 || month > 12 || date.getUTCDate() !== day || hour > 23 || twelve > 12 || minute > 59 || second > 59)
    return Number.NaN;
  const milliseconds = Math.floor(Number(`0.${groups["fraction"] ?? ""}0`) * 1000 + 1e-6);
  const ofYear = groups["dayOfYear"] === undefined ? 0 : (Number(groups["dayOfYear"]) - 1) * 86_400_000;
  return date.getTime() + ofYear + ((hour * 60 + minute) * 60 + second) * 1000 + milliseconds - zoneMs(groups["zone"]);
}

function zoneMs(zone: string | undefined): number {
  if (zone === undefined || /^z$/i.test(zone)) return 0;
  const digits = zone.slice(1).replace(":", "");
  const minutes = Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2) || "0");
  return (zone.startsWith("-") ? -1 : 1) * minutes * 60_000;
}
