import type { AttributeTarget, Unreadable } from "./avro-attributes.js";
import type { AvroSchema } from "./avro-cursor.js";
import { isCurrency } from "./currencies.js";
import { transactionSchema } from "./generated.js";
import { checkId } from "./ids.js";
import { RecordReader } from "./record-reader.js";
import { PLAIN_SHAPE, type RecordShape } from "./record-shape.js";
import type { RecordFields, RecordSpec } from "./record-spec.js";
import { parseJsonTransaction } from "./transaction-json.js";
import { TransactionRejected } from "./transaction-rejected.js";
import type { SchemaKey } from "./wire-format.js";
import type { WriterSchema } from "./writer-schema.js";

export type { AttributeTarget, Unreadable } from "./avro-attributes.js";

/** Where one transaction's fields stand; texts are parts of `bytes`, so that the hot path makes no strings. */
export class TransactionFields implements RecordFields {
  bytes: Buffer = Buffer.alloc(0);
  transactionIdAt = 0;
  transactionIdLength = -1;
  cardIdAt = 0;
  cardIdLength = -1;
  merchantIdAt = 0;
  merchantIdLength = -1;
  currencyAt = 0;
  currencyLength = -1;
  /** Epoch milliseconds. */
  eventTime = Number.NaN;
  amount = Number.NaN;
  /** Texts that don't stand in the record, in the order of the fields above; null: none. */
  made: (Buffer | null)[] | null = null;

  clear(): void {
    this.transactionIdLength = this.cardIdLength = this.merchantIdLength = this.currencyLength = -1;
    this.eventTime = this.amount = Number.NaN;
    this.made = null;
  }

  text(at: number, length: number): string {
    return this.bytes.toString("utf8", at, at + length);
  }

  make(field: number, text: Buffer): void {
    (this.made ??= [null, null, null, null])[field] = text;
  }

  /** Puts all texts into one buffer of their own. @param card what stands for the card id; null: itself */
  gather(card: Buffer | null = null): void {
    const {
      bytes,
      made,
      transactionIdAt,
      transactionIdLength,
      cardIdAt,
      cardIdLength,
      merchantIdAt,
      merchantIdLength,
      currencyAt,
      currencyLength,
    } = this;
    const part = (field: number, at: number, length: number): Buffer =>
      made?.[field] ?? bytes.subarray(at, at + Math.max(length, 0));
    const parts = [
      part(0, transactionIdAt, transactionIdLength),
      card ?? part(1, cardIdAt, cardIdLength),
      part(2, merchantIdAt, merchantIdLength),
      part(3, currencyAt, currencyLength),
    ];
    const [transaction, ofCard, merchant, currency] = parts;
    this.bytes = Buffer.concat(parts);
    this.transactionIdAt = 0;
    this.cardIdAt = this.transactionIdLength = transaction.length;
    this.merchantIdAt = this.cardIdAt + (this.cardIdLength = ofCard.length);
    this.currencyAt = this.merchantIdAt + (this.merchantIdLength = merchant.length);
    this.currencyLength = currency.length;
    this.made = null;
  }
}

/** What stands for card ids in all that is made of a transaction (infra/privacy/card-pseudonyms.ts). */
export interface CardIds {
  /** What stands for the card id in `length` bytes from `at` on; bytes of its own. */
  of(bytes: Uint8Array, at: number, length: number): Buffer;
}

/** No transaction is older. */
export const EARLIEST_EVENT_TIME = Date.UTC(2000, 0, 1);
/** How far ahead of its record's time, and of the reader's clock, a transaction may lie. */
export const CLOCK_SKEW_MS = 5 * 60 * 1000;

/**
 * What is wrong with an event time, wherever it comes in; null: nothing.
 *
 * @param time of the record, or the present
 */
export function eventTimeFault(eventTime: number, time: number): "early" | "ahead" | null {
  if (!(eventTime >= EARLIEST_EVENT_TIME)) return "early";
  return eventTime > time + CLOCK_SKEW_MS ? "ahead" : null;
}

const TRANSACTION: RecordSpec<TransactionFields> = {
  required: ["transaction_id", "event_time", "card_id", "merchant_id", "amount", "currency"],
  attributes: true,
  fields: {
    transaction_id: {
      kind: "text",
      wanted: "a string",
      place: (f, at, length) => {
        f.transactionIdAt = at;
        f.transactionIdLength = length;
      },
      make: (f, text) => f.make(0, text),
    },
    card_id: {
      kind: "text",
      wanted: "a string",
      place: (f, at, length) => {
        f.cardIdAt = at;
        f.cardIdLength = length;
      },
      make: (f, text) => f.make(1, text),
    },
    merchant_id: {
      kind: "text",
      wanted: "a string",
      place: (f, at, length) => {
        f.merchantIdAt = at;
        f.merchantIdLength = length;
      },
      make: (f, text) => f.make(2, text),
    },
    currency: {
      kind: "text",
      wanted: "a string",
      place: (f, at, length) => {
        f.currencyAt = at;
        f.currencyLength = length;
      },
      make: (f, text) => f.make(3, text),
    },
    amount: {
      kind: "number",
      wanted: "a number",
      badCode: "bad_amount",
      set: (f, value) => {
        f.amount = value;
      },
    },
    event_time: {
      kind: "time",
      wanted: "a time (epoch milliseconds, a timestamp, or ISO 8601 with a zone)",
      badCode: "bad_event_time",
      set: (f, value) => {
        f.eventTime = value;
      },
    },
  },
};

/**
 * Reads transactions of any writer schema that has the fields of `Transaction` by name or as a RecordShape says, and
 * JSON. One reader serves one AttributeTarget.
 */
export class TransactionReader {
  readonly #records: RecordReader<TransactionFields>;
  readonly #cards: CardIds | null;

  /**
   * @param cards replaces card ids from here on; null: card ids are used as they are
   * @param shape how producers' records hold our fields
   */
  constructor(target: AttributeTarget, cards: CardIds | null = null, shape: RecordShape = PLAIN_SHAPE) {
    this.#records = new RecordReader({
      spec: TRANSACTION,
      canonical: transactionSchema as unknown as AvroSchema,
      parseJson: parseJsonTransaction,
      shape,
      target,
    });
    this.#cards = cards;
  }

  /** Whether records of this schema id can be read at once. */
  knows(key: SchemaKey): boolean {
    return this.#records.knows(key);
  }

  /** Makes a writer schema known: see RecordReader. */
  learn(key: SchemaKey, schema: WriterSchema | null): readonly Unreadable[] {
    return this.#records.learn(key, schema);
  }

  /** Forgets that a schema id is unknown, so that a schema which was registered since is found. */
  forgetUnknown(): void {
    this.#records.forgetUnknown();
  }

  /**
   * Reads the value of one record into `fields` and its attributes into the target.
   *
   * @param recordTime the record's timestamp, or the present where that is earlier; epoch milliseconds
   * @param key the writer's schema where a header names it; null: the value tells
   * @throws TransactionRejected when it is not a valid transaction
   */
  read(
    bytes: Buffer,
    at: number,
    length: number,
    recordTime: number,
    fields: TransactionFields,
    key: SchemaKey | null = null,
  ): void {
    fields.clear();
    this.#records.read(bytes, at, length, fields, key);
    if (fields.made !== null) fields.gather();
    validate(fields, recordTime);
    // The fields go on standing in one buffer, which no longer has the card id.
    if (this.#cards !== null) fields.gather(this.#cards.of(fields.bytes, fields.cardIdAt, fields.cardIdLength));
  }
}

function validate(fields: TransactionFields, recordTime: number): void {
  checkId("transaction_id", fields.bytes, fields.transactionIdAt, fields.transactionIdLength);
  checkId("card_id", fields.bytes, fields.cardIdAt, fields.cardIdLength);
  checkId("merchant_id", fields.bytes, fields.merchantIdAt, fields.merchantIdLength);
  if (!Number.isFinite(fields.amount)) throw new TransactionRejected("bad_amount", "amount is not a finite number");
  const { bytes, currencyAt } = fields;
  if (fields.currencyLength !== 3 || !isCurrency(bytes[currencyAt], bytes[currencyAt + 1], bytes[currencyAt + 2])) {
    throw new TransactionRejected("bad_currency", "currency is not an ISO 4217 code");
  }
  const { eventTime } = fields;
  if (Number.isNaN(eventTime)) throw new TransactionRejected("event_time_early", "event_time is missing or no number");
  const fault = eventTimeFault(eventTime, recordTime);
  if (fault === "early") throw new TransactionRejected("event_time_early", "event_time lies before 2000");
  if (fault === "ahead")
    throw new TransactionRejected(
      "event_time_ahead",
      "event_time lies more than five minutes ahead of the record's time or of the present",
    );
}
