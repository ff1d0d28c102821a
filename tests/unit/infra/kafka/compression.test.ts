import { deflateSync, gzipSync } from "node:zlib";
import { compressionsAlgorithms } from "@platformatic/kafka";
import { describe, expect, test } from "vitest";
import { unpack as unpackWithin, unpackInPieces } from "../../../../infra/kafka/compression.js";
import { RandomSource } from "../../../support/random-source.js";

const GZIP = 1,
  SNAPPY = 2,
  LZ4 = 3,
  ZSTD = 4;
const { snappy, lz4 } = compressionsAlgorithms;

const MOST = 32 * 1024 * 1024;

/** At once and piece by piece must come to the same. */
async function unpack(codec: number, packed: Buffer): Promise<Buffer | null> {
  const whole = unpackWithin(codec, packed, MOST);
  if (whole === null) return null;
  const pieces: Buffer[] = [];
  for await (const piece of unpackInPieces(codec, packed)) pieces.push(piece);
  expect(Buffer.concat(pieces).equals(whole)).toBe(true);
  return whole;
}

const random = new RandomSource(5);
/** Text that compresses, and bytes that don't. */
const CONTENTS = [
  Buffer.from("a"),
  Buffer.from("transaction ".repeat(40_000)),
  random.bytes(100_000),
  Buffer.concat([random.bytes(70_000), Buffer.alloc(300_000, 7)]),
];

/** Blocks as snappy-java frames them. */
function xerial(blocks: Buffer[]): Buffer {
  const head = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
  return Buffer.concat([
    head,
    ...blocks.flatMap((block) => {
      const length = Buffer.alloc(4);
      length.writeInt32BE(block.length);
      return [length, block];
    }),
  ]);
}

/** A zstd frame of raw blocks and blocks of one repeated byte; magic, flags, window of 128 KiB (RFC 8878). */
function zstd(
  blocks: { raw?: Buffer; repeat?: [byte: number, count: number] }[],
  header = Buffer.from([0, 0x38]),
): Buffer {
  const pieces = blocks.map(({ raw, repeat }, i) => {
    const size = raw?.length ?? repeat?.[1] ?? 0;
    const head = Buffer.alloc(3);
    head.writeUIntLE((i === blocks.length - 1 ? 1 : 0) | ((repeat ? 1 : 0) << 1) | (size << 3), 0, 3);
    return Buffer.concat([head, raw ?? Buffer.from([repeat?.[0] ?? 0])]);
  });
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), header, ...pieces]);
}

const corrupt = expect.objectContaining({ code: "batch_corrupt", retriable: false }) as Error;

const unpacked = async (codec: number, packed: Buffer): Promise<Buffer> =>
  (await unpack(codec, packed)) ?? expect.fail("too large");

describe("compressed data comes back unchanged", () => {
  test.each(CONTENTS.map((content) => [content.length, content] as const))("%i bytes", async (_length, content) => {
    expect((await unpacked(GZIP, gzipSync(content))).equals(content)).toBe(true);
    expect((await unpacked(SNAPPY, snappy.compressSync(content))).equals(content)).toBe(true);
    const blocks: Buffer[] = [];
    for (let at = 0; at < content.length; at += 32_768)
      blocks.push(snappy.compressSync(content.subarray(at, at + 32_768)));
    expect((await unpacked(SNAPPY, xerial(blocks))).equals(content)).toBe(true);
    expect((await unpacked(LZ4, lz4.compressSync(content))).equals(content)).toBe(true);
  });

  test("zstd: raw and repeated blocks, one segment, several frames, an oversized window", async () => {
    const raw = random.bytes(1000);
    const content = Buffer.concat([raw, Buffer.alloc(100_000, 9)]);
    const blocks = [{ raw }, { repeat: [9, 100_000] as [number, number] }];
    expect((await unpacked(ZSTD, zstd(blocks))).equals(content)).toBe(true);
    expect(
      (await unpacked(ZSTD, Buffer.concat([zstd(blocks), zstd([{ raw }])]))).equals(Buffer.concat([content, raw])),
    ).toBe(true);
    const size = Buffer.alloc(5, 0b1010_0000);
    size.writeUInt32LE(content.length, 1);
    expect((await unpacked(ZSTD, zstd(blocks, size))).equals(content)).toBe(true);
    expect(await unpacked(ZSTD, zstd([{ raw: Buffer.alloc(0) }]))).toHaveLength(0);
    // Java's highest levels ask for 128 MiB, whatever comes.
    expect((await unpacked(ZSTD, zstd(blocks, Buffer.from([0, 0x88])))).equals(content)).toBe(true);
  });
});

describe("data that exceeds the limit is not unpacked at once", () => {
  const pieces = async (codec: number, packed: Buffer): Promise<{ total: number; largest: number }> => {
    let total = 0;
    let largest = 0;
    for await (const { length } of unpackInPieces(codec, packed)) {
      total += length;
      largest = Math.max(largest, length);
    }
    return { total, largest };
  };

  test("gzip", async () => {
    // Deflated members one behind another: 40 MiB of zeros in 40 kB.
    const bomb = Buffer.concat([gzipSync(Buffer.alloc(20 * 1024 * 1024)), gzipSync(Buffer.alloc(20 * 1024 * 1024))]);
    expect(unpackWithin(GZIP, bomb, MOST)).toBeNull();
    const { total, largest } = await pieces(GZIP, bomb);
    expect([total, largest <= 256 * 1024]).toEqual([40 * 1024 * 1024, true]);
  });

  test("snappy, by the length that its blocks claim; an impossible claim is refused", async () => {
    expect(() => unpackWithin(SNAPPY, Buffer.from([0x80, 0x80, 0x80, 0x80, 0x04, 0, 0]), MOST)).toThrow(corrupt);
    const bomb = xerial(Array.from({ length: 40 }, () => snappy.compressSync(Buffer.alloc(1024 * 1024))));
    expect(unpackWithin(SNAPPY, bomb, MOST)).toBeNull();
    expect(await pieces(SNAPPY, bomb)).toEqual({ total: 40 * 1024 * 1024, largest: 1024 * 1024 });
  });

  test("lz4, by the number of its blocks", async () => {
    const frame = lz4.compressSync(Buffer.alloc(64 * 1024));
    const blocks = frame.subarray(7, frame.length - 4);
    const bomb = Buffer.concat([
      frame.subarray(0, 7),
      ...Array.from({ length: 700 }, () => blocks),
      frame.subarray(-4),
    ]);
    expect(unpackWithin(LZ4, bomb, MOST)).toBeNull();
    expect(await pieces(LZ4, bomb)).toEqual({ total: 700 * 64 * 1024, largest: 64 * 1024 });
  });

  test("zstd, by its blocks; a window or a content larger than possible is refused", async () => {
    const bomb = zstd(Array.from({ length: 300 }, () => ({ repeat: [0, 128 * 1024] })));
    expect(unpackWithin(ZSTD, bomb, MOST)).toBeNull();
    const { total, largest } = await pieces(ZSTD, bomb);
    expect([total, largest < 1024 * 1024]).toEqual([300 * 128 * 1024, true]);
    expect(() => unpackWithin(ZSTD, zstd([{ raw: Buffer.from("a") }], Buffer.from([0, 0xa0])), MOST)).toThrow(corrupt);
    const size = Buffer.alloc(5, 0b1010_0000);
    size.writeUInt32LE(0x7f000000, 1);
    expect(() => unpackWithin(ZSTD, zstd([{ raw: Buffer.from("a") }], size), MOST)).toThrow(corrupt);
    size.writeUInt32LE(0x07000000, 1);
    expect(() => unpackWithin(ZSTD, zstd([{ raw: Buffer.from("a") }], size), MOST)).toThrow(corrupt);
  });

  test("zstd with tiny blocks under a large window would take minutes: it is refused", () => {
    // A window of 128 MiB that cannot be made smaller, since the last frames could fill it.
    const frame = zstd(
      [
        ...Array.from({ length: 200_000 }, () => ({ repeat: [0, 1] as [number, number] })),
        ...Array.from({ length: 1_000 }, () => ({ repeat: [0, 128 * 1024] as [number, number] })),
      ],
      Buffer.from([0, 0x88]),
    );
    const startedAt = performance.now();
    expect(() => unpackWithin(ZSTD, frame, 1024 * MOST)).toThrow(corrupt);
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });
});

describe("broken data is refused", () => {
  const content = Buffer.from("transaction ".repeat(5_000));
  const packed: [string, number, Buffer][] = [
    ["gzip", GZIP, gzipSync(content)],
    ["snappy", SNAPPY, snappy.compressSync(content)],
    ["snappy-java", SNAPPY, xerial([snappy.compressSync(content)])],
    ["lz4", LZ4, lz4.compressSync(content)],
    ["zstd", ZSTD, zstd([{ raw: content }, { repeat: [1, 50_000] }])],
  ];

  test.each(packed)("%s cut off", (_name, codec, bytes) => {
    for (const length of [1, 4, 5, 6, 8, 15, 18, 20, Math.floor(bytes.length / 2)]) {
      // LZ4 and snappy end where a block does: what is missing shows as records that are cut off.
      let result: Buffer | null = null;
      try {
        result = unpackWithin(codec, bytes.subarray(0, length), MOST);
      } catch (error) {
        expect(error).toEqual(corrupt);
      }
      if (result !== null) expect(content.length).toBeGreaterThan(result.length);
    }
    expect(() => unpackWithin(codec, Buffer.alloc(100, 0xee), MOST)).toThrow(corrupt);
  });

  test("an unknown codec", () => {
    expect(() => unpackWithin(5, deflateSync(content), MOST)).toThrow(corrupt);
  });
});
