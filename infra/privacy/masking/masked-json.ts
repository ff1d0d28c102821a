import { CARD, cardNumbersIn, cardNumbersInOrders, LOOK_AHEAD, type Span } from "./card-numbers.js";
import { escapeControls } from "./masked-text.js";
import { HIDDEN, hideSecrets, isSecretName } from "./secrets.js";

/** Replaces a card id. */
export type CardOf = (id: string) => string;
export const CARD_FIELD = "card_id";
const MOST_DEPTH = 20;
const HEADER_NAME = /^[\w.-]{1,64}$/;
/** Of what follows a cut, so many elements are looked at for the rest of a number. */
const MOST_AHEAD = 32;

/** A text or number in a value: what is looked at for card numbers, and how much of it is written. */
interface Leaf {
  text: string;
  keep: number;
  quoted: boolean;
}
/** What a value stands in: an array or an object, or nothing; and the name of the last field on the way to it. */
interface Place {
  inside: "array" | "object" | null;
  column: string;
}

/**
 * A field of several objects is looked at as a whole where it has no more digits than this: of numbers those of one
 * card number, of texts those of a number, its expiry date and its code. So counts and ids in longer tables stay.
 */
const MOST_COLUMN = { numbers: 19, texts: 26 };
/** Longer texts are not looked into as JSON. */
const MOST_INNER_JSON = 128 * 1024;
const JSON_TEXT = /^\s*["[{]/;
/** Strings of a JSON text, and integers that a double doesn't hold. */
const LONG_INTEGER = /\d{16}/;
const INTEGERS = /"(?:[^"\\]|\\.)*"|-?\d{16,}(?![\d.eE])/g;

/**
 * A value as JSON for a log: secrets hidden by their field's name and by what texts call them, card numbers wherever
 * they stand, also spread over an array or an object, and cut where `most` characters are reached, with the work
 * bounded likewise.
 */
export function maskedJson(value: unknown, most: number, cardOf: CardOf | null = null): string {
  return masked(value, most, cardOf).text;
}

/**
 * A JSON text as `maskedJson` writes its value, where that hides anything; else the text itself. Null: it is no JSON.
 */
export function maskedJsonText(text: string, most: number, cardOf: CardOf | null = null): string | null {
  let value: unknown;
  try {
    // First as it is: in JSON every string has an end, so that looking for strings takes time in proportion to the
    // text.
    value = JSON.parse(text);
    if (LONG_INTEGER.test(text))
      value = JSON.parse(text.replace(INTEGERS, (token) => (token.startsWith('"') ? token : `"${token}"`)));
  } catch {
    return null;
  }
  const written = masked(value, most, cardOf);
  return written.hidesAnything ? written.text : text;
}

function masked(value: unknown, most: number, cardOf: CardOf | null): { text: string; hidesAnything: boolean } {
  const writer = new MaskedWriter(most, cardOf);
  writer.write(value, 0, { inside: null, column: "" });
  const text = writer.finish();
  return { text, hidesAnything: writer.hidesAnything };
}

class MaskedWriter {
  readonly #cardOf: CardOf | null;
  readonly #pieces: (string | Leaf)[] = [];
  /** In the order in which they may hold a number together; null: no further. */
  readonly #leaves: (Leaf | null)[] = [];
  /** By name of a field: where its values stand among the leaves. */
  readonly #columns = new Map<string, number[]>();
  #left: number;
  #hides = false;

  constructor(most: number, cardOf: CardOf | null) {
    this.#left = most;
    this.#cardOf = cardOf;
  }

  get hidesAnything(): boolean {
    return this.#hides;
  }

  write(item: unknown, depth: number, place: Place): void {
    if (this.#left <= 0 || depth > MOST_DEPTH) {
      this.#lookAhead([item], place.column);
      return this.#spend('"…"');
    }
    if (typeof item === "string") return this.#text(item, place);
    if (typeof item === "number" || typeof item === "bigint") return this.#number(item, place);
    if (typeof item === "boolean" || item === null) return this.#spend(String(item));
    if (Array.isArray(item)) return this.#array(item, depth, place);
    if (item instanceof Date) return this.#text(Number.isNaN(item.getTime()) ? "" : item.toISOString(), place);
    if (typeof item === "object") return this.#object(item as Record<string, unknown>, depth, place);
    this.#spend("null");
  }

  finish(): string {
    const spans = cardNumbersInOrders(
      this.#leaves.map((leaf) => (leaf === null ? null : leaf.text)),
      this.#splitColumns(),
    );
    this.#hides ||= spans.some((found) => found.length > 0);
    const ofLeaf = new Map<Leaf, readonly Span[]>();
    for (const [i, leaf] of this.#leaves.entries()) if (leaf !== null) ofLeaf.set(leaf, spans[i]);
    return this.#pieces
      .map((piece) => (typeof piece === "string" ? piece : written(piece, ofLeaf.get(piece) ?? [])))
      .join("");
  }

  /**
   * Fields of several objects, whose values may hold a number together: [{"n": "4111", "x": 1}, {"n": "1111", "x": 2},
   * …].
   */
  #splitColumns(): number[][] {
    return [...this.#columns.values()].filter((places) => {
      const together = places[places.length - 1] - places[0] === places.length - 1;
      if (together) return false;
      let digits = 0;
      let most = MOST_COLUMN.numbers;
      for (const place of places) {
        const leaf = this.#leaves[place];
        digits += leaf?.text.match(/\p{Nd}/gu)?.length ?? 0;
        if (leaf?.quoted === true) most = MOST_COLUMN.texts;
      }
      return digits <= most;
    });
  }

  #addLeaf(leaf: Leaf, column: string): void {
    const places = this.#columns.get(column);
    if (places === undefined) this.#columns.set(column, [this.#leaves.length]);
    else places.push(this.#leaves.length);
    this.#leaves.push(leaf);
  }

  #spend(text: string): void {
    this.#left -= text.length;
    this.#pieces.push(text);
  }

  #text(given: string, { column }: Place): void {
    const left = Math.max(0, this.#left);
    const text = this.#innerJson(given, left);
    // Cut after masking, with room for what begins before the cut.
    const cut = text.slice(0, left + LOOK_AHEAD);
    const part = hideSecrets(cut);
    this.#hides ||= part !== cut;
    const leaf: Leaf = { text: part, keep: part.length > left ? left : part.length, quoted: true };
    this.#addLeaf(leaf, column);
    this.#pieces.push(leaf);
    this.#left -= leaf.keep + 2;
  }

  /** A text that is JSON, with what has to be hidden in it hidden by its structure, at any depth. */
  #innerJson(text: string, left: number): string {
    if (text.length > MOST_INNER_JSON || !JSON_TEXT.test(text)) return text;
    const masked = maskedJsonText(text, left + LOOK_AHEAD, this.#cardOf) ?? text;
    this.#hides ||= masked !== text;
    return masked;
  }

  #number(item: number | bigint, { inside, column }: Place): void {
    const text = String(item);
    // A fraction's digits are no number of a card, and those of an object's fields have nothing to do with each other.
    const [whole] = text.split(".");
    const integer = whole === text && /^-?\d+$/.test(text);
    const leaf: Leaf = { text: Number.isFinite(Number(item)) ? text : "null", keep: Infinity, quoted: false };
    if (integer || whole.length >= 13) {
      if (inside !== "array") this.#leaves.push(null);
      this.#addLeaf(leaf, column);
      if (inside !== "array") this.#leaves.push(null);
    } else this.#leaves.push(null);
    this.#left -= text.length;
    this.#pieces.push(leaf);
  }

  #array(items: readonly unknown[], depth: number, { inside, column }: Place): void {
    this.#spend("[");
    for (const [i, inner] of items.entries()) {
      if (i > 0) this.#pieces.push(",");
      if (this.#left <= 0) {
        this.#pieces.push('"…"');
        this.#lookAhead(items.slice(i, i + MOST_AHEAD), column);
        break;
      }
      // Headers as lists: a name, then its value.
      const before = i === 0 ? null : items[i - 1];
      if (typeof inner === "string" && typeof before === "string" && HEADER_NAME.test(before) && isSecretName(before))
        this.#hide(HIDDEN);
      else this.write(inner, depth + 1, { inside: "array", column: inside === "array" ? `${column}[${i}]` : column });
    }
    this.#pieces.push("]");
  }

  #object(item: Record<string, unknown>, depth: number, { inside }: Place): void {
    this.#spend("{");
    // Elements of one field each are what an array of their values is: [{"n": "4111"}, {"n": "1111"}, …].
    const alone = inside === "array" && Object.keys(item).length === 1;
    if (!alone) this.#leaves.push(null);
    const named = [item.name, item.key, item.header].some(
      (name) => typeof name === "string" && HEADER_NAME.test(name) && isSecretName(name),
    );
    let first = true;
    const fields = Object.entries(item);
    for (const [i, [name, inner]] of fields.entries()) {
      if (inner === undefined) continue;
      if (!first) this.#pieces.push(",");
      first = false;
      if (this.#left <= 0) {
        this.#pieces.push('"…":true');
        this.#lookAheadIn(fields.slice(i));
        break;
      }
      this.#name(name);
      if (isSecretName(name) || (named && name === "value")) this.#hide(HIDDEN);
      else if (this.#cardOf !== null && name === CARD_FIELD && typeof inner === "string")
        this.#hide(this.#cardOf(inner));
      else this.write(inner, depth + 1, { inside: alone ? "array" : "object", column: name });
    }
    if (!alone) this.#leaves.push(null);
    this.#pieces.push("}");
  }

  #name(name: string): void {
    const text = name.slice(0, 200);
    const key: Leaf = { text, keep: text.length, quoted: true };
    const [spans] = cardNumbersIn([text]);
    this.#hides ||= spans.length > 0;
    this.#pieces.push(written(key, spans), ":");
    this.#left -= text.length + 3;
  }

  #hide(text: string): void {
    this.#hides = true;
    this.#spend(JSON.stringify(text));
  }

  /** What isn't written may be the rest of a number that is. */
  #lookAhead(rest: readonly unknown[], column: string): void {
    for (const inner of rest) {
      if (typeof inner === "string") this.#addLeaf({ text: inner.slice(0, 32), keep: 0, quoted: true }, column);
      else if (typeof inner === "number" && Number.isSafeInteger(inner))
        this.#addLeaf({ text: String(inner), keep: 0, quoted: false }, column);
      else if (typeof inner === "object" && inner !== null && !Array.isArray(inner))
        this.#lookAheadIn(Object.entries(inner));
      else return;
    }
  }

  #lookAheadIn(fields: readonly [name: string, value: unknown][]): void {
    for (const [name, value] of fields.slice(0, MOST_AHEAD)) {
      if (typeof value === "string" || typeof value === "number") this.#lookAhead([value], name);
    }
  }
}

function written({ text, keep, quoted }: Leaf, spans: readonly Span[]): string {
  let shown = "";
  let done = 0;
  for (const { from, to } of spans) {
    if (from >= keep) break;
    shown += text.slice(done, from) + CARD;
    done = to;
  }
  if (!quoted) return spans.length === 0 ? text : JSON.stringify(shown + text.slice(done));
  return JSON.stringify(
    escapeControls(shown + text.slice(done, Math.max(done, keep)) + (keep < text.length ? "…" : "")),
  );
}
