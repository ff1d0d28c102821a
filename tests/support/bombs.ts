import { gzipSync } from "node:zlib";
import { crc32c } from "@node-rs/crc32";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { produce } from "../../infra/kafka/produce.js";
import { compressionsAlgorithms } from "../../infra/kafka/wire.js";

export const CODECS = { gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const;
export type Codec = keyof typeof CODECS;

const MIB = 1024 * 1024;
const MOST_REPEATED = 128 * 1024;

/** A record batch whose records are packed already: what anybody who may publish can send. */
export function packedBatch(codec: number, packed: Buffer, count: number): Buffer {
  const bytes = Buffer.alloc(61 + packed.length);
  const now = BigInt(Date.now());
  bytes.writeInt32BE(bytes.length - 12, 8);
  bytes.writeInt32BE(-1, 12);
  bytes[16] = 2;
  bytes.writeInt16BE(codec, 21);
  bytes.writeInt32BE(count - 1, 23);
  bytes.writeBigInt64BE(now, 27);
  bytes.writeBigInt64BE(now, 35);
  bytes.writeBigInt64BE(-1n, 43);
  bytes.writeInt16BE(-1, 51);
  bytes.writeInt32BE(-1, 53);
  bytes.writeInt32BE(count, 57);
  packed.copy(bytes, 61);
  bytes.writeUInt32BE(crc32c(bytes.subarray(21)), 17);
  return bytes;
}

export interface BombRecord {
  key?: Buffer | null;
  value: Buffer | { zeros: number };
}

/** Records as they stand in a batch, in pieces: a run of zeros is only a number. */
export function recordPieces(records: readonly BombRecord[]): (Buffer | { zeros: number })[] {
  return records.flatMap(({ key = null, value }, i) => {
    const length = Buffer.isBuffer(value) ? value.length : value.zeros;
    const front = Buffer.concat([
      Buffer.from([0, 0]),
      varint(i),
      key === null ? varint(-1) : Buffer.concat([varint(key.length), key]),
      varint(length),
    ]);
    return [Buffer.concat([varint(front.length + length + 1), front]), value, Buffer.from([0])];
  });
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let left = value < 0 ? -2 * value - 1 : 2 * value; ; left = Math.floor(left / 128)) {
    if (left < 128) return Buffer.from([...bytes, left]);
    bytes.push((left % 128) + 128);
  }
}

/** Packs pieces as small as the codec can, without ever holding the zeros. */
export function pack(codec: Codec, pieces: readonly (Buffer | { zeros: number })[]): Buffer {
  switch (codec) {
    case "gzip":
      return Buffer.concat(
        pieces.flatMap((piece) =>
          Buffer.isBuffer(piece) ? [gzipSync(piece)] : repeated(piece.zeros, 16 * MIB, (zeros) => gzipSync(zeros)),
        ),
      );
    case "snappy": {
      const blocks = pieces.flatMap((piece) =>
        Buffer.isBuffer(piece)
          ? [compressionsAlgorithms.snappy.compressSync(piece)]
          : repeated(piece.zeros, MIB, (zeros) => compressionsAlgorithms.snappy.compressSync(zeros)),
      );
      const head = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
      return Buffer.concat([head, ...blocks.flatMap((block) => [lengthOf(block), block])]);
    }
    case "lz4": {
      const frame = compressionsAlgorithms.lz4.compressSync(Buffer.from("x"));
      const blocksOf = (bytes: Buffer): Buffer => compressionsAlgorithms.lz4.compressSync(bytes).subarray(7, -4);
      return Buffer.concat([
        frame.subarray(0, 7),
        ...pieces.flatMap((piece) =>
          Buffer.isBuffer(piece) ? [blocksOf(piece)] : repeated(piece.zeros, 64 * 1024, blocksOf),
        ),
        Buffer.alloc(4),
      ]);
    }
    case "zstd":
      return zstd(pieces);
  }
}

function repeated(length: number, most: number, packZeros: (zeros: Buffer) => Buffer): Buffer[] {
  const whole = packZeros(Buffer.alloc(most));
  return [
    ...Array.from({ length: Math.floor(length / most) }, () => whole),
    ...(length % most > 0 ? [packZeros(Buffer.alloc(length % most))] : []),
  ];
}

function lengthOf(block: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(block.length);
  return length;
}

/** Raw blocks and blocks of one repeated byte, under a window of 1 MiB (RFC 8878). */
function zstd(pieces: readonly (Buffer | { zeros: number })[]): Buffer {
  const blocks: { type: 0 | 1; size: number; content: Buffer }[] = [];
  for (const piece of pieces) {
    const total = Buffer.isBuffer(piece) ? piece.length : piece.zeros;
    for (let at = 0; at < total; at += MOST_REPEATED) {
      const size = Math.min(MOST_REPEATED, total - at);
      blocks.push(
        Buffer.isBuffer(piece)
          ? { type: 0, size, content: piece.subarray(at, at + size) }
          : { type: 1, size, content: Buffer.alloc(1) },
      );
    }
  }
  const encoded = blocks.map(({ type, size, content }, i) => {
    const head = Buffer.alloc(3);
    head.writeUIntLE((i === blocks.length - 1 ? 1 : 0) | (type << 1) | (size << 3), 0, 3);
    return Buffer.concat([head, content]);
  });
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x50]), ...encoded]);
}

/** Sends a finished batch as any publisher can. @returns the offset of its first record */
export async function publishBatch(
  cluster: KafkaCluster,
  topic: string,
  partition: number,
  batch: Buffer,
): Promise<number> {
  const connection = await cluster.open(await cluster.leaderOf(topic, partition));
  try {
    const [offset] = await produce(connection, null, [{ topic, partition, batch }]);
    return offset;
  } finally {
    await connection.close();
  }
}
