import type { AvroSchema } from "./avro-cursor.js";
import {
  controlEventSchema,
  labelSchema,
  merchantBucketSchema,
  predictionSchema,
  transactionSchema,
  userSchema,
  workerHeartbeatSchema,
} from "./generated.js";

/**
 * The Confluent wire format: byte 0, the schema id in four bytes (big endian), the Avro value. The ids below hold where
 * no registry is configured; a changed schema gets a new id and the old one stays, so that old records stay readable.
 * Of several ids of a subject, records are written with the last; heartbeats also with the first
 * (models/control/heartbeats.ts).
 */
export const FIXED_SCHEMAS: ReadonlyMap<number, { subject: SubjectName; schema: AvroSchema }> = new Map<
  number,
  { subject: SubjectName; schema: AvroSchema }
>([
  [1_000_001, { subject: "transactions", schema: schemaOf(transactionSchema) }],
  [1_000_002, { subject: "predictions", schema: schemaOf(predictionSchema) }],
  [1_000_003, { subject: "labels", schema: schemaOf(labelSchema) }],
  [1_000_004, { subject: "control", schema: schemaOf(controlEventSchema) }],
  [1_000_005, { subject: "workers", schema: heartbeatWithout("refused", "sign_in_locks") }],
  [1_000_006, { subject: "users", schema: schemaOf(userSchema) }],
  [1_000_007, { subject: "merchantBuckets", schema: schemaOf(merchantBucketSchema) }],
  // With the deployments that a worker refuses.
  [1_000_105, { subject: "workers", schema: heartbeatWithout("sign_in_locks") }],
  // With a field of their own for sign-in locks.
  [1_000_205, { subject: "workers", schema: schemaOf(workerHeartbeatSchema) }],
]);

/** A schema as the readers take it: what was written as a constant is not changed by them. */
function schemaOf(constant: object): AvroSchema {
  return constant as AvroSchema;
}

/** The heartbeat's schema as it was before these fields. */
function heartbeatWithout(...later: string[]): AvroSchema {
  return schemaOf({
    ...workerHeartbeatSchema,
    fields: workerHeartbeatSchema.fields.filter(({ name }) => !later.includes(name)),
  });
}

export type SubjectName =
  "transactions" | "predictions" | "labels" | "control" | "workers" | "users" | "merchantBuckets";

/**
 * What names a writer's schema: the id of four bytes, or its GUID in lower case where a header carries it. A Protocol
 * Buffers record whose header names a message has that behind the GUID: `<guid>#1.0`.
 */
export type SchemaKey = number | string;

export const WIRE_HEAD_BYTES = 5;
const MAGIC = 0;

/** The schema id at the head of a value, or null when it isn't in the wire format. */
export function schemaIdOf(bytes: Uint8Array, at: number, length: number): number | null {
  if (length < WIRE_HEAD_BYTES || bytes[at] !== MAGIC) return null;
  return ((bytes[at + 1] << 24) | (bytes[at + 2] << 16) | (bytes[at + 3] << 8) | bytes[at + 4]) >>> 0;
}

/** Writes the head of a value and returns the position after it. */
export function writeWireHead(bytes: Uint8Array, at: number, schemaId: number): number {
  bytes[at] = MAGIC;
  bytes[at + 1] = schemaId >>> 24;
  bytes[at + 2] = schemaId >>> 16;
  bytes[at + 3] = schemaId >>> 8;
  bytes[at + 4] = schemaId;
  return at + WIRE_HEAD_BYTES;
}
