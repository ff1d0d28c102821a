import type { FetchedRecords } from "../../infra/kafka/records.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";
import { AvroCursor, AvroTruncated } from "../../schemas/avro-cursor.js";
import type { Logger } from "../../infra/logging.js";
import { WIRE_HEAD_BYTES, schemaIdOf } from "../../schemas/wire-format.js";

/** The schema of buckets where no registry is configured. */
const FIXED_ID = 1_000_007;

/** Indexes into the symbols of `entity` (schemas/avro/merchant-bucket.avsc). */
export const BUCKET_ENTITY = { merchant: 0, card: 1, watermark: 2 } as const;

/** Takes one record of the buckets topic; the id stands at `at` in `bytes`, the bucket is an index. */
export type OnBucket = (
  entity: number,
  bytes: Buffer,
  at: number,
  length: number,
  bucket: number,
  partition: number,
  count: number,
  frauds: number,
) => void;

/** Reads records of `fraud.merchant-buckets` without creating an object per record. */
export class BucketRecordReader {
  readonly #schemaId: number;
  readonly #cursor = new AvroCursor();

  readonly #log: Logger | null;
  /** Records that could not be read. */
  unreadable = 0;

  /** @param schemaId the id that our records carry */
  constructor(schemaId: number, log: Logger | null = null) {
    this.#schemaId = schemaId;
    this.#log = log;
  }

  /**
   * Reads the records of a fetch. A record that is not a valid bucket is logged and skipped: otherwise it would stop
   * every reader for good.
   */
  read(records: FetchedRecords, onBucket: OnBucket): void {
    const { bytes, valueAt, valueLength } = records;
    for (let i = 0; i < records.count; i++) {
      const id = schemaIdOf(bytes, valueAt[i], valueLength[i]);
      if (id !== this.#schemaId && id !== FIXED_ID)
        this.#leaveOut(records, i, records.unread?.get(i)?.reason ?? `its schema is ${id}`);
      else if (!this.#readOne(bytes, valueAt[i] + WIRE_HEAD_BYTES, valueAt[i] + valueLength[i], onBucket))
        this.#leaveOut(records, i, "it does not fit its schema");
    }
  }

  /** False: the bytes are not a valid bucket. */
  #readOne(bytes: Buffer, from: number, end: number, onBucket: OnBucket): boolean {
    const cursor = this.#cursor;
    cursor.set(bytes, from, end);
    try {
      const entity = cursor.long();
      const length = cursor.length();
      const at = cursor.at;
      cursor.at += length;
      const bucket = cursor.long() / BUCKET_MS;
      const partition = cursor.long();
      const count = cursor.long();
      const frauds = cursor.long();
      if (cursor.at !== end || !Number.isInteger(bucket)) return false;
      onBucket(entity, bytes, at, length, bucket, partition, count, frauds);
      return true;
    } catch (error) {
      if (error instanceof AvroTruncated) return false;
      throw error;
    }
  }

  #leaveOut({ topic, partition, offset }: FetchedRecords, index: number, why: string): void {
    this.unreadable++;
    this.#log?.error(
      { code: "bucket_unreadable", topic, partition, offset: offset[index] },
      `a record of merchants' buckets was left out: ${why}; windows that need it are too low`,
    );
  }
}
