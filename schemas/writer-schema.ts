import type { AvroSchema } from "./avro-cursor.js";
import { hintsOfJsonSchema, type JsonDocuments, type JsonHint } from "./json-hints.js";
import type { ProtoFile } from "./proto-file.js";

/** A writer's schema in JSON Schema: its records are JSON. */
export class JsonSchemaWriter {
  readonly hints: JsonHint;

  /** @param documents those that it refers to */
  constructor(schema: unknown, documents?: JsonDocuments) {
    this.hints = hintsOfJsonSchema(schema, documents);
  }
}

/** A writer's schema in Protocol Buffers: a file, and those that it imports. */
export class ProtobufWriter {
  readonly file: ProtoFile;

  constructor(file: ProtoFile) {
    this.file = file;
  }
}

/** A schema that is there and can't be used. */
export class UnreadableWriter {
  /** Follows "schema 9 ". */
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

/** A schema that may be there and wasn't given: it is asked for again. */
export class UnavailableWriter extends UnreadableWriter {}

/** What a schema id stands for. */
export type WriterSchema = AvroSchema | JsonSchemaWriter | ProtobufWriter | UnreadableWriter;

export function isAvro(schema: WriterSchema): schema is AvroSchema {
  return !(
    schema instanceof JsonSchemaWriter ||
    schema instanceof ProtobufWriter ||
    schema instanceof UnreadableWriter
  );
}
