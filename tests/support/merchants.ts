import avro from "avsc";
import type { OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { labelSchema, merchantBucketSchema, type Label, type MerchantBucket } from "../../schemas/generated.js";
import { WIRE_HEAD_BYTES, schemaIdOf } from "../../schemas/wire-format.js";
import { wireValue } from "./transactions.js";
import type { TestSystem } from "./workers-system.js";

const bucketType = avro.Type.forSchema(merchantBucketSchema as unknown as avro.Schema);

export interface PublishedBucket {
  partition: number;
  offset: number;
  key: string;
  value: MerchantBucket;
}

/** Everything in the buckets topic, read with avsc. */
export async function publishedBuckets(system: TestSystem): Promise<PublishedBucket[]> {
  return (await system.read(system.topics.merchantBuckets)).map(({ partition, offset, key, value }) => {
    if (value === null || schemaIdOf(value, 0, value.length) !== 1_000_007) throw new Error("no bucket");
    return {
      partition,
      offset,
      key: key?.toString() ?? "",
      value: { ...(bucketType.fromBuffer(value.subarray(WIRE_HEAD_BYTES)) as MerchantBucket) },
    };
  });
}

export function labelRecord(label: Label): OutgoingRecord {
  return { key: Buffer.from(label.card_id), value: wireValue(label, 1_000_003, labelSchema) };
}

export function bucketRecord(bucket: MerchantBucket): OutgoingRecord {
  return {
    key: Buffer.from(`${bucket.entity} ${bucket.id} ${bucket.bucket}`),
    value: wireValue(bucket, 1_000_007, merchantBucketSchema),
  };
}
