import type { FileHandle } from "node:fs/promises";
import { RequestError } from "../../../schemas/errors.js";
import { quoted } from "../values.js";

const LOCAL_HEADER = 0x04034b50;
const CENTRAL_HEADER = 0x02014b50;
const END_OF_DIRECTORY = 0x06054b50;
const END_BYTES = 22;
/** Of large archives (zip64): where their own end of the directory is, and it. */
const LOCATOR = 0x07064b50;
const LOCATOR_BYTES = 20;
const LARGE_END = 0x06064b50;
const LARGE_END_BYTES = 56;
/** The extra field with what has no room in an entry of the directory. */
const LARGE_FIELD = 1;
const ELSEWHERE = 0xffffffff;
/** Of a comment behind the directory. */
const MOST_COMMENT = 0xffff;
const MOST_DIRECTORY = 16 * 1024 * 1024;
const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED = 1;

/** Where one entry of a zip archive stands in it. */
export interface ZipEntry {
  name: string;
  /** Whether it is packed (deflate) or stands there as it is. */
  deflated: boolean;
  start: number;
  /** As it stands there. */
  bytes: number;
}

interface Listed extends Omit<ZipEntry, "start" | "deflated"> {
  method: number;
  flags: number;
  header: number;
}

export function isZip(head: Uint8Array): boolean {
  return head.length >= 4 && head[0] === 0x50 && head[1] === 0x4b && (head[2] === 3 || head[2] === 5);
}

/**
 * The one data file that a zip archive holds.
 *
 * @throws RequestError `zip_archive` with what is in it, when that is not one readable data file
 */
export async function onlyEntry(file: string, handle: FileHandle, size: number): Promise<ZipEntry> {
  const refused = (problem: string): RequestError => new RequestError("zip_archive", `${file} is ${problem}`);
  const entries = await listed(handle, size).catch((cause: unknown) => {
    if (cause instanceof RequestError) throw refused(cause.message);
    throw cause;
  });
  const files = entries.filter(({ name }) => !name.endsWith("/") && !/(^|\/)(__MACOSX\/|\.)/.test(name));
  if (files.some(({ name }) => name.startsWith("xl/")))
    throw refused("an Excel workbook: save the sheet as CSV, and take that");
  const data = files.filter(({ name }) => /\.(csv|tsv|tab|txt|psv|dat|data)(\.gz|\.zst)?$/i.test(name));
  const names = files.slice(0, 10).map(({ name }) => quoted(name));
  const inside = `${names.join(", ")}${files.length > 10 ? ` and ${files.length - 10} more` : ""}`;
  const chosen = data.length === 1 ? data[0] : files.length === 1 ? files[0] : undefined;
  if (chosen === undefined)
    throw refused(
      files.length === 0
        ? "a zip archive with nothing in it"
        : `a zip archive that holds ${inside}: unpack it, and take one CSV file of it`,
    );
  if ((chosen.flags & ENCRYPTED) !== 0)
    throw refused(`a zip archive whose ${quoted(chosen.name)} is encrypted: unpack it, and take the CSV file`);
  if (chosen.method !== STORED && chosen.method !== DEFLATED)
    throw refused(`a zip archive that packs ${quoted(chosen.name)} in a way that is not read: unpack it first`);
  const header = await bytesAt(handle, chosen.header, 30);
  if (header.length < 30 || header.readUInt32LE(0) !== LOCAL_HEADER) throw refused("a damaged zip archive");
  const start = chosen.header + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
  return { name: chosen.name, deflated: chosen.method === DEFLATED, start, bytes: chosen.bytes };
}

/** The archive's directory, which stands at its end. */
async function listed(handle: FileHandle, size: number): Promise<Listed[]> {
  const from = Math.max(0, size - LOCATOR_BYTES - END_BYTES - MOST_COMMENT);
  const tail = await bytesAt(handle, from, size - from);
  let end = tail.length - END_BYTES;
  while (end >= 0 && tail.readUInt32LE(end) !== END_OF_DIRECTORY) end--;
  if (end < 0) throw new RequestError("zip_archive", "a zip archive that was cut off: its directory is not there");
  const large = end >= LOCATOR_BYTES && tail.readUInt32LE(end - LOCATOR_BYTES) === LOCATOR;
  const { start, bytes } = large
    ? await largeEnd(handle, tail.readBigUInt64LE(end - LOCATOR_BYTES + 8))
    : { start: tail.readUInt32LE(end + 16), bytes: tail.readUInt32LE(end + 12) };
  if (bytes > MOST_DIRECTORY) throw new RequestError("zip_archive", "a zip archive of too many files: unpack it");
  const directory = await bytesAt(handle, start, bytes);
  const entries: Listed[] = [];
  for (let at = 0; at + 46 <= directory.length && directory.readUInt32LE(at) === CENTRAL_HEADER;) {
    const nameEnd = at + 46 + directory.readUInt16LE(at + 28);
    const extraEnd = nameEnd + directory.readUInt16LE(at + 30);
    entries.push({
      flags: directory.readUInt16LE(at + 8),
      method: directory.readUInt16LE(at + 10),
      ...placeOf(directory.subarray(at, at + 46), directory.subarray(nameEnd, extraEnd)),
      name: directory.toString("utf8", at + 46, nameEnd),
    });
    at = extraEnd + directory.readUInt16LE(at + 32);
  }
  return entries;
}

/** Where the directory of a large archive is. */
async function largeEnd(handle: FileHandle, at: bigint): Promise<{ start: number; bytes: number }> {
  const end = at > Number.MAX_SAFE_INTEGER ? Buffer.alloc(0) : await bytesAt(handle, Number(at), LARGE_END_BYTES);
  if (end.length < LARGE_END_BYTES || end.readUInt32LE(0) !== LARGE_END) throw damaged();
  return { start: place(end, 48), bytes: place(end, 40) };
}

/** Of an entry of the directory. What doesn't fit into its 32 bits is in the extra field, in this order. */
function placeOf(entry: Buffer, extra: Buffer): Pick<Listed, "bytes" | "header"> {
  const [unpacked, bytes, header] = [24, 20, 42].map((at) => entry.readUInt32LE(at));
  if (bytes !== ELSEWHERE && header !== ELSEWHERE) return { bytes, header };
  let field = Buffer.alloc(0);
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2))
    if (extra.readUInt16LE(at) === LARGE_FIELD) field = Buffer.from(extra.subarray(at + 4));
  let at = unpacked === ELSEWHERE ? 8 : 0;
  const next = (small: number): number => {
    if (small !== ELSEWHERE) return small;
    at += 8;
    return place(field, at - 8);
  };
  return { bytes: next(bytes), header: next(header) };
}

function place(bytes: Buffer, at: number): number {
  if (at + 8 > bytes.length) throw damaged();
  const value = bytes.readBigUInt64LE(at);
  if (value > Number.MAX_SAFE_INTEGER) throw damaged();
  return Number(value);
}

function damaged(): RequestError {
  return new RequestError("zip_archive", "a damaged zip archive");
}

async function bytesAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await handle.read(buffer, 0, length, position);
  return buffer.subarray(0, bytesRead);
}
