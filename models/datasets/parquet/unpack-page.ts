import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { Decompress, decompress } from "fzstd";
import { RequestError, messageOf } from "../../../schemas/errors.js";
import { refuseLargeWindow, zstdContentSize } from "../files/zstd-head.js";
import { DamagedParquet } from "./damaged.js";
import { unlz4, unlz4Hadoop } from "./lz4.js";
import { unsnappy } from "./snappy.js";

/** Parquet's `CompressionCodec`. */
const CODECS: readonly ((packed: Buffer, length: number) => Buffer)[] = [
  (plain) => plain,
  unsnappy,
  (packed, length) => gunzipSync(packed, { maxOutputLength: Math.max(1, length) }),
  () => {
    throw new DamagedParquet("it is packed by LZO, which is not read: pack it by zstd, Snappy or gzip");
  },
  (packed, length) => brotliDecompressSync(packed, { maxOutputLength: Math.max(1, length) }),
  unlz4Hadoop,
  unzstd,
  unlz4,
];

/** Unpacks a page to exactly as many bytes as its header says: none unpacks to more. @throws DamagedParquet */
export function unpackPage(packed: Buffer, length: number, codec: number): Buffer {
  const unpack = CODECS.at(codec);
  if (codec >= CODECS.length || unpack === undefined)
    throw new DamagedParquet(`it is packed in the unknown way ${codec}`);
  let page: Buffer;
  try {
    // No values, no data: some writers leave out even the frame.
    page = packed.length === 0 ? packed : unpack(packed, length);
  } catch (error) {
    if (error instanceof DamagedParquet || error instanceof RequestError) throw error;
    throw new DamagedParquet(`its packed data is damaged (${messageOf(error)})`);
  }
  if (page.length !== length)
    throw new DamagedParquet(`a page of ${length} bytes unpacks to ${page.length}: it is damaged`);
  return page;
}

function unzstd(packed: Buffer, length: number): Buffer {
  refuseLargeWindow(packed);
  if (zstdContentSize(packed) === length) return Buffer.from(decompress(packed, new Uint8Array(length)).buffer);
  const parts: Buffer[] = [];
  let unpacked = 0;
  const stream = new Decompress((part) => {
    unpacked += part.length;
    if (unpacked > length) throw new DamagedParquet("a page unpacks to more than it says");
    parts.push(Buffer.from(part));
  });
  // In pieces: what a piece unpacks to is held until it is counted.
  for (let at = 0; at < packed.length; at += 4096) stream.push(Uint8Array.from(packed.subarray(at, at + 4096)), false);
  stream.push(new Uint8Array(0), true);
  return Buffer.concat(parts);
}
