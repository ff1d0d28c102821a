import { isAscii, isUtf8 } from "node:buffer";
import { RequestError } from "../../../schemas/errors.js";
import type { Chunks } from "./unpack.js";

/** What the bytes of a file's text mean. Others are named by the user, as the WHATWG's standard names them. */
export type Encoding = "utf-8" | "utf-16le" | "utf-16be" | "windows-1252" | (string & {});

/** By the first bytes: a mark, or the zeros of UTF-16's ASCII; everything else is held to be UTF-8 until it is not. */
export function encodingOf(head: Uint8Array): "utf-8" | "utf-16le" | "utf-16be" {
  if (head[0] === 0xff && head[1] === 0xfe) return "utf-16le";
  if (head[0] === 0xfe && head[1] === 0xff) return "utf-16be";
  const zeros = [0, 0];
  const pairs = Math.min(head.length, 1024) >> 1;
  for (let i = 0; i < 2 * pairs; i++) if (head[i] === 0) zeros[i % 2] += 1;
  // A table's separators, digits and line ends are ASCII in whatever language.
  if (zeros[0] === 0 && zeros[1] > pairs * 0.4) return "utf-16le";
  if (zeros[1] === 0 && zeros[0] > pairs * 0.4) return "utf-16be";
  return "utf-8";
}

/** @throws RequestError `unknown_encoding` */
export function checkEncoding(name: string): Encoding {
  try {
    return new TextDecoder(name.trim()).encoding;
  } catch (cause) {
    throw new RequestError(
      "unknown_encoding",
      `--encoding ${JSON.stringify(name)} is not known: take utf-8, windows-1252, iso-8859-15, utf-16le, shift_jis ...`,
      { cause },
    );
  }
}

/** A text's bytes that are not what they were taken for. */
export class BadBytes extends Error {
  /** Line of the first of them. */
  readonly line: number;
  /** Whether the text before them has letters beyond ASCII, and so is what it was taken for. */
  readonly proven: boolean;

  constructor(line: number, proven: boolean) {
    super(`line ${line}: bytes that are no text`);
    this.line = line;
    this.proven = proven;
  }
}

/** What Windows-1252 has where Latin-1 has control characters; 0: nothing. */
const WINDOWS_1252 = [
  0x20ac, 0, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039, 0x152, 0, 0x17d, 0, 0, 0x2018,
  0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x2dc, 0x2122, 0x161, 0x203a, 0x153, 0, 0x17e, 0x178,
];

/**
 * A text as UTF-8 without a mark, each line ended by one line feed, whether it was by CR LF, LF or CR. No byte is
 * replaced by another one: what differs in the file differs here.
 *
 * @throws BadBytes
 */
export async function* textOf(chunks: Chunks, encoding: Encoding): AsyncGenerator<Buffer> {
  const decoded = encoding === "utf-8" ? checkedUtf8(chunks) : toUtf8(chunks, encoding);
  let first = true;
  let afterCr = false;
  for await (const chunk of decoded) {
    let text = chunk;
    if (first && text[0] === 0xef && text[1] === 0xbb && text[2] === 0xbf) text = text.subarray(3);
    first = false;
    if (afterCr && text[0] === 0x0a) text = text.subarray(1);
    if (text.length === 0) continue;
    afterCr = text[text.length - 1] === 0x0d;
    yield text.includes(0x0d) ? withLineFeeds(text) : text;
  }
}

function withLineFeeds(text: Buffer): Buffer {
  const out = Buffer.allocUnsafe(text.length);
  let length = 0;
  for (let i = 0; i < text.length; i++) {
    const byte = text[i];
    if (byte !== 0x0d) out[length++] = byte;
    else if (text[i + 1] !== 0x0a) out[length++] = 0x0a;
  }
  return out.subarray(0, length);
}

/** Counts lines for messages, whatever ends them. */
class LineCount {
  lines = 0;
  #afterCr = false;

  add(bytes: Uint8Array): void {
    if (!this.#afterCr && !bytes.includes(0x0d)) {
      for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) this.lines += 1;
      return;
    }
    for (const byte of bytes) {
      if (byte === 0x0d || (byte === 0x0a && !this.#afterCr)) this.lines += 1;
      this.#afterCr = byte === 0x0d;
    }
  }
}

/** The bytes as they are, unless they are not UTF-8. Characters are not cut in two. */
async function* checkedUtf8(chunks: Chunks): AsyncGenerator<Buffer> {
  const count = new LineCount();
  let proven = false;
  let carry = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const joined = carry.length === 0 ? chunk : Buffer.concat([carry, chunk]);
    const whole = joined.subarray(0, joined.length - incomplete(joined));
    const good = isUtf8(whole) ? whole.length : goodBytes(whole);
    proven ||= !isAscii(whole.subarray(0, good));
    count.add(whole.subarray(0, good));
    if (good < whole.length) throw new BadBytes(count.lines + 1, proven);
    carry = Buffer.from(joined.subarray(whole.length));
    yield whole;
  }
  if (carry.length > 0) throw new BadBytes(count.lines + 1, proven);
}

/** How many bytes are UTF-8 before the first that are not, found by halves. */
function goodBytes(bytes: Buffer): number {
  let good = 0;
  for (let step = 2 ** Math.ceil(Math.log2(bytes.length + 1)); step >= 1; step /= 2) {
    const tried = bytes.subarray(0, good + step);
    if (tried.length === good + step && isUtf8(tried.subarray(0, tried.length - incomplete(tried)))) good += step;
  }
  return good - incomplete(bytes.subarray(0, good));
}

/** Bytes at the end that begin a character whose rest is still to come. */
function incomplete(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

async function* toUtf8(chunks: Chunks, encoding: Encoding): AsyncGenerator<Buffer> {
  const count = new LineCount();
  if (encoding === "windows-1252") {
    for await (const chunk of chunks) {
      const undefinedAt = chunk.findIndex((byte) => byte >= 0x80 && byte < 0xa0 && WINDOWS_1252[byte - 0x80] === 0);
      count.add(undefinedAt < 0 ? chunk : chunk.subarray(0, undefinedAt));
      if (undefinedAt >= 0) throw new BadBytes(count.lines + 1, false);
      const text = chunk.toString("latin1");
      yield Buffer.from(
        text.replace(/[\x80-\x9f]/g, (letter) => String.fromCharCode(WINDOWS_1252[letter.charCodeAt(0) - 0x80])),
      );
    }
    return;
  }
  const decoder = new TextDecoder(encoding, { fatal: true });
  const decode = (chunk?: Buffer): Buffer => {
    try {
      return Buffer.from(chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true }));
    } catch {
      throw new BadBytes(count.lines + 1, true);
    }
  };
  for await (const chunk of chunks) {
    const text = decode(chunk);
    count.add(text);
    yield text;
  }
  yield decode();
}
