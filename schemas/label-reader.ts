import type { AvroSchema } from "./avro-cursor.js";
import type { RecordCode } from "./error-codes.js";
import { labelSchema } from "./generated.js";
import { checkId } from "./ids.js";
import { RecordReader } from "./record-reader.js";
import { PLAIN_SHAPE, type RecordShape } from "./record-shape.js";
import type { RecordSpec } from "./record-spec.js";
import { parseJsonLabel, WITHOUT_CARD } from "./transaction-json.js";
import type { CardIds } from "./transaction-reader.js";
import { TransactionRejected } from "./transaction-rejected.js";
import type { SchemaKey } from "./wire-format.js";
import type { WriterSchema } from "./writer-schema.js";

/** The times that a label may have: those that its column can hold. */
const LEAST_TIME = Date.UTC(1970, 0, 1);
const MOST_TIME = Date.UTC(2299, 11, 31);

const LABEL: RecordSpec<LabelReader> = {
  required: ["transaction_id", "card_id", "is_fraud", "label_time"],
  attributes: false,
  fields: {
    transaction_id: {
      kind: "text",
      wanted: "a string",
      place: (f, at, length) => {
        f.transactionAt = at;
        f.transactionLength = length;
      },
      make: (f, text) => {
        f.made.transaction = text;
      },
    },
    card_id: {
      kind: "text",
      wanted: "a string",
      place: (f, at, length) => {
        f.cardAt = at;
        f.cardLength = length;
      },
      make: (f, text) => {
        f.made.card = text;
      },
    },
    is_fraud: {
      kind: "flag",
      wanted: "true or false",
      badCode: "bad_verdict",
      set: (f, value) => {
        f.isFraud = value === 1;
      },
    },
    label_time: {
      kind: "time",
      wanted: "a time (epoch milliseconds, a timestamp, or ISO 8601 with a zone)",
      badCode: "bad_time",
      set: (f, value) => {
        f.labelTime = value;
      },
    },
  },
};

/** Reads labels of any writer schema that has the fields of `Label` by name or as a RecordShape says, and JSON. */
export class LabelReader {
  readonly #records: RecordReader<LabelReader>;
  readonly #cards: CardIds | null;
  /** What the ids stand in: the record's bytes, unless something else stands for them. */
  bytes: Buffer = Buffer.alloc(0);
  cardAt = 0;
  cardLength = 0;
  transactionAt = 0;
  transactionLength = 0;
  isFraud: boolean | null = null;
  /** Epoch milliseconds. */
  labelTime = 0;
  /** Ids that don't stand in the record. */
  made: { transaction: Buffer | null; card: Buffer | null } = { transaction: null, card: null };
  /** Why the last record is not a valid label; null: it is valid. */
  refusal: { code: RecordCode; reason: string } | null = null;

  /**
   * @param cards replaces card ids from here on; null: card ids are used as they are
   * @param shape how producers' records hold our fields
   */
  constructor(cards: CardIds | null = null, shape: RecordShape = PLAIN_SHAPE) {
    this.#cards = cards;
    const target = { find: () => -1, number: () => {}, boolean: () => {}, text: () => {} };
    this.#records = new RecordReader({
      spec: LABEL,
      canonical: labelSchema as unknown as AvroSchema,
      parseJson: parseJsonLabel,
      shape,
      target,
    });
  }

  knows(key: SchemaKey): boolean {
    return this.#records.knows(key);
  }

  /** A schema that isn't a label's makes its records unreadable. */
  learn(key: SchemaKey, schema: WriterSchema | null): void {
    this.#records.learn(key, schema);
  }

  /** Forgets which schema ids are unknown. */
  forgetUnknown(): void {
    this.#records.forgetUnknown();
  }

  /** Reads a value; false: it is not a valid label, and `refusal` says why. @param key as of RecordReader */
  read(bytes: Buffer, at: number, length: number, key: SchemaKey | null = null): boolean {
    this.cardLength = this.transactionLength = 0;
    this.labelTime = Number.NaN;
    this.isFraud = null;
    this.made = { transaction: null, card: null };
    try {
      this.#records.read(bytes, at, length, this, key);
      this.#gather();
      this.#check();
      this.refusal = null;
    } catch (error) {
      if (!(error instanceof TransactionRejected)) throw error;
      this.refusal = { code: error.code, reason: error.message };
    }
    return this.refusal === null;
  }

  #check(): void {
    checkId(
      "transaction_id",
      this.bytes,
      this.transactionAt,
      this.transactionLength,
      ": a label names the transaction that it is of",
    );
    if (this.isFraud === null) throw new TransactionRejected("bad_verdict", "is_fraud is missing");
    if (!(this.labelTime >= LEAST_TIME && this.labelTime <= MOST_TIME))
      throw new TransactionRejected("bad_time", "label_time is before 1970 or after 2299");
  }

  #gather(): void {
    const { transaction, card } = this.made;
    // What stands for a card's id may be longer or shorter than the id.
    if (card !== null) checkId("card_id", card, 0, card.length, `: ${WITHOUT_CARD}`);
    else checkId("card_id", this.bytes, this.cardAt, this.cardLength, `: ${WITHOUT_CARD}`);
    if (transaction === null && card === null && this.#cards === null) return;
    const ofTransaction =
      transaction ?? this.bytes.subarray(this.transactionAt, this.transactionAt + this.transactionLength);
    let ofCard: Buffer = card ?? this.bytes.subarray(this.cardAt, this.cardAt + this.cardLength);
    if (this.#cards !== null && ofCard.length > 0) ofCard = this.#cards.of(ofCard, 0, ofCard.length);
    this.bytes = Buffer.concat([ofCard, ofTransaction]);
    this.cardAt = 0;
    this.cardLength = this.transactionAt = ofCard.length;
    this.transactionLength = ofTransaction.length;
  }
}
