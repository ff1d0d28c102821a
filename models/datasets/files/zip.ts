import type { FileHandle } from "node:fs/promises";
import { RequestError } from "../../../schemas/errors.js";
import { quoted } from "../values.js";

const LOCAL_HEADER = 0x04034b50;
const CENTRAL_HEADER = 0x02014b50;
const END_OF_DIRECTORY = 0x06054b50;
const END_BYTES = 22;
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
  const from = Math.max(0, size - END_BYTES - MOST_COMMENT);
  const tail = await bytesAt(handle, from, size - from);
  let end = tail.length - END_BYTES;
  while (end >= 0 && tail.readUInt32LE(end) !== END_OF_DIRECTORY) end--;
  if (end < 0) throw new RequestError("zip_archive", "a zip archive that was cut off: its directory is not there");
  const count = tail.readUInt16LE(end + 10);
  const bytes = tail.readUInt32LE(end + 12);
  const start = tail.readUInt32LE(end + 16);
  if (count === 0xffff || start === 0xffffffff || bytes > MOST_DIRECTORY)
    throw new RequestError("zip_archive", "a zip archive of the large kind (zip64): unpack it, and take the CSV file");
  const directory = await bytesAt(handle, start, bytes);
  const entries: Listed[] = [];
  for (let at = 0; at + 46 <= directory.length && directory.readUInt32LE(at) === CENTRAL_HEADER;) {
    const nameEnd = at + 46 + directory.readUInt16LE(at + 28);
    entries.push({
      flags: directory.readUInt16LE(at + 8),
      method: directory.readUInt16LE(at + 10),
      bytes: directory.readUInt32LE(at + 20),
      header: directory.readUInt32LE(at + 42),
      name: directory.toString("utf8", at + 46, nameEnd),
    });
    at = nameEnd + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  if (entries.some((entry) => entry.bytes === 0xffffffff || entry.header === 0xffffffff))
    throw new RequestError("zip_archive", "a zip archive of the large kind (zip64): unpack it, and take the CSV file");
  return entries;
}

async function bytesAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await handle.read(buffer, 0, length, position);
  return buffer.subarray(0, bytesRead);
}
