import { isMissingMarker, parseNumber } from "./values.js";

/** What separates the decimals in a column's numbers. */
export type DecimalMark = "." | ",";

/** What a cell's digits and marks say of the column's decimal mark. */
type NumberForm =
  /** Digits, perhaps with a point: as JavaScript and most files write numbers. */
  | "plain"
  /** Only a decimal point explains it: `1,234.50`, or a comma at each thousand more than once. */
  | "point"
  /** Only a decimal comma explains it: `1.234,50`, `12,5`. */
  | "comma"
  /** `1,234`: more than a thousand, or one and a bit. */
  | "either"
  /** Not a number. */
  | "none";

const PLAIN = /^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$/;
/** Signs and codes of currencies around a number, and what accountants write for a negative one. */
const AROUND = new RegExp(
  [
    /^(?<open>\()?\s*(?<sign>[-+\u2212])?\s*/u,
    /(?:\p{Sc}|[A-Z]{1,3}\p{Sc}|[A-Z]{3}(?=[\s\d-])|Rs\.?|kr\.?|CHF)?\s*(?<sign2>[-+\u2212])?\s*/u,
    /(?<digits>\d[\d.,'\u2019\s\u00a0\u202f]*|[.,]\d+)(?<exponent>[eE][-+]?\d+)?\s*/u,
    /(?:\p{Sc}|[A-Z]{3}|kr\.?|z\u0142|%)?\s*(?<after>-)?(?<close>\))?$/u,
  ]
    .map(({ source }) => source)
    .join(""),
  "u",
);
const SPACES = /[\s'\u2019\u00a0\u202f]/g;
/** Groups of three before the last (two in India), so that `1,2,3` is no number. */
const COMMA_GROUPS = /^\d{1,3}(,\d{2,3})*,\d{3}$/;
const POINT_GROUPS = /^\d{1,3}(\.\d{3})+$/;
const SPACE_GROUPS = /^\d{1,3}([\s'\u2019\u00a0\u202f]\d{3})*([.,]\d*)?$/;

/** How a cell writes a number down. @param text trimmed, not empty */
function numberForm(text: string): NumberForm {
  if (PLAIN.test(text)) return "plain";
  const digits = AROUND.exec(text)?.groups?.["digits"]?.trim();
  if (digits === undefined || !balanced(text)) return "none";
  return formOf(digits);
}

function balanced(text: string): boolean {
  return text.startsWith("(") === text.endsWith(")");
}

function formOf(digits: string): NumberForm {
  let figures = digits;
  if (/[\s'\u2019\u00a0\u202f]/.test(digits)) {
    // Spaces at each thousand leave but one mark, the decimals'.
    if (!SPACE_GROUPS.test(digits) && !/^\d[\d.,]*$/.test(digits)) return "none";
    figures = digits.replace(SPACES, "");
    return figures.includes(",") ? "comma" : "plain";
  }
  const comma = figures.lastIndexOf(",");
  const point = figures.lastIndexOf(".");
  if (comma < 0 && point < 0) return "plain";
  if (comma >= 0 && point >= 0) {
    if (point > comma)
      return COMMA_GROUPS.test(figures.slice(0, point)) && !figures.slice(0, point).includes(".") ? "point" : "none";
    return POINT_GROUPS.test(figures.slice(0, comma)) && !figures.slice(0, comma).includes(",") ? "comma" : "none";
  }
  if (comma < 0) return figures.indexOf(".") === point ? "plain" : POINT_GROUPS.test(figures) ? "comma" : "none";
  if (figures.indexOf(",") !== comma) return COMMA_GROUPS.test(figures) ? "point" : "none";
  return COMMA_GROUPS.test(figures) && !figures.startsWith("0") ? "either" : "comma";
}

/**
 * A cell's number, with a currency's sign, marks at the thousands, brackets or a percent sign around it; NaN: none that
 * float32, as models have it, can hold.
 *
 * @param text trimmed
 */
export function readNumber(text: string, mark: DecimalMark): number {
  const plain = parseNumber(text);
  if (!Number.isNaN(plain) && (mark === "." || !text.includes("."))) return plain;
  const groups = AROUND.exec(text)?.groups;
  const digits = groups?.["digits"]?.trim();
  if (groups === undefined || digits === undefined || !balanced(text)) return Number.NaN;
  const form = formOf(digits);
  if (form === "none" || (form === "point" && mark === ",") || (form === "comma" && mark === ".")) return Number.NaN;
  const compact = digits.replace(SPACES, "");
  // In a column of decimal commas, `1.234` is more than a thousand, but `1.5` is no number of that kind.
  if (mark === "," && compact.includes(".") && !POINT_GROUPS.test(compact.split(",")[0])) return Number.NaN;
  const figures = mark === "." ? compact.replaceAll(",", "") : compact.replaceAll(".", "").replace(",", ".");
  const negative =
    [groups["sign"], groups["sign2"], groups["after"]].some((sign) => sign === "-" || sign === "\u2212") ||
    groups["open"] !== undefined;
  const value = parseNumber(`${figures}${(groups["exponent"] as string | undefined) ?? ""}`);
  return negative ? -value : value;
}

/** What an amount says of its currency beside the number: a sign or a code; null: nothing. */
export function currencySignOf(text: string): string | null {
  return /\p{Sc}|\b[A-Z]{3}\b/u.exec(text)?.[0] ?? null;
}

/**
 * The numbers of a column, as far as they were seen: which decimal mark explains them all, and what is not a number.
 */
export class NumberProfile {
  numbers = 0;
  missing = 0;
  /** Cells that only a comma, or only a point, as the decimal mark explains, and those that either does. */
  comma = 0;
  point = 0;
  either = 0;
  /** Plain numbers with a point that are no thousands: `1.5`. */
  #pointed = 0;
  /** Cells that are neither numbers nor missing, and how often; at most so many different ones. */
  readonly others = new Map<string, { count: number; line: number }>();
  otherCount = 0;
  integers = 0;
  least = Number.POSITIVE_INFINITY;
  greatest = Number.NEGATIVE_INFINITY;
  leastLine = 0;
  greatestLine = 0;

  add(text: string, line: number): void {
    if (text === "" || isMissingMarker(text)) {
      this.missing += 1;
      return;
    }
    const form = numberForm(text);
    if (form === "none") {
      this.otherCount += 1;
      const known = this.others.get(text);
      if (known !== undefined) known.count += 1;
      else if (this.others.size < MOST_OTHERS) this.others.set(text, { count: 1, line });
      return;
    }
    this.numbers += 1;
    if (form === "plain") {
      const value = Number(text);
      if (Number.isInteger(value)) this.integers += 1;
      else if (text.includes(".") && !POINT_GROUPS.test(text.replace(/^[-+]/, ""))) this.#pointed += 1;
      if (value < this.least) [this.least, this.leastLine] = [value, line];
      if (value > this.greatest) [this.greatest, this.greatestLine] = [value, line];
    } else this[form] += 1;
  }

  /** Null: no mark explains all cells. @param ambiguous what it is where either is possible */
  mark(ambiguous: DecimalMark): DecimalMark | null {
    if (this.comma > 0) return this.point > 0 || this.#pointed > 0 ? null : ",";
    if (this.point > 0 || this.#pointed > 0 || this.either === 0) return ".";
    return ambiguous;
  }

  /** Whether only the other cells of the column would tell what its commas are. */
  get undecided(): boolean {
    return this.either > 0 && this.comma === 0 && this.point === 0 && this.#pointed === 0;
  }

  /**
   * Whether the column holds numbers: no cell is anything else, or a few are words without a digit, of few kinds, that
   * stand where a number is missing.
   */
  get isNumeric(): boolean {
    if (this.numbers === 0) return false;
    if (this.otherCount === 0) return true;
    const words = [...this.others.keys()].every((text) => !/\d/.test(text) && text.length <= 20);
    return words && this.others.size <= MOST_WORDS && this.numbers >= 50 && this.otherCount <= this.numbers / 4;
  }
}

const MOST_OTHERS = 5;
const MOST_WORDS = 3;
