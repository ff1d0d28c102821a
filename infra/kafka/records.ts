/**
 * Records of one partition as one fetch brought them, column by column: no object a record. Positions are into `bytes`.
 * Valid until the handler that was given them has returned.
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
  /** Where the record's header count stands; read it with `readHeaders`. */
  readonly headersAt: Int32Array;
  /** Where the next fetch starts: beyond the last record and whatever was filtered (markers, aborted records). */
  readonly nextOffset: number;
  /** What a read_committed reader can see ends here. */
  readonly lastStableOffset: number;
}

/** The headers of a record; a name may stand more than once. */
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

/** Reads a zigzag varint of at most 53 bits and moves the cursor behind it. */
export function readVarint(bytes: Uint8Array, cursor: { at: number }): number {
  let value = 0;
  let scale = 1;
  for (;;) {
    const byte = bytes[cursor.at++];
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) break;
    scale *= 128;
  }
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}
