import type { FetchedRecords } from "../../infra/kafka/records.js";

export interface TestRecord {
  value: Buffer | null;
  key?: Buffer | null;
  headers?: [name: string, value: Buffer | null][];
  timestamp?: number;
  /** Without it, one more than the record before. */
  offset?: number;
}

/** Records as a fetch would have brought them, made in memory. */
export function fetchedRecords(
  from: { topic: string; partition?: number; firstOffset?: number },
  list: readonly TestRecord[],
): FetchedRecords {
  const { topic, partition = 0, firstOffset = 0 } = from;
  const count = list.length;
  const records = {
    topic,
    partition,
    count,
    offset: new Float64Array(count),
    timestamp: new Float64Array(count),
    keyAt: new Int32Array(count),
    keyLength: new Int32Array(count),
    valueAt: new Int32Array(count),
    valueLength: new Int32Array(count),
    headersAt: new Int32Array(count),
  };
  const pieces: Buffer[] = [];
  let at = 0;
  const put = (bytes: Buffer | null): number => {
    if (bytes) pieces.push(bytes);
    at += bytes?.length ?? 0;
    return at - (bytes?.length ?? 0);
  };
  let next = firstOffset;
  for (const [index, { value, key = null, headers = [], timestamp = 0, offset = next }] of list.entries()) {
    next = offset + 1;
    records.offset[index] = offset;
    records.timestamp[index] = timestamp;
    records.keyLength[index] = key?.length ?? -1;
    records.keyAt[index] = put(key);
    records.valueLength[index] = value?.length ?? -1;
    records.valueAt[index] = put(value);
    records.headersAt[index] = put(headerBytes(headers));
  }
  return { ...records, bytes: Buffer.concat(pieces), nextOffset: next, lastStableOffset: next, highWatermark: next };
}

function headerBytes(headers: [string, Buffer | null][]): Buffer {
  const pieces = headers.flatMap(([name, value]) => [
    varint(Buffer.byteLength(name)),
    Buffer.from(name),
    varint(value?.length ?? -1),
    value ?? Buffer.alloc(0),
  ]);
  return Buffer.concat([varint(headers.length), ...pieces]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let left = value < 0 ? -2 * value - 1 : 2 * value; ; left = Math.floor(left / 128)) {
    if (left < 128) return Buffer.from([...bytes, left]);
    bytes.push((left % 128) | 0x80);
  }
}
