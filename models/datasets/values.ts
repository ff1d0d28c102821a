/**
 * Where relative times (ULB's `Time`, PaySim's `step`) and made-up ones are counted from: ULB was recorded in September
 * 2013.
 */
export const RELATIVE_TIME_BASE = Date.UTC(2013, 8, 1);

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

/** What people, spreadsheets, databases, R and Python write where a number is missing. */
const MISSING_WORDS = [
  /nan|[-+]nan|na|n\/a|n\.a\.?|#n\/a|#na|#value!|#ref!|#div\/0!|#null!|#num!|null|nil|none|missing|unknown|undefined/,
  /empty|<na>|\(null\)|\\n|[?.*_]|-{1,3}|[\u2013\u2014]|\?{2,3}|\.\./,
  /[-+]?inf(inity)?|1\.#(inf|qnan|ind).*|-1\.#(inf|ind).*/,
];
const MISSING = new RegExp(`^(${MISSING_WORDS.map(({ source }) => source).join("|")})$`, "i");

/** @param text trimmed */
export function isMissingMarker(text: string): boolean {
  if (text.length > 12) return false;
  const first = text.charCodeAt(0);
  // None begins with a digit but C's 1.#INF.
  return (first < 48 || first > 57 || text.startsWith("1.#")) && MISSING.test(text);
}

/** A cell as an error message quotes it. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}
