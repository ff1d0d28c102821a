import { gunzipSync } from "node:zlib";
import { Decompress as ZstdDecompress } from "fzstd";
import { FraudstreamError } from "../../schemas/errors.js";
import { compressionsAlgorithms } from "./wire.js";

/** A batch that unpacks to more than this is refused: no producer's settings make one, a bomb does. */
const MAX_UNPACKED_BYTES = 256 * 1024 * 1024;
/** How snappy-java (Kafka's Java clients) frames blocks: this, a version and a compatible version, then length and block. */
const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
const XERIAL_HEADER_BYTES = 16;

/**
 * Unpacks the records of a batch.
 *
 * @param codec the batch's attribute bits: 1 gzip, 2 snappy, 3 lz4, 4 zstd
 * @throws FraudstreamError `batch_corrupt`
 */
export function unpack(codec: number, packed: Buffer): Buffer {
  try {
    switch (codec) {
      case 1:
        return gunzipSync(packed, { maxOutputLength: MAX_UNPACKED_BYTES });
      case 2:
        return unpackSnappy(packed);
      case 3:
        refuseAbove(lz4Bound(packed));
        return compressionsAlgorithms.lz4.decompressSync(packed);
      case 4:
        return unpackZstd(packed);
      default:
        throw new Error(`unknown codec ${codec}`);
    }
  } catch (cause) {
    throw new FraudstreamError("batch_corrupt", `a compressed batch (codec ${codec}) can't be unpacked`, { cause });
  }
}

function unpackSnappy(packed: Buffer): Buffer {
  const blocks: Buffer[] = [];
  if (packed.subarray(0, XERIAL_MAGIC.length).equals(XERIAL_MAGIC)) {
    for (let at = XERIAL_HEADER_BYTES; at < packed.length; ) {
      const length = packed.readInt32BE(at);
      if (length < 0 || at + 4 + length > packed.length) throw new Error("a block is cut off");
      blocks.push(packed.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
  } else blocks.push(packed);
  // A block begins with its length once it is unpacked, a varint.
  refuseAbove(blocks.reduce((total, block) => total + readUnsignedVarint(block), 0));
  return Buffer.concat(blocks.map((block) => compressionsAlgorithms.snappy.decompressSync(block)));
}

function readUnsignedVarint(bytes: Buffer): number {
  let value = 0;
  for (let at = 0, scale = 1; at < bytes.length; at++, scale *= 128) {
    value += (bytes[at] & 0x7f) * scale;
    if (bytes[at] < 0x80) break;
  }
  return value;
}

// LZ4 frame format 1.6: magic, flags, block descriptor, optional size and dictionary, header checksum; then blocks up to
// an empty one, each behind its length.
const LZ4_FLAGS = 4;
const LZ4_BLOCK_DESCRIPTOR = 5;
const LZ4_DESCRIPTOR_END = 7;

/** The most that an LZ4 frame can unpack to: its blocks, each at its largest. */
function lz4Bound(packed: Buffer): number {
  if (packed.length < LZ4_DESCRIPTOR_END) throw new Error("a frame is cut off");
  const flags = packed[LZ4_FLAGS];
  const blockBytes = 1 << (8 + 2 * ((packed[LZ4_BLOCK_DESCRIPTOR] >> 4) & 0b111));
  const checksumBytes = (flags & 0b1_0000) === 0 ? 0 : 4;
  let bound = 0;
  for (let at = LZ4_DESCRIPTOR_END + ((flags & 0b1000) === 0 ? 0 : 8) + ((flags & 1) === 0 ? 0 : 4); at + 4 <= packed.length; bound += blockBytes) {
    // The highest bit says that the block is not compressed.
    const length = packed.readUInt32LE(at) & 0x7fffffff;
    if (length === 0) break;
    at += 4 + length + checksumBytes;
  }
  return bound;
}

/** The memory that a zstd frame wants for itself (RFC 8878, 3.1.1.1): its window, or its whole content where that is one segment. */
function zstdWindow(packed: Buffer): number {
  const flags = packed.readUInt8(4);
  const descriptor = packed.readUInt8(5);
  if ((flags & 0b10_0000) === 0) return 2 ** (10 + (descriptor >> 3)) * (1 + (descriptor & 0b111) / 8);
  const at = 5 + [0, 1, 2, 4][flags & 0b11];
  switch (flags >> 6) {
    case 0:
      return packed.readUInt8(at);
    case 1:
      return packed.readUInt16LE(at) + 256;
    case 2:
      return packed.readUInt32LE(at);
    default:
      return Number(packed.readBigUInt64LE(at));
  }
}

function unpackZstd(packed: Buffer): Buffer {
  refuseAbove(zstdWindow(packed));
  const parts: Uint8Array[] = [];
  let length = 0;
  const stream = new ZstdDecompress((part) => {
    length += part.length;
    refuseAbove(length);
    parts.push(part);
  });
  stream.push(packed, true);
  return Buffer.concat(parts, length);
}

function refuseAbove(bytes: number): void {
  if (bytes > MAX_UNPACKED_BYTES) throw new Error(`it unpacks to more than ${MAX_UNPACKED_BYTES} bytes`);
}
