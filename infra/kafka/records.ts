/**
 * Records of one partition as one fetch brought them, column by column, without an object per record. Positions are
 * into `bytes`. Valid until the handler that received them has returned.
 */
export interface FetchedRecords {
  readonly topic: string;
  readonly partition: number;
  /** Records; the arrays below may be longer. */
  readonly count: number;
  readonly bytes: Buffer;
  readonly offset: Float64Array;
  /** Epoch milliseconds, as the producer or the broker set it. */
  readonly timestamp: Float64Array;
  readonly keyAt: Int32Array;
  /** -1: no key. */
  readonly keyLength: Int32Array;
  readonly valueAt: Int32Array;
  /** -1: no value (a tombstone). */
  readonly valueLength: Int32Array;
  /** Position of the record's header count; read it with `readHeaders`. */
  readonly headersAt: Int32Array;
  /** Where the next fetch starts: after the last record and whatever was filtered out (markers, aborted records). */
  readonly nextOffset: number;
  /** The end of what a read_committed reader can see. */
  readonly lastStableOffset: number;
  /** The end of what is written; records from `lastStableOffset` on wait for a transaction that is still open. */
  readonly highWatermark: number;
  /** What could not be read, by the index of the record in its place, which has no value. */
  readonly unread?: ReadonlyMap<number, Unread>;
}

/** A batch that is not valid, or a value too large to be held in memory. */
export interface Unread {
  code: "batch_unreadable" | "too_large";
  reason: string;
  /** The last offset that it covers; the first one is that of the record in its place. */
  lastOffset: number;
  /** Bytes of the value, or of the batch as it is in the log. */
  length: number;
  /** Of those bytes, in hexadecimal. */
  sha256: string;
}

/** The headers of a record; a name may occur more than once. */
export function readHeaders(records: FetchedRecords, index: number): [name: string, value: Buffer | null][] {
  const cursor = { at: records.headersAt[index] };
  const { bytes } = records;
  const count = readVarint(bytes, cursor);
  const headers: [string, Buffer | null][] = [];
  for (let i = 0; i < count; i++) {
    const nameLength = readVarint(bytes, cursor);
    const name = bytes.toString("utf8", cursor.at, cursor.at + nameLength);
    cursor.at += nameLength;
    const valueLength = readVarint(bytes, cursor);
    headers.push([name, valueLength < 0 ? null : bytes.subarray(cursor.at, cursor.at + valueLength)]);
    if (valueLength > 0) cursor.at += valueLength;
  }
  return headers;
}

/** Whether headers begin at a position and end exactly at another. */
export function headersFit(bytes: Uint8Array, at: number, end: number): boolean {
  const cursor = { at };
  const count = readVarint(bytes, cursor);
  if (count < 0 || count > end - at) return false;
  for (let i = 0; i < count * 2; i++) {
    const length = readVarint(bytes, cursor);
    if (length < (i % 2 === 0 ? 0 : -1)) return false;
    if (length > 0) cursor.at += length;
    if (cursor.at > end) return false;
  }
  return cursor.at === end;
}

/** Reads a zigzag varint of at most 53 bits and moves the cursor past it. */
export function readVarint(bytes: Uint8Array, cursor: { at: number }): number {
  let value = 0;
  let scale = 1;
  for (;;) {
    const byte = bytes[cursor.at++];
    value += (byte & 0x7f) * scale;
    // Not `byte < 0x80`: past the end of the bytes there are none, and nothing to wait for.
    if (!(byte >= 0x80)) break;
    scale *= 128;
  }
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}
