import { STORED } from "./cell-kinds.js";
import type { Values } from "./cell-text.js";
import { DamagedParquet } from "./damaged.js";
import { deltaBytes, deltaIntegers, deltaLengthBytes } from "./delta.js";

/** Parquet's `Encoding`. */
export const ENCODING = {
  plain: 0,
  plainDictionary: 2,
  rle: 3,
  deltaBinaryPacked: 5,
  deltaLengthByteArray: 6,
  deltaByteArray: 7,
  rleDictionary: 8,
  byteStreamSplit: 9,
} as const;

interface Stored {
  /** A number of Parquet's `Type`. */
  type: number;
  typeLength: number;
}

const WIDTHS: Readonly<Record<number, number>> = {
  [STORED.int32]: 4,
  [STORED.int64]: 8,
  [STORED.int96]: 12,
  [STORED.float]: 4,
  [STORED.double]: 8,
};

/**
 * The values of a data page that no dictionary has.
 *
 * @throws DamagedParquet, also where the bytes hold fewer than `count`
 */
export function valuesOf(encoding: number, bytes: Buffer, count: number, stored: Stored): Values {
  const { type } = stored;
  const integers = type === STORED.int32 || type === STORED.int64;
  if (encoding === ENCODING.plain) return plainValues(bytes, count, stored);
  if (encoding === ENCODING.rle && type === STORED.boolean) {
    const bits = hybrid(withLength(bytes), 1, count);
    return (index) => bits[index] === 1;
  }
  if (encoding === ENCODING.deltaBinaryPacked && integers) {
    const { values } = deltaIntegers(bytes, count, type === STORED.int32 ? 32 : 64);
    return (index) => values[index];
  }
  if (encoding === ENCODING.deltaLengthByteArray && type === STORED.bytes) return deltaLengthBytes(bytes, count);
  if (encoding === ENCODING.deltaByteArray && (type === STORED.bytes || type === STORED.fixedBytes))
    return deltaBytes(bytes, count);
  if (encoding === ENCODING.byteStreamSplit && type !== STORED.bytes && type !== STORED.boolean)
    return plainValues(joined(bytes, count, widthOf(stored)), count, stored);
  throw new DamagedParquet(`its values are written in a way that is not read (encoding ${encoding})`);
}

function widthOf({ type, typeLength }: Stored): number {
  const width = type === STORED.fixedBytes ? typeLength : WIDTHS[type];
  if (!(width >= 1)) throw new DamagedParquet("its values have no length");
  return width;
}

/** @throws DamagedParquet */
export function plainValues(bytes: Buffer, count: number, stored: Stored): Values {
  const { type } = stored;
  if (type === STORED.bytes) return byteArrays(bytes, count);
  if (type === STORED.boolean) {
    enough(bytes, Math.ceil(count / 8));
    return (index) => ((bytes[index >> 3] >> (index & 7)) & 1) === 1;
  }
  const width = widthOf(stored);
  enough(bytes, count * width);
  switch (type) {
    case STORED.int32:
      return (index) => bytes.readInt32LE(4 * index);
    case STORED.int64:
      return (index) => int64At(bytes, 8 * index);
    case STORED.float:
      return (index) => bytes.readFloatLE(4 * index);
    case STORED.double:
      return (index) => bytes.readDoubleLE(8 * index);
    default:
      return (index) => bytes.subarray(width * index, width * (index + 1));
  }
}

/** A bigint only where a number can't hold it: it takes several times as long. */
function int64At(bytes: Buffer, at: number): number | bigint {
  const high = bytes.readInt32LE(at + 4);
  return high >= -0x100000 && high < 0x100000 ? high * 2 ** 32 + bytes.readUInt32LE(at) : bytes.readBigInt64LE(at);
}

function enough(bytes: Buffer, wanted: number): void {
  if (bytes.length < wanted)
    throw new DamagedParquet(`a page has ${bytes.length} bytes of values, where ${wanted} are needed`);
}

/** Each is preceded by its length. */
function byteArrays(bytes: Buffer, count: number): Values {
  enough(bytes, 4 * count);
  const starts = new Uint32Array(count + 1);
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 4 > bytes.length) throw new DamagedParquet("a page ends within a text");
    starts[i] = at + 4;
    at += 4 + bytes.readUInt32LE(at);
  }
  if (at > bytes.length) throw new DamagedParquet("a page ends within a text");
  starts[count] = at + 4;
  return (index) => bytes.subarray(starts[index], starts[index + 1] - 4);
}

/** Values whose first bytes stand together, then their second ones, and so on. */
function joined(bytes: Buffer, count: number, width: number): Buffer {
  enough(bytes, count * width);
  const out = Buffer.allocUnsafe(count * width);
  for (let part = 0; part < width; part++)
    for (let i = 0; i < count; i++) out[i * width + part] = bytes[part * count + i];
  return out;
}

/** What stands behind four bytes that say how long it is. */
export function withLength(bytes: Buffer): Buffer {
  if (bytes.length < 4 || bytes.length - 4 < bytes.readUInt32LE(0)) throw new DamagedParquet("a page is too short");
  return bytes.subarray(4, 4 + bytes.readUInt32LE(0));
}

/**
 * Small numbers in runs and in packs of eight. A run that is longer than what is wanted is cut, and a pack is read as
 * far as it is wanted.
 */
export function hybrid(bytes: Buffer, width: number, count: number): Uint32Array {
  if (width > 32) throw new DamagedParquet(`numbers of ${width} bits`);
  const out = new Uint32Array(count);
  const runBytes = (width + 7) >> 3;
  let at = 0;
  for (let done = 0; done < count;) {
    let header = 0;
    for (let shift = 0; ; shift += 7) {
      if (at >= bytes.length || shift > 28) throw new DamagedParquet("a page ends within its numbers");
      const byte = bytes[at++];
      header += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    const amount = Math.floor(header / 2);
    if (amount === 0) throw new DamagedParquet("a run of no numbers");
    if (header % 2 === 0) {
      if (at + runBytes > bytes.length) throw new DamagedParquet("a page ends within its numbers");
      const end = Math.min(count, done + amount);
      const value = runBytes === 0 ? 0 : bytes.readUIntLE(at, runBytes);
      if (value >= 2 ** width) throw new DamagedParquet(`a number of over ${width} bits`);
      out.fill(value, done, end);
      at += runBytes;
      done = end;
      continue;
    }
    const wanted = Math.min(8 * amount, count - done);
    unpackBits(bytes, at, width, out, done, wanted);
    at += amount * width;
    done += wanted;
  }
  return out;
}

function unpackBits(bytes: Buffer, from: number, width: number, out: Uint32Array, done: number, wanted: number): void {
  if (from + Math.ceil((wanted * width) / 8) > bytes.length) throw new DamagedParquet("a page ends within its numbers");
  let at = from;
  let held = 0;
  let bits = 0;
  for (let i = 0; i < wanted; i++) {
    // At most 39 bits: more than the bit operators take, so it is counted.
    while (bits < width) {
      held += bytes[at++] * 2 ** bits;
      bits += 8;
    }
    const above = 2 ** width;
    const rest = Math.floor(held / above);
    out[done + i] = held - rest * above;
    held = rest;
    bits -= width;
  }
}
