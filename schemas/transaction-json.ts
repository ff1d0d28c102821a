import { createRequire } from "node:module";
import type { Type } from "avsc";
import { labelSchema, transactionSchema } from "./generated.js";
import type { JsonHint } from "./json-hints.js";
import { JsonRecord } from "./json-record.js";
import { PLAIN_SHAPE, type RecordShape } from "./record-shape.js";
import { TransactionRejected } from "./transaction-rejected.js";

const avro = createRequire(import.meta.url)("avsc") as { Type: { forSchema(schema: unknown): Type } };
const transactionType = avro.Type.forSchema(transactionSchema);
const labelType = avro.Type.forSchema(labelSchema);

const TRANSACTION_KEYS: readonly string[] = transactionSchema.fields.map((field) => field.name);
const LABEL_KEYS: readonly string[] = labelSchema.fields.map((field) => field.name);

/**
 * A JSON transaction in the canonical Avro encoding, so that one reader handles both.
 *
 * @param hints what the writer's schema says; null: there is none
 * @throws TransactionRejected `json_invalid`, `json_duplicate_key`, `json_unknown_key`, `json_wrong_type`,
 *   `missing_field`, `invalid_utf8`, `no_payload`
 */
export function parseJsonTransaction(
  bytes: Buffer,
  shape: RecordShape = PLAIN_SHAPE,
  hints: JsonHint | null = null,
): Buffer {
  const record = new JsonRecord(bytes, { shape, names: TRANSACTION_KEYS, hints });
  record.refuseFurtherKeys();
  return transactionType.toBuffer({
    transaction_id: record.text("transaction_id"),
    event_time: record.time("event_time"),
    card_id: record.text("card_id"),
    merchant_id: record.text("merchant_id"),
    amount: record.number("amount"),
    currency: record.text("currency"),
    attributes: record.attributes(),
  });
}

/** A JSON label, likewise. */
export function parseJsonLabel(bytes: Buffer, shape: RecordShape = PLAIN_SHAPE, hints: JsonHint | null = null): Buffer {
  const record = new JsonRecord(bytes, { shape, names: LABEL_KEYS, hints });
  record.refuseFurtherKeys();
  return labelType.toBuffer({
    transaction_id: record.text("transaction_id"),
    card_id: cardOfLabel(record),
    is_fraud: record.flag("is_fraud"),
    label_time: record.time("label_time"),
  });
}

/** What to do about a label that names no card. */
export const WITHOUT_CARD =
  "a label has its place by its transaction's card. Have the feed give it (LABELS_FIELDS says where it " +
  "stands), or send the label to POST /api/v1/labels, which looks the card up";

function cardOfLabel(record: JsonRecord): string {
  try {
    return record.text("card_id");
  } catch (error) {
    if (!(error instanceof TransactionRejected) || error.code !== "missing_field") throw error;
    throw new TransactionRejected(error.code, `${error.message}: ${WITHOUT_CARD}`);
  }
}
