import type { Logger } from "../../../infra/logging.js";
import type { FetchedRecords } from "../../../infra/kafka/records.js";
import type { AvroSchema } from "../../../schemas/avro-cursor.js";
import { UnavailableWriter, isAvro, type WriterSchema } from "../../../schemas/writer-schema.js";
import { WIRE_HEAD_BYTES, schemaIdOf, type SchemaKey } from "../../../schemas/wire-format.js";
import { type Backoff, retry } from "../../../infra/async/retry.js";
import type { Refusal } from "./row-mapper.js";

/**
 * The schema that an id of the wire format stands for, as parsed JSON; null if there is none. `Schemas.load`.
 *
 * @throws FraudstreamError retriable if the registry can't be asked now
 */
export type SchemaLookup = (key: SchemaKey) => Promise<WriterSchema | null>;

/** An id that was unknown is asked for again after this long. */
const FORGET_REFUSAL_MS = 5_000;

/** What was derived from each writer schema, once per id. */
export class WriterSchemas<T> {
  readonly #lookup: SchemaLookup;
  readonly #make: (schema: AvroSchema) => T;
  readonly #known = new Map<number, T>();
  readonly #refused = new Map<number, { refusal: Refusal; until: number }>();
  readonly #backoff: Backoff;
  readonly #log: Logger;

  /** @param make throws TypeError for a schema that doesn't fit */
  constructor({
    lookup,
    make,
    backoff,
    log,
  }: {
    lookup: SchemaLookup;
    make: (schema: AvroSchema) => T;
    backoff: Backoff;
    log: Logger;
  }) {
    this.#lookup = lookup;
    this.#make = make;
    this.#backoff = backoff;
    this.#log = log;
  }

  /**
   * Null if `of` can answer for this record. Waits for as long as the registry is away: nothing is wrong with its
   * records.
   */
  prepare(records: FetchedRecords, index: number): Promise<void> | null {
    const id = idOf(records, index);
    if (typeof id !== "number" || this.#known.has(id)) return null;
    const refused = this.#refused.get(id);
    return refused !== undefined && Date.now() < refused.until ? null : this.#learn(id);
  }

  /** What was derived from the record's writer schema, or why there is nothing. */
  of(records: FetchedRecords, index: number): { made: T } | Refusal {
    const id = idOf(records, index);
    if (typeof id !== "number") return id;
    const made = this.#known.get(id);
    if (made !== undefined) return { made };
    return this.#refused.get(id)?.refusal ?? { code: "unknown_schema", reason: `the schema ${id} is not known` };
  }

  async #learn(id: number): Promise<void> {
    const schema = await retry(() => this.#lookup(id), this.#backoff, this.#backoff);
    if (schema === null) return this.#refuse(id, { code: "unknown_schema", reason: `no schema has the id ${id}` });
    if (schema instanceof UnavailableWriter)
      return this.#refuse(id, { code: "schema_unavailable", reason: `schema ${id}: ${schema.reason}` });
    if (!isAvro(schema))
      return this.#refuse(id, {
        code: "incompatible_schema",
        reason: `schema ${id} is not Avro, as our own records are`,
      });
    try {
      this.#known.set(id, this.#make(schema));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.#refuse(id, { code: "incompatible_schema", reason: `schema ${id}: ${error.message}` });
    }
  }

  #refuse(id: number, refusal: Refusal): void {
    this.#refused.set(id, { refusal, until: Date.now() + FORGET_REFUSAL_MS });
    this.#log.warn({ schema: id, ...refusal }, "records of this schema can't be stored");
  }
}

/** The payload of the wire format begins here. */
export function payloadAt(records: FetchedRecords, index: number): number {
  return records.valueAt[index] + WIRE_HEAD_BYTES;
}

function idOf(records: FetchedRecords, index: number): number | Refusal {
  const size = records.valueLength[index];
  if (size <= 0) return { code: "empty_value", reason: "the record has no value" };
  return (
    schemaIdOf(records.bytes, records.valueAt[index], size) ?? {
      code: "not_avro",
      reason: "the value is not in the Confluent wire format",
    }
  );
}
