import avro from "avsc";
import { partitionOf, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import type { AvroSchema } from "../../schemas/avro-cursor.js";
import { predictionSchema, transactionSchema, type Prediction, type Transaction } from "../../schemas/generated.js";
import { TransactionReader, type AttributeTarget, type CardIds } from "../../schemas/transaction-reader.js";
import { WIRE_HEAD_BYTES, schemaIdOf, writeWireHead } from "../../schemas/wire-format.js";

export const TRANSACTION_SCHEMA_ID = 1_000_001;
export const PREDICTION_SCHEMA_ID = 1_000_002;

const transactionType = avro.Type.forSchema(transactionSchema as unknown as avro.Schema);
const predictionType = avro.Type.forSchema(predictionSchema as unknown as avro.Schema);

/** A fine transaction with this number in its ids; `event_time` is now. */
export function transaction(n: number, changed: Partial<Transaction> = {}): Transaction {
  return {
    transaction_id: `t${n}`,
    event_time: Date.now(),
    card_id: `c${n % 100}`,
    merchant_id: `m${n % 10}`,
    amount: n % 100,
    currency: "EUR",
    attributes: {},
    ...changed,
  };
}

/** A card that belongs to a partition; another one for each `n`. */
export function cardIn(partition: number, partitions: number, n: number): string {
  for (let i = 0; ; i++) {
    const card = `c${n}-${i}`;
    if (partitionOf(Buffer.from(card), partitions) === partition) return card;
  }
}

/** A value in the Confluent wire format, written by avsc with any schema. */
export function wireValue(value: unknown, schemaId = TRANSACTION_SCHEMA_ID, schema?: object): Buffer {
  const body = (schema === undefined ? transactionType : avro.Type.forSchema(schema as avro.Schema)).toBuffer(value);
  const head = Buffer.alloc(WIRE_HEAD_BYTES);
  writeWireHead(head, 0, schemaId);
  return Buffer.concat([head, body]);
}

/** A transaction as a record, keyed by its card. */
export function transactionRecord(value: Transaction, headers: [name: string, value: string][] = []): OutgoingRecord {
  return {
    key: Buffer.from(value.card_id),
    value: wireValue(value),
    headers: headers.length === 0 ? null : encodeHeaders(headers),
  };
}

/** A reader that knows the schema of `transaction`. */
export function transactionReader(target: AttributeTarget, cards: CardIds | null = null): TransactionReader {
  const reader = new TransactionReader(target, cards);
  reader.learn(TRANSACTION_SCHEMA_ID, transactionSchema as unknown as AvroSchema);
  return reader;
}

/** Reads a prediction with avsc, which refuses what doesn't fit the schema to the last byte. */
export function readPrediction(value: Buffer): Prediction {
  const id = schemaIdOf(value, 0, value.length);
  if (id !== PREDICTION_SCHEMA_ID) throw new Error(`the prediction's schema id is ${id}`);
  return { ...(predictionType.fromBuffer(value.subarray(WIRE_HEAD_BYTES)) as Prediction) };
}
