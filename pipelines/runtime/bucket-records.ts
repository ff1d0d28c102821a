import type { FetchedRecords } from "../../infra/kafka/records.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";
import { AvroCursor } from "../../schemas/avro-cursor.js";
import { FraudstreamError } from "../../schemas/errors.js";
import { WIRE_HEAD_BYTES, schemaIdOf } from "../../schemas/wire-format.js";

/** The schema of buckets where no registry is configured. */
const FIXED_ID = 1_000_007;

/** Indexes into the symbols of `entity` (schemas/avro/merchant-bucket.avsc). */
export const BUCKET_ENTITY = { merchant: 0, card: 1, watermark: 2 } as const;

/** Takes one record of the buckets topic; the id stands at `at` in `bytes`, the bucket is an index. */
export type OnBucket = (entity: number, bytes: Buffer, at: number, length: number, bucket: number, partition: number, count: number, frauds: number) => void;

/** Reads records of `fraud.merchant-buckets` without an object a record. */
export class BucketRecordReader {
  readonly #schemaId: number;
  readonly #cursor = new AvroCursor();

  /** @param schemaId that our records carry */
  constructor(schemaId: number) {
    this.#schemaId = schemaId;
  }

  /** @throws FraudstreamError `bucket_unreadable`: whatever it says, it must not be missed in silence */
  read(records: FetchedRecords, onBucket: OnBucket): void {
    const { bytes, valueAt, valueLength } = records;
    const cursor = this.#cursor;
    for (let i = 0; i < records.count; i++) {
      const id = schemaIdOf(bytes, valueAt[i], valueLength[i]);
      if (id !== this.#schemaId && id !== FIXED_ID) throw this.#unreadable(records, i, `its schema is ${id}`);
      const end = valueAt[i] + valueLength[i];
      cursor.set(bytes, valueAt[i] + WIRE_HEAD_BYTES, end);
      const entity = cursor.long();
      const length = cursor.long();
      const at = cursor.at;
      cursor.at += length;
      const bucket = cursor.long() / BUCKET_MS;
      const partition = cursor.long();
      const count = cursor.long();
      const frauds = cursor.long();
      if (cursor.at !== end || !Number.isInteger(bucket)) throw this.#unreadable(records, i, "it does not fit its schema");
      onBucket(entity, bytes, at, length, bucket, partition, count, frauds);
    }
  }

  #unreadable({ topic, partition, offset }: FetchedRecords, index: number, why: string): FraudstreamError {
    return new FraudstreamError("bucket_unreadable", `${topic}[${partition}] at offset ${offset[index]} can't be read: ${why}`);
  }
}
