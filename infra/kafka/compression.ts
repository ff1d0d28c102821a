import { constants, createGunzip, gunzipSync } from "node:zlib";
import { setImmediate as yieldToEvents } from "node:timers/promises";
import { Decompress as ZstdDecompress } from "fzstd";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { compressionsAlgorithms } from "./wire.js";
import { inspectZstd } from "./zstd-frames.js";

/** The attribute bits of a batch that identify its codec. */
const NONE = 0,
  GZIP = 1,
  SNAPPY = 2,
  LZ4 = 3,
  ZSTD = 4;

/**
 * How snappy-java (Kafka's Java clients) frames blocks: this magic, a version and a compatible version, then length and
 * block.
 */
const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
const XERIAL_HEADER_BYTES = 16;
/** A copy of 64 bytes takes three bytes, so a block that claims a higher ratio is not snappy. */
const MOST_SNAPPY_RATIO = 22;
/** A single snappy block is unpacked at once: a larger one is refused. */
const LARGEST_SNAPPY_BLOCK = 64 * 1024 * 1024;
const PIECE_BYTES = 256 * 1024;
/** fzstd moves its whole window for each block: beyond this, it is done in chunks. */
const ZSTD_MOVED_AT_ONCE = 4e9;
/** Only a frame of tiny blocks under a large window exceeds this: it would keep a processor busy for minutes. */
const ZSTD_MOVED_AT_MOST = 40e9;

/**
 * Unpacks the records of a batch at once.
 *
 * @param codec the batch's attribute bits: 1 gzip, 2 snappy, 3 lz4, 4 zstd
 * @returns null if it unpacks to more than `most` bytes; that many never exist in memory at once
 * @throws FraudstreamError `batch_corrupt`
 */
export function unpack(codec: number, packed: Buffer, most: number): Buffer | null {
  try {
    switch (codec) {
      case GZIP:
        return gunzipWithin(packed, most);
      case SNAPPY:
        return unpackSnappy(packed, most);
      case LZ4:
        return lz4Bound(packed) > most ? null : compressionsAlgorithms.lz4.decompressSync(packed);
      case ZSTD:
        return unpackZstd(packed, most);
      default:
        throw new Error("the codec is unknown");
    }
  } catch (cause) {
    throw corrupt(codec, cause);
  }
}

/**
 * Unpacks chunk by chunk, so that little of the data exists at a time; other work runs between the chunks.
 *
 * @throws FraudstreamError `batch_corrupt`, possibly after some chunks
 */
export async function* unpackInPieces(codec: number, packed: Buffer): AsyncGenerator<Buffer> {
  if (codec === NONE) {
    yield packed;
    return;
  }
  try {
    if (codec === GZIP) {
      yield* gunzipPieces(packed);
      return;
    }
    for (const piece of codec === SNAPPY
      ? snappyPieces(packed)
      : codec === LZ4
        ? lz4Pieces(packed)
        : zstdPieces(packed)) {
      yield piece;
      await yieldToEvents();
    }
  } catch (cause) {
    throw corrupt(codec, cause);
  }
}

function corrupt(codec: number, cause: unknown): FraudstreamError {
  if (cause instanceof FraudstreamError) return cause;
  return new FraudstreamError(
    "batch_corrupt",
    `a compressed batch (codec ${codec}) can't be unpacked: ${messageOf(cause)}`,
    { cause },
  );
}

function gunzipWithin(packed: Buffer, most: number): Buffer | null {
  try {
    return gunzipSync(packed, { maxOutputLength: most });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") return null;
    throw error;
  }
}

async function* gunzipPieces(packed: Buffer): AsyncGenerator<Buffer> {
  const gunzip = createGunzip({ chunkSize: PIECE_BYTES, finishFlush: constants.Z_FINISH });
  gunzip.end(packed);
  // A consumer that stops early destroys the stream as well.
  for await (const piece of gunzip) yield piece as Buffer;
}

function snappyBlocks(packed: Buffer): { block: Buffer; length: number }[] {
  const blocks: Buffer[] = [];
  if (packed.subarray(0, XERIAL_MAGIC.length).equals(XERIAL_MAGIC)) {
    for (let at = XERIAL_HEADER_BYTES; at < packed.length;) {
      const length = packed.readInt32BE(at);
      if (length < 0 || at + 4 + length > packed.length) throw new Error("a block is cut off");
      blocks.push(packed.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
  } else blocks.push(packed);
  return blocks.map((block) => {
    // A block begins with its unpacked length, a varint.
    const length = readUnsignedVarint(block);
    if (length > block.length * MOST_SNAPPY_RATIO) throw new Error("a block claims more than it can hold");
    if (length > LARGEST_SNAPPY_BLOCK) throw new Error(`a block unpacks to more than ${LARGEST_SNAPPY_BLOCK} bytes`);
    return { block, length };
  });
}

function unpackSnappy(packed: Buffer, most: number): Buffer | null {
  const blocks = snappyBlocks(packed);
  if (blocks.reduce((total, { length }) => total + length, 0) > most) return null;
  return Buffer.concat(blocks.map(({ block }) => compressionsAlgorithms.snappy.decompressSync(block)));
}

function* snappyPieces(packed: Buffer): Generator<Buffer> {
  for (const { block } of snappyBlocks(packed)) yield compressionsAlgorithms.snappy.decompressSync(block);
}

function readUnsignedVarint(bytes: Buffer): number {
  let value = 0;
  for (let at = 0, scale = 1; at < bytes.length; at++, scale *= 128) {
    value += (bytes[at] & 0x7f) * scale;
    if (bytes[at] < 0x80) break;
  }
  return value;
}

// LZ4 frame format 1.6: magic, flags, block descriptor, optional size and dictionary, header checksum; then blocks,
// each preceded by its length, until an empty one.
const LZ4_FLAGS = 4;
const LZ4_BLOCK_DESCRIPTOR = 5;
const LZ4_DESCRIPTOR_END = 7;
const LZ4_INDEPENDENT_BIT = 0b10_0000;
/** The head of a frame of independent blocks of up to 4 MiB, without checksums. */
const LZ4_HEAD = Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73]);
const LZ4_END = Buffer.alloc(4);

/** The blocks of a frame, each preceded by its length, and the most that each can unpack to. */
function lz4Blocks(packed: Buffer): { blocks: Buffer[]; blockBytes: number; independent: boolean } {
  if (packed.length < LZ4_DESCRIPTOR_END) throw new Error("a frame is cut off");
  const flags = packed[LZ4_FLAGS];
  const blockBytes = 1 << (8 + 2 * ((packed[LZ4_BLOCK_DESCRIPTOR] >> 4) & 0b111));
  const checksumBytes = (flags & 0b1_0000) === 0 ? 0 : 4;
  const blocks: Buffer[] = [];
  for (
    let at = LZ4_DESCRIPTOR_END + ((flags & 0b1000) === 0 ? 0 : 8) + ((flags & 1) === 0 ? 0 : 4);
    at + 4 <= packed.length;
  ) {
    // The highest bit marks a block that is not compressed.
    const length = packed.readUInt32LE(at) & 0x7fffffff;
    if (length === 0) break;
    blocks.push(packed.subarray(at, at + 4 + length));
    at += 4 + length + checksumBytes;
  }
  return { blocks, blockBytes, independent: (flags & LZ4_INDEPENDENT_BIT) !== 0 };
}

/** The most that an LZ4 frame can unpack to: the sum of its blocks at their largest. */
function lz4Bound(packed: Buffer): number {
  const { blocks, blockBytes } = lz4Blocks(packed);
  return blocks.length * blockBytes;
}

function* lz4Pieces(packed: Buffer): Generator<Buffer> {
  const { blocks, blockBytes, independent } = lz4Blocks(packed);
  // Brokers refuse such batches, too.
  if (!independent) throw new Error("its blocks depend on each other, and there are too many to unpack at once");
  for (const block of blocks) {
    const piece = compressionsAlgorithms.lz4.decompressSync(Buffer.concat([LZ4_HEAD, block, LZ4_END]));
    if (piece.length > blockBytes) throw new Error("a block is larger than its frame says");
    yield piece;
  }
}

function unpackZstd(packed: Buffer, most: number): Buffer | null {
  const { bytes, bound, moved } = inspectZstd(packed);
  if (moved > ZSTD_MOVED_AT_MOST) throw new Error("its blocks are too small for its window");
  if (bound > most || moved > ZSTD_MOVED_AT_ONCE) return null;
  const parts: Uint8Array[] = [];
  let length = 0;
  const stream = new ZstdDecompress((part) => {
    length += part.length;
    if (length > most) throw new Error("a frame unpacks to more than its blocks can hold");
    parts.push(part);
  });
  stream.push(bytes, true);
  return Buffer.concat(parts, length);
}

function* zstdPieces(packed: Buffer): Generator<Buffer> {
  const { bytes, blockEnds } = inspectZstd(packed);
  let parts: Uint8Array[] = [];
  const stream = new ZstdDecompress((part) => parts.push(part));
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const end = blockEnds[i] ?? bytes.length;
    stream.push(bytes.subarray(at, end), end === bytes.length);
    at = end;
    const piece = Buffer.concat(parts);
    parts = [];
    if (piece.length > 0) yield piece;
  }
}
