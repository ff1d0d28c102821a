import type { RowBinaryWriter } from "../../../infra/clickhouse/row-binary.js";
import type { FetchedRecords } from "../../../infra/kafka/records.js";
import type { Logger } from "../../../infra/logging.js";
import { predictionSchema } from "../../../schemas/generated.js";
import type { CardIds } from "../../../schemas/transaction-reader.js";
import { replyToOf } from "../../runtime/dead-letters.js";
import type { Backoff } from "../../../infra/async/retry.js";
import { AvroTranscoder, type ReaderSchema } from "./avro-transcoder.js";
import { type Refusal, type RowMapper, writeCoordinates } from "./row-mapper.js";
import { payloadAt, type SchemaLookup, WriterSchemas } from "./writer-schemas.js";

export interface AvroRowsDeps {
  lookup: SchemaLookup;
  backoff: Backoff;
  log: Logger;
  /** Replaces card ids that others have written; null: card ids are used as they are. @default null */
  cards?: CardIds | null;
}

/** Rows of `predictions` and `shadow_predictions`: the fields, then the reply-to header. */
export function predictionRows(deps: AvroRowsDeps): RowMapper {
  // Predictions are ours: they already hold pseudonyms.
  const rows = new AvroRows(deps, predictionSchema);
  return {
    prepare: (records, index) => rows.prepare(records, index),
    write(records, index, out) {
      const refusal = rows.write(records, index, out);
      if (refusal !== null) return refusal;
      const replyTo = replyToOf(records, index);
      if (replyTo === null)
        out.byte(0); // an empty text
      else out.blob(replyTo, 0, replyTo.length);
      return null;
    },
  };
}

/** Rows of a record's coordinates followed by the fields of its Avro value, transcoded. */
class AvroRows implements RowMapper {
  readonly #schemas: WriterSchemas<AvroTranscoder>;

  constructor(deps: AvroRowsDeps, reader: ReaderSchema) {
    this.#schemas = new WriterSchemas({ ...deps, make: (schema) => new AvroTranscoder(schema, reader) });
  }

  prepare(records: FetchedRecords, index: number): Promise<void> | null {
    return this.#schemas.prepare(records, index);
  }

  write(records: FetchedRecords, index: number, out: RowBinaryWriter): Refusal | null {
    const found = this.#schemas.of(records, index);
    if (!("made" in found)) return found;
    writeCoordinates(records, index, out);
    return found.made.write(
      records.bytes,
      payloadAt(records, index),
      records.valueAt[index] + records.valueLength[index],
      out,
    );
  }
}
