import { AvroCursor, AvroTruncated, type AvroSchema } from "./avro-cursor.js";
import type { AttributeTarget, Unreadable } from "./avro-attributes.js";
import { compileAvro, type Op } from "./compile-avro.js";
import { ProtobufRecords } from "./compile-protobuf.js";
import { messageOf } from "./errors.js";
import type { JsonHint } from "./json-hints.js";
import { PLAIN_SHAPE, type RecordShape } from "./record-shape.js";
import type { RecordFields, RecordSpec } from "./record-spec.js";
import { TransactionRejected } from "./transaction-rejected.js";
import { WIRE_HEAD_BYTES, schemaIdOf, type SchemaKey } from "./wire-format.js";
import {
  JsonSchemaWriter,
  ProtobufWriter,
  UnavailableWriter,
  UnreadableWriter,
  type WriterSchema,
} from "./writer-schema.js";

export interface RecordReaderOptions<F> {
  spec: RecordSpec<F>;
  /** Our own schema of these records. */
  canonical: AvroSchema;
  /** A JSON record in our own schema's encoding. */
  parseJson: (bytes: Buffer, shape: RecordShape, hints: JsonHint | null) => Buffer;
  shape: RecordShape;
  target: AttributeTarget;
}

/** How the records of one writer schema are read: in Avro, JSON or Protocol Buffers, or not at all; one is there. */
interface Writer<F extends RecordFields> {
  ops: Op<F>[] | null;
  hints: JsonHint | null;
  protobuf: ProtobufRecords<F> | null;
  rejected: TransactionRejected | null;
}

const UNAVAILABLE = "schema_unavailable";

/** Nothing is there. */
const NO_WRITER = { ops: null, hints: null, protobuf: null, rejected: null };

/**
 * Reads records of any writer schema that has a kind of record's fields, in Avro, JSON or Protocol Buffers. Compiled
 * readers are kept by the schema's id. What doesn't depend on a record is worked out when its schema is learnt.
 */
export class RecordReader<F extends RecordFields> {
  readonly #options: RecordReaderOptions<F>;
  readonly #writers = new Map<SchemaKey, Writer<F>>();
  readonly #canonical: Op<F>[];
  readonly #cursor = new AvroCursor();
  readonly #target: AttributeTarget;

  constructor(options: RecordReaderOptions<F>) {
    this.#options = options;
    this.#target = options.target;
    this.#canonical = compileAvro(options.canonical, options.spec, PLAIN_SHAPE, options.target).ops;
  }

  /** Whether records of this schema can be read, or rejected, at once. */
  knows(key: SchemaKey): boolean {
    return this.#writers.has(key);
  }

  /**
   * Makes a writer schema known; null: there is no such schema, and its records will be rejected.
   *
   * @returns the attributes that the target asks for and that can't be read
   */
  learn(key: SchemaKey, schema: WriterSchema | null): readonly Unreadable[] {
    const { spec, shape, target } = this.#options;
    if (schema === null) {
      this.#writers.set(key, {
        ...NO_WRITER,
        rejected: new TransactionRejected("unknown_schema", `no schema has the id ${key}`),
      });
      return [];
    }
    try {
      if (schema instanceof UnavailableWriter) throw new TransactionRejected(UNAVAILABLE, schema.reason);
      if (schema instanceof UnreadableWriter) throw new TransactionRejected("unsupported_schema", schema.reason);
      if (schema instanceof JsonSchemaWriter) {
        this.#writers.set(key, { ...NO_WRITER, hints: schema.hints });
        return [];
      }
      if (schema instanceof ProtobufWriter) {
        const protobuf = new ProtobufRecords(schema.file, { spec, shape, target });
        this.#writers.set(key, { ...NO_WRITER, protobuf });
        return protobuf.unreadable(key);
      }
      const { ops, unreadable } = compileAvro(schema, spec, shape, target);
      this.#writers.set(key, { ...NO_WRITER, ops });
      return unreadable;
    } catch (error) {
      const code = error instanceof TransactionRejected ? error.code : "schema_mismatch";
      this.#writers.set(key, {
        ...NO_WRITER,
        rejected: new TransactionRejected(code, `schema ${key}: ${messageOf(error)}`),
      });
      return [];
    }
  }

  /** Forgets which schemas are unknown or were not given, so that what was registered since is found. */
  forgetUnknown(): void {
    for (const [key, { rejected }] of this.#writers)
      if (rejected?.code === "unknown_schema" || rejected?.code === UNAVAILABLE) this.#writers.delete(key);
  }

  /**
   * Reads one value into `fields`.
   *
   * @param key the writer's schema where a header names it and the value has no head; null: the value tells
   * @throws TransactionRejected
   */
  read(bytes: Buffer, at: number, length: number, fields: F, key: SchemaKey | null = null): void {
    if (length <= 0)
      throw new TransactionRejected(
        "empty_value",
        length < 0 ? "the record has no value, as a tombstone of a deleted row" : "the record's value is empty",
      );
    const { shape, parseJson } = this.#options;
    const end = at + length;
    // The wire format's first byte is none that JSON may begin with.
    if (key === null && bytes[at] !== MAGIC) {
      const from = jsonStart(bytes, at, end);
      if (bytes[from] === OPEN_BRACE) {
        this.#runCanonical(parseJson(bytes.subarray(from, end), shape, null), fields);
        return;
      }
    }
    const writerKey = key ?? schemaIdOf(bytes, at, length);
    if (writerKey === null)
      throw new TransactionRejected("unknown_format", "the value is neither in the Confluent wire format nor JSON");
    const from = key === null ? at + WIRE_HEAD_BYTES : at;
    const writer = this.#writers.get(writerKey);
    if (writer === undefined) throw new TransactionRejected("unknown_schema", `no schema has the id ${writerKey}`);
    if (writer.ops !== null) this.#run(writer.ops, bytes, from, end, fields);
    else if (writer.rejected !== null) throw writer.rejected;
    else if (writer.protobuf !== null) writer.protobuf.read(bytes, from, end, writerKey, fields);
    else this.#runCanonical(parseJson(bytes.subarray(jsonStart(bytes, from, end), end), shape, writer.hints), fields);
  }

  #runCanonical(canonical: Buffer, fields: F): void {
    this.#run(this.#canonical, canonical, 0, canonical.length, fields);
  }

  #run(ops: Op<F>[], bytes: Buffer, at: number, end: number, fields: F): void {
    const cursor = this.#cursor;
    const target = this.#target;
    cursor.set(bytes, at, end);
    fields.bytes = bytes;
    try {
      for (let i = 0; i < ops.length; i++) ops[i](cursor, fields, target);
    } catch (error) {
      if (error instanceof AvroTruncated)
        throw new TransactionRejected("avro_truncated", `the Avro value does not fit its schema: ${error.message}`);
      throw error;
    }
    if (cursor.at !== end) {
      const off = cursor.at - end;
      throw new TransactionRejected(
        off > 0 ? "avro_truncated" : "avro_trailing",
        off > 0
          ? "the Avro value ends before its schema does"
          : `the Avro value has ${-off} bytes more than its schema`,
      );
    }
  }
}

const MAGIC = 0;
const OPEN_BRACE = 0x7b;
const BLANKS = [0x20, 0x09, 0x0a, 0x0d];

/** Where JSON begins behind a byte order mark and blanks; printers and file sources write both. */
function jsonStart(bytes: Buffer, at: number, end: number): number {
  let from = at;
  if (end - at > 2 && bytes[at] === 0xef && bytes[at + 1] === 0xbb && bytes[at + 2] === 0xbf) from += 3;
  while (from < end && BLANKS.includes(bytes[from])) from++;
  return from < end ? from : at;
}
