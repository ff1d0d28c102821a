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
  precision?: number;
  scale?: number;
  /** What Kafka Connect calls the type, such as `io.debezium.time.MicroTimestamp`. */
  "connect.name"?: string;
}

/** Bytes that end before the value does, or a length or depth that makes no sense. */
export class AvroTruncated extends Error {}

/** The weight of the tenth byte of a varint, the last that a long has; its first bit is the sign. */
const LAST_SCALE = 2 ** 62;

/**
 * Reads Avro's binary encoding (Avro 1.12 specification, "Binary Encoding") straight from a larger buffer. Reading past
 * `end` throws AvroTruncated, except for the last bytes of numbers: callers compare `at` with `end` when they are done.
 */
export class AvroCursor {
  bytes: Buffer = Buffer.alloc(0);
  at = 0;
  end = 0;
  /** Records that the value being read stands in. */
  depth = 0;
  #view = new DataView(this.bytes.buffer);

  /** Points the cursor at the part of a buffer that holds one value. */
  set(bytes: Buffer, at: number, end: number): void {
    if (bytes !== this.bytes) {
      this.bytes = bytes;
      this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    this.at = at;
    this.end = end;
    this.depth = 0;
  }

  /** A zigzag varint; exact up to 2^53, of the right sign beyond. */
  long(): number {
    const { bytes } = this;
    const first = bytes[this.at++];
    let value = (first & 0x7f) >> 1;
    for (let byte = first, scale = 64; byte >= 0x80; scale *= 128) {
      if (this.at >= this.end || scale > LAST_SCALE) throw new AvroTruncated("a number is cut off or too long");
      byte = bytes[this.at++];
      value += (byte & 0x7f) * scale;
    }
    return (first & 1) === 0 ? value : -value - 1;
  }

  /** The same, exact. */
  bigLong(): bigint {
    const { bytes } = this;
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      if (this.at >= this.end || shift > 63n) throw new AvroTruncated("a number is cut off or too long");
      const byte = bytes[this.at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return (value >> 1n) ^ -(value & 1n);
    }
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

/** Records that may stand in one another: a schema may contain itself, and the stack is finite. */
const MAX_DEPTH = 500;

export type Skip = (cursor: AvroCursor) => void;

/**
 * The named types of a schema: how to step over each, by its full name, and the namespace that a name without one is
 * in.
 */
export interface NamedTypes {
  readonly known: Map<string, Skip>;
  readonly namespace: string;
  /** The definition behind each name, and the namespace that it stands in; kept where they are asked for. */
  readonly definitions?: Map<string, { definition: AvroObject; namespace: string }>;
}

const NO_BYTES: Skip = () => {};

/**
 * A function that steps over a value of a schema. The schema's own named types are added to `named`.
 *
 * @throws TypeError for a schema that is none
 */
export function compileSkip(schema: AvroSchema, named: NamedTypes = { known: new Map(), namespace: "" }): Skip {
  if (Array.isArray(schema)) {
    const branches = schema.map((branch) => compileSkip(branch, named));
    return (cursor) => {
      const branch = branches[cursor.long()] as Skip | undefined;
      if (branch === undefined) throw new AvroTruncated("a union has no such branch");
      branch(cursor);
    };
  }
  const definition: AvroObject = typeof schema === "string" ? { type: schema } : schema;
  const { type } = definition;
  if (typeof type !== "string") return compileSkip(type, named);
  switch (type) {
    case "null":
      return NO_BYTES;
    case "boolean":
      // Looked at, too: whoever wants the value refuses what is neither 0 nor 1, and a record is the same to all
      // readers.
      return (cursor) => void cursor.boolean();
    case "int":
    case "long":
      return (cursor) => void cursor.long();
    case "float":
      return (cursor) => cursor.skip(4);
    case "double":
      return (cursor) => cursor.skip(8);
    case "string":
    case "bytes":
      return (cursor) => cursor.skip(cursor.length());
    case "enum": {
      // Looked at as booleans are.
      const count = definition.symbols?.length ?? 0;
      return remember(definition, named, (cursor) => {
        const index = cursor.long();
        if (index < 0 || index >= count) throw new AvroTruncated("an enum has no such symbol");
      });
    }
    case "fixed": {
      const size = definition.size ?? 0;
      return remember(definition, named, size === 0 ? NO_BYTES : (cursor) => cursor.skip(size));
    }
    case "array":
      return skipBlocks(compileSkip(definition.items ?? "null", named));
    case "map": {
      const value = compileSkip(definition.values ?? "null", named);
      return skipBlocks((cursor) => {
        cursor.skip(cursor.length());
        value(cursor);
      });
    }
    case "record":
    case "error":
      return skipRecord(definition, named);
    default: {
      const known = named.known.get(qualified(type, named.namespace)) ?? named.known.get(type);
      if (known === undefined) throw new TypeError(`unknown Avro type ${type}`);
      return known;
    }
  }
}

function skipRecord(definition: AvroObject, named: NamedTypes): Skip {
  const fields: Skip[] = [];
  const skip = remember(definition, named, (cursor) => {
    if (++cursor.depth > MAX_DEPTH) throw new AvroTruncated("records are nested too deeply");
    for (const field of fields) field(cursor);
    cursor.depth--;
  });
  const inside = { ...named, namespace: namespaceIn(definition, named.namespace) };
  for (const field of definition.fields ?? []) fields.push(compileSkip(field.type, inside));
  return fields.every((field) => field === NO_BYTES) ? remember(definition, named, NO_BYTES) : skip;
}

function skipBlocks(item: Skip): Skip {
  return (cursor) => {
    for (let count = cursor.long(); count !== 0; count = cursor.long()) {
      // A negative count is followed by the block's length in bytes.
      if (count < 0) cursor.skip(cursor.length());
      else if (item !== NO_BYTES) {
        // Every other item takes a byte at least: a larger count is nonsense, not work.
        if (count > cursor.end - cursor.at) throw new AvroTruncated("a list is longer than the value");
        for (let i = 0; i < count; i++) item(cursor);
      }
    }
  };
}

function remember(definition: AvroObject, named: NamedTypes, skip: Skip): Skip {
  if (definition.name !== undefined) {
    const name = qualified(definition.name, definition.namespace ?? named.namespace);
    named.known.set(name, skip);
    named.definitions?.set(name, { definition, namespace: named.namespace });
  }
  return skip;
}

/** The full name (Avro 1.12 specification, "Names"): one with a dot is full already. */
export function qualified(name: string, namespace: string): string {
  return namespace === "" || name.includes(".") ? name : `${namespace}.${name}`;
}

/** The namespace of what a named type contains. */
export function namespaceIn({ name = "", namespace }: AvroObject, enclosing: string): string {
  const dot = name.lastIndexOf(".");
  return dot >= 0 ? name.slice(0, dot) : (namespace ?? enclosing);
}
