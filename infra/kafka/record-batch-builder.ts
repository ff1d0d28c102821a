import { crc32c } from "@node-rs/crc32";

const RECORDS = 61;
const INITIAL_BYTES = 64 * 1024;
const TRANSACTIONAL_BIT = 1 << 4;

export interface BatchProducer {
  producerId: bigint;
  producerEpoch: number;
  firstSequence: number;
  transactional: boolean;
}

/**
 * Builds one record batch (format 2) in one growing buffer: a record is copied straight into it, without an object of
 * its own.
 */
export class RecordBatchBuilder {
  #bytes = Buffer.allocUnsafe(INITIAL_BYTES);
  #end = RECORDS;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Bytes so far, including the batch's header. */
  get length(): number {
    return this.#end;
  }

  /** Starts a new, empty batch; what `finish` returned is overwritten. */
  reset(): void {
    this.#end = RECORDS;
    this.#count = 0;
  }

  /**
   * Appends a record whose key and value are parts of other buffers.
   *
   * @param headers already encoded, starting with their count; null: none
   */
  append(key: Uint8Array | null, value: Uint8Array | null, headers: Uint8Array | null = null): void {
    const keyLength = key === null ? -1 : key.length;
    const valueLength = value === null ? -1 : value.length;
    const headersLength = headers === null ? 1 : headers.length;
    const offsetDelta = this.#count;
    const bodyLength =
      2 +
      varintLength(offsetDelta) +
      varintLength(keyLength) +
      Math.max(keyLength, 0) +
      varintLength(valueLength) +
      Math.max(valueLength, 0) +
      headersLength;
    this.#reserve(bodyLength + 5);
    const bytes = this.#bytes;
    let at = writeVarint(bytes, this.#end, bodyLength);
    bytes[at++] = 0; // attributes
    bytes[at++] = 0; // timestamp delta: all records of a batch are published at once
    at = writeVarint(bytes, at, offsetDelta);
    at = writeVarint(bytes, at, keyLength);
    if (key !== null) {
      bytes.set(key, at);
      at += keyLength;
    }
    at = writeVarint(bytes, at, valueLength);
    if (value !== null) {
      bytes.set(value, at);
      at += valueLength;
    }
    if (headers === null) bytes[at++] = 0;
    else {
      bytes.set(headers, at);
      at += headersLength;
    }
    this.#end = at;
    this.#count++;
  }

  /**
   * The finished batch, a view of this builder's buffer: must be sent before `reset` or the next `append`.
   *
   * @param timestamp of its records, epoch milliseconds
   */
  finish(timestamp: number, producer: BatchProducer): Buffer {
    const bytes = this.#bytes;
    const time = BigInt(timestamp);
    bytes.writeBigInt64BE(0n, 0);
    bytes.writeInt32BE(this.#end - 12, 8);
    bytes.writeInt32BE(-1, 12); // partition leader epoch: the broker's
    bytes[16] = 2;
    bytes.writeInt16BE(producer.transactional ? TRANSACTIONAL_BIT : 0, 21);
    bytes.writeInt32BE(this.#count - 1, 23);
    bytes.writeBigInt64BE(time, 27);
    bytes.writeBigInt64BE(time, 35);
    bytes.writeBigInt64BE(producer.producerId, 43);
    bytes.writeInt16BE(producer.producerEpoch, 51);
    bytes.writeInt32BE(producer.firstSequence, 53);
    bytes.writeInt32BE(this.#count, 57);
    bytes.writeUInt32BE(crc32c(bytes.subarray(21, this.#end)), 17);
    return bytes.subarray(0, this.#end);
  }

  #reserve(more: number): void {
    if (this.#end + more <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#end + more));
    this.#bytes.copy(larger, 0, 0, this.#end);
    this.#bytes = larger;
  }
}

/** Encodes record headers once, for `append`. */
export function encodeHeaders(headers: readonly (readonly [name: string, value: Uint8Array | string])[]): Buffer {
  const pairs = headers.map(
    ([name, value]) => [Buffer.from(name), typeof value === "string" ? Buffer.from(value) : value] as const,
  );
  let length = 5;
  for (const [name, value] of pairs) length += 10 + name.length + value.length;
  const bytes = Buffer.allocUnsafe(length);
  let at = writeVarint(bytes, 0, pairs.length);
  for (const [name, value] of pairs) {
    at = writeVarint(bytes, at, name.length);
    bytes.set(name, at);
    at = writeVarint(bytes, at + name.length, value.length);
    bytes.set(value, at);
    at += value.length;
  }
  return bytes.subarray(0, at);
}

/** Writes a 32-bit zigzag varint and returns the position after it. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  let rest = ((value << 1) ^ (value >> 31)) >>> 0;
  while (rest >= 0x80) {
    bytes[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[at++] = rest;
  return at;
}

function varintLength(value: number): number {
  const rest = ((value << 1) ^ (value >> 31)) >>> 0;
  return rest < 0x80 ? 1 : rest < 0x4000 ? 2 : rest < 0x200000 ? 3 : rest < 0x10000000 ? 4 : 5;
}
