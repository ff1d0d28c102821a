import { MOST_CATEGORIES, ONLY_DATES } from "./attribute-builder.js";
import { timeOfText } from "../features/date-attributes.js";
import { partOfMost } from "../features/text-parts.js";
import type { AttributeColumn, Dataset, OperandColumn } from "./dataset.js";
import { Growing } from "./growing.js";

/** A stored transaction with its label; attributes by the type that they were sent with. */
export interface StoredRow {
  transactionId: string;
  eventTime: number;
  cardId: string;
  merchantId: string;
  amount: number;
  currency: string;
  numbers: readonly [string, number][];
  texts: readonly [string, string][];
  /** 1: true. */
  flags: readonly [string, number][];
  /** 1: fraud. */
  label: number;
  /** When that became known; NaN: there is no label. */
  labelTime: number;
}

/** More attribute names than this are a producer's mistake, and each costs memory for every row. */
const MOST_ATTRIBUTES = 2_000;

/** Gathers stored transactions, in the order of event time, as a data set. */
export class StoredColumns {
  readonly #transactionId: string[] = [];
  readonly #cardId: string[] = [];
  readonly #merchantId: string[] = [];
  readonly #currency: string[] = [];
  readonly #eventTime = new Growing(Float64Array);
  readonly #amount = new Growing(Float64Array);
  readonly #label = new Growing(Uint8Array);
  readonly #labelTime = new Growing(Float64Array);
  readonly #interned = new Map<string, string>();
  readonly #numbers = new Map<string, Growing<Float64Array>>();
  readonly #flags = new Map<string, Growing<Float64Array>>();
  readonly #texts = new Map<string, TextColumn>();
  readonly #surplus = new Set<string>();
  readonly #operands: ReadonlySet<string>;
  #unusable = 0;

  /** @param operands attributes that features are made of, however many different texts they have */
  constructor(operands: readonly string[] = []) {
    this.#operands = new Set(operands);
  }

  get length(): number {
    return this.#label.length;
  }

  add(row: StoredRow): void {
    // What float32 can't hold no model can be given.
    if (!Number.isFinite(Math.fround(row.amount))) {
      this.#unusable += 1;
      return;
    }
    const at = this.length;
    this.#transactionId.push(row.transactionId);
    this.#cardId.push(this.#intern(row.cardId));
    this.#merchantId.push(this.#intern(row.merchantId));
    this.#currency.push(this.#intern(row.currency));
    this.#eventTime.push(row.eventTime);
    this.#amount.push(row.amount);
    this.#label.push(row.label);
    this.#labelTime.push(row.labelTime);
    for (const [name, value] of row.numbers)
      this.#put(this.#numbers, name, at, Number.isFinite(Math.fround(value)) ? value : Number.NaN);
    for (const [name, value] of row.flags) this.#put(this.#flags, name, at, value);
    for (const [name, value] of row.texts) {
      let column = this.#texts.get(name);
      if (column === undefined && this.#hasRoom(name))
        this.#texts.set(name, (column = new TextColumn(this.#operands.has(name))));
      column?.put(at, value);
    }
  }

  /** @param from rows before this event time are only history */
  finish(source: string, from: number, notes: readonly string[]): Dataset {
    const length = this.length;
    const eventTime = this.#eventTime.take(null);
    const first = eventTime.findIndex((time) => time >= from);
    const attributes = new Map<string, AttributeColumn>();
    const operands = new Map<string, OperandColumn>();
    const left: string[] = [];
    const names = [...new Set([...this.#numbers.keys(), ...this.#flags.keys(), ...this.#texts.keys()])].sort();
    for (const name of names) {
      const [number, flag, text] = [this.#numbers.get(name), this.#flags.get(name), this.#texts.get(name)];
      if ([number, flag, text].filter((column) => column !== undefined).length > 1)
        left.push(`left out: attribute ${JSON.stringify(name)}, of different types in different transactions`);
      else if (number !== undefined) attributes.set(name, { type: "number", values: filled(number, length) });
      else if (flag !== undefined) attributes.set(name, { type: "boolean", values: filled(flag, length) });
      else {
        const column = text?.finish(length) ?? null;
        const isDates = column !== null && column.categories.length > 0 && column.categories.every(isDate);
        const reason = isDates ? ONLY_DATES : `more than ${MOST_CATEGORIES} different texts`;
        if (column !== null && !isDates && column.categories.length <= MOST_CATEGORIES) attributes.set(name, column);
        else {
          if (column !== null) operands.set(name, column);
          left.push(`left out: attribute ${JSON.stringify(name)}, ${reason}`);
        }
      }
    }
    if (this.#surplus.size > 0)
      left.push(`left out: ${this.#surplus.size} attributes beyond the first ${MOST_ATTRIBUTES}`);
    if (this.#unusable > 0) left.push(`left out: ${this.#unusable} transactions whose amount no model can be given`);
    return {
      source,
      length,
      attributes,
      ...(operands.size > 0 && { operands }),
      transactionId: this.#transactionId,
      cardId: this.#cardId,
      merchantId: this.#merchantId,
      currency: this.#currency,
      eventTime,
      amount: this.#amount.take(null),
      label: this.#label.take(null),
      labelTime: this.#labelTime.take(null),
      historyRows: first < 0 ? length : first,
      hasCards: true,
      hasMerchants: true,
      notes: [...notes, ...left],
    };
  }

  #put(columns: Map<string, Growing<Float64Array>>, name: string, row: number, value: number): void {
    let column = columns.get(name);
    if (column === undefined) {
      if (!this.#hasRoom(name)) return;
      columns.set(name, (column = new Growing(Float64Array)));
    }
    // A map may hold a name twice; the first counts.
    if (column.length > row) return;
    while (column.length < row) column.push(Number.NaN);
    column.push(value);
  }

  #hasRoom(name: string): boolean {
    const room = this.#numbers.size + this.#flags.size + this.#texts.size < MOST_ATTRIBUTES;
    if (!room && this.#surplus.size < MOST_ATTRIBUTES) this.#surplus.add(name);
    return room;
  }

  #intern(text: string): string {
    const known = this.#interned.get(text);
    if (known !== undefined) return known;
    this.#interned.set(text, text);
    return text;
  }
}

/** Codes of a dictionary, until it has too many texts, unless features are, or may be, made of them. */
class TextColumn {
  #codes: Growing<Int16Array> | Growing<Int32Array> | null = new Growing(Int16Array);
  readonly #dictionary = new Map<string, number>();
  readonly #declared: boolean;

  constructor(declared: boolean) {
    this.#declared = declared;
  }

  put(row: number, text: string): void {
    // A map may hold a name twice; the first counts.
    if (this.#codes === null || this.#codes.length > row) return;
    let code = text === "" ? -1 : this.#dictionary.get(text);
    if (code === undefined) {
      if (this.#dictionary.size === MOST_CATEGORIES) this.#codes = this.#widened(this.#codes);
      if (this.#codes === null) return;
      this.#dictionary.set(text, (code = this.#dictionary.size));
    }
    while (this.#codes.length < row) this.#codes.push(-1);
    this.#codes.push(code);
  }

  #widened(codes: Growing<Int16Array> | Growing<Int32Array>): Growing<Int32Array> | null {
    const texts = [...this.#dictionary.keys()];
    if (!(this.#declared || partOfMost(texts) !== null || texts.every(isDate))) return null;
    const wider = new Growing(Int32Array);
    for (let row = 0; row < codes.length; row++) wider.push(codes.at(row));
    return wider;
  }

  finish(length: number): (AttributeColumn & { type: "text" }) | null {
    if (this.#codes === null) return null;
    const codes = new Int32Array(length).fill(-1);
    codes.set(this.#codes.take(null));
    return { type: "text", codes, categories: [...this.#dictionary.keys()] };
  }
}

function isDate(text: string): boolean {
  const bytes = Buffer.from(text);
  return !Number.isNaN(timeOfText(bytes, 0, bytes.length));
}

function filled(column: Growing<Float64Array>, length: number): Float64Array {
  const values = new Float64Array(length).fill(Number.NaN);
  values.set(column.take(null));
  return values;
}
