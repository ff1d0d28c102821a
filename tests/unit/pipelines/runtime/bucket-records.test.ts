import avro from "avsc";
import { describe, expect, test } from "vitest";
import { PartitionOutput } from "../../../../infra/kafka/partition-output.js";
import type { Logger } from "../../../../infra/logging.js";
import { readRecords } from "../../../../infra/kafka/record-reader.js";
import type { FetchedRecords } from "../../../../infra/kafka/records.js";
import { BUCKET_MS } from "../../../../models/features/history-terms.js";
import { BucketEncoder } from "../../../../pipelines/merchants/encode-buckets.js";
import { BucketRecordReader } from "../../../../pipelines/runtime/bucket-records.js";
import { merchantBucketSchema } from "../../../../schemas/generated.js";
import { fetchedRecords } from "../../../support/fetched-records.js";

const type = avro.Type.forSchema(merchantBucketSchema as unknown as avro.Schema);
const [FIXED, REGISTERED] = [1_000_007, 42];

/** What an output holds, as a fetch brings it. */
function fetched(output: PartitionOutput): FetchedRecords {
  const bytes = Buffer.concat(
    output.batches.map((batch) =>
      Buffer.from(batch.finish(1, { producerId: 1n, producerEpoch: 0, firstSequence: 0, transactional: false })),
    ),
  );
  return readRecords({ topic: "buckets", partition: 3, from: 0, bytes, aborted: [], lastStableOffset: 0 });
}

function read(records: FetchedRecords, schemaId = FIXED): unknown[] {
  const found: unknown[] = [];
  new BucketRecordReader(schemaId).read(records, (entity, bytes, at, length, bucket, partition, count, frauds) =>
    found.push([entity, bytes.toString("utf8", at, at + length), bucket, partition, count, frauds]),
  );
  return found;
}

describe("records of sealed buckets", () => {
  const longest = "é".repeat(128);

  test("are as their schema says, under the keys of the decision", () => {
    const output = new PartitionOutput("buckets", 3);
    const encoder = new BucketEncoder(3, FIXED);
    encoder.bucket("merchant", Buffer.from("m/1"), 424_000, 70_000, 3, output);
    encoder.bucket("merchant", Buffer.from(longest), 424_000, 1, 0, output);
    encoder.bucket("card", Buffer.from("c"), 424_000, 1, 1, output);
    encoder.bucket("merchant", Buffer.from("m/1"), 424_001, 2_000_000_000, 2_000_000_000, output);
    encoder.watermark(424_002, output);
    const records = fetched(output);
    const part = (at: Int32Array, length: Int32Array, i: number): Buffer =>
      records.bytes.subarray(at[i], at[i] + length[i]);
    const keys = Array.from({ length: 5 }, (_, i) => part(records.keyAt, records.keyLength, i).toString());
    expect(keys).toEqual([
      "merchant/424000/3/m/1",
      `merchant/424000/3/${longest}`,
      "card/424000/3/c",
      "merchant/424001/3/m/1",
      "watermark/3",
    ]);
    const values = keys.map((_, i) => ({
      ...(type.fromBuffer(part(records.valueAt, records.valueLength, i).subarray(5)) as object),
    }));
    const value = (entity: string, id: string, hour: number, count: number, frauds: number): object => ({
      entity,
      id,
      bucket: hour * BUCKET_MS,
      source_partition: 3,
      count,
      frauds,
    });
    expect(values).toEqual([
      value("merchant", "m/1", 424_000, 70_000, 3),
      value("merchant", longest, 424_000, 1, 0),
      value("card", "c", 424_000, 1, 1),
      value("merchant", "m/1", 424_001, 2_000_000_000, 2_000_000_000),
      value("watermark", "", 424_002, 0, 0),
    ]);
    expect(read(records)).toEqual([
      [0, "m/1", 424_000, 3, 70_000, 3],
      [0, longest, 424_000, 3, 1, 0],
      [1, "c", 424_000, 3, 1, 1],
      [0, "m/1", 424_001, 3, 2_000_000_000, 2_000_000_000],
      [2, "", 424_002, 3, 0, 0],
    ]);
  });

  test("are read under the registry's id, and under the fixed one", () => {
    const output = new PartitionOutput("buckets", 0);
    new BucketEncoder(0, REGISTERED).watermark(5, output);
    new BucketEncoder(0, FIXED).watermark(6, output);
    expect(read(fetched(output), REGISTERED)).toEqual([
      [2, "", 5, 0, 0, 0],
      [2, "", 6, 0, 0, 0],
    ]);
    expect(read(fetched(output))).toEqual([[2, "", 6, 0, 0, 0]]);
  });

  test("that can't be read are counted and reported, and the next one is read", () => {
    const good = Buffer.concat([
      Buffer.from([0, 0, 15, 66, 71]),
      type.toBuffer({ entity: "merchant", id: "m", bucket: BUCKET_MS, source_partition: 0, count: 1, frauds: 0 }),
    ]);
    for (const bad of [
      null,
      Buffer.alloc(0),
      good.subarray(0, good.length - 1),
      Buffer.concat([good, Buffer.from([0])]),
      Buffer.from("{}"),
      Buffer.concat([good.subarray(0, 6), Buffer.from([0xff, 0xff, 0xff, 0x7f])]),
    ]) {
      const said: object[] = [];
      const reader = new BucketRecordReader(FIXED, {
        error: (fields: object) => void said.push(fields),
      } as unknown as Logger);
      let read = 0;
      reader.read(
        fetchedRecords({ topic: "buckets" }, [
          { key: Buffer.from("k"), value: good },
          { key: Buffer.from("k"), value: bad },
          { key: Buffer.from("k"), value: good },
        ]),
        () => read++,
      );
      expect([read, reader.unreadable, said]).toEqual([
        2,
        1,
        [expect.objectContaining({ code: "bucket_unreadable", topic: "buckets", offset: 1 })],
      ]);
    }
  });
});
