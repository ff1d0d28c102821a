import type { RecordSink } from "./records.js";
import { NumberProfile } from "./numbers.js";
import { TimeProfile } from "./times/time-profile.js";

/** Different texts of a column that are kept: more are no words for a label. */
const MOST_TEXTS = 40;
const EXAMPLES = 3;
/** So many cells that are no numbers end the looking for them. */
const ENOUGH_OTHERS = 1_000;

/** What the cells of one column look like, before anything is made of them. */
export class ColumnProfile {
  readonly name: string;
  readonly numbers = new NumberProfile();
  readonly times = new TimeProfile();
  /** Different texts, how often each was seen and where first; null: there are too many. */
  texts: Map<string, { count: number; line: number }> | null = new Map();
  readonly examples: string[] = [];
  rows = 0;
  empty = 0;
  /** Cells that hold U+FFFD, what a damaged letter has become before the file came here, and the first one's line. */
  damaged = { count: 0, line: 0 };
  /** Whole numbers in the notation of spreadsheets that have lost digits: `4.5E+15`. */
  shortened = { count: 0, line: 0 };

  constructor(name: string) {
    this.name = name;
  }

  /** @param text trimmed */
  add(text: string, line: number): void {
    this.rows += 1;
    if (text === "") {
      this.empty += 1;
      this.numbers.missing += 1;
      this.#count(text, line);
      return;
    }
    if (this.examples.length < EXAMPLES && !this.examples.includes(text)) this.examples.push(text);
    this.#count(text, line);
    const { numbers } = this;
    if (numbers.otherCount < ENOUGH_OTHERS || numbers.numbers > numbers.otherCount) numbers.add(text, line);
    this.times.add(text, line);
    if (text.includes("\uFFFD")) this.damaged = firstOf(this.damaged, line);
    if (text.includes("E+") && /^\d(\.\d+)?E\+\d+$/.test(text)) this.shortened = firstOf(this.shortened, line);
  }

  get isEmpty(): boolean {
    return this.empty === this.rows;
  }

  #count(text: string, line: number): void {
    if (this.texts === null) return;
    const known = this.texts.get(text);
    if (known !== undefined) known.count += 1;
    else if (this.texts.size < MOST_TEXTS) this.texts.set(text, { count: 1, line });
    else this.texts = null;
  }
}

function firstOf({ count, line }: { count: number; line: number }, now: number): { count: number; line: number } {
  return { count: count + 1, line: count === 0 ? now : line };
}

/** Looks at every cell of a file. */
export class FileProfile implements RecordSink {
  readonly columns: readonly ColumnProfile[];
  rows = 0;

  constructor(header: readonly string[]) {
    this.columns = header.map((name) => new ColumnProfile(name));
  }

  add(cells: readonly string[], line: number): void {
    this.rows += 1;
    for (let column = 0; column < cells.length; column++) this.columns[column].add(cells[column].trim(), line);
  }
}
