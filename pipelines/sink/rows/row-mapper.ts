import type { RowBinaryWriter } from "../../../infra/clickhouse/row-binary.js";
import type { FetchedRecords } from "../../../infra/kafka/records.js";
import { schemaKeyOf } from "../../../infra/kafka/writer-of.js";
import type { RecordCode } from "../../../schemas/error-codes.js";
import type { SchemaKey } from "../../../schemas/wire-format.js";

/** Why a record has no row. `code` is stable; `reason` is for people and never quotes the record. */
export interface Refusal {
  code: RecordCode;
  reason: string;
}

/** Turns the records of a topic into rows of a table: columns as SINK_COLUMNS lists them. */
export interface RowMapper {
  /** Must be awaited before `write` if the record needs something that isn't there yet: its writer's schema. */
  prepare(records: FetchedRecords, index: number): Promise<void> | null;
  /** Writes one whole row, or returns why there is none; the caller then removes what was written until then. */
  write(records: FetchedRecords, index: number, out: RowBinaryWriter): Refusal | null;
}

/** The columns that begin every row. */
export function writeCoordinates(records: FetchedRecords, index: number, out: RowBinaryWriter): void {
  out.text(records.topic);
  out.int32(records.partition);
  out.int64(records.offset[index]);
}

/** Unknown schema ids are asked for again after this long; Schemas decides how often that is useful. */
const FORGET_UNKNOWN_MS = 1_000;

/** `prepare` of a mapper whose reader learns each writer's schema before the first record of it. */
export function learningWriters(
  reader: { knows: (key: SchemaKey) => boolean; forgetUnknown: () => void },
  learn: (key: SchemaKey) => Promise<void>,
): RowMapper["prepare"] {
  let forgetAt = 0;
  return (records, index) => {
    const key = schemaKeyOf(records, index);
    if (key === null) return null;
    if (Date.now() > forgetAt) {
      forgetAt = Date.now() + FORGET_UNKNOWN_MS;
      reader.forgetUnknown();
    }
    return reader.knows(key) ? null : learn(key);
  };
}
