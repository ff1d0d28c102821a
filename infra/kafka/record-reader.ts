import { crc32c } from "@node-rs/crc32";
import { FraudstreamError } from "../../schemas/errors.js";
import { unpack } from "./compression.js";
import type { FetchedRecords } from "./records.js";

/** A transaction that the broker says was aborted: records of the producer from this offset up to its marker. */
export interface AbortedTransaction { producerId: bigint; firstOffset: number }

export interface FetchedBytes {
  topic: string;
  partition: number;
  /** The offset that was asked for: a batch may begin earlier. */
  from: number;
  bytes: Buffer;
  aborted: AbortedTransaction[];
  lastStableOffset: number;
}

// Record batch, format 2 (Kafka protocol guide, "Record Batch"): where each field stands.
const BASE_OFFSET = 0;
const BATCH_LENGTH = 8;
const MAGIC = 16;
const CRC = 17;
const ATTRIBUTES = 21;
const LAST_OFFSET_DELTA = 23;
const FIRST_TIMESTAMP = 27;
const MAX_TIMESTAMP = 35;
const PRODUCER_ID = 43;
const RECORD_COUNT = 57;
const RECORDS = 61;
const LENGTH_COUNTS_FROM = 12;

const CODEC_BITS = 0b111;
const LOG_APPEND_TIME_BIT = 1 << 3;
const TRANSACTIONAL_BIT = 1 << 4;
const CONTROL_BIT = 1 << 5;

/**
 * Reads the record batches of a fetch response, read_committed: markers and aborted records are left out, and so is what
 * lies before the offset asked for. A batch that is cut off at the end is left for the next fetch.
 *
 * @throws FraudstreamError `batch_corrupt` when a checksum or a length doesn't fit
 */
export function readRecords(fetched: FetchedBytes): FetchedRecords {
  const { bytes, from } = fetched;
  const batches = findBatches(bytes, fetched);
  const whole = batches.some((batch) => batch.codec !== 0) ? unpackAll(bytes, batches) : bytes;
  let capacity = 0;
  for (const batch of batches) capacity += batch.skip ? 0 : batch.count;

  const offset = new Float64Array(capacity);
  const timestamp = new Float64Array(capacity);
  const positions = new Int32Array(capacity * 5);
  const keyAt = positions.subarray(0, capacity);
  const keyLength = positions.subarray(capacity, capacity * 2);
  const valueAt = positions.subarray(capacity * 2, capacity * 3);
  const valueLength = positions.subarray(capacity * 3, capacity * 4);
  const headersAt = positions.subarray(capacity * 4, capacity * 5);

  let count = 0;
  let nextOffset = from;
  // Reads a zigzag varint at `at` and moves `at`; lengths and deltas fit 32 bits, timestamps are read with a multiply.
  let at = 0;
  const readInt = (): number => {
    let byte = whole[at++];
    let value = byte & 0x7f;
    for (let shift = 7; byte >= 0x80; shift += 7) {
      byte = whole[at++];
      value |= (byte & 0x7f) << shift;
    }
    return (value >>> 1) ^ -(value & 1);
  };
  const readLong = (): number => {
    let byte = whole[at++];
    let value = byte & 0x7f;
    for (let scale = 128; byte >= 0x80; scale *= 128) {
      byte = whole[at++];
      value += (byte & 0x7f) * scale;
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  };

  for (const batch of batches) {
    nextOffset = Math.max(nextOffset, batch.lastOffset + 1);
    if (batch.skip) continue;
    at = batch.recordsAt;
    for (let i = 0; i < batch.count; i++) {
      const length = readInt();
      const end = at + length;
      if (length < 0 || end > batch.recordsEnd) throw corrupt(fetched, "a record's length");
      at++; // the record's attributes are unused
      const time = readLong();
      const recordOffset = batch.baseOffset + readInt();
      const keyBytes = readInt();
      const keyStart = at;
      if (keyBytes > 0) at += keyBytes;
      const valueBytes = readInt();
      const valueStart = at;
      if (valueBytes > 0) at += valueBytes;
      if (at > end) throw corrupt(fetched, "a record's fields");
      if (recordOffset >= from) {
        offset[count] = recordOffset;
        timestamp[count] = batch.logAppendTime ? batch.maxTimestamp : batch.firstTimestamp + time;
        keyAt[count] = keyStart;
        keyLength[count] = keyBytes;
        valueAt[count] = valueStart;
        valueLength[count] = valueBytes;
        headersAt[count] = at;
        count++;
      }
      at = end;
    }
  }
  const { topic, partition, lastStableOffset } = fetched;
  return { topic, partition, count, bytes: whole, offset, timestamp, keyAt, keyLength, valueAt, valueLength, headersAt, nextOffset, lastStableOffset };
}

interface Batch {
  baseOffset: number;
  lastOffset: number;
  codec: number;
  logAppendTime: boolean;
  firstTimestamp: number;
  maxTimestamp: number;
  count: number;
  recordsAt: number;
  recordsEnd: number;
  /** A marker, or aborted. */
  skip: boolean;
}

function findBatches(bytes: Buffer, fetched: FetchedBytes): Batch[] {
  const batches: Batch[] = [];
  const pending = [...fetched.aborted].sort((a, b) => a.firstOffset - b.firstOffset);
  const aborting = new Set<bigint>();
  for (let at = 0; at + RECORDS <= bytes.length; ) {
    const end = at + LENGTH_COUNTS_FROM + bytes.readInt32BE(at + BATCH_LENGTH);
    if (end > bytes.length) break;
    if (bytes[at + MAGIC] !== 2 || end < at + RECORDS) throw corrupt(fetched, "a batch's format");
    if (crc32c(bytes.subarray(at + ATTRIBUTES, end)) !== bytes.readUInt32BE(at + CRC)) throw corrupt(fetched, "a batch's checksum");
    const attributes = bytes.readInt16BE(at + ATTRIBUTES);
    const baseOffset = Number(bytes.readBigInt64BE(at + BASE_OFFSET));
    const lastOffset = baseOffset + bytes.readInt32BE(at + LAST_OFFSET_DELTA);
    const producerId = bytes.readBigInt64BE(at + PRODUCER_ID);
    while (pending.length > 0 && pending[0].firstOffset <= lastOffset) {
      aborting.add(pending[0].producerId);
      pending.shift();
    }
    const control = (attributes & CONTROL_BIT) !== 0;
    const skip = control || ((attributes & TRANSACTIONAL_BIT) !== 0 && aborting.has(producerId));
    // A marker ends its producer's transaction; a later one of the same producer is on the list by itself if it was aborted.
    if (control) aborting.delete(producerId);
    batches.push({
      baseOffset,
      lastOffset,
      codec: attributes & CODEC_BITS,
      logAppendTime: (attributes & LOG_APPEND_TIME_BIT) !== 0,
      firstTimestamp: Number(bytes.readBigInt64BE(at + FIRST_TIMESTAMP)),
      maxTimestamp: Number(bytes.readBigInt64BE(at + MAX_TIMESTAMP)),
      count: bytes.readInt32BE(at + RECORD_COUNT),
      recordsAt: at + RECORDS,
      recordsEnd: end,
      skip,
    });
    at = end;
  }
  return batches;
}

/** One buffer with every batch's records unpacked; the batches are moved to where their records stand in it. */
function unpackAll(bytes: Buffer, batches: Batch[]): Buffer {
  const parts: Buffer[] = [];
  let length = 0;
  for (const batch of batches) {
    if (batch.skip) continue;
    const records = bytes.subarray(batch.recordsAt, batch.recordsEnd);
    const part = batch.codec === 0 ? records : unpack(batch.codec, records);
    parts.push(part);
    batch.recordsAt = length;
    length += part.length;
    batch.recordsEnd = length;
  }
  return Buffer.concat(parts, length);
}

function corrupt(fetched: FetchedBytes, what: string): FraudstreamError {
  return new FraudstreamError("batch_corrupt", `${fetched.topic}[${fetched.partition}] near offset ${fetched.from}: ${what} does not fit`);
}
