import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from "node:zlib";
import { Readable } from "node:stream";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { withoutAwsChunks } from "./aws-chunks.js";

type Chunks = AsyncIterable<Buffer>;

/** Codings that can't be undone here. */
const UNKNOWN = /^(x-)?compress$|^(dcb|dcz|exi|pack200-gzip|snappy|lz4|lzma|xz|bzip2)$/;
const STORED = /^(x-gzip|gzip|zstd)$/;
const DECODED = /^(br|deflate)$/;
const FRAMED = "aws-chunked";
/** A server that packs what is packed already makes two. More is no accident. */
const MOST_CODINGS = 3;

/**
 * The codings of a body that are to be undone before it is stored, the outermost first. gzip and zstd are stored as
 * they come, where nothing else is beneath them: the reader of the file recognises them by their bytes. The frames of
 * aws-chunked are around all others, wherever it is named. Values that some stores send and that are no coding (utf-8,
 * binary, an empty one) are ignored.
 *
 * @throws FraudstreamError `download_encoding`
 */
export function codingsOf(header: string): string[] {
  const named = header.split(",").map((coding) => coding.trim().toLowerCase());
  const framed = named.includes(FRAMED) ? [FRAMED] : [];
  const codings = named.filter((coding) => STORED.test(coding) || DECODED.test(coding) || UNKNOWN.test(coding));
  const unknown = codings.find((coding) => UNKNOWN.test(coding));
  if (unknown !== undefined)
    throw new FraudstreamError(
      "download_encoding",
      `the server sent content encoding ${unknown}; gzip or none were asked for`,
    );
  if (codings.length > MOST_CODINGS)
    throw new FraudstreamError(
      "download_encoding",
      `the server packed the file ${codings.length} times (${codings.join(", ")}); ${MOST_CODINGS} are the most`,
    );
  const first = codings.findIndex((coding) => DECODED.test(coding));
  // Those before the first that is undone were put on first: they stay.
  return [...framed, ...(first < 0 ? [] : codings.slice(first).reverse())];
}

/**
 * @param onUnpacked called for each coding with the bytes that it unpacked to so far: what one unpacks to, the next may
 *   pack up again
 * @throws FraudstreamError `download_broken` when the body is not what its encoding says
 */
export async function* decoded(
  chunks: Chunks,
  codings: readonly string[],
  onUnpacked: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  let body = chunks;
  for (const coding of codings)
    body = counted(coding === FRAMED ? withoutAwsChunks(body) : undone(body, coding), onUnpacked);
  yield* body;
}

async function* counted(chunks: Chunks, onUnpacked: (bytes: number) => void): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of chunks) {
    onUnpacked((bytes += chunk.length));
    yield chunk;
  }
}

async function* undone(chunks: Chunks, coding: string): AsyncGenerator<Buffer> {
  const iterator = chunks[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) return;
  const whole = Readable.from(
    (async function* () {
      yield first.value;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
    })(),
  );
  const decoder = decoderOf(coding, first.value);
  whole.on("error", (error) => decoder.destroy(error));
  try {
    for await (const chunk of whole.pipe(decoder)) yield chunk as Buffer;
  } catch (cause) {
    if (cause instanceof FraudstreamError) throw cause;
    throw new FraudstreamError(
      "download_broken",
      `the body is not what its encoding ${coding} says: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  } finally {
    whole.destroy();
    decoder.destroy();
  }
}

function decoderOf(coding: string, head: Buffer): ReturnType<typeof createGunzip | typeof createBrotliDecompress> {
  if (coding === "br") return createBrotliDecompress();
  if (coding !== "deflate") return createGunzip();
  // RFC 9110 means zlib's format by it; many servers send deflate without its head.
  return (head[0] & 0x0f) === 8 && head.length > 1 && head.readUInt16BE(0) % 31 === 0
    ? createInflate()
    : createInflateRaw();
}
