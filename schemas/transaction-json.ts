import { isUtf8 } from "node:buffer";
import { createRequire } from "node:module";
import type { Type } from "avsc";
import { transactionSchema } from "./generated.js";
import { TransactionRejected } from "./transaction-rejected.js";

const avro = createRequire(import.meta.url)("avsc") as { Type: { forSchema(schema: unknown): Type } };
const transactionType = avro.Type.forSchema(transactionSchema);

const KEYS = new Set<string>(transactionSchema.fields.map((field) => field.name));
const ISO_WITH_ZONE = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$/;
/** The last time that a Date can be. */
const LATEST_TIME = 8.64e15;
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * A JSON transaction in the canonical Avro encoding, so that there is one reader behind it.
 *
 * @throws TransactionRejected `json_invalid`, `json_duplicate_key`, `json_unknown_key`, `json_wrong_type`, `missing_field`, `invalid_utf8`
 */
export function parseJsonTransaction(bytes: Buffer): Buffer {
  if (!isUtf8(bytes)) throw new TransactionRejected("invalid_utf8", "the JSON is not UTF-8");
  const text = bytes.toString("utf8");
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw new TransactionRejected("json_invalid", "the value begins with { but is not JSON");
  }
  const duplicate = duplicateKey(text);
  if (duplicate !== null) throw new TransactionRejected("json_duplicate_key", `the JSON has the key ${shown(duplicate)} twice`);
  for (const key of Object.keys(value)) {
    if (!KEYS.has(key)) throw new TransactionRejected("json_unknown_key", `the JSON has a key ${shown(key)}; further values belong in attributes`);
  }
  return transactionType.toBuffer({
    transaction_id: textOf(value, "transaction_id"),
    event_time: eventTimeOf(value["event_time"]),
    card_id: textOf(value, "card_id"),
    merchant_id: textOf(value, "merchant_id"),
    amount: numberOf(value, "amount"),
    currency: textOf(value, "currency"),
    attributes: attributesOf(value["attributes"]),
  });
}

function textOf(value: Record<string, unknown>, key: string): string {
  const text = value[key];
  if (text === undefined || text === null) throw new TransactionRejected("missing_field", `${key} is missing`);
  if (typeof text !== "string") throw new TransactionRejected("json_wrong_type", `${key} is not a string`);
  return wellFormed(text, key);
}

function numberOf(value: Record<string, unknown>, key: string): number {
  const number = value[key];
  if (number === undefined || number === null) throw new TransactionRejected("missing_field", `${key} is missing`);
  if (typeof number !== "number") throw new TransactionRejected("json_wrong_type", `${key} is not a number`);
  return number;
}

function eventTimeOf(value: unknown): number {
  if (value === undefined || value === null) throw new TransactionRejected("missing_field", "event_time is missing");
  const time = typeof value === "number" ? value : typeof value === "string" && ISO_WITH_ZONE.test(value) && isDayOfMonth(value) ? Date.parse(value) : Number.NaN;
  if (!Number.isInteger(time) || Math.abs(time) > LATEST_TIME) throw new TransactionRejected("json_wrong_type", "event_time is neither epoch milliseconds nor ISO 8601 with a zone");
  return time;
}

/** Date.parse takes February 30 for March 1. */
function isDayOfMonth(iso: string): boolean {
  const [year, month, day] = iso.slice(0, 10).split("-").map(Number);
  return day <= new Date(Date.UTC(year, month, 0)).getUTCDate();
}

/** A lone surrogate has no UTF-8: it would be replaced, and two ids could become one. */
function wellFormed(text: string, where: string): string {
  if (LONE_SURROGATE.test(text)) throw new TransactionRejected("invalid_utf8", `${where} has half of a surrogate pair`);
  return text;
}

/** Avro's unions of primitives are given unwrapped; null means absent. */
function attributesOf(value: unknown): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw new TransactionRejected("json_wrong_type", "attributes is not an object");
  const attributes: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const [name, attribute] of Object.entries(value)) {
    if (attribute === null) continue;
    if (!["number", "string", "boolean"].includes(typeof attribute)) {
      throw new TransactionRejected("json_wrong_type", `attribute ${shown(name)} is not a number, string or boolean`);
    }
    if (typeof attribute === "string") wellFormed(attribute, `attribute ${shown(name)}`);
    attributes[wellFormed(name, "an attribute's name")] = attribute;
  }
  return attributes;
}

function shown(key: string): string {
  return JSON.stringify(key.length > 40 ? `${key.slice(0, 40)}…` : key);
}

/** The first key that stands twice in one object of a valid JSON text, which JSON.parse lets pass; null: none. */
function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = [];
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === "{") open.push(new Set());
    else if (char === "[") open.push(null);
    else if (char === "}" || char === "]") open.pop();
    else if (char === '"') {
      const start = i;
      let escaped = false;
      for (i++; text[i] !== '"'; i++) {
        if (text[i] !== "\\") continue;
        escaped = true;
        i++;
      }
      let after = i + 1;
      while (text[after] === " " || text[after] === "\n" || text[after] === "\r" || text[after] === "\t") after++;
      const keys = open.at(-1);
      if (text[after] !== ":" || keys === null || keys === undefined) continue;
      const key = escaped ? (JSON.parse(text.slice(start, i + 1)) as string) : text.slice(start + 1, i);
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return null;
}
