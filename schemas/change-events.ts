import { TransactionRejected } from "./transaction-rejected.js";

/** What Debezium's events are, beside rows that were created, updated or read, by their `op`. */
const WITHOUT_ROW: Readonly<Record<string, string>> = {
  d: "the row was deleted (op d)",
  t: "the table was truncated (op t): the record has no row",
  m: "it is a message of the database's log (op m), not a row",
};

/** The field that says what an event is. */
export const OP = "op";

/** Whether a record with these fields and no row is an event of a change stream. */
export function isChangeEvent(has: (name: string) => boolean): boolean {
  return has(OP) && (has("source") || has("before") || has("ts_ms") || has("message"));
}

/**
 * Why an event holds nothing to read. @param holder the field of the envelope that would hold it @param op null: the
 * record doesn't say
 */
export function withoutPayload(holder: string, op: string | null): TransactionRejected {
  const why =
    op !== null && Object.hasOwn(WITHOUT_ROW, op)
      ? WITHOUT_ROW[op]
      : `${holder} is null or absent in the record's envelope, as where a row was deleted`;
  return new TransactionRejected("no_payload", why);
}
