import { crc32 } from "node:zlib";
import avro from "avsc";
import { partitionOf } from "../../infra/kafka/batch-producer.js";
import {
  controlEventSchema,
  labelSchema,
  merchantBucketSchema,
  predictionSchema,
  transactionSchema,
  type ControlEvent,
  type Label,
  type MerchantBucket,
  type Prediction,
} from "../../schemas/generated.js";
import { NEXT_PREDICTION_ID, NEXT_PREDICTION_SCHEMA } from "./next-schemas.js";
import { LAST, NEXT_TRANSACTION_ID, NEXT_TRANSACTION_SCHEMA } from "./traffic.js";
import type { Seen } from "./reading.js";
import type { Payment } from "./windows-reference.js";

/** Values are read with avsc, to the last byte, by the schema that they name. */
const typeOf = (schema: unknown): avro.Type => avro.Type.forSchema(schema as avro.Schema);
const TYPES = new Map([
  [1_000_001, typeOf(transactionSchema)],
  [NEXT_TRANSACTION_ID, typeOf(NEXT_TRANSACTION_SCHEMA)],
  [1_000_002, typeOf(predictionSchema)],
  [NEXT_PREDICTION_ID, typeOf(NEXT_PREDICTION_SCHEMA)],
  [1_000_003, typeOf(labelSchema)],
  [1_000_004, typeOf(controlEventSchema)],
  [1_000_007, typeOf(merchantBucketSchema)],
]);
const OPEN_BRACE = 0x7b;

function decode(value: Buffer, allowed: readonly number[]): { id: number; value: unknown } {
  if (value.length < 5 || value[0] !== 0) throw new Error("no wire format");
  const id = value.readInt32BE(1);
  const type = allowed.includes(id) ? TYPES.get(id) : undefined;
  if (type === undefined) throw new UnknownSchema(id);
  return { id, value: type.fromBuffer(value.subarray(5)) };
}

class UnknownSchema extends Error {
  constructor(id: number) {
    super(`unknown schema ${id}`);
  }
}

/** A record of fraud.transactions. */
export interface Entry {
  partition: number;
  offset: number;
  /** When it was sent, epoch milliseconds. */
  at: number;
  /** Of the producer's own count; -1: it isn't the producer's. */
  n: number;
  /** Null: it can't be read, and `code` says why. */
  payment: Payment | null;
  code: string;
  /** The partition that its card belongs to; its own where it can't be read. */
  home: number;
  /** Where it stood before it was sent on, `partition/offset`. */
  forwarded: string | null;
  /** 0: it never was a dead letter. */
  attempt: number;
  crc: number;
  /** Bytes of its value. */
  length: number;
  /** It was written where the topic was about to be deleted. */
  isLast: boolean;
}

/** A larger value is no transaction; its dead letter names it by length and hash. */
export const LARGEST_VALUE = 4 * 1024 * 1024;
/** A batch that unpacks to more is not read at all. */
const LARGEST_BATCH = 512 * 1024 * 1024;

export function entryOf({ partition, offset, timestamp, value, headers }: Seen, partitions: number): Entry {
  let payment: Payment | null = null;
  let code = "";
  if (value.length > LARGEST_VALUE) code = value.length > LARGEST_BATCH ? "batch_unreadable" : "too_large";
  else
    try {
      const read = (
        value[0] === OPEN_BRACE ? JSON.parse(value.toString()) : decode(value, [1_000_001, NEXT_TRANSACTION_ID]).value
      ) as { transaction_id: string; card_id: string; merchant_id: string; amount: number; event_time: number };
      payment = {
        id: read.transaction_id,
        card: read.card_id,
        merchant: read.merchant_id,
        amount: read.amount,
        time: Number(read.event_time),
      };
    } catch (error) {
      code = error instanceof UnknownSchema ? "unknown_schema" : "avro_truncated";
    }
  return {
    partition,
    offset,
    at: timestamp,
    payment,
    code,
    n: headers["n"] === undefined ? -1 : Number(headers["n"]),
    home: payment === null ? partition : partitionOf(Buffer.from(payment.card), partitions),
    forwarded: headers["fraudstream-forwarded-from"]?.split("/").slice(-2).join("/") ?? null,
    attempt: Number(headers["attempt"] ?? 0),
    crc: value.length > LARGEST_VALUE ? 0 : crc32(value),
    length: value.length,
    isLast: headers[LAST] !== undefined,
  };
}

export function predictionOf(value: Buffer): { prediction: Prediction; next: boolean } {
  const { id, value: read } = decode(value, [1_000_002, NEXT_PREDICTION_ID]);
  if (id === NEXT_PREDICTION_ID && (read as { note: string | null }).note !== "v2")
    throw new Error("the next version's field is not there");
  return { prediction: read as Prediction, next: id === NEXT_PREDICTION_ID };
}

export const labelOf = (value: Buffer): Label => decode(value, [1_000_003]).value as Label;
export const controlEventOf = (value: Buffer): ControlEvent => decode(value, [1_000_004]).value as ControlEvent;
export const bucketOf = (value: Buffer): MerchantBucket => decode(value, [1_000_007]).value as MerchantBucket;
