import { gunzipSync } from "node:zlib";
import { compressionsAlgorithms } from "@platformatic/kafka";
import { decompress as zstdDecompress } from "fzstd";
import { FraudstreamError } from "../../schemas/errors.js";

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
        return compressionsAlgorithms.lz4.decompressSync(packed);
      case 4:
        return Buffer.from(zstdDecompress(packed));
      default:
        throw new Error(`unknown codec ${codec}`);
    }
  } catch (cause) {
    throw new FraudstreamError("batch_corrupt", `a compressed batch (codec ${codec}) can't be unpacked`, { cause });
  }
}

function unpackSnappy(packed: Buffer): Buffer {
  if (!packed.subarray(0, XERIAL_MAGIC.length).equals(XERIAL_MAGIC)) return compressionsAlgorithms.snappy.decompressSync(packed);
  const blocks: Buffer[] = [];
  for (let at = XERIAL_HEADER_BYTES; at < packed.length; ) {
    const length = packed.readInt32BE(at);
    blocks.push(compressionsAlgorithms.snappy.decompressSync(packed.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return Buffer.concat(blocks);
}
