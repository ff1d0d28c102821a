import type { Values } from "./cell-text.js";
import { DamagedParquet } from "./damaged.js";

/** Of a page of texts that share their beginnings: few bytes can mean very many. */
const MOST_SHARED_BYTES = 256 * 1024 * 1024;

/**
 * Integers as differences, packed in blocks.
 *
 * @param bits of each, to which sums are cut off as the writer's were
 * @returns them, and where the bytes behind them begin
 * @throws DamagedParquet
 */
export function deltaIntegers(
  bytes: Buffer,
  count: number,
  bits: 32 | 64,
): { values: Int32Array | BigInt64Array; end: number } {
  const reader = new BitReader(bytes);
  const blockSize = Number(reader.varint());
  const miniblocks = Number(reader.varint());
  const total = Number(reader.varint());
  let value = reader.zigzag();
  const values = bits === 32 ? new Int32Array(count) : new BigInt64Array(count);
  if (total < count) throw new DamagedParquet(`a page holds ${total} of ${count} values`);
  if (miniblocks < 1 || miniblocks > 512 || blockSize > 65_536 || blockSize % (8 * miniblocks) !== 0)
    throw new DamagedParquet("a page has impossible blocks");
  const each = blockSize / miniblocks;
  const put = (index: number): void => {
    if (values instanceof Int32Array) values[index] = Number(BigInt.asIntN(32, value));
    else values[index] = value;
  };
  if (count > 0) put(0);
  for (let done = 1; done < count;) {
    const least = reader.zigzag();
    const widths = reader.take(miniblocks);
    for (let block = 0; block < miniblocks && done < count; block++) {
      const width = widths[block];
      if (width > 64) throw new DamagedParquet(`differences of ${width} bits`);
      const packed = reader.take((each * width) / 8);
      for (let i = 0; i < each && done < count; i++) {
        value = BigInt.asIntN(64, value + least + bitsAt(packed, i * width, width));
        put(done++);
      }
    }
  }
  return { values, end: reader.at };
}

function bitsAt(bytes: Buffer, bit: number, width: number): bigint {
  let at = bit >> 3;
  const skipped = bit & 7;
  if (width + skipped <= 32) {
    let held = 0;
    for (let taken = 0; taken < width + skipped; taken += 8) held += bytes[at++] * 2 ** taken;
    return BigInt(Math.floor(held / 2 ** skipped) % 2 ** width);
  }
  let held = 0n;
  for (let taken = 0; taken < width + skipped; taken += 8) held |= BigInt(bytes[at++]) << BigInt(taken);
  return (held >> BigInt(skipped)) & ((1n << BigInt(width)) - 1n);
}

class BitReader {
  readonly #bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(length: number): Buffer {
    if (length > this.#bytes.length - this.at) throw new DamagedParquet("a page ends within its numbers");
    return this.#bytes.subarray(this.at, (this.at += length));
  }

  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.take(1)[0];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new DamagedParquet("a number has over 64 bits");
  }

  zigzag(): bigint {
    const value = this.varint();
    return (value >> 1n) ^ -(value & 1n);
  }
}

/** Texts behind all of their lengths. */
export function deltaLengthBytes(bytes: Buffer, count: number): Values {
  const { values, end } = deltaIntegers(bytes, count, 32);
  const starts = startsOf(values as Int32Array, end, bytes.length);
  return (index) => bytes.subarray(starts[index], starts[index + 1]);
}

function startsOf(lengths: Int32Array, from: number, end: number): Uint32Array {
  const starts = new Uint32Array(lengths.length + 1);
  starts[0] = from;
  let at = from;
  for (const [index, length] of lengths.entries()) {
    at += length;
    if (length < 0 || at > end) throw new DamagedParquet("a page ends within a text");
    starts[index + 1] = at;
  }
  return starts;
}

/** Texts that each begin like the one before. */
export function deltaBytes(bytes: Buffer, count: number): Values {
  const shared = deltaIntegers(bytes, count, 32);
  const rest = bytes.subarray(shared.end);
  const suffix = deltaLengthBytes(rest, count);
  // One buffer for all: a view for each would cost a hundred bytes.
  let texts = Buffer.alloc(Math.max(1_024, 2 * rest.length));
  const starts = new Uint32Array(count + 1);
  let sharedBytes = 0;
  for (let index = 0; index < count; index++) {
    const length = Number(shared.values[index]);
    const at = starts[index];
    const before = index === 0 ? 0 : starts[index - 1];
    if (length < 0 || length > at - before) throw new DamagedParquet("a text begins like more than there is before");
    if ((sharedBytes += length) > MOST_SHARED_BYTES)
      throw new DamagedParquet(`a page of ${bytes.length} bytes unpacks to over ${MOST_SHARED_BYTES}`);
    const own = suffix(index) as Buffer;
    const end = at + length + own.length;
    if (end > texts.length) texts = Buffer.concat([texts], 2 * end);
    texts.copyWithin(at, before, before + length);
    texts.set(own, at + length);
    starts[index + 1] = end;
  }
  return (index) => texts.subarray(starts[index], starts[index + 1]);
}
