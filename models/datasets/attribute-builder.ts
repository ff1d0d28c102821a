import type { AttributeColumn } from "./dataset.js";
import { Growing } from "./growing.js";
import { readNumber, type DecimalMark } from "./numbers.js";
import { isMissingMarker } from "./values.js";

/** A text attribute with more different values than this is left out: each value is a feature of its own. */
export const MOST_CATEGORIES = 300;

/** How an attribute's cells are read. */
export type AttributeKind = { type: "number"; mark: DecimalMark } | { type: "text" };

/** Gathers an attribute's cells in the file's order. */
export class AttributeBuilder {
  readonly name: string;
  readonly #kind: AttributeKind;
  readonly #numbers = new Growing(Float64Array);
  #codes: Growing<Int16Array> | null = new Growing(Int16Array);
  readonly #dictionary = new Map<string, number>();
  /** Words that stand where a number is missing, and how often; empty cells aside. */
  readonly words = new Map<string, number>();
  missing = 0;

  constructor(name: string, kind: AttributeKind) {
    this.name = name;
    this.#kind = kind;
  }

  /** @param text a trimmed cell; empty: absent */
  add(text: string): void {
    if (this.#kind.type === "number") {
      const number = text === "" ? Number.NaN : readNumber(text, this.#kind.mark);
      if (Number.isNaN(number)) {
        this.missing += 1;
        if (text !== "" && (this.words.size < MOST_WORDS || this.words.has(text)))
          this.words.set(text, (this.words.get(text) ?? 0) + 1);
      }
      this.#numbers.push(number);
      return;
    }
    if (text === "") this.missing += 1;
    if (this.#codes === null) return;
    let code = text === "" ? -1 : this.#dictionary.get(text);
    if (code === undefined && this.#dictionary.size < MOST_CATEGORIES)
      this.#dictionary.set(text, (code = this.#dictionary.size));
    if (code !== undefined) this.#codes.push(code);
    else this.#codes = null;
  }

  /** The column in the given order of rows (null: as they came), or why it can't be an attribute. */
  finish(order: Uint32Array | null): AttributeColumn | string {
    if (this.#kind.type === "number") {
      if (this.missing === this.#numbers.length) return "empty on every line";
      return { type: "number", values: this.#numbers.take(order) };
    }
    if (this.#codes === null) return `text, with more than ${MOST_CATEGORIES} different values`;
    const texts = [...this.#dictionary.keys()];
    const values = texts.filter((text) => !isMissingMarker(text));
    if (values.length === 0) return "empty on every line";
    const codes = this.#codes.take(order);
    if (!values.every((text) => /^(true|false)$/i.test(text)))
      return { type: "text", codes: Int32Array.from(codes), categories: texts };
    const meaning = texts.map((text) => (isMissingMarker(text) ? Number.NaN : Number(text.toLowerCase() === "true")));
    return { type: "boolean", values: Float64Array.from(codes, (code) => (code < 0 ? Number.NaN : meaning[code])) };
  }
}

/** Different words that are told in a note. */
const MOST_WORDS = 10;
