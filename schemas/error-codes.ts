import { INTERNAL_ERRORS } from "./error-codes/internals.js";
import { MODEL_ERRORS } from "./error-codes/models.js";
import { RECORD_ERRORS } from "./error-codes/records.js";
import { REQUEST_ERRORS } from "./error-codes/requests.js";
import type { ErrorGroup, ErrorRow } from "./error-codes/row.js";
import { SERVICE_ERRORS } from "./error-codes/services.js";
import { START_ERRORS } from "./error-codes/starts.js";
import { TRAINING_ERRORS } from "./error-codes/training.js";

/**
 * Every error code, in the order of the page that lists them (ERRORS.md, written by `npm run errors`). A code is
 * stable: callers compare it. A new one is a row in the file of its group; one cause has one code.
 */
export const ERROR_GROUPS: readonly ErrorGroup[] = [
  REQUEST_ERRORS,
  RECORD_ERRORS,
  MODEL_ERRORS,
  TRAINING_ERRORS,
  START_ERRORS,
  SERVICE_ERRORS,
  INTERNAL_ERRORS,
];

const ROWS = {
  ...REQUEST_ERRORS.codes,
  ...RECORD_ERRORS.codes,
  ...MODEL_ERRORS.codes,
  ...TRAINING_ERRORS.codes,
  ...START_ERRORS.codes,
  ...SERVICE_ERRORS.codes,
  ...INTERNAL_ERRORS.codes,
};
type Rows = typeof ROWS;

/** A code of the table, or a Kafka protocol error's: `kafka_` and its name in lower case. */
export type ErrorCode = keyof Rows | KafkaCode;
export type KafkaCode = `kafka_${Lowercase<string>}`;
/** The codes that a problem may have with the status of their row. */
export type ProblemCode = { [C in keyof Rows]: Rows[C] extends { readonly status: number } ? C : never }[keyof Rows];
/** The codes of records that could not be used. */
export type RecordCode = keyof typeof RECORD_ERRORS.codes | "model_failed";

const BY_CODE: ReadonlyMap<string, ErrorRow> = new Map<string, ErrorRow>(Object.entries(ROWS));

/** The row of a code; undefined for those of Kafka's protocol, and for what another version may have sent. */
export function errorRow(code: string): ErrorRow | undefined {
  return BY_CODE.get(code);
}
