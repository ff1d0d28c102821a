import { plausible } from "../features/date-attributes.js";
import { partOfMost } from "../features/text-parts.js";
import type { OperandColumn } from "./dataset.js";
import { Growing } from "./growing.js";
import { readNumber, type DecimalMark } from "./numbers.js";
import { isMissingMarker } from "./values.js";

/** A text attribute with more different values than this is left out: each value is a feature of its own. */
export const MOST_CATEGORIES = 300;

/** How an attribute's cells are read. */
export type AttributeKind =
  | { type: "number"; mark: DecimalMark }
  | { type: "text" }
  /** A date: features are made of it, but it is none. */
  | { type: "time"; parse: (text: string) => number };

/** A column that was read, and why it is no feature itself; or only that. */
export interface FinishedAttribute {
  column: OperandColumn | null;
  leftOut: string | null;
}

/** Gathers an attribute's cells in the file's order. */
export class AttributeBuilder {
  readonly name: string;
  readonly #kind: AttributeKind;
  readonly #numbers = new Growing(Float64Array);
  #codes: Growing<Int16Array> | Growing<Int32Array> | null = new Growing(Int16Array);
  readonly #declared: boolean;
  readonly #dictionary = new Map<string, number>();
  /** Words that stand where a number is missing, and how often; empty cells aside. */
  readonly words = new Map<string, number>();
  missing = 0;

  /** @param declared features are made of it, however many different texts it has */
  constructor(name: string, kind: AttributeKind, declared = false) {
    this.name = name;
    this.#declared = declared;
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
    if (this.#kind.type === "time") {
      const time = isMissingMarker(text) || text === "" ? Number.NaN : this.#kind.parse(text);
      if (Number.isNaN(time)) this.missing += 1;
      this.#numbers.push(plausible(time));
      return;
    }
    if (text === "") this.missing += 1;
    if (this.#codes === null) return;
    let code = text === "" ? -1 : this.#dictionary.get(text);
    if (code === undefined) {
      if (this.#dictionary.size === MOST_CATEGORIES) this.#overflow();
      if (this.#codes === null) return;
      this.#dictionary.set(text, (code = this.#dictionary.size));
    }
    this.#codes.push(code);
  }

  /** Too many texts for a feature each: they are read on if features are, or may be, made of parts of them. */
  #overflow(): void {
    const codes = this.#codes;
    this.#codes = null;
    if (codes === null || !(this.#declared || partOfMost([...this.#dictionary.keys()]) !== null)) return;
    const wider = new Growing(Int32Array);
    for (let row = 0; row < codes.length; row++) wider.push(codes.at(row));
    this.#codes = wider;
  }

  /** The column in the given order of rows (null: as they came), and why it can't be a feature. */
  finish(order: Uint32Array | null): FinishedAttribute {
    const empty = { column: null, leftOut: "empty on every line" };
    if (this.#kind.type !== "text") {
      if (this.missing === this.#numbers.length) return empty;
      const values = this.#numbers.take(order);
      return this.#kind.type === "number"
        ? { column: { type: "number", values }, leftOut: null }
        : { column: { type: "time", values }, leftOut: ONLY_DATES };
    }
    const tooMany = `text, with more than ${MOST_CATEGORIES} different values`;
    if (this.#codes === null) return { column: null, leftOut: tooMany };
    const texts = [...this.#dictionary.keys()];
    const values = texts.filter((text) => !isMissingMarker(text));
    if (values.length === 0) return empty;
    const codes = this.#codes.take(order);
    if (!values.every((text) => /^(true|false)$/i.test(text))) {
      const leftOut = texts.length > MOST_CATEGORIES ? tooMany : null;
      return { column: { type: "text", codes: Int32Array.from(codes), categories: texts }, leftOut };
    }
    const meaning = texts.map((text) => (isMissingMarker(text) ? Number.NaN : Number(text.toLowerCase() === "true")));
    const flags = Float64Array.from(codes, (code) => (code < 0 ? Number.NaN : meaning[code]));
    return { column: { type: "boolean", values: flags }, leftOut: null };
  }
}

/** Why dates are no features themselves. */
export const ONLY_DATES = "times: only the event time is used";

/** Different words that are told in a note. */
const MOST_WORDS = 10;
