import { crc32c } from "@node-rs/crc32";

interface HandMadeRecord {
  key?: Buffer | null;
  value?: Buffer | null;
  headers?: [name: string, value: Buffer | null][];
  /** From the batch's first; records of a compacted batch have gaps. */
  offsetDelta?: number;
  timestampDelta?: number;
}

export interface HandMadeBatch {
  baseOffset?: number;
  records?: HandMadeRecord[];
  lastOffsetDelta?: number;
  firstTimestamp?: number;
  maxTimestamp?: number;
  producerId?: bigint;
  transactional?: boolean;
  /** The marker that ends a transaction. */
  marker?: "commit" | "abort";
  logAppendTime?: boolean;
  codec?: number;
  pack?: (records: Buffer) => Buffer;
}

/** A record batch of format 2, field by field as the protocol guide has them, by other means than the builder's. */
export function handMadeBatch(batch: HandMadeBatch): Buffer {
  const {
    baseOffset = 0,
    firstTimestamp = 1_000,
    producerId = -1n,
    transactional = false,
    marker,
    logAppendTime = false,
    codec = 0,
  } = batch;
  const list =
    marker === undefined
      ? (batch.records ?? [])
      : [{ key: Buffer.from([0, 0, 0, marker === "commit" ? 1 : 0]), value: Buffer.from([0, 0, 0, 0, 0, 0]) }];
  const records = Buffer.concat(list.map(recordBytes));
  const packed = batch.pack === undefined ? records : batch.pack(records);
  const bytes = Buffer.alloc(61 + packed.length);
  bytes.writeBigInt64BE(BigInt(baseOffset), 0);
  bytes.writeInt32BE(bytes.length - 12, 8);
  bytes.writeInt32BE(3, 12);
  bytes.writeInt8(2, 16);
  bytes.writeInt16BE(
    codec |
      (logAppendTime ? 8 : 0) |
      (transactional || marker !== undefined ? 16 : 0) |
      (marker === undefined ? 0 : 32),
    21,
  );
  bytes.writeInt32BE(batch.lastOffsetDelta ?? list.length - 1, 23);
  bytes.writeBigInt64BE(BigInt(firstTimestamp), 27);
  bytes.writeBigInt64BE(BigInt(batch.maxTimestamp ?? firstTimestamp), 35);
  bytes.writeBigInt64BE(producerId, 43);
  bytes.writeInt16BE(0, 51);
  bytes.writeInt32BE(0, 53);
  bytes.writeInt32BE(list.length, 57);
  packed.copy(bytes, 61);
  bytes.writeUInt32BE(crc32c(bytes.subarray(21)), 17);
  return bytes;
}

function recordBytes(
  { key = null, value = null, headers = [], offsetDelta, timestampDelta = 0 }: HandMadeRecord,
  index: number,
): Buffer {
  const text = (bytes: Buffer | null): Buffer =>
    bytes === null ? varint(-1n) : Buffer.concat([varint(BigInt(bytes.length)), bytes]);
  const pairs = headers.flatMap(([name, content]) => [text(Buffer.from(name)), text(content)]);
  const body = Buffer.concat([
    Buffer.from([0]),
    varint(BigInt(timestampDelta)),
    varint(BigInt(offsetDelta ?? index)),
    text(key),
    text(value),
    varint(BigInt(headers.length)),
    ...pairs,
  ]);
  return Buffer.concat([varint(BigInt(body.length)), body]);
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  for (let left = value < 0n ? -2n * value - 1n : 2n * value; ; left >>= 7n) {
    if (left < 128n) return Buffer.from([...bytes, Number(left)]);
    bytes.push(Number(left & 127n) | 128);
  }
}
