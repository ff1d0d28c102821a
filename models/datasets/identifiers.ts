import type { AttributeColumn } from "./dataset.js";

/** What an attribute is held against. */
export interface Rows {
  /** Of each row, in the order of the values. */
  cardId: readonly string[];
  /** Whether cards are real. */
  hasCards: boolean;
  /** Positions in the file of the rows in the order of time; null: the same. */
  order: Uint32Array | null;
}

/** Fewer values show nothing. */
const LEAST_ROWS = 50;
/** Steps up that are needed before a column counts as growing, and the share of steps down that it may have. */
const LEAST_STEPS = 30;
const STEPS_BACK = 0.01;
/** Values that a card's own number must have to be one: more than limits, ages or ratings have. */
const MOST_CODES = 50;
/** Of all cards, so many have a value of their own. */
const OWN_SHARE = 0.9;
/** Codes of a region, a shop or a bank have as many digits each, and are this many at least. */
const CODE_DIGITS = 5;
const MANY_CODES = 100;
const ID_WORDS =
  "id|ids|uuid|guid|no|nr|num|number|key|ref|reference|zip|zipcode|postcode|postal|phone|tel|ssn|iban|bin|account|" +
  "acct|serial|seq|sequence|index|idx|row";
const ID_NAME = new RegExp(`(^|[\\s_.-])(${ID_WORDS})$|[a-z](Id|ID|No|Num|Number|Key|Ref)$`);

/**
 * Why a column identifies its row, its card or something like it, and is not a feature: by what it holds, whatever it
 * is called. A model would memorize values that never come again. Null: it does not.
 *
 * @param column in the order of time
 */
export function whyIdentifier(name: string, column: AttributeColumn, rows: Rows): string | null {
  if (column.type === "boolean") return null;
  return column.type === "text" ? textIdentifier(column, rows) : numberIdentifier(name, column.values, rows);
}

function textIdentifier({ codes, categories }: AttributeColumn & { type: "text" }, rows: Rows): string | null {
  const present = codes.reduce((sum, code) => sum + (code < 0 ? 0 : 1), 0);
  if (present < LEAST_ROWS) return null;
  if (categories.length > present / 2) return "an identifier: its values hardly ever come twice";
  return perCard(
    Float64Array.from(codes, (code) => (code < 0 ? Number.NaN : code)),
    categories.length,
    rows,
  );
}

function numberIdentifier(name: string, values: Float64Array, rows: Rows): string | null {
  const grows = growth(values) ?? (rows.order === null ? null : growth(inFileOrder(values, rows.order)));
  if (grows !== null) return grows;
  const present = values.filter((value) => !Number.isNaN(value));
  if (present.length < LEAST_ROWS || !present.every(Number.isInteger)) return null;
  present.sort();
  let distinct = 1;
  for (let i = 1; i < present.length; i++) if (present[i] !== present[i - 1]) distinct += 1;
  if (!present.every(Number.isSafeInteger)) return "an identifier: its numbers are too long to be counts";
  const digits = sameDigits(present);
  const dense = present[present.length - 1] - present[0] < 10 * present.length;
  if (distinct === present.length && (dense || digits.share > 0.85))
    return "an identifier: it is different on every row";
  const card = perCard(values, distinct, rows);
  if (card !== null) return card;
  if (ID_NAME.test(name) && distinct > MOST_CODES)
    return `an identifier, by its name and its ${distinct} different values`;
  const round = present.reduce((sum, value) => sum + (value % 100 === 0 ? 1 : 0), 0) > 0.8 * present.length;
  if (digits.share > 0.95 && digits.count >= CODE_DIGITS && distinct > MANY_CODES && !round)
    return `an identifier: ${distinct} different numbers of ${digits.count} digits`;
  return null;
}

/** Whether a column only grows (or only falls) from row to row, as counters and clocks do. */
function growth(values: Float64Array): string | null {
  let ups = 0;
  let downs = 0;
  let last = Number.NaN;
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    if (value > last) ups += 1;
    else if (value < last) downs += 1;
    last = value;
  }
  const steps = ups + downs;
  if (steps < LEAST_STEPS || Math.min(ups, downs) > STEPS_BACK * steps) return null;
  return `an identifier or a clock: it ${ups > downs ? "grows" : "falls"} from row to row`;
}

function inFileOrder(values: Float64Array, order: Uint32Array): Float64Array {
  const out = new Float64Array(values.length);
  for (let row = 0; row < order.length; row++) out[order[row]] = values[row];
  return out;
}

/** The number of digits that most have, and the share of those. */
function sameDigits(values: Float64Array): { count: number; share: number } {
  const counts = new Map<number, number>();
  for (const value of values) {
    const digits = Math.floor(Math.log10(Math.max(1, Math.abs(value)))) + 1;
    counts.set(digits, (counts.get(digits) ?? 0) + 1);
  }
  const [count, times] = [...counts].reduce((most, entry) => (entry[1] > most[1] ? entry : most));
  return { count, share: times / values.length };
}

/** Whether each card has one value, and hardly two cards the same. */
function perCard(values: Float64Array, distinct: number, { cardId, hasCards }: Rows): string | null {
  if (!hasCards || distinct <= MOST_CODES) return null;
  const ofCard = new Map<string, number>();
  let repeats = 0;
  for (let row = 0; row < values.length; row++) {
    const value = values[row];
    if (Number.isNaN(value)) continue;
    const before = ofCard.get(cardId[row]);
    if (before === undefined) ofCard.set(cardId[row], value);
    else if (before !== value) return null;
    else repeats += 1;
  }
  return repeats > 0 && distinct > OWN_SHARE * ofCard.size
    ? "an identifier: it is the same on all rows of a card, for each card another"
    : null;
}
