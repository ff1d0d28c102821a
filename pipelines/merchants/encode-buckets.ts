import type { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";
import { writeLong, writeText } from "../../schemas/avro-writer.js";
import { writeWireHead } from "../../schemas/wire-format.js";
import { BUCKET_ENTITY } from "../runtime/bucket-records.js";

/** Size with the longest id, and with everything else at its longest. */
const MOST_BYTES = 512;
const NO_ID = Buffer.alloc(0);
const GAP_ID = Buffer.from("gap");

/**
 * Encodes in Avro (schemas/avro/merchant-bucket.avsc, field by field) what one source partition has sealed, into its
 * output. Keys are texts: `merchant/<hour>/<partition>/<id>`, `card/<hour>/<partition>/<id>`, `watermark/<partition>`,
 * `gap/<partition>`.
 */
export class BucketEncoder {
  readonly #partition: number;
  readonly #schemaId: number;
  readonly #bytes = Buffer.allocUnsafe(MOST_BYTES);
  readonly #key = Buffer.allocUnsafe(MOST_BYTES);
  readonly #watermarkKey: Buffer;
  readonly #gapKey: Buffer;
  /** The start of the last bucket's keys. */
  #head = { kind: "", bucket: Number.NaN, length: 0 };

  constructor(partition: number, schemaId: number) {
    this.#partition = partition;
    this.#schemaId = schemaId;
    this.#watermarkKey = Buffer.from(`watermark/${partition}`);
    this.#gapKey = Buffer.from(`gap/${partition}`);
  }

  bucket(
    kind: "merchant" | "card",
    id: Buffer,
    bucket: number,
    count: number,
    frauds: number,
    output: PartitionOutput,
  ): void {
    const head = this.#head;
    if (head.bucket !== bucket || head.kind !== kind)
      this.#head = { kind, bucket, length: this.#key.write(`${kind}/${bucket}/${this.#partition}/`, 0) };
    const at = this.#head.length;
    id.copy(this.#key, at);
    output.append(this.#key.subarray(0, at + id.length), this.#value(BUCKET_ENTITY[kind], id, bucket, count, frauds));
  }

  /** Every bucket of the partition below this index has been appended, now or earlier. */
  watermark(bucket: number, output: PartitionOutput): void {
    output.append(this.#watermarkKey, this.#value(BUCKET_ENTITY.watermark, NO_ID, bucket, 0, 0));
  }

  /**
   * Buckets of the partition below this index may lack data that was lost before it was folded. The last gap of a
   * partition counts. It is written as a watermark at the beginning of the epoch, with an id, since the schema has no
   * symbol for it: readers of earlier versions ignore it.
   */
  gap(until: number, output: PartitionOutput): void {
    output.append(this.#gapKey, this.#value(BUCKET_ENTITY.watermark, GAP_ID, 0, until, 0));
  }

  #value(entity: number, id: Buffer, bucket: number, count: number, frauds: number): Buffer {
    const bytes = this.#bytes;
    let at = writeLong(bytes, writeWireHead(bytes, 0, this.#schemaId), entity);
    at = writeText(bytes, at, id, 0, id.length);
    at = writeLong(bytes, at, bucket * BUCKET_MS);
    at = writeLong(bytes, at, this.#partition);
    at = writeLong(bytes, at, count);
    at = writeLong(bytes, at, frauds);
    return bytes.subarray(0, at);
  }
}
