import { createReadStream, type ReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { RequestError, codeOf, messageOf } from "../../../schemas/errors.js";
import { DamagedParquet } from "../parquet/damaged.js";
import { isParquet, readFooter, type ParquetFooter } from "../parquet/footer.js";
import { dialectOf, parseDelimiter, type Dialect } from "./dialect.js";
import { checkEncoding, encodingOf, textOf, type Encoding } from "./encoding.js";
import { inflated, unpacked, type Chunks } from "./unpack.js";
import { isZip, onlyEntry, type ZipEntry } from "./zip.js";

/** What the user says of a file where its looks would mislead. */
export interface FormatOptions {
  /** A name of the WHATWG's encoding standard. */
  encoding?: string;
  /** comma, semicolon, tab, pipe, or the character itself. */
  delimiter?: string;
}

/** How a file is to be read. */
export interface TableFormat extends Dialect {
  encoding: Encoding;
  /** Of a zip archive. */
  entry: ZipEntry | null;
  /** Of the file as it is stored. */
  bytes: number;
  /** gzip, zstd, zip, as often as it was packed; empty: plain. */
  packing: string[];
  /** What a Parquet file says of itself; null: it is a text. */
  parquet: ParquetFooter | null;
}

/** What means nothing in a Parquet file. */
const NO_TEXT = { delimiter: ",", quote: null, skipFirstLine: false, encoding: "utf-8", entry: null, packing: [] };

/** Bytes that tell how a file is written. */
const HEAD_BYTES = 256 * 1024;
/** Of packed data within packed data that holds less than those. */
const MOST_INNER = 64 * 1024 * 1024;

/**
 * Looks at the beginning of a file: how it is packed, encoded and delimited.
 *
 * @throws RequestError `file_not_found`, `file_unreadable`, `not_csv`, `zip_archive`, `csv_truncated`,
 *   `bad_parquet`, `unknown_encoding`, `bad_delimiter`
 */
export async function formatOf(file: string, options: FormatOptions): Promise<TableFormat> {
  const { bytes, entry, parquet } = await inspect(file);
  if (parquet !== null) return { ...NO_TEXT, bytes, parquet };
  const packing: string[] = entry === null ? [] : ["zip"];
  const source = stored(file, entry);
  try {
    const onInner = (inner: number): void => {
      if (inner > MOST_INNER) throw hollow(file);
    };
    const head = await headOf(unpacked(source.chunks, (layer) => void packing.push(layer), onInner));
    refuseOther(file, head);
    const encoding = options.encoding === undefined ? encodingOf(head) : checkEncoding(options.encoding);
    if (encoding !== "utf-16le" && encoding !== "utf-16be" && head.includes(0))
      throw notCsv(file, "it holds zero bytes");
    if (encoding === "utf-8" && controlShare(head) > MOST_CONTROL) throw notCsv(file, "it is binary");
    const sample = await sampleText(head, encoding);
    const given = options.delimiter === undefined ? undefined : parseDelimiter(options.delimiter);
    return { ...dialectOf(sample, head.length < HEAD_BYTES, given), encoding, entry, bytes, packing, parquet };
  } catch (error) {
    throw explainedPacking(file, error, "at its beginning");
  } finally {
    source.stream.destroy();
  }
}

function hollow(file: string): RequestError {
  return new RequestError("csv_bomb", `${file} unpacks to packed data that holds nothing: it is taken for a bomb`);
}

/** What there is of the beginning: that the rest is damaged is said when it is read. */
async function headOf(chunks: Chunks): Promise<Buffer> {
  const read: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of chunks) {
      read.push(chunk);
      length += chunk.length;
      if (length >= HEAD_BYTES) break;
    }
  } catch (error) {
    if (length === 0) throw error;
  }
  return Buffer.concat(read);
}

/** A file that is being read. */
export interface TextSource {
  /** UTF-8, its lines ended by line feeds. */
  text: Chunks;
  /** Bytes of the file that were read. */
  bytesRead: () => number;
  stream: ReadStream;
}

/** @param onUnpacked called with the bytes of the text so far, or of what is packed within what was unpacked */
export function openText(
  file: string,
  { entry, encoding }: TableFormat,
  signal: AbortSignal | undefined,
  onUnpacked: (bytes: number) => void,
): TextSource {
  const { stream, chunks } = stored(file, entry, signal);
  const counted = async function* (): AsyncGenerator<Buffer> {
    let bytes = 0;
    for await (const chunk of unpacked(chunks, () => {}, onUnpacked)) {
      yield chunk;
      onUnpacked((bytes += chunk.length));
    }
  };
  return { text: textOf(counted(), encoding), bytesRead: () => stream.bytesRead, stream };
}

function stored(file: string, entry: ZipEntry | null, signal?: AbortSignal): { stream: ReadStream; chunks: Chunks } {
  const range = entry === null ? {} : { start: entry.start, end: entry.start + Math.max(entry.bytes, 1) - 1 };
  const stream = createReadStream(file, { highWaterMark: 256 * 1024, ...range, ...(signal && { signal }) });
  const chunks = stream as AsyncIterable<Buffer>;
  return { stream, chunks: entry?.deflated === true ? inflated(chunks) : chunks };
}

async function inspect(file: string): Promise<Pick<TableFormat, "bytes" | "entry" | "parquet">> {
  try {
    const handle = await open(file);
    try {
      const { size } = await handle.stat();
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(8), 0, 8, 0);
      const head = buffer.subarray(0, bytesRead);
      return {
        bytes: size,
        entry: isZip(head) ? await onlyEntry(file, handle, size) : null,
        parquet: isParquet(head) ? await readFooter(handle, size) : null,
      };
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (cause instanceof RequestError) throw cause;
    if (cause instanceof DamagedParquet) throw badParquet(file, cause);
    const code = codeOf(cause);
    if (code === "ENOENT") throw new RequestError("file_not_found", `${file}: there is no such file`, { cause });
    if (code === "EISDIR") throw new RequestError("file_unreadable", `${file} is a folder, not a CSV file`, { cause });
    throw new RequestError("file_unreadable", `${file} can't be read: ${messageOf(cause)}`, { cause });
  }
}

/** The head as text, for its delimiters only: a character cut in two, or a foreign byte, doesn't matter. */
async function sampleText(head: Buffer, encoding: Encoding): Promise<string> {
  if (encoding === "utf-8")
    return head
      .toString("utf8")
      .replace(/^\uFEFF/, "")
      .replace(/\r\n?/g, "\n");
  // eslint-disable-next-line @typescript-eslint/require-await -- a generator that has all at once
  const chunks = (async function* () {
    yield head.subarray(0, head.length & ~1);
  })();
  try {
    let text = "";
    for await (const chunk of textOf(chunks, encoding)) text += chunk.toString("utf8");
    return text;
  } catch {
    return new TextDecoder(encoding).decode(head).replace(/\r\n?/g, "\n");
  }
}

/** More control characters than this are no text with a stray one. */
const MOST_CONTROL = 0.01;

function controlShare(head: Buffer): number {
  let controls = 0;
  for (const byte of head) if (byte < 0x20 && (byte < 0x09 || byte > 0x0d)) controls += 1;
  return head.length === 0 ? 0 : controls / head.length;
}

/** What begins with these bytes, and what to do about it. */
const OTHERS: readonly [RegExp, string][] = [
  [/^PAR1[^\t\n\r\x20-\x7e]/, "it is a Parquet file that was packed once more: unpack it"],
  [/^PARE[^\t\n\r\x20-\x7e]/, "it is an encrypted Parquet file"],
  [/^\xd0\xcf\x11\xe0/, "it is an old Excel workbook (xls): save the sheet as CSV"],
  [/^(BZh[1-9]|\xfd7zXZ|7z\xbc\xaf|Rar!)/, "it is packed by bzip2, xz, 7z or rar: unpack it, or pack it by gzip"],
  [/^SQLite format 3/, "it is an SQLite database: export its table as CSV"],
  [/^%PDF-/, "it is a PDF document"],
  [/^(ARROW1|Obj\x01|ORC)/, "it is an Arrow, Avro or ORC file: convert it to Parquet or CSV"],
  [/^(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)/i, "it is a web page or XML"],
  [/^(\xef\xbb\xbf)?\s*[[{]\s*["{}[\]]/, "it is JSON"],
];

function refuseOther(file: string, head: Buffer): void {
  const start = head.toString("latin1", 0, 200);
  const other = OTHERS.find(([begins]) => begins.test(start));
  if (other !== undefined) throw notCsv(file, other[1]);
}

/** @param where the row group and the column, where they are known */
export function badParquet(file: string, cause: Error, where = ""): RequestError {
  return new RequestError("bad_parquet", `${file}: the Parquet file can't be read: ${where}${messageOf(cause)}`, {
    cause,
  });
}

export function notCsv(file: string, reason?: string): RequestError {
  return new RequestError(
    "not_csv",
    `${file} line 1: this is neither a CSV file (delimited text with a header, plain, gzipped or zipped) nor Parquet` +
      (reason === undefined ? "" : `: ${reason}`),
  );
}

/** zlib's errors, in words. @param where how far the reading had come */
export function explainedPacking(file: string, error: unknown, where: string): unknown {
  const code = codeOf(error);
  if (error instanceof RequestError)
    return error.code === "csv_truncated" && !error.message.startsWith(file)
      ? new RequestError("csv_truncated", `${file}: ${error.message}`, { cause: error })
      : error;
  if (code === "Z_BUF_ERROR")
    return new RequestError("csv_truncated", `${file}: the gzip data ends too early, ${where}: the file was cut off`, {
      cause: error,
    });
  if (code?.startsWith("Z_"))
    return new RequestError("csv_truncated", `${file}: the gzip data is damaged ${where} (${messageOf(error)})`, {
      cause: error,
    });
  if (code === "EIO" || code === "EACCES")
    return new RequestError("file_unreadable", `${file} can't be read: ${messageOf(error)}`, { cause: error });
  return error;
}
