/** An Avro schema as parsed JSON. */
export type AvroSchema = string | AvroSchema[] | AvroObject;
export interface AvroObject {
  type: AvroSchema;
  name?: string;
  namespace?: string;
  logicalType?: string;
  fields?: { name: string; type: AvroSchema; default?: unknown }[];
  symbols?: string[];
  items?: AvroSchema;
  values?: AvroSchema;
  size?: number;
}

/** Bytes that end before the value does, or a length that makes no sense. */
export class AvroTruncated extends Error {}

/**
 * Reads Avro's binary encoding (Avro 1.12 specification, "Binary Encoding") straight from a larger buffer. Reading past
 * `end` throws AvroTruncated, except for the last bytes of numbers: callers compare `at` with `end` when they are done.
 */
export class AvroCursor {
  bytes: Buffer = Buffer.alloc(0);
  at = 0;
  end = 0;
  #view = new DataView(this.bytes.buffer);

  /** Points the cursor at the part of a buffer that holds one value. */
  set(bytes: Buffer, at: number, end: number): void {
    if (bytes !== this.bytes) {
      this.bytes = bytes;
      this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    this.at = at;
    this.end = end;
  }

  /** A zigzag varint; exact up to 2^53. */
  long(): number {
    const { bytes } = this;
    let byte = bytes[this.at++];
    let value = byte & 0x7f;
    for (let scale = 128; byte >= 0x80; scale *= 128) {
      if (this.at >= this.end) throw new AvroTruncated("a number is cut off");
      byte = bytes[this.at++];
      value += (byte & 0x7f) * scale;
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  double(): number {
    const at = this.at;
    this.at = at + 8;
    if (this.at > this.end) throw new AvroTruncated("a double is cut off");
    return this.#view.getFloat64(at, true);
  }

  float(): number {
    const at = this.at;
    this.at = at + 4;
    if (this.at > this.end) throw new AvroTruncated("a float is cut off");
    return this.#view.getFloat32(at, true);
  }

  boolean(): boolean {
    const byte = this.bytes[this.at++];
    if (this.at > this.end || byte > 1) throw new AvroTruncated("a boolean is neither 0 nor 1");
    return byte === 1;
  }

  /** The length of a string or of bytes, checked; the cursor then stands at their first byte. */
  length(): number {
    const length = this.long();
    if (length < 0 || this.at + length > this.end) throw new AvroTruncated("a text is longer than the value");
    return length;
  }

  string(): string {
    const length = this.length();
    const text = this.bytes.toString("utf8", this.at, this.at + length);
    this.at += length;
    return text;
  }

  skip(count: number): void {
    this.at += count;
    if (this.at > this.end) throw new AvroTruncated("the value is cut off");
  }
}

const MAX_EMPTY_ITEMS = 1_000;

type Skip = (cursor: AvroCursor) => void;

/** A function that steps over a value of a schema. `named` are the record, enum and fixed types seen so far. */
export function compileSkip(schema: AvroSchema, named: Map<string, AvroObject> = new Map()): Skip {
  if (Array.isArray(schema)) {
    const branches = schema.map((branch) => compileSkip(branch, named));
    return (cursor) => {
      const branch = branches[cursor.long()] as Skip | undefined;
      if (branch === undefined) throw new AvroTruncated("a union has no such branch");
      branch(cursor);
    };
  }
  const definition = typeof schema === "string" ? named.get(schema) : schema;
  const type = definition === undefined ? schema : definition.type;
  if (typeof type !== "string") return compileSkip(type, named);
  switch (type) {
    case "null":
      return () => {};
    case "boolean":
      return (cursor) => cursor.skip(1);
    case "int":
    case "long":
    case "enum":
      remember(definition, named);
      return (cursor) => void cursor.long();
    case "float":
      return (cursor) => cursor.skip(4);
    case "double":
      return (cursor) => cursor.skip(8);
    case "string":
    case "bytes":
      return (cursor) => cursor.skip(cursor.length());
    case "fixed": {
      remember(definition, named);
      const size = definition?.size ?? 0;
      return (cursor) => cursor.skip(size);
    }
    case "array":
      return skipBlocks(compileSkip(definition?.items ?? "null", named));
    case "map": {
      const value = compileSkip(definition?.values ?? "null", named);
      return skipBlocks((cursor) => {
        cursor.skip(cursor.length());
        value(cursor);
      });
    }
    case "record": {
      remember(definition, named);
      // A record may contain itself: its fields are compiled when they are first met.
      let fields: Skip[] | null = null;
      return (cursor) => {
        fields ??= (definition?.fields ?? []).map((field) => compileSkip(field.type, named));
        for (const field of fields) field(cursor);
      };
    }
    default:
      throw new Error(`unknown Avro type ${type}`);
  }
}

function skipBlocks(item: Skip): Skip {
  return (cursor) => {
    for (let count = cursor.long(); count !== 0; count = cursor.long()) {
      // A negative count is followed by the block's length in bytes.
      if (count < 0) {
        cursor.skip(cursor.length());
        continue;
      }
      // An item takes a byte at least (but for nulls, of which nobody sends many): a larger count is nonsense, not work.
      if (count > cursor.end - cursor.at + MAX_EMPTY_ITEMS) throw new AvroTruncated("a list is longer than the value");
      for (let i = 0; i < count; i++) item(cursor);
    }
  };
}

function remember(definition: AvroObject | undefined, named: Map<string, AvroObject>): void {
  if (definition?.name === undefined) return;
  named.set(definition.name, definition);
  if (definition.namespace !== undefined) named.set(`${definition.namespace}.${definition.name}`, definition);
}
