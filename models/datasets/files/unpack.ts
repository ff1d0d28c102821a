import { once } from "node:events";
import { createGunzip, createInflateRaw } from "node:zlib";
import { Decompress } from "fzstd";
import { RequestError, messageOf } from "../../../schemas/errors.js";
import { ZSTD_HEAD_BYTES, refuseLargeWindow } from "./zstd-head.js";

export type Chunks = AsyncIterable<Buffer>;

/** How a file is packed, by its first bytes; "plain": as it is. */
export type Packing = "plain" | "gzip" | "zstd";

const UNPACKED_CHUNK = 64 * 1024;
/** A gzip file within a gzip file comes of a server that packs what is packed already. More is no accident. */
const MOST_LAYERS = 3;

/**
 * Takes gzip and Zstandard off, as often as they were put on.
 *
 * @param onLayer called for each layer, with what it is
 * @param onInner called with the bytes so far of what is unpacked from one layer and packed by the next
 * @throws RequestError `csv_truncated`; the errors of zlib
 */
export async function* unpacked(
  chunks: Chunks,
  onLayer: (packing: Packing) => void,
  onInner: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  let layer = chunks;
  for (let layers = 0; ; layers++) {
    const { head, whole } = await peeked(layer, 4);
    layer = whole;
    const packing = packingOf(head);
    if (packing === "plain" || layers === MOST_LAYERS) break;
    onLayer(packing);
    if (layers > 0) layer = counted(layer, onInner);
    layer = packing === "gzip" ? gunzipped(layer) : unzstd(layer);
  }
  yield* layer;
}

async function* counted(chunks: Chunks, onBytes: (bytes: number) => void): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of chunks) {
    onBytes((bytes += chunk.length));
    yield chunk;
  }
}

function packingOf(head: Uint8Array): Packing {
  if (head.length >= 2 && head[0] === 0x1f && head[1] === 0x8b) return "gzip";
  if (head.length >= 4 && head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) return "zstd";
  return "plain";
}

/** The first bytes (fewer at the end of the data), and all of it with them. */
async function peeked(chunks: Chunks, bytes: number): Promise<{ head: Buffer; whole: Chunks }> {
  const iterator = chunks[Symbol.asyncIterator]();
  const read: Buffer[] = [];
  let length = 0;
  while (length < bytes) {
    const next = await iterator.next();
    if (next.done === true) break;
    read.push(next.value);
    length += next.value.length;
  }
  const head = Buffer.concat(read);
  async function* whole(): AsyncGenerator<Buffer> {
    try {
      if (head.length > 0) yield head;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
    } finally {
      await iterator.return?.();
    }
  }
  return { head, whole: whole() };
}

/**
 * Unpacks all members of gzip data, one after the other; zeros behind them, as tapes and object stores pad files, are
 * passed over. zlib's own stream ends at the first padding it meets, and aborts whoever goes on writing.
 */
async function* gunzipped(chunks: Chunks): AsyncGenerator<Buffer> {
  const iterator = chunks[Symbol.asyncIterator]();
  try {
    for (let rest: Buffer | null = await nextOf(iterator); rest !== null;) {
      const member = new Member(iterator, rest);
      yield* member.unpacked();
      rest = await member.behind();
      while (rest !== null && rest.every((byte) => byte === 0)) rest = await nextOf(iterator);
      if (rest === null) return;
      rest = rest.subarray(rest.findIndex((byte) => byte !== 0));
      if (
        packingOf(rest.length < 2 ? Buffer.concat([rest, (await nextOf(iterator)) ?? Buffer.alloc(0)]) : rest) !==
        "gzip"
      )
        throw new RequestError("csv_truncated", "data that is not gzip follows the gzip data");
    }
  } finally {
    await iterator.return?.();
  }
}

async function nextOf(iterator: AsyncIterator<Buffer>): Promise<Buffer | null> {
  const next = await iterator.next();
  return next.done === true ? null : next.value;
}

/** One run of zlib over gzip data, which tells how far it has read. */
class Member {
  readonly #iterator: AsyncIterator<Buffer>;
  readonly #gunzip = createGunzip({ chunkSize: UNPACKED_CHUNK });
  readonly #ended: Promise<unknown>;
  #last: Buffer;
  #before = 0;
  #exhausted = false;

  constructor(iterator: AsyncIterator<Buffer>, first: Buffer) {
    this.#iterator = iterator;
    this.#last = first;
    this.#ended = once(this.#gunzip, "end").catch(() => undefined);
  }

  async *unpacked(): AsyncGenerator<Buffer> {
    const feeding = this.#feed().catch((error: unknown) => {
      this.#gunzip.destroy(error instanceof Error ? error : new Error(messageOf(error)));
    });
    try {
      for await (const chunk of this.#gunzip) yield chunk as Buffer;
    } finally {
      this.#gunzip.destroy();
      await feeding;
    }
  }

  /** What follows the last byte that zlib took; null: nothing. */
  async behind(): Promise<Buffer | null> {
    const rest = this.#last.subarray(this.#gunzip.bytesWritten - this.#before);
    if (rest.length > 0) return rest;
    return this.#exhausted ? null : nextOf(this.#iterator);
  }

  async #feed(): Promise<void> {
    const gunzip = this.#gunzip;
    const closed = Promise.race([this.#ended, once(gunzip, "close").catch(() => undefined)]);
    for (;;) {
      const written = new Promise<void>((resolve) => void gunzip.write(this.#last, () => resolve()));
      await Promise.race([written, closed]);
      if (gunzip.readableEnded || gunzip.destroyed || gunzip.bytesWritten < this.#before + this.#last.length) return;
      const next = await nextOf(this.#iterator);
      if (next === null) break;
      this.#before += this.#last.length;
      this.#last = next;
    }
    this.#exhausted = true;
    gunzip.end();
  }
}

/** Bytes of one entry of a zip archive. @param packed as they stand there */
export async function* inflated(packed: Chunks): AsyncGenerator<Buffer> {
  const inflate = createInflateRaw({ chunkSize: UNPACKED_CHUNK });
  const feeding = (async () => {
    for await (const chunk of packed) {
      if (inflate.destroyed) return;
      if (!inflate.write(chunk)) await Promise.race([once(inflate, "drain"), once(inflate, "close")]);
    }
    inflate.end();
  })().catch((error: unknown) => void inflate.destroy(error instanceof Error ? error : new Error(messageOf(error))));
  try {
    for await (const chunk of inflate) yield chunk as Buffer;
  } finally {
    inflate.destroy();
    await feeding;
  }
}

async function* unzstd(chunks: Chunks): AsyncGenerator<Buffer> {
  const out: Buffer[] = [];
  const decompress = new Decompress((data) => void out.push(Buffer.from(data)));
  const push = (chunk: Uint8Array, last: boolean): void => {
    try {
      decompress.push(chunk, last);
    } catch (cause) {
      throw new RequestError("csv_truncated", `the zstd data is damaged or cut off (${messageOf(cause)})`, { cause });
    }
  };
  const { head, whole } = await peeked(chunks, ZSTD_HEAD_BYTES);
  refuseLargeWindow(head);
  for await (const chunk of whole) {
    // In pieces, so that little is held when it unpacks to much.
    for (let at = 0; at < chunk.length; at += UNPACKED_CHUNK) {
      push(Uint8Array.from(chunk.subarray(at, at + UNPACKED_CHUNK)), false);
      yield* out.splice(0);
    }
  }
  push(new Uint8Array(0), true);
  yield* out.splice(0);
}
