import type { FileHandle } from "node:fs/promises";
import { DamagedParquet } from "./damaged.js";
import { cellKindOf, type CellKind } from "./cell-kinds.js";
import { numberIn, readStruct, sizeIn, structIn, structsIn, textIn, type Struct } from "./thrift.js";

/** A column of single values. */
export interface ParquetColumn {
  name: string;
  /** Its place among all that hold values, nested ones too. */
  leaf: number;
  /** How its values are stored: a number of Parquet's `Type`. */
  type: number;
  /** Bytes of each value, where all have as many. */
  typeLength: number;
  optional: boolean;
  kind: CellKind;
}

/** A column's part of a row group. */
export interface ColumnChunk {
  start: number;
  end: number;
  codec: number;
}

export interface RowGroup {
  rows: number;
  /** By the column's `leaf`. */
  chunks: readonly ColumnChunk[];
}

export interface ParquetFooter {
  columns: ParquetColumn[];
  /** Columns that hold no single values, and what they hold. */
  leftOut: { name: string; why: string }[];
  groups: RowGroup[];
  rows: number;
  /** Of all row groups, as the file says: its pages unpacked. */
  unpackedBytes: number;
}

const MAGIC = "PAR1";
const ENDING_BYTES = 8;
/** Of the whole footer: a file of 100 columns and 1,000 row groups has 15 MB. */
const MOST_FOOTER = 32 * 1024 * 1024;
const REPEATED = 2;
const REQUIRED = 0;

/** By a file's first bytes. A text whose first column has such a name goes on with letters. */
export function isParquet(head: Buffer): boolean {
  return head.toString("latin1", 0, 4) === MAGIC && !/^[\t\n\r\x20-\x7e]{4}$/.test(head.toString("latin1", 4, 8));
}

/** @throws DamagedParquet */
export async function readFooter(handle: FileHandle, size: number): Promise<ParquetFooter> {
  const ending = await exactBytes(handle, size - ENDING_BYTES, ENDING_BYTES);
  const magic = ending.toString("latin1", 4);
  if (magic === "PARE") throw new DamagedParquet("it is encrypted");
  if (magic !== MAGIC) throw new DamagedParquet("it was cut off: its footer is not there");
  const length = ending.readUInt32LE(0);
  if (length > MOST_FOOTER || length > size - ENDING_BYTES - MAGIC.length)
    throw new DamagedParquet(`its footer is said to have ${length} bytes`);
  const read = readStruct(await exactBytes(handle, size - ENDING_BYTES - length, length));
  if (read === null) throw new DamagedParquet("its footer ends too early");
  const schema = structsIn(read.struct, 2);
  if (schema.length === 0) throw new DamagedParquet("its footer has no schema");
  const { columns, leftOut, leaves } = topColumns(schema);
  const groups = structsIn(read.struct, 4).map((group, index) => rowGroup(group, index, leaves, size));
  return {
    columns,
    leftOut,
    groups,
    rows: groups.reduce((sum, { rows }) => sum + rows, 0),
    unpackedBytes: structsIn(read.struct, 4).reduce((sum, group) => sum + unpackedBytesOf(group), 0),
  };
}

export async function exactBytes(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  if (position < 0) throw new DamagedParquet("it was cut off");
  const buffer = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled);
    if (bytesRead === 0) throw new DamagedParquet("it was cut off");
    filled += bytesRead;
  }
  return buffer;
}

/** The schema is a tree, written root first. What stands right below the root, with nothing below it, is a column. */
function topColumns(schema: readonly Struct[]): Pick<ParquetFooter, "columns" | "leftOut"> & { leaves: number } {
  const columns: ParquetColumn[] = [];
  const leftOut: ParquetFooter["leftOut"] = [];
  let leaves = 0;
  let at = 1;
  while (at < schema.length) {
    const element = schema[at];
    const name = textIn(element, 4) ?? "";
    const below = endOfTree(schema, at);
    if (below > at + 1 || (numberIn(element, 5) ?? 0) > 0) {
      for (let i = at; i < below; i++) if ((numberIn(schema[i], 5) ?? 0) === 0) leaves += 1;
      leftOut.push({ name, why: "it is nested (a struct, list or map)" });
      at = below;
      continue;
    }
    const type = sizeIn(element, 1, `the type of column ${JSON.stringify(name)}`);
    const kind = cellKindOf(element, type);
    if (numberIn(element, 3) === REPEATED) leftOut.push({ name, why: "it is nested (a list)" });
    else if (typeof kind === "string") leftOut.push({ name, why: kind });
    else {
      const typeLength = numberIn(element, 2) ?? 0;
      columns.push({ name, leaf: leaves, type, typeLength, optional: numberIn(element, 3) !== REQUIRED, kind });
    }
    leaves += 1;
    at += 1;
  }
  return { columns, leftOut, leaves };
}

/** Where the elements end that are below one. */
function endOfTree(schema: readonly Struct[], from: number): number {
  let open = 1;
  let at = from;
  for (; open > 0; at++) {
    if (at >= schema.length) throw new DamagedParquet("its schema ends too early");
    const children = numberIn(schema[at], 5) ?? 0;
    if (children < 0 || children > schema.length) throw new DamagedParquet("its schema has impossible counts");
    open += children - 1;
  }
  return at;
}

function rowGroup(group: Struct, index: number, leaves: number, size: number): RowGroup {
  const where = `row group ${index + 1}`;
  const chunks = structsIn(group, 1);
  if (chunks.length !== leaves) throw new DamagedParquet(`${where} has ${chunks.length} columns, the schema ${leaves}`);
  return {
    rows: sizeIn(group, 3, `the number of rows of ${where}`),
    chunks: chunks.map((chunk, column) => columnChunk(chunk, `column ${column + 1} of ${where}`, size)),
  };
}

function columnChunk(chunk: Struct, where: string, size: number): ColumnChunk {
  if (chunk.has(8)) throw new DamagedParquet(`${where} is encrypted`);
  if ((textIn(chunk, 1) ?? "") !== "") throw new DamagedParquet(`${where} is in another file: take one that holds all`);
  const meta = structIn(chunk, 3);
  if (meta === null) throw new DamagedParquet(`${where} has no metadata`);
  const dataAt = sizeIn(meta, 9, `the place of ${where}`);
  const dictionaryAt = numberIn(meta, 11);
  // Some writers say 0 where there is no dictionary.
  const start = dictionaryAt !== null && dictionaryAt > 0 ? Math.min(dictionaryAt, dataAt) : dataAt;
  const end = start + sizeIn(meta, 7, `the size of ${where}`);
  if (end > size - ENDING_BYTES) throw new DamagedParquet(`${where} is said to end behind the file's end`);
  return { start, end, codec: sizeIn(meta, 4, `the compression of ${where}`) };
}

/** What is too large for a number counts as no less. */
function unpackedBytesOf(group: Struct): number {
  const columns = structsIn(group, 1).map((chunk) => {
    const meta = structIn(chunk, 3);
    return meta === null ? 0 : Math.max(0, numberIn(meta, 6) ?? 0);
  });
  return Math.max(
    numberIn(group, 2) ?? 0,
    columns.reduce((sum, bytes) => sum + bytes, 0),
  );
}
