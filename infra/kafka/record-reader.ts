import { createHash } from "node:crypto";
import { crc32c } from "@node-rs/crc32";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { unpack } from "./compression.js";
import { siftBatch, type SiftedBatch } from "./large-batch.js";
import { headersFit, type FetchedRecords, type Unread } from "./records.js";

/** A transaction that the broker reports as aborted: records of the producer from this offset up to its marker. */
export interface AbortedTransaction {
  producerId: bigint;
  firstOffset: number;
}

export interface FetchedBytes {
  topic: string;
  partition: number;
  /** The offset that was asked for: a batch may begin earlier. */
  from: number;
  bytes: Buffer;
  aborted: AbortedTransaction[];
  lastStableOffset: number;
  /** The end of what is written. @default lastStableOffset */
  highWatermark?: number;
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
/** A record has a length, attributes, two deltas, two lengths and a count of headers. */
const SMALLEST_RECORD = 7;

/** What the batches of one fetch may unpack to in total; the rest is fetched again. */
export const MOST_UNPACKED_BYTES = 32 * 1024 * 1024;
/** How many records they may have: a record can be very small, and each has columns, and perhaps a dead letter. */
const MOST_RECORDS = 250_000;

const CODEC_BITS = 0b111;
const LOG_APPEND_TIME_BIT = 1 << 3;
const TRANSACTIONAL_BIT = 1 << 4;
const CONTROL_BIT = 1 << 5;

/**
 * Reads the record batches of a fetch response, read_committed: markers and aborted records are left out, and so is
 * everything before the requested offset. A batch that can't be read has one record in its place (`unread`), and
 * reading continues after it. A batch that is cut off at the end is left for the next fetch, and so is one that would
 * unpack to too much.
 *
 * @throws FraudstreamError `batch_too_large` if the first batch alone unpacks to too much: see `readFetched`
 */
export function readRecords(fetched: FetchedBytes): FetchedRecords {
  const { bytes, batches, large } = prepare(fetched);
  if (large !== null)
    throw new FraudstreamError(
      "batch_too_large",
      `${fetched.topic}[${fetched.partition}] at offset ${fetched.from}: the batch unpacks to more than ` +
        `${MOST_UNPACKED_BYTES} bytes`,
    );
  return collect(fetched, bytes, batches);
}

/**
 * Like `readRecords`; a first batch that unpacks to too much comes in parts, fetch by fetch, without its larger values.
 */
export async function readFetched(fetched: FetchedBytes): Promise<FetchedRecords> {
  const { bytes, batches, large } = prepare(fetched);
  if (large === null) return collect(fetched, bytes, batches);
  const packed = fetched.bytes.subarray(large.recordsAt, large.recordsEnd);
  try {
    const sifted = await siftBatch({
      ...large,
      packed,
      from: fetched.from,
      most: { records: MOST_RECORDS, bytes: MOST_UNPACKED_BYTES },
    });
    const batch = {
      ...large,
      recordsAt: 0,
      recordsEnd: sifted.records.length,
      count: sifted.count,
      lastOffset: sifted.next - 1,
    };
    return collect(fetched, sifted.records, [batch], sifted);
  } catch (error) {
    if (!(error instanceof FraudstreamError) || error.code !== "batch_corrupt") throw error;
    return collect(fetched, bytes, [{ ...large, broken: error.message }]);
  }
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
  /** The whole batch, as it was fetched. */
  raw: Buffer;
  /** Whether its checksum matches. */
  checked: boolean;
  /** Why it can't be read; null: it can, as far as has been checked. */
  broken: string | null;
}

/** The batches that are read now, and where their records are; `large`: the first batch, if that alone is too large. */
interface Prepared {
  bytes: Buffer;
  batches: Batch[];
  large: Batch | null;
}

function prepare(fetched: FetchedBytes): Prepared {
  const { bytes } = fetched;
  const batches = findBatches(bytes, fetched);
  const packed = batches.some(({ codec }) => codec !== 0);
  const parts: Buffer[] = [];
  let length = 0;
  let count = 0;
  for (const [i, batch] of batches.entries()) {
    if (batch.skip || batch.broken !== null) continue;
    const records = bytes.subarray(batch.recordsAt, batch.recordsEnd);
    const part = unpackPart(batch, records, length, count);
    if (part === "broken") continue;
    if (part === null) {
      // What comes before is read now; the next fetch begins with this one, and then it has all the room.
      if (i === 0) return { bytes, batches: [batch], large: batch };
      return { bytes: packed ? Buffer.concat(parts, length) : bytes, batches: batches.slice(0, i), large: null };
    }
    length += part.length;
    count += batch.count;
    if (!packed) continue;
    parts.push(part);
    batch.recordsAt = length - part.length;
    batch.recordsEnd = length;
  }
  return { bytes: packed ? Buffer.concat(parts, length) : bytes, batches, large: null };
}

/** The records of a batch; null if they are too many or too large in addition to those that the fetch already has. */
function unpackPart(batch: Batch, records: Buffer, length: number, count: number): Buffer | null | "broken" {
  try {
    const part = batch.codec === 0 ? records : unpack(batch.codec, records, MOST_UNPACKED_BYTES - length);
    if (part === null) return null;
    if (batch.count >= 0 && batch.count <= part.length / SMALLEST_RECORD)
      return count + batch.count > MOST_RECORDS ? null : part;
    batch.broken =
      `it claims ${batch.count} records, and its ${part.length} bytes hold ` +
      `${Math.floor(part.length / SMALLEST_RECORD)} at most`;
  } catch (error) {
    batch.broken = messageOf(error);
  }
  return "broken";
}

function collect(
  fetched: FetchedBytes,
  whole: Buffer,
  batches: Batch[],
  sifted: SiftedBatch | null = null,
): FetchedRecords {
  const { topic, partition, from, lastStableOffset, highWatermark = lastStableOffset } = fetched;
  let capacity = 0;
  for (const batch of batches) capacity += batch.skip ? 0 : batch.broken === null ? Math.max(batch.count, 1) : 1;
  const columns = newColumns(capacity);
  const unread = new Map<number, Unread>();
  let count = 0;
  let nextOffset = from;
  for (const [i, batch] of batches.entries()) {
    if (!batch.skip) {
      const behind = batch.broken === null ? readBatch(whole, batch, from, columns, count) : -1;
      if (behind >= 0) count = behind;
      else {
        batch.broken ??= "its records do not fit their lengths";
        const lastOffset = lastOffsetOf(batch, batches[i + 1], nextOffset, lastStableOffset);
        // Damaged bytes may name offsets that were passed already: those have been reported.
        if (lastOffset < nextOffset) continue;
        const first = batch.baseOffset > nextOffset && batch.baseOffset <= lastOffset ? batch.baseOffset : nextOffset;
        unread.set(count, {
          code: "batch_unreadable",
          reason: batch.broken,
          lastOffset,
          length: batch.raw.length,
          sha256: sha256(batch.raw),
        });
        putUnread(columns, count++, first, batch.maxTimestamp, whole.length);
        nextOffset = lastOffset + 1;
        continue;
      }
    }
    nextOffset = Math.max(nextOffset, batch.lastOffset + 1);
  }
  // The records of a batch read in parts are the only ones here.
  if (unread.size === 0) for (const [index, value] of sifted?.unread ?? []) unread.set(index, value);
  return {
    topic,
    partition,
    count,
    bytes: whole,
    ...columns,
    nextOffset,
    lastStableOffset,
    highWatermark,
    ...(unread.size > 0 ? { unread } : {}),
  };
}

type Columns = Pick<
  FetchedRecords,
  "offset" | "timestamp" | "keyAt" | "keyLength" | "valueAt" | "valueLength" | "headersAt"
>;

function newColumns(capacity: number): Columns {
  const positions = new Int32Array(capacity * 5);
  return {
    offset: new Float64Array(capacity),
    timestamp: new Float64Array(capacity),
    keyAt: positions.subarray(0, capacity),
    keyLength: positions.subarray(capacity, capacity * 2),
    valueAt: positions.subarray(capacity * 2, capacity * 3),
    valueLength: positions.subarray(capacity * 3, capacity * 4),
    headersAt: positions.subarray(capacity * 4, capacity * 5),
  };
}

/** No key, no value, and a header position past all bytes, where there are none. */
function putUnread(columns: Columns, index: number, offset: number, timestamp: number, end: number): void {
  columns.offset[index] = offset;
  columns.timestamp[index] = timestamp;
  columns.keyAt[index] = columns.valueAt[index] = columns.headersAt[index] = end;
  columns.keyLength[index] = columns.valueLength[index] = -1;
}

/**
 * The last offset covered by a batch that can't be read: the batch's own claim, as far as it can be true. Kafka finds
 * batches by the same numbers, so continuing after them finds the next one.
 */
function lastOffsetOf(
  batch: Batch,
  following: Batch | undefined,
  nextOffset: number,
  lastStableOffset: number,
): number {
  if (batch.checked) return batch.lastOffset;
  if (following !== undefined) return following.baseOffset - 1;
  const plausible = Math.min(batch.lastOffset, lastStableOffset > nextOffset ? lastStableOffset - 1 : batch.lastOffset);
  return Number.isSafeInteger(plausible) ? Math.max(plausible, nextOffset) : nextOffset;
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * Reads the records of a batch into the columns, from the index `start` on.
 *
 * @returns the index after the last one; -1 if a record does not fit
 */
function readBatch(whole: Buffer, batch: Batch, from: number, columns: Columns, start: number): number {
  const { offset, timestamp, keyAt, keyLength, valueAt, valueLength, headersAt } = columns;
  const { baseOffset, lastOffset, recordsEnd, logAppendTime, firstTimestamp, maxTimestamp } = batch;
  let count = start;
  // Reads a zigzag varint at `at` and moves `at`; lengths and deltas fit 32 bits, timestamps are read with a multiply.
  let at = batch.recordsAt;
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

  let previous = -1;
  for (let i = 0; i < batch.count; i++) {
    const length = readInt();
    const end = at + length;
    if (length < 0 || end > recordsEnd) return -1;
    at++; // the record's attributes are unused
    const time = readLong();
    const recordOffset = baseOffset + readInt();
    const keyBytes = readInt();
    const keyStart = at;
    if (keyBytes > 0) at += keyBytes;
    const valueBytes = readInt();
    const valueStart = at;
    if (valueBytes > 0) at += valueBytes;
    // Almost every record has no headers: their count is the last byte.
    if (
      at >= end ||
      recordOffset <= previous ||
      recordOffset > lastOffset ||
      ((whole[at] !== 0 || at + 1 !== end) && !headersFit(whole, at, end))
    )
      return -1;
    previous = recordOffset;
    if (recordOffset >= from) {
      offset[count] = recordOffset;
      timestamp[count] = logAppendTime ? maxTimestamp : firstTimestamp + time;
      keyAt[count] = keyStart;
      keyLength[count] = keyBytes;
      valueAt[count] = valueStart;
      valueLength[count] = valueBytes;
      headersAt[count] = at;
      count++;
    }
    at = end;
  }
  return at === recordsEnd ? count : -1;
}

function findBatches(bytes: Buffer, fetched: FetchedBytes): Batch[] {
  const batches: Batch[] = [];
  const pending = [...fetched.aborted].sort((a, b) => a.firstOffset - b.firstOffset);
  const aborting = new Set<bigint>();
  for (let at = 0; at + RECORDS <= bytes.length || (at === 0 && bytes.length > 0);) {
    const end =
      at + LENGTH_COUNTS_FROM + (bytes.length >= RECORDS ? bytes.readInt32BE(at + BATCH_LENGTH) : bytes.length);
    // The first batch always comes whole; a later one that doesn't is left to the next fetch.
    if (end > bytes.length && at > 0) break;
    const broken = whyBroken(bytes, at, end);
    if (broken !== null) {
      // Its length may be wrong, too: what follows is used only if it is beyond doubt a batch.
      if (batches.at(-1)?.checked === false) break;
      batches.push(brokenBatch(bytes, at, end, broken));
      if (end - at < RECORDS) break;
      at = end;
      continue;
    }
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
    // A marker ends its producer's transaction; a later one of the same producer is listed separately if it was
    // aborted.
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
      raw: bytes.subarray(at, end),
      checked: true,
      broken: null,
    });
    at = end;
  }
  return batches;
}

function whyBroken(bytes: Buffer, at: number, end: number): string | null {
  if (end > bytes.length || bytes.length - at < RECORDS) return "it is cut off";
  if (bytes[at + MAGIC] !== 2) return `its format is ${bytes[at + MAGIC]}, not 2`;
  if (end < at + RECORDS) return "its length is not valid";
  return crc32c(bytes.subarray(at + ATTRIBUTES, end)) === bytes.readUInt32BE(at + CRC)
    ? null
    : "its checksum does not match";
}

/** What can be said about a batch whose header can't be trusted. */
function brokenBatch(bytes: Buffer, at: number, end: number, broken: string): Batch {
  const raw = bytes.subarray(at, end - at >= RECORDS ? Math.min(end, bytes.length) : bytes.length);
  const headed = raw.length >= RECORDS;
  const baseOffset = headed ? Number(raw.readBigInt64BE(BASE_OFFSET)) : -1;
  // Before format 2 the offset of a compressed set is that of its last record.
  const delta = headed && raw[MAGIC] === 2 ? raw.readInt32BE(LAST_OFFSET_DELTA) : 0;
  const maxTimestamp = Date.now();
  return {
    baseOffset,
    lastOffset: baseOffset + delta,
    codec: 0,
    logAppendTime: false,
    firstTimestamp: maxTimestamp,
    maxTimestamp,
    count: 1,
    recordsAt: at,
    recordsEnd: end,
    skip: false,
    raw,
    checked: false,
    broken,
  };
}
