import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { crc32c } from "@node-rs/crc32";
import { describe, expect, test } from "vitest";
import { partitionOf } from "../../../../infra/kafka/batch-producer.js";
import { PartitionOutput } from "../../../../infra/kafka/partition-output.js";
import { RecordBatchBuilder, encodeHeaders } from "../../../../infra/kafka/record-batch-builder.js";
import {
  MOST_UNPACKED_BYTES,
  readFetched,
  readRecords,
  type AbortedTransaction,
} from "../../../../infra/kafka/record-reader.js";
import { readHeaders, type FetchedRecords } from "../../../../infra/kafka/records.js";
import { RandomSource } from "../../../support/random-source.js";
import { handMadeBatch } from "./hand-made-batch.js";

const NOBODY = { producerId: -1n, producerEpoch: -1, firstSequence: -1, transactional: false };

function fetch(bytes: Buffer, from = 0, aborted: AbortedTransaction[] = []): FetchedRecords {
  return readRecords({ topic: "t", partition: 3, from, bytes, aborted, lastStableOffset: 99 });
}

interface Plain {
  offset: number;
  timestamp: number;
  key: string | null;
  value: string | null;
  headers: [string, string | null][];
}

function plain(records: FetchedRecords): Plain[] {
  const text = (at: number, length: number): string | null =>
    length < 0 ? null : records.bytes.toString("latin1", at, at + length);
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
/** What was not read: first and last offset, code, length. */
const unread = (records: FetchedRecords): [number, number, string, number][] =>
  [...(records.unread ?? [])].map(([i, { code, lastOffset, length }]) => [records.offset[i], lastOffset, code, length]);
const record = (value: string): { value: Buffer } => ({ value: Buffer.from(value) });

describe("what the builder writes, the reader reads", () => {
  test("keys and values that are empty, absent and long, headers, sizes around each length of a varint", () => {
    const random = new RandomSource(1);
    const builder = new RecordBatchBuilder();
    const expected: Plain[] = [];
    const sizes = [0, 1, 62, 63, 64, 65, 8_190, 8_192, 8_193, 70_000, 1_048_575, 1_048_577];
    const piece = (): Buffer | null =>
      random.pick([null, Buffer.alloc(0), random.bytes(random.pick(sizes.slice(0, 9)))]);
    for (let i = 0; i < 400; i++) {
      const [key, value] = i < sizes.length ? [null, Buffer.alloc(sizes[i], i)] : [piece(), piece()];
      const headers: [string, Buffer][] = Array.from({ length: random.int(3) }, () => [
        random.pick(["", "code", "größe"]),
        random.bytes(random.int(200)),
      ]);
      builder.append(key, value, headers.length === 0 && random.int(2) === 0 ? null : encodeHeaders(headers));
      expected.push({
        offset: i,
        timestamp: 1_700_000_000_123,
        key: key?.toString("latin1") ?? null,
        value: value?.toString("latin1") ?? null,
        headers: headers.map(([name, content]) => [name, content.toString("latin1")]),
      });
    }
    const records = fetch(builder.finish(1_700_000_000_123, NOBODY));
    expect(plain(records)).toEqual(expected);
    expect([records.topic, records.partition, records.nextOffset, records.lastStableOffset]).toEqual(["t", 3, 400, 99]);
  });

  test("again after a reset, and with the producer's stamps", () => {
    const builder = new RecordBatchBuilder();
    builder.append(null, Buffer.alloc(200_000), null);
    builder.reset();
    expect([builder.count, builder.length]).toEqual([0, 61]);
    builder.append(Buffer.from("k"), Buffer.from("v"));
    const bytes = builder.finish(5, {
      producerId: 2n ** 40n,
      producerEpoch: 32_767,
      firstSequence: 2_147_483_647,
      transactional: true,
    });
    expect(plain(fetch(bytes))).toEqual([{ offset: 0, timestamp: 5, key: "k", value: "v", headers: [] }]);
    expect([
      bytes.readBigInt64BE(43),
      bytes.readInt16BE(51),
      bytes.readInt32BE(53),
      bytes.readInt16BE(21),
      bytes.readInt32BE(12),
    ]).toEqual([2n ** 40n, 32_767, 2_147_483_647, 16, -1]);
  });

  test("with the same bytes as in the protocol guide", () => {
    const builder = new RecordBatchBuilder();
    builder.append(
      Buffer.from("key"),
      null,
      encodeHeaders([
        ["a", "1"],
        ["b", Buffer.alloc(0)],
      ]),
    );
    builder.append(null, Buffer.from("value"));
    const other = handMadeBatch({
      firstTimestamp: 7,
      records: [
        {
          key: Buffer.from("key"),
          headers: [
            ["a", Buffer.from("1")],
            ["b", Buffer.alloc(0)],
          ],
        },
        record("value"),
      ],
    });
    other.writeInt32BE(-1, 12);
    other.writeInt16BE(-1, 51);
    other.writeInt32BE(-1, 53);
    const bytes = builder.finish(7, NOBODY);
    other.copy(bytes.subarray(17, 21), 0, 17, 21);
    expect(bytes.subarray(0, 17).equals(other.subarray(0, 17)) && bytes.subarray(21).equals(other.subarray(21))).toBe(
      true,
    );
  });
});

describe("reading", () => {
  test("no bytes", () => {
    const records = fetch(Buffer.alloc(0), 7);
    expect([records.count, records.nextOffset]).toEqual([0, 7]);
  });

  test("leaves out records before the requested offset", () => {
    const bytes = Buffer.concat([
      handMadeBatch({ baseOffset: 10, records: [record("a"), record("b"), record("c")] }),
      handMadeBatch({ baseOffset: 13, records: [record("d")] }),
    ]);
    expect(plain(fetch(bytes, 12)).map(({ offset, value }) => [offset, value])).toEqual([
      [12, "c"],
      [13, "d"],
    ]);
    expect([fetch(bytes, 14).count, fetch(bytes, 14).nextOffset]).toEqual([0, 14]);
  });

  test("takes offsets and times from the records, or the broker's time if it set it", () => {
    const records = [
      { ...record("a"), offsetDelta: 1, timestampDelta: -5 },
      { ...record("b"), offsetDelta: 90, timestampDelta: 10_000_000_000 },
    ];
    const batch = {
      baseOffset: 5_000_000_000,
      firstTimestamp: 1_700_000_000_000,
      maxTimestamp: 1_710_000_000_000,
      lastOffsetDelta: 99,
      records,
    };
    expect(plain(fetch(handMadeBatch(batch))).map(({ offset, timestamp }) => [offset, timestamp])).toEqual([
      [5_000_000_001, 1_699_999_999_995],
      [5_000_000_090, 1_710_000_000_000],
    ]);
    expect(fetch(handMadeBatch(batch)).nextOffset).toBe(5_000_000_100);
    expect(plain(fetch(handMadeBatch({ ...batch, logAppendTime: true }))).map(({ timestamp }) => timestamp)).toEqual([
      1_710_000_000_000, 1_710_000_000_000,
    ]);
  });

  test("moves past a batch that compaction has emptied", () => {
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

  test("a changed byte that a checksum or the format covers costs its batch and no other", () => {
    const before = handMadeBatch({ baseOffset: 3, records: [record("x")] });
    const bytes = handMadeBatch({ baseOffset: 4, records: [record("a"), record("b")] });
    const behind = handMadeBatch({ baseOffset: 6, records: [record("c")] });
    for (let at = 16; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] ^= 0x41;
      const records = fetch(Buffer.concat([before, changed, behind]), 3);
      expect([values(records), unread(records), records.nextOffset], `byte ${at}`).toEqual([
        ["x", null, "c"],
        [[4, 5, "batch_unreadable", bytes.length]],
        7,
      ]);
      expect(records.unread?.get(1)?.sha256).toBe(createHash("sha256").update(changed).digest("hex"));
      // Alone it moves the reader on by one offset at least, and not beyond what there is.
      const alone = fetch(changed, 4);
      expect([alone.count, alone.nextOffset > 4 && alone.nextOffset <= 99]).toEqual([1, true]);
    }
  });

  test("a batch with an invalid length, or one that comes first but is cut off, is skipped, too", () => {
    const bytes = handMadeBatch({ baseOffset: 4, records: [record("a"), record("b")] });
    for (const length of [20, -100, 0x7fffffff]) {
      const wrong = Buffer.from(bytes);
      wrong.writeInt32BE(length, 8);
      expect(unread(fetch(wrong, 4))).toEqual([[4, 5, "batch_unreadable", bytes.length]]);
    }
    expect(unread(fetch(bytes.subarray(0, 70), 4))).toEqual([[4, 5, "batch_unreadable", 70]]);
    expect(unread(fetch(bytes.subarray(0, 30), 4))).toEqual([[4, 4, "batch_unreadable", 30]]);
  });

  test("two damaged batches in a row are two, each in its own fetch", () => {
    const rotten = [0, 2].map((baseOffset) => {
      const bytes = handMadeBatch({ baseOffset, records: [record("a"), record("b")] });
      bytes[bytes.length - 1] ^= 1;
      return bytes;
    });
    const first = fetch(Buffer.concat(rotten));
    expect([unread(first), first.nextOffset]).toEqual([[[0, 1, "batch_unreadable", rotten[0].length]], 2]);
    expect(unread(fetch(rotten[1], 2))).toEqual([[2, 3, "batch_unreadable", rotten[1].length]]);
  });

  test("records that do not fit their batch, though its checksum matches, cost the batch", () => {
    const hostile = (content: number[], count = 1): Buffer =>
      handMadeBatch({ records: Array.from({ length: count }, () => ({})), pack: () => Buffer.from(content) });
    const fits = [12, 0, 0, 0, 1, 1, 0];
    const wrong = [
      [],
      [200, 1],
      [1],
      [14, 0, 0, 0, 40, 1, 1, 1],
      [14, 0, 0, 0, 1, 40, 1, 1],
      [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
      [...fits, 0],
      [12, 0, 0, 0, 1, 1, 2],
      [14, 0, 0, 0, 1, 1, 2, 0],
      [20, 0, 0, 0, 1, 1, 2, 2, 97, 40, 0],
      [22, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0],
      [12, 0, 0, 2, 1, 1, 0],
    ];
    for (const content of wrong)
      expect(unread(fetch(hostile(content))), String(content)).toEqual([
        [0, 0, "batch_unreadable", 61 + content.length],
      ]);
    expect(unread(fetch(hostile(fits, 2)))).toEqual([[0, 1, "batch_unreadable", 68]]);
    expect(unread(fetch(hostile([...fits, ...fits], 2)))).toEqual([[0, 1, "batch_unreadable", 75]]);
    expect(fetch(hostile(fits)).unread).toBeUndefined();
    expect(readHeaders(fetch(hostile([1])), 0)).toEqual([]);
    const many = hostile(fits);
    many.writeInt32BE(0x7fffffff, 57);
    many.writeUInt32BE(crc32c(many.subarray(21)), 17);
    expect(unread(fetch(many))).toEqual([[0, 0, "batch_unreadable", 68]]);
  });

  test("unpacks compressed batches, next to batches that are not compressed", () => {
    const bytes = Buffer.concat([
      handMadeBatch({ records: [record("a"), record("b")] }),
      handMadeBatch({
        baseOffset: 2,
        records: [record("c"), { key: Buffer.from("k"), headers: [["h", Buffer.from("x")]] }],
        codec: 1,
        pack: gzipSync,
      }),
      handMadeBatch({ baseOffset: 4, marker: "commit" }),
      handMadeBatch({ baseOffset: 5, records: [record("d")] }),
    ]);
    const records = fetch(bytes, 1);
    expect(plain(records).map(({ offset, key, value, headers }) => [offset, key, value, headers])).toEqual([
      [1, null, "b", []],
      [2, null, "c", []],
      [3, "k", null, [["h", "x"]]],
      [5, null, "d", []],
    ]);
    for (const codec of [1, 2, 3, 4, 5, 6, 7]) {
      const among = fetch(
        Buffer.concat([
          handMadeBatch({ records: [record("a")] }),
          handMadeBatch({ baseOffset: 1, records: [record("b"), record("c")], codec }),
          handMadeBatch({ baseOffset: 3, records: [record("d")] }),
        ]),
      );
      expect(
        [values(among), unread(among).map(([first, last]) => [first, last]), among.nextOffset],
        `codec ${codec}`,
      ).toEqual([["a", null, "d"], [[1, 2]], 4]);
    }
  });
});

describe("read_committed", () => {
  const of = (producerId: bigint, baseOffset: number, ...texts: string[]): Buffer =>
    handMadeBatch({ baseOffset, producerId, transactional: true, records: texts.map(record) });
  const end = (producerId: bigint, baseOffset: number, marker: "commit" | "abort"): Buffer =>
    handMadeBatch({ baseOffset, producerId, marker });

  test("leaves out markers and aborted records, only of that producer and up to its marker", () => {
    const bytes = Buffer.concat([
      of(1n, 0, "a0", "a1"),
      of(2n, 2, "b2"),
      handMadeBatch({ baseOffset: 3, producerId: 1n, records: [record("outside")] }),
      of(1n, 4, "a4"),
      end(1n, 5, "abort"),
      of(1n, 6, "c6"),
      end(2n, 7, "commit"),
      end(1n, 8, "commit"),
      of(1n, 9, "d9"),
      of(2n, 10, "e10"),
      end(1n, 11, "abort"),
      end(2n, 12, "abort"),
    ]);
    const aborted = [
      { producerId: 2n, firstOffset: 10 },
      { producerId: 1n, firstOffset: 9 },
      { producerId: 1n, firstOffset: 0 },
    ];
    const records = fetch(bytes, 0, aborted);
    expect([values(records), records.nextOffset]).toEqual([["b2", "outside", "c6"], 13]);
    // From the middle of an aborted transaction, whose first offset lies before what was asked for.
    expect(values(fetch(bytes.subarray(of(1n, 0, "a0", "a1").length), 2, aborted))).toEqual(["b2", "outside", "c6"]);
  });

  test("moves past a fetch with nothing but a marker or aborted records", () => {
    const records = fetch(Buffer.concat([of(1n, 5, "x", "y"), end(1n, 7, "abort")]), 5, [
      { producerId: 1n, firstOffset: 5 },
    ]);
    expect([records.count, records.nextOffset]).toEqual([0, 8]);
    expect(fetch(end(1n, 7, "commit"), 7).nextOffset).toBe(8);
  });

  test("an aborted batch is not even unpacked", () => {
    const packed = handMadeBatch({ producerId: 1n, transactional: true, codec: 4, records: [record("x")] });
    expect(fetch(packed, 0, [{ producerId: 1n, firstOffset: 0 }]).count).toBe(0);
    expect(unread(fetch(packed))).toHaveLength(1);
  });
});

describe("batches that unpack to too much", () => {
  const fetchedAll = async (bytes: Buffer, from = 0): Promise<{ fetches: FetchedRecords[]; next: number }> => {
    const fetches: FetchedRecords[] = [];
    let next = from;
    for (const end = lastOf(bytes) + 1; next < end;) {
      const records = await readFetched({
        topic: "t",
        partition: 3,
        from: next,
        bytes: rest(bytes, next),
        aborted: [],
        lastStableOffset: end,
      });
      expect(records.nextOffset).toBeGreaterThan(next);
      fetches.push(records);
      next = records.nextOffset;
    }
    return { fetches, next };
  };
  /** As a broker does: from the batch that holds an offset. */
  const rest = (bytes: Buffer, from: number): Buffer => {
    let at = 0;
    while (Number(bytes.readBigInt64BE(at)) + bytes.readInt32BE(at + 23) < from) at += 12 + bytes.readInt32BE(at + 8);
    return bytes.subarray(at);
  };
  const lastOf = (bytes: Buffer): number => {
    let last = 0;
    for (let at = 0; at < bytes.length; at += 12 + bytes.readInt32BE(at + 8))
      last = Number(bytes.readBigInt64BE(at)) + bytes.readInt32BE(at + 23);
    return last;
  };
  const MIB = 1024 * 1024;
  const pack = (records: Buffer): Buffer => gzipSync(records, { level: 1 });

  test("a value of 100 MiB costs neither its neighbours nor memory: its length and hash are reported", async () => {
    const large = Buffer.alloc(100 * MIB, 7);
    const bytes = handMadeBatch({
      records: [record("a"), { key: Buffer.from("k"), value: large, headers: [["h", Buffer.from("x")]] }, record("b")],
      codec: 1,
      pack,
    });
    const before = process.memoryUsage().rss;
    const { fetches } = await fetchedAll(bytes);
    expect(fetches).toHaveLength(1);
    const [records] = fetches;
    expect(plain(records).map(({ offset, key, value, headers }) => [offset, key, value, headers])).toEqual([
      [0, null, "a", []],
      [1, "k", null, [["h", "x"]]],
      [2, null, "b", []],
    ]);
    expect(unread(records)).toEqual([[1, 1, "too_large", large.length]]);
    expect(records.unread?.get(1)?.sha256).toBe(createHash("sha256").update(large).digest("hex"));
    expect(records.bytes.length).toBeLessThan(1_000);
    expect(process.memoryUsage().rss - before).toBeLessThan(150 * MIB);
  });

  test("a batch that unpacks to more than 512 MiB is unreadable, and the next one is read", async () => {
    const member = gzipSync(Buffer.alloc(64 * MIB));
    const bomb = handMadeBatch({
      records: [record("x"), record("y")],
      codec: 1,
      pack: () => Buffer.concat(Array.from({ length: 9 }, () => member)),
    });
    const { fetches } = await fetchedAll(
      Buffer.concat([bomb, handMadeBatch({ baseOffset: 2, records: [record("z")] })]),
    );
    expect(fetches.flatMap(unread)).toEqual([[0, 1, "batch_unreadable", bomb.length]]);
    expect(fetches.flatMap(values)).toEqual([null, "z"]);
  });

  test("many batches in one fetch do not add up: the excess is left to the next fetch", async () => {
    const each = Buffer.alloc(3 * MIB, "v");
    const bytes = Buffer.concat(
      Array.from({ length: 20 }, (_, i) =>
        handMadeBatch({ baseOffset: i * 2, records: [{ value: each }, record(String(i))], codec: 1, pack }),
      ),
    );
    const { fetches } = await fetchedAll(bytes);
    for (const {
      bytes: { length },
    } of fetches)
      expect(length).toBeLessThanOrEqual(MOST_UNPACKED_BYTES);
    expect(fetches.flatMap(offsets)).toEqual(Array.from({ length: 40 }, (_, i) => i));
    expect(fetches.length).toBeLessThan(4);
  });

  test("a larger batch of valid records comes in parts, from wherever reading begins, each record once", async () => {
    const value = Buffer.alloc(MIB);
    const bytes = handMadeBatch({
      baseOffset: 10,
      records: Array.from({ length: 80 }, () => ({ value })),
      codec: 1,
      pack,
    });
    for (const from of [10, 45]) {
      const { fetches } = await fetchedAll(bytes, from);
      expect(fetches.flatMap(offsets)).toEqual(Array.from({ length: 90 - from }, (_, i) => from + i));
      expect(fetches.length).toBe(Math.ceil((90 - from) / 32));
      for (const {
        bytes: { length },
        unread: none,
      } of fetches)
        expect([length < 34 * MIB, none]).toEqual([true, undefined]);
    }
  });

  test("many tiny records come in parts, too", async () => {
    const tiny = Array.from({ length: 300_000 }, () => ({ value: null }));
    for (const [codec, packing] of [
      [1, pack],
      [0, (records: Buffer) => records],
    ] as const) {
      const { fetches } = await fetchedAll(handMadeBatch({ records: tiny, codec, pack: packing }));
      expect(fetches.map(({ count }) => count)).toEqual([250_000, 50_000]);
    }
  });

  test("no record of a large batch is returned before all of it is known to be readable", async () => {
    const value = Buffer.alloc(MIB);
    for (const spoil of [
      (records: Buffer) => Buffer.concat([records, Buffer.from([0])]),
      (records: Buffer) => records.subarray(0, -1),
    ]) {
      const bytes = handMadeBatch({
        records: Array.from({ length: 40 }, () => ({ value })),
        codec: 1,
        pack: (records) => pack(spoil(records)),
      });
      const { fetches } = await fetchedAll(bytes);
      expect(fetches.flatMap(unread)).toEqual([[0, 39, "batch_unreadable", bytes.length]]);
    }
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
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107],
  ])("%s", (key, murmur2) => {
    for (const count of [1, 2, 7, 12, 1000])
      expect(partitionOf(Buffer.from(key), count)).toBe((murmur2 & 0x7fffffff) % count);
  });

  test("an empty key has a partition, too; a record without a key goes to the first", () => {
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
