import { DamagedParquet } from "./damaged.js";
import { copyWithin } from "./snappy.js";

const damaged = (): DamagedParquet => new DamagedParquet("its LZ4 data is damaged");
const LEAST_MATCH = 4;

/** Unpacks an LZ4 block to as many bytes as are wanted, and no more. @throws DamagedParquet */
export function unlz4(packed: Buffer, length: number): Buffer {
  const out = Buffer.alloc(length);
  let from = 0;
  let to = 0;
  const longer = (nibble: number): number => {
    let count = nibble;
    for (let byte = nibble === 15 ? 255 : 0; byte === 255; count += byte) {
      if (from >= packed.length) throw damaged();
      byte = packed[from++];
    }
    return count;
  };
  while (from < packed.length) {
    const token = packed[from++];
    const literals = longer(token >> 4);
    if (literals > packed.length - from || literals > length - to) throw damaged();
    packed.copy(out, to, from, from + literals);
    from += literals;
    to += literals;
    // The last sequence has literals only.
    if (from === packed.length) break;
    if (from + 2 > packed.length) throw damaged();
    const back = packed.readUInt16LE(from);
    from += 2;
    const count = longer(token & 15) + LEAST_MATCH;
    if (back === 0 || back > to || count > length - to) throw damaged();
    to = copyWithin(out, to, back, count);
  }
  if (to !== length) throw damaged();
  return out;
}

/** The same in the frames of Hadoop (length unpacked, length packed, block), or without, as some writers do. */
export function unlz4Hadoop(packed: Buffer, length: number): Buffer {
  const blocks: Buffer[] = [];
  let unpacked = 0;
  for (let at = 0; at < packed.length;) {
    const [blockLength, packedLength] =
      at + 8 > packed.length ? [0, 0] : [packed.readUInt32BE(at), packed.readUInt32BE(at + 4)];
    if (packedLength === 0 || packedLength > packed.length - at - 8 || blockLength > length - unpacked)
      return unlz4(packed, length);
    blocks.push(unlz4(packed.subarray(at + 8, at + 8 + packedLength), blockLength));
    unpacked += blockLength;
    at += 8 + packedLength;
  }
  if (unpacked !== length) throw damaged();
  return Buffer.concat(blocks);
}
