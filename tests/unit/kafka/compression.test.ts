import { deflateSync, gzipSync } from "node:zlib";
import { compressionsAlgorithms } from "@platformatic/kafka";
import { describe, expect, test } from "vitest";
import { unpack } from "../../../infra/kafka/compression.js";
import { RandomSource } from "../../support/random-source.js";

const GZIP = 1, SNAPPY = 2, LZ4 = 3, ZSTD = 4;
const { snappy, lz4 } = compressionsAlgorithms;

const random = new RandomSource(5);
/** Text that compresses, and bytes that don't. */
const CONTENTS = [Buffer.from("a"), Buffer.from("transaction ".repeat(40_000)), random.bytes(100_000), Buffer.concat([random.bytes(70_000), Buffer.alloc(300_000, 7)])];

/** Blocks as snappy-java frames them. */
function xerial(blocks: Buffer[]): Buffer {
  const head = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
  return Buffer.concat([head, ...blocks.flatMap((block) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(block.length);
    return [length, block];
  })]);
}

/** A zstd frame of raw blocks and blocks of one repeated byte; magic, flags, window of 128 KiB (RFC 8878). */
function zstd(blocks: { raw?: Buffer; repeat?: [byte: number, count: number] }[], header = Buffer.from([0, 0x38])): Buffer {
  const pieces = blocks.map(({ raw, repeat }, i) => {
    const size = raw?.length ?? repeat?.[1] ?? 0;
    const head = Buffer.alloc(3);
    head.writeUIntLE((i === blocks.length - 1 ? 1 : 0) | ((repeat ? 1 : 0) << 1) | (size << 3), 0, 3);
    return Buffer.concat([head, raw ?? Buffer.from([repeat?.[0] ?? 0])]);
  });
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), header, ...pieces]);
}

const corrupt = expect.objectContaining({ code: "batch_corrupt", retriable: false }) as Error;

describe("what was packed comes back", () => {
  test.each(CONTENTS.map((content) => [content.length, content] as const))("%i bytes", (_length, content) => {
    expect(unpack(GZIP, gzipSync(content)).equals(content)).toBe(true);
    expect(unpack(SNAPPY, snappy.compressSync(content)).equals(content)).toBe(true);
    const blocks: Buffer[] = [];
    for (let at = 0; at < content.length; at += 32_768) blocks.push(snappy.compressSync(content.subarray(at, at + 32_768)));
    expect(unpack(SNAPPY, xerial(blocks)).equals(content)).toBe(true);
    expect(unpack(LZ4, lz4.compressSync(content)).equals(content)).toBe(true);
  });

  test("of zstd: raw and repeated blocks, one segment, a frame behind another", () => {
    const raw = random.bytes(1000);
    const content = Buffer.concat([raw, Buffer.alloc(100_000, 9)]);
    const blocks = [{ raw }, { repeat: [9, 100_000] as [number, number] }];
    expect(unpack(ZSTD, zstd(blocks)).equals(content)).toBe(true);
    expect(unpack(ZSTD, Buffer.concat([zstd(blocks), zstd([{ raw }])])).equals(Buffer.concat([content, raw]))).toBe(true);
    const size = Buffer.alloc(5, 0b1010_0000);
    size.writeUInt32LE(content.length, 1);
    expect(unpack(ZSTD, zstd(blocks, size)).equals(content)).toBe(true);
    expect(unpack(ZSTD, zstd([{ raw: Buffer.alloc(0) }]))).toHaveLength(0);
  });
});

describe("what unpacks to more than memory holds is refused", () => {
  test("gzip", () => {
    // Deflated members one behind another: 300 MiB of zeros in 300 kB.
    const member = gzipSync(Buffer.alloc(30 * 1024 * 1024));
    expect(() => unpack(GZIP, Buffer.concat(Array.from({ length: 10 }, () => member)))).toThrow(corrupt);
  });

  test("snappy, by the length that its blocks claim", () => {
    const claim = Buffer.from([0x80, 0x80, 0x80, 0x80, 0x04, 0, 0]);
    expect(() => unpack(SNAPPY, claim)).toThrow(corrupt);
    const many = snappy.compressSync(Buffer.alloc(1024 * 1024));
    expect(() => unpack(SNAPPY, xerial(Array.from({ length: 300 }, () => many)))).toThrow(corrupt);
  });

  test("lz4, by the number of its blocks", () => {
    const frame = lz4.compressSync(Buffer.alloc(64 * 1024));
    const blocks = frame.subarray(7, frame.length - 4);
    expect(() => unpack(LZ4, Buffer.concat([frame.subarray(0, 7), ...Array.from({ length: 5_000 }, () => blocks), frame.subarray(-4)]))).toThrow(corrupt);
  });

  test("zstd, by what came out, and by the window that it wants", () => {
    expect(() => unpack(ZSTD, zstd(Array.from({ length: 2_100 }, () => ({ repeat: [0, 128 * 1024] }))))).toThrow(corrupt);
    expect(() => unpack(ZSTD, zstd([{ raw: Buffer.from("a") }], Buffer.from([0, 0xa0])))).toThrow(corrupt);
    const size = Buffer.alloc(5, 0b1010_0000);
    size.writeUInt32LE(0x7f000000, 1);
    expect(() => unpack(ZSTD, zstd([{ raw: Buffer.from("a") }], size))).toThrow(corrupt);
  });
});

describe("what is broken is refused", () => {
  const content = Buffer.from("transaction ".repeat(5_000));
  const packed: [string, number, Buffer][] = [
    ["gzip", GZIP, gzipSync(content)], ["snappy", SNAPPY, snappy.compressSync(content)], ["snappy-java", SNAPPY, xerial([snappy.compressSync(content)])],
    ["lz4", LZ4, lz4.compressSync(content)], ["zstd", ZSTD, zstd([{ raw: content }, { repeat: [1, 50_000] }])],
  ];

  test.each(packed)("%s cut off", (_name, codec, bytes) => {
    for (const length of [1, 4, 5, 6, 8, 15, 18, 20, Math.floor(bytes.length / 2)]) {
      // LZ4 and snappy end where a block does: what is missing shows as records that are cut off.
      let result: Buffer | null = null;
      try {
        result = unpack(codec, bytes.subarray(0, length));
      } catch (error) {
        expect(error).toEqual(corrupt);
      }
      if (result !== null) expect(content.length).toBeGreaterThan(result.length);
    }
    expect(() => unpack(codec, Buffer.alloc(100, 0xee))).toThrow(corrupt);
  });

  test("an unknown codec", () => {
    expect(() => unpack(5, deflateSync(content))).toThrow(corrupt);
  });
});
