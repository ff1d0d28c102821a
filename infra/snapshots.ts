import { open, mkdir, readdir, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { crc32c } from "@node-rs/crc32";
import { FraudstreamError, messageOf } from "../schemas/errors.js";
import type { Logger } from "./logging.js";

/** A part of a snapshot: a typed array under a name. */
export interface Section {
  readonly name: string;
  readonly data: ArrayBufferView;
}

/** Copies, which stay as they are while the originals go on changing. */
export function copySections(sections: readonly Section[]): Section[] {
  return sections.map(({ name, data }) => {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
    return { name, data: new TYPES[typeOf(data)](bytes.buffer) };
  });
}

/** Which fold of which partition a snapshot is of. All of it must be equal for a snapshot to be loaded. */
export interface SnapshotOf {
  /** The role that keeps it; a part of the file's name. */
  kind: string;
  cluster: string;
  topic: string;
  topicId: string;
  partition: number;
  /** What the fold depends on beside the log: hash of its constants and layout. */
  terms: string;
}

export interface Snapshot {
  /** Every record before this offset is in it. */
  offset: number;
  /** When it was written, epoch milliseconds. */
  at: number;
  sections: Section[];
}

type SectionType =
  | "Uint8Array"
  | "Int8Array"
  | "Uint16Array"
  | "Int16Array"
  | "Uint32Array"
  | "Int32Array"
  | "Float32Array"
  | "Float64Array"
  | "BigUint64Array"
  | "BigInt64Array";
interface Head {
  of: SnapshotOf;
  offset: number;
  at: number;
  sections: { name: string; type: SectionType; bytes: number }[];
}

const TYPES: Record<SectionType, new (buffer: ArrayBuffer) => ArrayBufferView> = {
  Uint8Array,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
  BigUint64Array,
  BigInt64Array,
};

const MAGIC = "FSSNAP";
/** Of this file's own layout. */
const FORMAT = 1;
/** Magic, format (uint16), length of the head (uint32), its checksum (uint32). */
const PREAMBLE_BYTES = 16;
/** What is read, written and checked at once: the event loop is free in between. */
const PIECE_BYTES = 4 * 1024 * 1024;
const KEPT = 2;
const ABANDONED_AFTER_MS = 600_000;

/**
 * Snapshots of folds of partitions, as files of one directory: a head that says of what, sections of numbers, CRC-32C.
 * Each is written to a temporary file, synced and renamed, so a name always belongs to a complete file; the newest two
 * are kept. They are only a cache: what doesn't fit is passed over with a warning.
 */
export class SnapshotStore {
  readonly #dir: string;
  readonly #log: Logger;

  constructor(dir: string, log: Logger) {
    this.#dir = dir;
    this.#log = log;
  }

  /** @param sections unchanged until the promise settles */
  async save(of: SnapshotOf, offset: number, sections: readonly Section[]): Promise<void> {
    await mkdir(this.#dir, { recursive: true });
    const name = `${prefixOf(of)}${offset}.snapshot`;
    const temporary = join(this.#dir, `${name}.${process.pid}.tmp`);
    try {
      const file = await open(temporary, "w");
      try {
        await write(
          file,
          {
            of,
            offset,
            at: Date.now(),
            sections: sections.map(({ name: section, data }) => ({
              name: section,
              type: typeOf(data),
              bytes: data.byteLength,
            })),
          },
          sections,
        );
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, join(this.#dir, name));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await syncDirectory(this.#dir);
    await this.#clear(of);
  }

  /**
   * What the newest snapshot holds that fits, isn't ahead of `most`, and can be restored; null: there is none.
   *
   * @param restore throws for a snapshot that it can't use
   */
  async load<T>(of: SnapshotOf, most: number, restore: (snapshot: Snapshot) => T): Promise<T | null> {
    const offsets = (await this.#names(of)).flatMap((name) => {
      const offset = /^(\d+)\.snapshot$/.exec(name.slice(prefixOf(of).length))?.[1];
      return offset === undefined ? [] : [Number(offset)];
    });
    for (const offset of offsets.sort((a, b) => b - a)) {
      const file = join(this.#dir, `${prefixOf(of)}${offset}.snapshot`);
      try {
        if (offset > most)
          throw new FraudstreamError("snapshot_ahead", `it stands at ${offset}, the partition at ${most}`);
        return restore(await read(file, of));
      } catch (error) {
        this.#log.warn(
          { snapshot: file, partition: of.partition },
          `a snapshot is passed over, more of the log is read again: ${messageOf(error)}`,
        );
      }
    }
    return null;
  }

  async #names(of: SnapshotOf): Promise<string[]> {
    const names = await readdir(this.#dir).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    });
    return names.filter((name) => name.startsWith(prefixOf(of)));
  }

  /** Removes all but the newest, and what a process left behind that ended while it wrote. */
  async #clear(of: SnapshotOf): Promise<void> {
    const files: { path: string; at: number; temporary: boolean }[] = [];
    for (const name of await this.#names(of)) {
      const path = join(this.#dir, name);
      // Another worker that shares the directory may have removed it.
      const at = await stat(path).then(
        ({ mtimeMs }) => mtimeMs,
        () => null,
      );
      if (at !== null) files.push({ path, at, temporary: name.endsWith(".tmp") });
    }
    const old = files
      .filter(({ temporary }) => !temporary)
      .sort((a, b) => b.at - a.at)
      .slice(KEPT);
    const abandoned = files.filter(({ temporary, at }) => temporary && at < Date.now() - ABANDONED_AFTER_MS);
    for (const { path } of [...old, ...abandoned]) await rm(path, { force: true });
  }
}

/** Topics' names have no slash; a partition's number ends before the dash. */
function prefixOf({ kind, topic, partition }: SnapshotOf): string {
  return `${kind}-${topic}-${partition}-`;
}

function typeOf(data: ArrayBufferView): SectionType {
  const name = data instanceof Uint8Array ? "Uint8Array" : data.constructor.name;
  if (!(name in TYPES)) throw new TypeError(`a section can't be a ${name}`);
  return name as SectionType;
}

async function write(file: FileHandle, head: Head, sections: readonly Section[]): Promise<void> {
  const text = Buffer.from(JSON.stringify(head));
  const preamble = Buffer.alloc(PREAMBLE_BYTES);
  preamble.write(MAGIC, 0, "latin1");
  preamble.writeUInt16LE(FORMAT, 6);
  preamble.writeUInt32LE(text.length, 8);
  preamble.writeUInt32LE(crc32c(text), 12);
  await writeAll(file, Buffer.concat([preamble, text]));
  let crc = 0;
  for (const { data } of sections) {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      crc = crc32c(piece, crc);
      await writeAll(file, piece);
    }
  }
  const end = Buffer.alloc(4);
  end.writeUInt32LE(crc);
  await writeAll(file, end);
}

async function writeAll(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at, bytes.length - at)).bytesWritten;
}

/** @throws FraudstreamError `snapshot_unusable` with what doesn't fit */
async function read(path: string, of: SnapshotOf): Promise<Snapshot> {
  const file = await open(path, "r");
  try {
    const preamble = await readExactly(file, Buffer.alloc(PREAMBLE_BYTES));
    if (preamble.toString("latin1", 0, MAGIC.length) !== MAGIC) throw unusable("it is no snapshot");
    const format = preamble.readUInt16LE(6);
    if (format !== FORMAT) throw unusable(`its format is ${format}, not ${FORMAT}`);
    const { size } = await file.stat();
    const headLength = preamble.readUInt32LE(8);
    if (headLength > size) throw unusable("it is cut off");
    const text = await readExactly(file, Buffer.alloc(headLength));
    if (crc32c(text) !== preamble.readUInt32LE(12)) throw unusable("its head is corrupt");
    const head = JSON.parse(text.toString()) as Head;
    for (const field of Object.keys(of) as (keyof SnapshotOf)[]) {
      if (head.of[field] !== of[field]) throw unusable(`its ${field} is ${head.of[field]}, not ${of[field]}`);
    }
    const expected = head.sections.reduce((sum, { bytes }) => sum + bytes, PREAMBLE_BYTES + headLength + 4);
    if (size !== expected) throw unusable(`it has ${size} bytes, not ${expected}`);
    const sections: Section[] = [];
    let crc = 0;
    for (const { name, type, bytes } of head.sections) {
      const buffer = new ArrayBuffer(bytes);
      for (let at = 0; at < bytes; at += PIECE_BYTES)
        crc = crc32c(await readExactly(file, Buffer.from(buffer, at, Math.min(PIECE_BYTES, bytes - at))), crc);
      sections.push({ name, data: new TYPES[type](buffer) });
    }
    if (crc !== (await readExactly(file, Buffer.alloc(4))).readUInt32LE()) throw unusable("its checksum does not fit");
    return { offset: head.offset, at: head.at, sections };
  } finally {
    await file.close();
  }
}

async function readExactly(file: FileHandle, bytes: Buffer): Promise<Buffer> {
  for (let at = 0; at < bytes.length;) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at);
    if (bytesRead === 0) throw unusable("it is cut off");
    at += bytesRead;
  }
  return bytes;
}

function unusable(reason: string): FraudstreamError {
  return new FraudstreamError("snapshot_unusable", reason);
}

/** Makes a rename last through a power cut. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
