import type { Schemas } from "../../infra/kafka/schemas.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { headerSchemaOf, schemaKeyOf } from "../../infra/kafka/writer-of.js";
import type { RecordCode } from "../../schemas/error-codes.js";
import { MAX_TRANSACTION_BYTES } from "../../schemas/topics.js";
import { TransactionFields, type TransactionReader, type Unreadable } from "../../schemas/transaction-reader.js";
import { TransactionRejected } from "../../schemas/transaction-rejected.js";
import type { SchemaKey } from "../../schemas/wire-format.js";
import { UnavailableWriter } from "../../schemas/writer-schema.js";
import type { TransactionBatch } from "./transaction-batch.js";

/** A record that gets a dead letter instead of a prediction. */
export interface Rejection {
  record: number;
  step: "decode" | "history" | "score";
  code: RecordCode;
  reason: string;
}

/** More unknown ids than this in one batch are made up: each costs a request while a Kafka transaction is open. */
export const MOST_UNKNOWN = 1_000;

const NOTHING: { readonly size: number; has: (record: number) => boolean } = new Set<number>();

/**
 * Makes the writer schemas of a batch known to the reader. Asks for those that it hasn't met, all at once: each may
 * have to be waited for.
 *
 * @param options.onLearnt called with each, and with the attributes that the reader's target asks for but that can't be
 *   read
 * @param options.mostUnknown after this many unknown ids, no others are asked for: their records are refused as
 *   unknown. @default no limit
 */
export async function learnSchemas(
  records: FetchedRecords,
  reader: TransactionReader,
  schemas: Schemas,
  {
    onLearnt,
    mostUnknown = Infinity,
  }: { onLearnt?: (key: SchemaKey, unreadable: readonly Unreadable[]) => void; mostUnknown?: number } = {},
): Promise<void> {
  let last: SchemaKey | null = null;
  // A schema that was unavailable for the batch before may be available now.
  reader.forgetUnknown();
  const asked = new Map<SchemaKey, Promise<void>>();
  let unknown = 0;
  let underWay = 0;
  for (let i = 0; i < records.count; i++) {
    const key = schemaKeyOf(records, i);
    if (key === null || key === last || asked.has(key)) continue;
    last = key;
    if (reader.knows(key)) continue;
    // All that are under way may turn out to be unknown.
    if (underWay === mostUnknown) {
      await Promise.all(asked.values());
      underWay = unknown;
      if (unknown >= mostUnknown) return;
    }
    underWay += 1;
    asked.set(
      key,
      schemas.load(key).then((schema) => {
        // An unknown id is not remembered: it may be registered by the time that the next batch brings it.
        if (schema === null || schema instanceof UnavailableWriter) unknown += 1;
        if (schema === null) return;
        const unreadable = reader.learn(key, schema);
        onLearnt?.(key, unreadable);
      }),
    );
  }
  if (asked.size > 0) await Promise.all(asked.values());
}

export interface DecodeOptions {
  /** Records to skip. @default none */
  without?: { readonly size: number; has: (record: number) => boolean };
  /**
   * This process's clock, epoch milliseconds: an event time ahead of it is refused, whatever the record's time says.
   * Omitted when reading records that scoring has already decided about: what it refused is in the dead letters.
   * @default none
   */
  now?: number;
}

/**
 * Reads and checks every record of a batch: the accepted ones fill `batch`, the others are returned with their cause.
 */
export function decodeTransactions(
  records: FetchedRecords,
  reader: TransactionReader,
  batch: TransactionBatch,
  { without = NOTHING, now = Infinity }: DecodeOptions = {},
): Rejection[] {
  const rejections: Rejection[] = [];
  const fields = new TransactionFields();
  const { bytes, valueAt, valueLength, timestamp, unread } = records;
  batch.reset(records.count);
  for (let i = 0; i < records.count; i++) {
    if (without.size > 0 && without.has(i)) continue;
    try {
      const missing = unread?.get(i);
      if (missing !== undefined) throw new TransactionRejected(missing.code, missing.reason);
      if (valueLength[i] > MAX_TRANSACTION_BYTES)
        throw new TransactionRejected(
          "too_large",
          `the value has ${valueLength[i]} bytes; ${MAX_TRANSACTION_BYTES} are taken`,
        );
      reader.read(bytes, valueAt[i], valueLength[i], Math.min(timestamp[i], now), fields, headerSchemaOf(records, i));
      batch.add(fields, i);
    } catch (error) {
      if (!(error instanceof TransactionRejected)) throw error;
      batch.discardRow();
      rejections.push({ record: i, step: "decode", code: error.code, reason: error.message });
    }
  }
  return rejections;
}
