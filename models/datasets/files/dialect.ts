import { RequestError } from "../../../schemas/errors.js";

/** How a table is written down. */
export interface Dialect {
  delimiter: string;
  /** What encloses a cell that holds the delimiter; null: nothing does. */
  quote: string | null;
  /** Excel's `sep=;` stands before the header. */
  skipFirstLine: boolean;
}

const DELIMITERS = [",", ";", "\t", "|"] as const;

const NAMES: Readonly<Record<string, string>> = {
  ",": ",",
  comma: ",",
  ";": ";",
  semicolon: ";",
  "\t": "\t",
  "\\t": "\t",
  tab: "\t",
  "|": "|",
  pipe: "|",
};

/** @throws RequestError `bad_delimiter` */
export function parseDelimiter(text: string): string {
  const found = NAMES[text.toLowerCase()] as string | undefined;
  if (found === undefined)
    throw new RequestError(
      "bad_delimiter",
      `--delimiter ${JSON.stringify(text)}: it must be comma, semicolon, tab or pipe`,
    );
  return found;
}

/** What people call it. */
export function delimiterName(delimiter: string): string {
  return Object.keys(NAMES).find((name) => name.length > 2 && NAMES[name] === delimiter) ?? JSON.stringify(delimiter);
}

/**
 * How a table is written, by its first lines: the delimiter that cuts most lines into as many cells as the header, two
 * at least; of several, the one that makes most cells.
 *
 * @param head the text's beginning, its lines ended by line feeds
 * @param whole whether it ends where the text does
 */
export function dialectOf(head: string, whole: boolean, given: string | undefined): Dialect {
  const excel = /^sep=(.)\n/i.exec(head);
  const text = excel === null ? head : head.slice(excel[0].length);
  const delimiter = given ?? excel?.[1];
  const skipFirstLine = excel !== null;
  if (delimiter !== undefined) return { delimiter, quote: quoteOf(text, delimiter), skipFirstLine };
  let best = { delimiter: ",", fits: 0, cells: 1 };
  for (const candidate of DELIMITERS) {
    const counts = cellCounts(text, candidate, whole);
    const cells = counts.at(0) ?? 1;
    if (cells < 2) continue;
    const fits = counts.filter((count) => count === cells).length / counts.length;
    // What fits every line beats what makes more cells of some.
    if (fits > best.fits + 0.05 || (fits > best.fits - 0.05 && cells > best.cells))
      best = { delimiter: candidate, fits, cells };
  }
  return { delimiter: best.delimiter, quote: quoteOf(text, best.delimiter), skipFirstLine };
}

const MOST_LINES = 200;

/** Cells of each of the first lines. A line feed within quotes ends none. */
function cellCounts(text: string, delimiter: string, whole: boolean): number[] {
  const counts: number[] = [];
  const quote = quoteOf(text, delimiter);
  let cells = 1;
  let quoted = false;
  let cellStart = true;
  let empty = true;
  for (const letter of text) {
    if (letter === quote && (quoted || cellStart)) quoted = !quoted;
    else if (quoted) continue;
    else if (letter === delimiter) cells += 1;
    else if (letter === "\n") {
      if (!empty) counts.push(cells);
      if (counts.length === MOST_LINES) return counts;
      cells = 1;
      empty = true;
      cellStart = true;
      continue;
    }
    empty = false;
    cellStart = letter === delimiter || (letter === quote && !quoted);
  }
  if (!empty && (whole || counts.length === 0)) counts.push(cells);
  return counts;
}

/**
 * Apostrophes enclose cells where most lines have cells that begin and end with one, and none is in quotation marks.
 * Where tabs or pipes delimit and no cell begins with a quotation mark, one within a text is part of it.
 */
function quoteOf(text: string, delimiter: string): string | null {
  const all = text.split("\n", MOST_LINES);
  const rare = delimiter === "\t" || delimiter === "|";
  if (rare && !all.some((line) => line.split(delimiter).some((cell) => cell.startsWith('"')))) return null;
  const lines = all.slice(1, -1);
  if (lines.length === 0) return '"';
  const enclosed = lines.filter((line) =>
    line.split(delimiter).some((cell) => cell.length > 1 && cell.startsWith("'") && cell.endsWith("'")),
  );
  return enclosed.length > lines.length / 2 && !lines.some((line) => line.includes('"')) ? "'" : '"';
}
