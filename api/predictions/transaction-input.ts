import { Type, type Static } from "@sinclair/typebox";
import type { Transaction } from "../../schemas/generated.js";
import { MAX_ID_BYTES, isLongId } from "../../schemas/ids.js";
import { parseTime } from "../../schemas/time-text.js";
import type { FieldError } from "./deployed-features.js";

const ISO_WITH_ZONE = "^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}(:\\d{2}(\\.\\d{1,9})?)?(Z|[+-]\\d{2}:?\\d{2})$";
const Id = Type.String({ minLength: 1, maxLength: 256 });

/** A transaction as it is asked about over HTTP: that of fraud.transactions in JSON. */
export const TransactionInput = Type.Object(
  {
    transaction_id: Id,
    event_time: Type.Union([
      Type.Integer({ minimum: 0, description: "epoch milliseconds" }),
      Type.String({ pattern: ISO_WITH_ZONE, description: "ISO 8601 with a zone" }),
    ]),
    card_id: Id,
    merchant_id: Id,
    amount: Type.Number(),
    currency: Type.String({ pattern: "^[A-Z]{3}$" }),
    attributes: Type.Optional(
      Type.Record(
        Type.String({ minLength: 1, maxLength: 256 }),
        Type.Union([Type.Number(), Type.String({ maxLength: 4096 }), Type.Boolean()]),
        { maxProperties: 1_000 },
      ),
    ),
  },
  {
    additionalProperties: false,
    title: "Transaction",
    examples: [
      {
        transaction_id: "t-1",
        event_time: "2026-11-22T09:30:00Z",
        card_id: "c-1",
        merchant_id: "m-1",
        amount: 812.5,
        currency: "EUR",
        attributes: { channel: "online" },
      },
    ],
  },
);
export type TransactionInput = Static<typeof TransactionInput>;

/** The record to publish, or what is wrong with its fields beyond their form. `path` names it in a list: `[3].` */
export function toTransaction(
  input: TransactionInput,
  path: string,
): { transaction: Transaction } | { errors: FieldError[] } {
  const time = typeof input.event_time === "number" ? input.event_time : parseTime(input.event_time);
  if (!Number.isSafeInteger(time))
    return { errors: [{ field: `${path}event_time`, message: "is not a time: there is no such date or hour" }] };
  const tooLong = (["transaction_id", "card_id", "merchant_id"] as const).filter((field) => isLongId(input[field]));
  if (tooLong.length > 0)
    return {
      errors: tooLong.map((field) => ({ field: `${path}${field}`, message: `is longer than ${MAX_ID_BYTES} bytes` })),
    };
  return { transaction: { ...input, event_time: time, attributes: input.attributes ?? {} } };
}
