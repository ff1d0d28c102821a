import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from "node:zlib";
import { Readable } from "node:stream";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";

type Chunks = AsyncIterable<Buffer>;

/** Codings that can't be undone here. */
const UNKNOWN = /^(x-)?compress$|^(dcb|dcz|exi|pack200-gzip|snappy|lz4|lzma|xz|bzip2)$/;
const STORED = /^(x-gzip|gzip|zstd)$/;
const DECODED = /^(br|deflate)$/;

/**
 * The codings of a body that are to be undone before it is stored, the outermost first. gzip and zstd are stored as
 * they come, where nothing else is beneath them: the reader of the file recognises them by their bytes. Values that
 * some stores send and that are no coding (utf-8, aws-chunked, binary, an empty one) are ignored.
 *
 * @throws FraudstreamError `download_encoding`
 */
export function codingsOf(header: string): string[] {
  const codings = header
    .split(",")
    .map((coding) => coding.trim().toLowerCase())
    .filter((coding) => STORED.test(coding) || DECODED.test(coding) || UNKNOWN.test(coding));
  const unknown = codings.find((coding) => UNKNOWN.test(coding));
  if (unknown !== undefined)
    throw new FraudstreamError(
      "download_encoding",
      `the server sent content encoding ${unknown}; gzip or none were asked for`,
    );
  const first = codings.findIndex((coding) => DECODED.test(coding));
  // Those before the first that is undone were put on first: they stay.
  return first < 0 ? [] : codings.slice(first).reverse();
}

/** @throws FraudstreamError `download_broken` when the body is not what its encoding says */
export async function* decoded(chunks: Chunks, codings: readonly string[]): AsyncGenerator<Buffer> {
  let body = chunks;
  for (const coding of codings) body = undone(body, coding);
  yield* body;
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
