import { CARD, cardNumbersIn, LOOK_AHEAD, type Span } from "./card-numbers.js";
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
interface Leaf { text: string; keep: number; quoted: boolean }

/**
 * A value as JSON for a log: secrets hidden by their field's name and by what texts call them, card numbers wherever they
 * stand, also spread over an array or an object, and cut where `most` characters are reached, with the work bounded likewise.
 */
export function maskedJson(value: unknown, most: number, cardOf: CardOf | null = null): string {
  const writer = new MaskedWriter(most, cardOf);
  writer.write(value, 0, null);
  return writer.finish();
}

class MaskedWriter {
  readonly #cardOf: CardOf | null;
  readonly #pieces: (string | Leaf)[] = [];
  /** In the order in which they may hold a number together; null: no further. */
  readonly #leaves: (Leaf | null)[] = [];
  #left: number;

  constructor(most: number, cardOf: CardOf | null) {
    this.#left = most;
    this.#cardOf = cardOf;
  }

  /** @param inside what the value stands in */
  write(item: unknown, depth: number, inside: "array" | "object" | null): void {
    if (this.#left <= 0 || depth > MOST_DEPTH) return this.#spend('"…"');
    if (typeof item === "string") return this.#text(item);
    if (typeof item === "number" || typeof item === "bigint") return this.#number(item, inside);
    if (typeof item === "boolean" || item === null) return this.#spend(String(item));
    if (Array.isArray(item)) return this.#array(item, depth);
    if (item instanceof Date) return this.#text(Number.isNaN(item.getTime()) ? "" : item.toISOString());
    if (typeof item === "object") return this.#object(item as Record<string, unknown>, depth, inside);
    this.#spend("null");
  }

  finish(): string {
    const spans = cardNumbersIn(this.#leaves.map((leaf) => (leaf === null ? null : leaf.text)));
    const ofLeaf = new Map<Leaf, readonly Span[]>();
    for (const [i, leaf] of this.#leaves.entries()) if (leaf !== null) ofLeaf.set(leaf, spans[i]);
    return this.#pieces.map((piece) => (typeof piece === "string" ? piece : written(piece, ofLeaf.get(piece) ?? []))).join("");
  }

  #spend(text: string): void {
    this.#left -= text.length;
    this.#pieces.push(text);
  }

  #text(text: string): void {
    const left = Math.max(0, this.#left);
    // Cut after masking, with room for what begins before the cut.
    const part = hideSecrets(text.slice(0, left + LOOK_AHEAD));
    const leaf: Leaf = { text: part, keep: part.length > left ? left : part.length, quoted: true };
    this.#leaves.push(leaf);
    this.#pieces.push(leaf);
    this.#left -= leaf.keep + 2;
  }

  #number(item: number | bigint, inside: "array" | "object" | null): void {
    const text = String(item);
    // A fraction's digits are no number of a card, and those of an object's fields have nothing to do with each other.
    const [whole] = text.split(".");
    const integer = whole === text && /^-?\d+$/.test(text);
    const leaf: Leaf = { text: Number.isFinite(Number(item)) ? text : "null", keep: Infinity, quoted: false };
    if (integer || whole.length >= 13) {
      if (inside !== "array") this.#leaves.push(null);
      this.#leaves.push(leaf);
      if (inside !== "array") this.#leaves.push(null);
    } else this.#leaves.push(null);
    this.#left -= text.length;
    this.#pieces.push(leaf);
  }

  #array(items: readonly unknown[], depth: number): void {
    this.#spend("[");
    for (const [i, inner] of items.entries()) {
      if (i > 0) this.#pieces.push(",");
      if (this.#left <= 0) {
        this.#pieces.push('"…"');
        this.#lookAhead(items.slice(i, i + MOST_AHEAD));
        break;
      }
      // Headers as lists: a name, then its value.
      const before = i === 0 ? null : items[i - 1];
      if (typeof inner === "string" && typeof before === "string" && HEADER_NAME.test(before) && isSecretName(before)) this.#spend(JSON.stringify(HIDDEN));
      else this.write(inner, depth + 1, "array");
    }
    this.#pieces.push("]");
  }

  #object(item: Record<string, unknown>, depth: number, inside: "array" | "object" | null): void {
    this.#spend("{");
    // Elements of one field each are what an array of their values is: [{"n": "4111"}, {"n": "1111"}, …].
    const alone = inside === "array" && Object.keys(item).length === 1;
    if (!alone) this.#leaves.push(null);
    const named = [item.name, item.key, item.header].some((name) => typeof name === "string" && HEADER_NAME.test(name) && isSecretName(name));
    let first = true;
    for (const [name, inner] of Object.entries(item)) {
      if (inner === undefined) continue;
      if (!first) this.#pieces.push(",");
      first = false;
      if (this.#left <= 0) {
        this.#pieces.push('"…":true');
        this.#lookAhead(Object.values(item).slice(0, MOST_AHEAD));
        break;
      }
      this.#name(name);
      if (isSecretName(name) || (named && name === "value")) this.#spend(JSON.stringify(HIDDEN));
      else if (this.#cardOf !== null && name === CARD_FIELD && typeof inner === "string") this.#spend(JSON.stringify(this.#cardOf(inner)));
      else this.write(inner, depth + 1, alone ? "array" : "object");
    }
    if (!alone) this.#leaves.push(null);
    this.#pieces.push("}");
  }

  #name(name: string): void {
    const text = name.slice(0, 200);
    const key: Leaf = { text, keep: text.length, quoted: true };
    this.#pieces.push(written(key, cardNumbersIn([text])[0]), ":");
    this.#left -= text.length + 3;
  }

  /** What isn't written may be the rest of a number that is. */
  #lookAhead(rest: readonly unknown[]): void {
    for (const inner of rest) {
      if (typeof inner === "string") this.#leaves.push({ text: inner.slice(0, 32), keep: 0, quoted: true });
      else if (typeof inner === "number" && Number.isSafeInteger(inner)) this.#leaves.push({ text: String(inner), keep: 0, quoted: false });
      else return;
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
  return JSON.stringify(escapeControls(shown + text.slice(done, Math.max(done, keep)) + (keep < text.length ? "…" : "")));
}
