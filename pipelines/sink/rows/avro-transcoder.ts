import avro from "avsc";
import { RowBinaryWriter } from "../../../infra/clickhouse/row-binary.js";
import { TIME_RANGE } from "../../../infra/clickhouse/tables.js";
import {
  AvroCursor,
  AvroTruncated,
  compileSkip,
  namespaceIn,
  type AvroObject,
  type AvroSchema,
} from "../../../schemas/avro-cursor.js";
import { encodingOf } from "./avro-types.js";
import type { Refusal } from "./row-mapper.js";

/** How to skip a field of the writer. */
const enum Step {
  Fixed,
  Varint,
  Text,
  Floats,
  Other,
}
/** How a column is written. */
const enum Column {
  Text,
  Long,
  Int,
  Millis,
  Double,
  Float,
  Boolean,
  Symbol,
  Floats,
  Pairs,
  Default,
}

/** A record schema of ours. */
export interface ReaderSchema {
  readonly type: "record";
  readonly name: string;
  readonly fields: readonly ReaderField[];
}

interface ReaderField {
  readonly name: string;
  readonly type: unknown;
  readonly default?: unknown;
}

const MALFORMED: Refusal = { code: "malformed_avro", reason: "the bytes are not what their schema says" };

/**
 * Writes Avro records of one writer schema as RowBinary columns, one per field of the reader schema and in its order,
 * without creating an object per record: it first notes the position of each field, then copies. Avro's text, float and
 * double are the same as RowBinary's, except for the length before a text.
 *
 * Column types: string → String, long → Int64 or UInt64, timestamp-millis → DateTime64(3), int → Int32 or UInt32,
 * double → Float64, float → Float32, boolean → Bool, enum → String, array of float → Array(Float32), null or array of
 * {string, double} → Array(Tuple(String, Float64)) where null is empty.
 */
export class AvroTranscoder {
  readonly #steps: Uint8Array;
  readonly #sizes: Int32Array;
  readonly #skips: ((cursor: AvroCursor) => void)[];
  readonly #cursor = new AvroCursor();
  /** Where each field of the current record begins (a text: its first byte), and how long a text or list is. */
  readonly #at: Int32Array;
  readonly #length: Int32Array;

  readonly #columns: Uint8Array;
  /** The writer's field of each column. */
  readonly #source: Int32Array;
  readonly #symbols: Buffer[][];
  readonly #arrayBranch: Int8Array;
  readonly #defaults: Buffer[];
  /** By how much the row can be longer than the record. */
  readonly #margin: number;
  /** Turns records of a writer whose types differ (promotions, unions) into the reader's own encoding first. */
  readonly #resolve: ((bytes: Buffer) => Buffer) | null;

  /** @throws TypeError when records of the writer's schema can't be read as the reader's */
  constructor(writer: unknown, reader: ReaderSchema) {
    const ours = fieldsOf(reader);
    let theirs = fieldsOf(writer);
    const wanted = new Map(ours.map((field) => [field.name, field.encoding]));
    const asIs = theirs.every((field) => (wanted.get(field.name) ?? field.encoding) === field.encoding);
    this.#resolve = asIs ? null : resolver(writer, reader);
    if (!asIs) theirs = ours;

    this.#at = new Int32Array(theirs.length);
    this.#length = new Int32Array(theirs.length);
    this.#steps = Uint8Array.from(theirs, (field) => stepOf(field.encoding));
    this.#sizes = Int32Array.from(theirs, (field) => FIXED_SIZES.get(field.encoding) ?? 0);
    const named = { known: new Map(), namespace: namespaceIn(writer as AvroObject, "") };
    this.#skips = theirs.map((field) => compileSkip(field.type, named));

    const indexOf = new Map(theirs.map((field, index) => [field.name, index]));
    this.#source = Int32Array.from(ours, (field) => indexOf.get(field.name) ?? -1);
    const sources = ours.map((field) => theirs[indexOf.get(field.name) ?? -1] as Field | undefined);
    this.#columns = Uint8Array.from(ours, (field, i) => (sources[i] ? columnOf(field) : Column.Default));
    this.#symbols = sources.map((field) => symbolsOf(field?.type).map(textBytes));
    this.#arrayBranch = Int8Array.from(sources, (field) =>
      Array.isArray(field?.type) ? field.type.findIndex((branch) => branch !== "null") : -1,
    );
    this.#defaults = reader.fields.map((field, i) => (sources[i] ? NOTHING : defaultOf(field)));
    const longest = [...this.#defaults, ...this.#symbols.flat()].reduce((total, bytes) => total + bytes.length, 0);
    this.#margin = 16 * ours.length + longest;
  }

  /** Appends the columns of the record in bytes `at` to `end`; after a refusal, what was appended has no meaning. */
  write(bytes: Buffer, at: number, end: number, out: RowBinaryWriter): Refusal | null {
    try {
      if (this.#resolve) {
        bytes = this.#resolve(bytes.subarray(at, end));
        at = 0;
        end = bytes.length;
      }
      if (!this.#locate(bytes, at, end)) return MALFORMED;
      out.reserve(end - at + this.#margin);
      return this.#copy(bytes, end, out);
    } catch (error) {
      if (error instanceof AvroTruncated) return MALFORMED;
      throw error;
    }
  }

  #locate(bytes: Buffer, pos: number, end: number): boolean {
    const starts = this.#at;
    const lengths = this.#length;
    const steps = this.#steps;
    for (let i = 0; i < steps.length; i++) {
      starts[i] = pos;
      switch (steps[i] as Step) {
        case Step.Fixed:
          pos += this.#sizes[i];
          break;
        case Step.Varint:
          readLong(bytes, pos);
          pos = longEnd;
          break;
        case Step.Text: {
          const size = readLong(bytes, pos);
          if (size < 0 || size > end) return false;
          starts[i] = longEnd;
          lengths[i] = size;
          pos = longEnd + size;
          break;
        }
        case Step.Floats: {
          // Nearly always one block: then its items are one run of bytes. -1 marks the others.
          const count = readLong(bytes, pos);
          const items = longEnd;
          if (count > 0 && count <= (end - items) / 4 && bytes[items + count * 4] === 0) {
            starts[i] = items;
            lengths[i] = count;
            pos = items + count * 4 + 1;
          } else {
            lengths[i] = -1;
            pos = this.#skip(i, bytes, pos, end);
          }
          break;
        }
        case Step.Other:
          pos = this.#skip(i, bytes, pos, end);
      }
      if (pos > end) return false;
    }
    return pos === end;
  }

  #skip(field: number, bytes: Buffer, at: number, end: number): number {
    this.#cursor.set(bytes, at, end);
    this.#skips[field](this.#cursor);
    return this.#cursor.at;
  }

  #copy(bytes: Buffer, end: number, out: RowBinaryWriter): Refusal | null {
    const columns = this.#columns;
    for (let c = 0; c < columns.length; c++) {
      const field = this.#source[c];
      const at = this.#at[field];
      switch (columns[c] as Column) {
        case Column.Text:
          out.blob(bytes, at, this.#length[field]);
          break;
        case Column.Millis: {
          const time = readLong(bytes, at);
          if (time < TIME_RANGE.least || time > TIME_RANGE.most)
            return { code: "bad_time", reason: "a time is before 1970 or after 2299" };
          out.int64(time);
          break;
        }
        case Column.Long: {
          const value = readLong(bytes, at);
          if (!Number.isSafeInteger(value)) return MALFORMED;
          out.int64(value);
          break;
        }
        case Column.Int: {
          const value = readLong(bytes, at);
          if (value !== (value | 0)) return MALFORMED;
          out.int32(value);
          break;
        }
        case Column.Double:
          out.raw(bytes, at, 8);
          break;
        case Column.Float:
          out.raw(bytes, at, 4);
          break;
        case Column.Boolean:
          out.byte(bytes[at] === 0 ? 0 : 1);
          break;
        case Column.Symbol: {
          const symbol = this.#symbols[c][readLong(bytes, at)];
          if (symbol === undefined) return MALFORMED;
          out.raw(symbol, 0, symbol.length);
          break;
        }
        case Column.Floats:
          if (this.#length[field] < 0) this.#copyFloats(bytes, at, end, out);
          else {
            out.count(this.#length[field]);
            out.raw(bytes, at, this.#length[field] * 4);
          }
          break;
        case Column.Pairs:
          this.#copyPairs(bytes, at, end, this.#arrayBranch[c], out);
          break;
        case Column.Default:
          out.raw(this.#defaults[c], 0, this.#defaults[c].length);
      }
    }
    return null;
  }

  /** An array of floats in any number of blocks. */
  #copyFloats(bytes: Buffer, at: number, end: number, out: RowBinaryWriter): void {
    const cursor = this.#cursor;
    cursor.set(bytes, at, end);
    const runs: { at: number; size: number }[] = [];
    for (let count = blockCount(cursor); count !== 0; count = blockCount(cursor)) {
      runs.push({ at: cursor.at, size: count * 4 });
      cursor.skip(count * 4);
    }
    out.count(runs.reduce((total, run) => total + run.size / 4, 0));
    for (const run of runs) out.raw(bytes, run.at, run.size);
  }

  /** Null or an array of {text, double}; `branch` is the array's place in the union, -1 where there is no union. */
  #copyPairs(bytes: Buffer, at: number, end: number, branch: number, out: RowBinaryWriter): void {
    const cursor = this.#cursor;
    cursor.set(bytes, at, end);
    if (branch >= 0 && cursor.long() !== branch) return out.count(0);
    const pairs: { at: number; size: number }[] = [];
    for (let count = blockCount(cursor); count !== 0; count = blockCount(cursor)) {
      for (; count > 0; count--) {
        const size = cursor.length();
        pairs.push({ at: cursor.at, size });
        cursor.skip(size + 8);
      }
    }
    out.count(pairs.length);
    for (const pair of pairs) {
      out.blob(bytes, pair.at, pair.size);
      out.raw(bytes, pair.at + pair.size, 8);
    }
  }
}

/**
 * The items of a list's next block; a negative count is followed by the block's size in bytes, which is not needed
 * here.
 */
function blockCount(cursor: AvroCursor): number {
  const count = cursor.long();
  if (count < 0) cursor.long();
  return Math.abs(count);
}

interface Field {
  name: string;
  type: AvroSchema;
  encoding: string;
}

function fieldsOf(schema: unknown): Field[] {
  const record = schema as AvroObject;
  // Throws for an invalid schema; the names that it notes let a field refer to the type of one before it.
  const named = new Map<string, AvroObject>();
  if (!encodingOf(record, named).startsWith("{")) throw new TypeError("the schema is not a record");
  return (record.fields ?? []).map(({ name, type }) => ({
    name,
    type: definitionOf(type, named),
    encoding: encodingOf(type, named),
  }));
}

/** A type that is given by name only, written out. */
function definitionOf(type: AvroSchema, named: Map<string, AvroObject>): AvroSchema {
  return typeof type === "string" ? (named.get(type) ?? type) : type;
}

const FIXED_SIZES = new Map([
  ["boolean", 1],
  ["float", 4],
  ["double", 8],
]);
const PAIRS = /^(\(null\|)?\[\{\w+:text,\w+:double\}\](\|null)?\)?$/;
const NOTHING = Buffer.alloc(0);

function stepOf(encoding: string): Step {
  if (FIXED_SIZES.has(encoding)) return Step.Fixed;
  if (encoding === "long" || encoding === "enum") return Step.Varint;
  if (encoding === "text") return Step.Text;
  return encoding === "[float]" ? Step.Floats : Step.Other;
}

function columnOf({ name, type, encoding }: Field): Column {
  const logicalType = typeof type === "object" && "logicalType" in type ? type.logicalType : null;
  switch (encoding) {
    case "text":
      return Column.Text;
    case "enum":
      return Column.Symbol;
    case "double":
      return Column.Double;
    case "float":
      return Column.Float;
    case "boolean":
      return Column.Boolean;
    case "[float]":
      return Column.Floats;
    case "long":
      return logicalType === "timestamp-millis" ? Column.Millis : type === "int" ? Column.Int : Column.Long;
    default:
      if (PAIRS.test(encoding)) return Column.Pairs;
      throw new TypeError(`no column is known for the field ${name}`);
  }
}

function symbolsOf(type: AvroSchema | undefined): string[] {
  return typeof type === "object" && !Array.isArray(type) && type.type === "enum" ? (type.symbols ?? []) : [];
}

/** A reader's default, as the column's bytes. */
function defaultOf(field: ReaderField): Buffer {
  if (!("default" in field)) throw new TypeError(`the writer's schema lacks the field ${field.name}`);
  const alone = { type: "record" as const, name: "Alone", fields: [{ name: field.name, type: field.type }] };
  const bytes = avro.Type.forSchema(alone as never).toBuffer({ [field.name]: field.default });
  const out = new RowBinaryWriter(256);
  const refusal = new AvroTranscoder(alone, alone).write(bytes, 0, bytes.length, out);
  if (refusal) throw new TypeError(`the default of the field ${field.name} can't be stored`);
  return Buffer.from(out.written());
}

function textBytes(text: string): Buffer {
  const out = new RowBinaryWriter(64);
  out.text(text);
  return Buffer.from(out.written());
}

/** Avro's schema resolution by avsc: slow, and only for a writer whose types differ from the reader's. */
function resolver(writer: unknown, reader: ReaderSchema): (bytes: Buffer) => Buffer {
  const { name, namespace } = reader as AvroObject;
  try {
    const readerType = avro.Type.forSchema(reader as never);
    // The name of a record matters only to avsc.
    const resolution = readerType.createResolver(
      avro.Type.forSchema({ ...(writer as object), name, namespace } as never),
    );
    return (bytes) => {
      try {
        return readerType.toBuffer(readerType.fromBuffer(bytes, resolution));
      } catch {
        throw new AvroTruncated("the bytes do not resolve");
      }
    };
  } catch (cause) {
    throw new TypeError("the writer's schema does not resolve to ours", { cause });
  }
}

/** Where the last `readLong` ended. */
let longEnd = 0;

/**
 * A zigzag varint; exact up to 53 bits, and out of all bounds beyond. May read a little past its bytes, but never far.
 */
function readLong(bytes: Buffer, at: number): number {
  let byte = bytes[at++];
  if (byte < 0x80) {
    longEnd = at;
    return (byte >>> 1) ^ -(byte & 1);
  }
  let value = byte & 0x7f;
  let scale = 128;
  do {
    // Undefined past the end of the buffer, which ends the number.
    byte = bytes[at++];
    value += (byte & 0x7f) * scale;
    scale *= 128;
  } while (byte >= 0x80 && scale < 2 ** 77);
  longEnd = at;
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}
