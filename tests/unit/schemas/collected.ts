import { writeWireHead, type SchemaKey } from "../../../schemas/wire-format.js";
import { TransactionFields, TransactionReader, type AttributeTarget } from "../../../schemas/transaction-reader.js";
import { PLAIN_SHAPE, type RecordShape } from "../../../schemas/record-shape.js";
import { TransactionRejected } from "../../../schemas/transaction-rejected.js";
import type { WriterSchema } from "../../../schemas/writer-schema.js";

export const EVENT_TIME = Date.UTC(2026, 5, 1, 12);

/** Everything that a reader made of one record. */
export interface Collected {
  transactionId: string;
  cardId: string;
  merchantId: string;
  currency: string;
  eventTime: number;
  amount: number;
  attributes: Map<string, number | boolean | string>;
}

/** A target that keeps the attributes that it wants. */
class Collecting implements AttributeTarget {
  readonly #names: string[] = [];
  readonly #wants: (name: string) => boolean;
  readonly attributes = new Map<string, number | boolean | string>();

  constructor(wants: (name: string) => boolean) {
    this.#wants = wants;
  }

  find(name: string): number {
    return this.#wants(name) ? this.#names.push(name) - 1 : -1;
  }

  number(found: number, value: number): void {
    this.attributes.set(this.#names[found], value);
  }

  boolean(found: number, value: boolean): void {
    this.attributes.set(this.#names[found], value);
  }

  text(found: number, bytes: Buffer, at: number, length: number): void {
    this.attributes.set(this.#names[found], bytes.toString("utf8", at, at + length));
  }
}

/** The code and message with which a record is refused; "accepted": it isn't. */
export function rejectionOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof TransactionRejected) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

/** Reads values of one writer schema (id 7, or the key that is given), or JSON. */
export function collector(
  schema: WriterSchema,
  wants: (name: string) => boolean = () => true,
  shape: RecordShape = PLAIN_SHAPE,
  key: SchemaKey | null = null,
): (bytes: Buffer, at?: number, length?: number, recordTime?: number) => Collected {
  const target = new Collecting(wants);
  const reader = new TransactionReader(target, null, shape);
  reader.learn(key ?? 7, schema);
  const fields = new TransactionFields();
  return (bytes, at = 0, length = bytes.length - at, recordTime = EVENT_TIME) => {
    target.attributes.clear();
    reader.read(bytes, at, length, recordTime, fields, key);
    return {
      transactionId: fields.text(fields.transactionIdAt, fields.transactionIdLength),
      cardId: fields.text(fields.cardIdAt, fields.cardIdLength),
      merchantId: fields.text(fields.merchantIdAt, fields.merchantIdLength),
      currency: fields.text(fields.currencyAt, fields.currencyLength),
      eventTime: fields.eventTime,
      amount: fields.amount,
      attributes: new Map(target.attributes),
    };
  };
}

/** A value in the wire format under schema id 7. */
export function wired(body: Buffer): Buffer {
  const bytes = Buffer.alloc(5 + body.length);
  bytes.set(body, writeWireHead(bytes, 0, 7));
  return bytes;
}
