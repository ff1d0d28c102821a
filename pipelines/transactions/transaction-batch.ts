import { LARGEST_FLOAT32, type AttributeSlot } from "../../models/features/attribute-slots.js";
import { timeOfNumber, timeOfText } from "../../models/features/date-attributes.js";
import type { TransactionColumns } from "../../models/features/plan.js";
import { LONGEST_PART, readPart, type TextPart } from "../../models/features/text-parts.js";
import type { AttributeTarget, TransactionFields } from "../../schemas/transaction-reader.js";
import { TransactionRejected } from "../../schemas/transaction-rejected.js";

const INTEGERS = [
  "record",
  "transactionIdAt",
  "transactionIdLength",
  "cardIdAt",
  "cardIdLength",
  "merchantIdAt",
  "merchantIdLength",
  "currencyAt",
] as const;
const NUMBERS = ["eventTime", "amount", "stale", ...INTEGERS] as const;

interface TextSlot {
  slot: number;
  equals: Buffer;
}

/** The slots of one part of a text. */
interface PartSlots {
  part: TextPart;
  slots: TextSlot[];
}

/** The slots of an attribute; -1: it has none of that type. */
interface AttributeSlots {
  number: number;
  boolean: number;
  time: number;
  texts: TextSlot[];
  parts: PartSlots[];
}

/**
 * Accepted transactions of one batch, column by column; its arrays are reused for the next batch. A reader also puts
 * the attributes that the deployed models look at here, in the slots of the row being read.
 */
export class TransactionBatch implements TransactionColumns, AttributeTarget {
  length = 0;
  readonly slotCount: number;
  eventTime = new Float64Array(0);
  amount = new Float64Array(0);
  slots = new Float64Array(0);
  readonly historyCount: number;
  /** The history values of cards and merchants, in the order of the deployment's HistoryPlan. */
  history = new Float64Array(0);
  /** 1: its history was computed without something it should have waited for, or the transaction came too late. */
  stale = new Uint8Array(0);
  /** Index of each row's record in what was fetched. */
  record = new Int32Array(0);
  /**
   * The buffer that holds a row's texts, and their positions: transaction id, card id, merchant id; the currency has
   * three bytes.
   */
  bytes: Buffer[] = [];
  transactionIdAt = new Int32Array(0);
  transactionIdLength = new Int32Array(0);
  cardIdAt = new Int32Array(0);
  cardIdLength = new Int32Array(0);
  merchantIdAt = new Int32Array(0);
  merchantIdLength = new Int32Array(0);
  currencyAt = new Int32Array(0);
  readonly #attributes: AttributeSlots[] = [];
  readonly #byName = new Map<string, number>();
  /** Of the transaction's own fields. */
  readonly #cardParts: PartSlots[] = [];
  readonly #merchantParts: PartSlots[] = [];
  readonly #part = Buffer.alloc(LONGEST_PART);
  #row = 0;

  constructor(slots: readonly AttributeSlot[], historyCount = 0) {
    this.slotCount = slots.length;
    this.historyCount = historyCount;
    slots.forEach((slot, index) => {
      if (slot.field === true) {
        addPart(slot.attribute === "card_id" ? this.#cardParts : this.#merchantParts, slot, index);
        return;
      }
      let found = this.#byName.get(slot.attribute);
      if (found === undefined) {
        found = this.#attributes.length;
        this.#byName.set(slot.attribute, found);
        this.#attributes.push({ number: -1, boolean: -1, time: -1, texts: [], parts: [] });
      }
      const attribute = this.#attributes[found];
      if (slot.part !== undefined) addPart(attribute.parts, slot, index);
      else if (slot.equals !== undefined) attribute.texts.push({ slot: index, equals: Buffer.from(slot.equals) });
      else attribute[slot.type] = index;
    });
  }

  /** Empties the batch and makes room for `capacity` rows. */
  reset(capacity: number): void {
    this.length = 0;
    if (capacity > this.eventTime.length) this.#grow(Math.ceil(capacity * 1.25));
    this.#beginRow();
  }

  /** Makes the row being read part of the batch. */
  add(fields: TransactionFields, record: number): void {
    const row = this.length++;
    this.eventTime[row] = fields.eventTime;
    this.amount[row] = fields.amount;
    this.record[row] = record;
    this.stale[row] = 0;
    this.bytes[row] = fields.bytes;
    this.transactionIdAt[row] = fields.transactionIdAt;
    this.transactionIdLength[row] = fields.transactionIdLength;
    this.cardIdAt[row] = fields.cardIdAt;
    this.cardIdLength[row] = fields.cardIdLength;
    this.merchantIdAt[row] = fields.merchantIdAt;
    this.merchantIdLength[row] = fields.merchantIdLength;
    this.currencyAt[row] = fields.currencyAt;
    if (this.#cardParts.length > 0)
      this.#fillParts(this.#cardParts, fields.bytes, fields.cardIdAt, fields.cardIdLength);
    if (this.#merchantParts.length > 0)
      this.#fillParts(this.#merchantParts, fields.bytes, fields.merchantIdAt, fields.merchantIdLength);
    this.#beginRow();
  }

  /** Discards the row being read. */
  discardRow(): void {
    this.#beginRow();
  }

  /** Removes rows; the others move up, in order. @param dropped by row; 1: is removed */
  drop(dropped: Uint8Array): void {
    const { slotCount, historyCount } = this;
    let to = 0;
    for (let row = 0; row < this.length; row++) {
      if (dropped[row] === 1) continue;
      if (to < row) {
        for (const column of NUMBERS) this[column][to] = this[column][row];
        this.bytes[to] = this.bytes[row];
        this.slots.copyWithin(to * slotCount, row * slotCount, (row + 1) * slotCount);
        this.history.copyWithin(to * historyCount, row * historyCount, (row + 1) * historyCount);
      }
      to += 1;
    }
    this.length = to;
  }

  find(name: string): number {
    return this.#byName.get(name) ?? -1;
  }

  number(found: number, value: number): void {
    const { number, time } = this.#attributes[found];
    if (number < 0 && time < 0) throw this.#wrongType(found, "a number");
    // NaN is how many producers write an absent number.
    if (value > LARGEST_FLOAT32 || value < -LARGEST_FLOAT32)
      throw new TransactionRejected("bad_attribute", `attribute ${this.#nameOf(found)} is too large for a feature`);
    if (number >= 0) this.slots[this.#row + number] = value;
    if (time >= 0) this.slots[this.#row + time] = timeOfNumber(value);
  }

  boolean(found: number, value: boolean): void {
    const slot = this.#attributes[found].boolean;
    if (slot < 0) throw this.#wrongType(found, "a boolean");
    this.slots[this.#row + slot] = value ? 1 : 0;
  }

  text(found: number, bytes: Buffer, at: number, length: number): void {
    const { texts, parts, time } = this.#attributes[found];
    if (texts.length === 0 && parts.length === 0 && time < 0) throw this.#wrongType(found, "a string");
    this.#fillTexts(texts, bytes, at, length);
    if (parts.length > 0) this.#fillParts(parts, bytes, at, length);
    if (time >= 0) this.slots[this.#row + time] = timeOfText(bytes, at, length);
  }

  #fillTexts(texts: readonly TextSlot[], bytes: Buffer, at: number, length: number): void {
    for (const { slot, equals } of texts) {
      this.slots[this.#row + slot] = equals.length === length && equals.compare(bytes, at, at + length) === 0 ? 1 : 0;
    }
  }

  #fillParts(parts: readonly PartSlots[], bytes: Buffer, at: number, length: number): void {
    for (const { part, slots } of parts) {
      const partLength = readPart(part, bytes, at, length, this.#part);
      if (partLength >= 0) this.#fillTexts(slots, this.#part, 0, partLength);
      else for (const { slot } of slots) this.slots[this.#row + slot] = Number.NaN;
    }
  }

  #beginRow(): void {
    this.#row = this.length * this.slotCount;
    this.slots.fill(Number.NaN, this.#row, this.#row + this.slotCount);
  }

  #wrongType(found: number, given: string): TransactionRejected {
    return new TransactionRejected(
      "wrong_attribute_type",
      `attribute ${this.#nameOf(found)} is ${given}, which the deployed models don't take`,
    );
  }

  #nameOf(found: number): string {
    for (const [name, index] of this.#byName) if (index === found) return JSON.stringify(name);
    return "";
  }

  /** Nothing is kept: a batch grows only while it is empty. */
  #grow(capacity: number): void {
    this.eventTime = new Float64Array(capacity);
    this.amount = new Float64Array(capacity);
    // One extra row: the row being read may turn out to be rejected.
    this.slots = new Float64Array((capacity + 1) * this.slotCount);
    this.history = new Float64Array(capacity * this.historyCount);
    this.stale = new Uint8Array(capacity);
    for (const column of INTEGERS) this[column] = new Int32Array(capacity);
    this.bytes = new Array<Buffer>(capacity);
  }
}

function addPart(parts: PartSlots[], { part, equals = "" }: AttributeSlot, slot: number): void {
  if (part === undefined) return;
  let found = parts.find((known) => known.part === part);
  if (found === undefined) parts.push((found = { part, slots: [] }));
  found.slots.push({ slot, equals: Buffer.from(equals) });
}
