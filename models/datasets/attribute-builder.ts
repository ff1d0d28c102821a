import type { AttributeColumn } from "./dataset.js";
import { isMissingMarker, parseNumber, quoted } from "./values.js";

/** A text attribute with more different values than this is left out. */
export const MOST_CATEGORIES = 20;

/** A typed array that grows by doubling. */
export class Growing<T extends Float64Array | Int8Array | Uint8Array> {
  readonly #make: new (length: number) => T;
  #values: T;
  length = 0;

  constructor(make: new (length: number) => T) {
    this.#make = make;
    this.#values = new make(1024);
  }

  push(value: number): void {
    if (this.length === this.#values.length) {
      const larger = new this.#make(this.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.length++] = value;
  }

  at(index: number): number {
    return this.#values[index];
  }

  /** The values in the given order of rows; null: as they came. */
  take(order: Uint32Array | null): T {
    if (order === null) return this.#values.slice(0, this.length) as T;
    const taken = new this.#make(this.length);
    for (let row = 0; row < order.length; row++) taken[row] = this.#values[order[row]];
    return taken;
  }
}

/**
 * Finds a column's type while it is read, in one pass and without keeping its text. It is read as numbers and, until it
 * shows more than 20 different texts, as one-byte codes of a dictionary; whichever can't hold a cell is given up. So a
 * column of codes that turns out to hold text at its last line still has its texts, and no column is held twice for
 * long.
 */
export class AttributeBuilder {
  readonly name: string;
  #numbers: Growing<Float64Array> | null = new Growing(Float64Array);
  #codes: Growing<Int8Array> | null = new Growing(Int8Array);
  readonly #dictionary = new Map<string, number>();
  #notNumber: { line: number; text: string } | null = null;
  #present = false;

  constructor(name: string) {
    this.name = name;
  }

  /** @param text a trimmed cell; empty: absent */
  add(text: string, line: number): void {
    if (this.#numbers !== null) {
      const number = parseNumber(text);
      if (Number.isNaN(number) && text !== "" && !isMissingMarker(text)) {
        this.#notNumber = { line, text };
        this.#numbers = null;
      } else {
        if (!Number.isNaN(number)) this.#present = true;
        this.#numbers.push(number);
      }
    }
    if (this.#codes === null) return;
    let code = text === "" ? -1 : this.#dictionary.get(text);
    if (code === undefined && this.#dictionary.size < MOST_CATEGORIES)
      this.#dictionary.set(text, (code = this.#dictionary.size));
    if (code === undefined) this.#codes = null;
    else this.#codes.push(code);
  }

  /** The column in the given order of rows, or why it can't be an attribute. */
  finish(order: Uint32Array | null): AttributeColumn | string {
    if (this.#numbers !== null && this.#present) return { type: "number", values: this.#numbers.take(order) };
    if (this.#codes === null) {
      const { line, text } = this.#notNumber ?? { line: 0, text: "" };
      return `neither numbers (line ${line} holds ${quoted(text)}) nor at most ${MOST_CATEGORIES} different texts`;
    }
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
