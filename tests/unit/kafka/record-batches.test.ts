import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { partitionOf } from "../../../infra/kafka/batch-producer.js";
import { PartitionOutput } from "../../../infra/kafka/partition-output.js";
import { RecordBatchBuilder, encodeHeaders } from "../../../infra/kafka/record-batch-builder.js";
import { readRecords, type AbortedTransaction } from "../../../infra/kafka/record-reader.js";
import { readHeaders, type FetchedRecords } from "../../../infra/kafka/records.js";
import { RandomSource } from "../../support/random-source.js";
import { handMadeBatch } from "./hand-made-batch.js";

const NOBODY = { producerId: -1n, producerEpoch: -1, firstSequence: -1, transactional: false };

function fetch(bytes: Buffer, from = 0, aborted: AbortedTransaction[] = []): FetchedRecords {
  return readRecords({ topic: "t", partition: 3, from, bytes, aborted, lastStableOffset: 99 });
}

interface Plain { offset: number; timestamp: number; key: string | null; value: string | null; headers: [string, string | null][] }

function plain(records: FetchedRecords): Plain[] {
  const text = (at: number, length: number): string | null => (length < 0 ? null : records.bytes.toString("latin1", at, at + length));
  return Array.from({ length: records.count }, (_, i) => ({
    offset: records.offset[i],
    timestamp: records.timestamp[i],
    key: text(records.keyAt[i], records.keyLength[i]),
    value: text(records.valueAt[i], records.valueLength[i]),
    headers: readHeaders(records, i).map(([name, value]) => [name, value?.toString("latin1") ?? null]),
  }));
}

const offsets = (records: FetchedRecords): number[] => plain(records).map(({ offset }) => offset);
const values = (records: FetchedRecords): (string | null)[] => plain(records).map(({ value }) => value);
const corrupt = expect.objectContaining({ code: "batch_corrupt", retriable: false }) as Error;
const record = (value: string): { value: Buffer } => ({ value: Buffer.from(value) });

describe("what the builder writes, the reader reads", () => {
  test("keys and values that are empty, absent and long, headers, sizes around each length of a varint", () => {
    const random = new RandomSource(1);
    const builder = new RecordBatchBuilder();
    const expected: Plain[] = [];
    const sizes = [0, 1, 62, 63, 64, 65, 8_190, 8_192, 8_193, 70_000, 1_048_575, 1_048_577];
    const piece = (): Buffer | null => random.pick([null, Buffer.alloc(0), random.bytes(random.pick(sizes.slice(0, 9)))]);
    for (let i = 0; i < 400; i++) {
      const [key, value] = i < sizes.length ? [null, Buffer.alloc(sizes[i], i)] : [piece(), piece()];
      const headers: [string, Buffer][] = Array.from({ length: random.int(3) }, () => [random.pick(["", "code", "größe"]), random.bytes(random.int(200))]);
      builder.append(key, value, headers.length === 0 && random.int(2) === 0 ? null : encodeHeaders(headers));
      expected.push({ offset: i, timestamp: 1_700_000_000_123, key: key?.toString("latin1") ?? null, value: value?.toString("latin1") ?? null, headers: headers.map(([name, content]) => [name, content.toString("latin1")]) });
    }
    const records = fetch(builder.finish(1_700_000_000_123, NOBODY));
    expect(plain(records)).toEqual(expected);
    expect([records.topic, records.partition, records.nextOffset, records.lastStableOffset]).toEqual(["t", 3, 400, 99]);
  });

  test("again after a reset, and with what the producer stamps", () => {
    const builder = new RecordBatchBuilder();
    builder.append(null, Buffer.alloc(200_000), null);
    builder.reset();
    expect([builder.count, builder.length]).toEqual([0, 61]);
    builder.append(Buffer.from("k"), Buffer.from("v"));
    const bytes = builder.finish(5, { producerId: 2n ** 40n, producerEpoch: 32_767, firstSequence: 2_147_483_647, transactional: true });
    expect(plain(fetch(bytes))).toEqual([{ offset: 0, timestamp: 5, key: "k", value: "v", headers: [] }]);
    expect([bytes.readBigInt64BE(43), bytes.readInt16BE(51), bytes.readInt32BE(53), bytes.readInt16BE(21), bytes.readInt32BE(12)]).toEqual([2n ** 40n, 32_767, 2_147_483_647, 16, -1]);
  });

  test("are the same bytes that the protocol guide describes", () => {
    const builder = new RecordBatchBuilder();
    builder.append(Buffer.from("key"), null, encodeHeaders([["a", "1"], ["b", Buffer.alloc(0)]]));
    builder.append(null, Buffer.from("value"));
    const other = handMadeBatch({ firstTimestamp: 7, records: [{ key: Buffer.from("key"), headers: [["a", Buffer.from("1")], ["b", Buffer.alloc(0)]] }, record("value")] });
    other.writeInt32BE(-1, 12);
    other.writeInt16BE(-1, 51);
    other.writeInt32BE(-1, 53);
    const bytes = builder.finish(7, NOBODY);
    other.copy(bytes.subarray(17, 21), 0, 17, 21);
    expect(bytes.subarray(0, 17).equals(other.subarray(0, 17)) && bytes.subarray(21).equals(other.subarray(21))).toBe(true);
  });
});

describe("reading", () => {
  test("no bytes", () => {
    const records = fetch(Buffer.alloc(0), 7);
    expect([records.count, records.nextOffset]).toEqual([0, 7]);
  });

  test("leaves out what lies before the offset that was asked for", () => {
    const bytes = Buffer.concat([handMadeBatch({ baseOffset: 10, records: [record("a"), record("b"), record("c")] }), handMadeBatch({ baseOffset: 13, records: [record("d")] })]);
    expect(plain(fetch(bytes, 12)).map(({ offset, value }) => [offset, value])).toEqual([[12, "c"], [13, "d"]]);
    expect([fetch(bytes, 14).count, fetch(bytes, 14).nextOffset]).toEqual([0, 14]);
  });

  test("takes offsets and times from the records, and the broker's time where it set it", () => {
    const records = [{ ...record("a"), offsetDelta: 1, timestampDelta: -5 }, { ...record("b"), offsetDelta: 90, timestampDelta: 10_000_000_000 }];
    const batch = { baseOffset: 5_000_000_000, firstTimestamp: 1_700_000_000_000, maxTimestamp: 1_710_000_000_000, lastOffsetDelta: 99, records };
    expect(plain(fetch(handMadeBatch(batch))).map(({ offset, timestamp }) => [offset, timestamp])).toEqual([[5_000_000_001, 1_699_999_999_995], [5_000_000_090, 1_710_000_000_000]]);
    expect(fetch(handMadeBatch(batch)).nextOffset).toBe(5_000_000_100);
    expect(plain(fetch(handMadeBatch({ ...batch, logAppendTime: true }))).map(({ timestamp }) => timestamp)).toEqual([1_710_000_000_000, 1_710_000_000_000]);
  });

  test("moves on over a batch that compaction has emptied", () => {
    const records = fetch(handMadeBatch({ baseOffset: 4, lastOffsetDelta: 5 }), 4);
    expect([records.count, records.nextOffset]).toEqual([0, 10]);
  });

  test("leaves a batch that is cut off for the next fetch", () => {
    const first = handMadeBatch({ records: [record("a")] });
    const second = handMadeBatch({ baseOffset: 1, records: [record("b"), record("c")] });
    for (let length = 0; length < second.length; length++) {
      const records = fetch(Buffer.concat([first, second.subarray(0, length)]));
      expect([values(records), records.nextOffset]).toEqual([["a"], 1]);
    }
  });

  test("refuses any changed byte that a checksum or the format covers", () => {
    const bytes = handMadeBatch({ records: [record("a"), record("b")] });
    for (let at = 16; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] ^= 0x41;
      expect(() => fetch(changed), `byte ${at}`).toThrow(corrupt);
    }
    const short = Buffer.from(bytes);
    short.writeInt32BE(20, 8);
    expect(() => fetch(short)).toThrow(corrupt);
    short.writeInt32BE(-100, 8);
    expect(() => fetch(short)).toThrow(corrupt);
  });

  test("refuses records that do not fit their batch, though its checksum does", () => {
    const hostile = (content: number[], count = 1): Buffer => handMadeBatch({ records: Array.from({ length: count }, () => ({})), pack: () => Buffer.from(content) });
    for (const content of [[], [200, 1], [1], [14, 0, 0, 0, 40, 1, 1, 1], [14, 0, 0, 0, 1, 40, 1, 1], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]) expect(() => fetch(hostile(content)), String(content)).toThrow(corrupt);
    expect(() => fetch(hostile([12, 0, 0, 0, 1, 1, 0], 2))).toThrow(corrupt);
    expect(fetch(hostile([12, 0, 0, 0, 1, 1, 0])).count).toBe(1);
  });

  test("unpacks, beside batches that are not packed", () => {
    const bytes = Buffer.concat([
      handMadeBatch({ records: [record("a"), record("b")] }), handMadeBatch({ baseOffset: 2, records: [record("c"), { key: Buffer.from("k"), headers: [["h", Buffer.from("x")]] }], codec: 1, pack: gzipSync }),
      handMadeBatch({ baseOffset: 4, marker: "commit" }), handMadeBatch({ baseOffset: 5, records: [record("d")] }),
    ]);
    const records = fetch(bytes, 1);
    expect(plain(records).map(({ offset, key, value, headers }) => [offset, key, value, headers])).toEqual([[1, null, "b", []], [2, null, "c", []], [3, "k", null, [["h", "x"]]], [5, null, "d", []]]);
    expect(() => fetch(handMadeBatch({ records: [record("a")], codec: 1 }))).toThrow(corrupt);
    expect(() => fetch(handMadeBatch({ records: [record("a")], codec: 6 }))).toThrow(corrupt);
  });
});

describe("read_committed", () => {
  const of = (producerId: bigint, baseOffset: number, ...texts: string[]): Buffer => handMadeBatch({ baseOffset, producerId, transactional: true, records: texts.map(record) });
  const end = (producerId: bigint, baseOffset: number, marker: "commit" | "abort"): Buffer => handMadeBatch({ baseOffset, producerId, marker });

  test("leaves out markers and what was aborted, of that producer only and up to its marker", () => {
    const bytes = Buffer.concat([
      of(1n, 0, "a0", "a1"), of(2n, 2, "b2"), handMadeBatch({ baseOffset: 3, producerId: 1n, records: [record("outside")] }), of(1n, 4, "a4"), end(1n, 5, "abort"),
      of(1n, 6, "c6"), end(2n, 7, "commit"), end(1n, 8, "commit"), of(1n, 9, "d9"), of(2n, 10, "e10"), end(1n, 11, "abort"), end(2n, 12, "abort"),
    ]);
    const aborted = [{ producerId: 2n, firstOffset: 10 }, { producerId: 1n, firstOffset: 9 }, { producerId: 1n, firstOffset: 0 }];
    const records = fetch(bytes, 0, aborted);
    expect([values(records), records.nextOffset]).toEqual([["b2", "outside", "c6"], 13]);
    // From the middle of an aborted transaction, whose first offset lies before what was asked for.
    expect(values(fetch(bytes.subarray(of(1n, 0, "a0", "a1").length), 2, aborted))).toEqual(["b2", "outside", "c6"]);
  });

  test("moves on when there is nothing but a marker or aborted records", () => {
    const records = fetch(Buffer.concat([of(1n, 5, "x", "y"), end(1n, 7, "abort")]), 5, [{ producerId: 1n, firstOffset: 5 }]);
    expect([records.count, records.nextOffset]).toEqual([0, 8]);
    expect(fetch(end(1n, 7, "commit"), 7).nextOffset).toBe(8);
  });

  test("an aborted batch is not even unpacked", () => {
    const packed = handMadeBatch({ producerId: 1n, transactional: true, codec: 4, records: [record("x")] });
    expect(fetch(packed, 0, [{ producerId: 1n, firstOffset: 0 }]).count).toBe(0);
    expect(() => fetch(packed)).toThrow(corrupt);
  });
});

describe("PartitionOutput", () => {
  test("closes a batch before it is too large for a topic's usual limit, and keeps the order", () => {
    const output = new PartitionOutput("t", 1);
    expect([output.count, output.batches]).toEqual([0, []]);
    const sizes = [10, 400_000, 500_000, 600_000, 30, 2_000_000, 40, 899_000, 900_000, 5];
    for (const size of sizes) output.append(Buffer.from(String(size)), Buffer.alloc(size), encodeHeaders([["h", "v"]]));
    const batches = output.batches.map((batch) => plain(fetch(batch.finish(1, NOBODY))).map(({ key }) => Number(key)));
    expect(batches.flat()).toEqual(sizes);
    expect(output.count).toBe(sizes.length);
    for (const batch of output.batches) expect(batch.length < 1_048_576 || batch.count === 1).toBe(true);
    expect(batches.length).toBeLessThan(sizes.length);
    output.reset();
    expect([output.count, output.batches]).toEqual([0, []]);
    output.append(null, Buffer.from("again"));
    expect(output.batches.map((batch) => values(fetch(batch.finish(1, NOBODY))))).toEqual([["again"]]);
  });
});

describe("partitionOf", () => {
  // org.apache.kafka.common.utils.UtilsTest, testMurmur2.
  test.each([
    ["21", -973932308], ["foobar", -790332482], ["a-little-bit-long-string", -985981536], ["a-little-bit-longer-string", -1486304829], ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971], ["abc", 479470107],
  ])("%s", (key, murmur2) => {
    for (const count of [1, 2, 7, 12, 1000]) expect(partitionOf(Buffer.from(key), count)).toBe((murmur2 & 0x7fffffff) % count);
  });

  test("an empty key has a partition, too; no key goes to the first", () => {
    expect(partitionOf(Buffer.alloc(0), 1_000_000)).toBe((275646681 & 0x7fffffff) % 1_000_000);
    expect(partitionOf(null, 5)).toBe(0);
  });

  test("keys spread over all partitions", () => {
    const counts = new Array<number>(8).fill(0);
    for (let i = 0; i < 8_000; i++) counts[partitionOf(Buffer.from(`card-${i}`), 8)]++;
    expect(Math.min(...counts)).toBeGreaterThan(850);
  });
});

test("the offsets of records without a value", () => {
  expect(offsets(fetch(handMadeBatch({ records: [{}, { value: Buffer.alloc(0) }] })))).toEqual([0, 1]);
});
