import { createRequire } from "node:module";
import { SEALED_KEY } from "../../infra/privacy/card-pseudonyms.js";
import { maskedJson } from "../../infra/privacy/masking/masked-json.js";
import type { AvroSchema } from "../../schemas/avro-cursor.js";
import { schemaIdOf, WIRE_HEAD_BYTES } from "../../schemas/wire-format.js";
import { isAvro, JsonSchemaWriter } from "../../schemas/writer-schema.js";
import type { ApiContext } from "../context.js";
import { depthOf } from "../plugins/json-body.js";

// avsc is CommonJS whose exports Node can't name.
const avro = createRequire(import.meta.url)("avsc") as {
  Type: { forSchema(schema: AvroSchema): { fromBuffer(bytes: Buffer): unknown } };
};

const MOST_BYTES = 64 * 1024;
const MOST_DEPTH = 32;
const MOST_SHOWN = 16_000;

/**
 * What a dead letter's value says, as far as it can be read: JSON, or Avro whose schema is known. Card ids are
 * pseudonyms where there are any, card numbers and secrets masked. Null: it can't be read.
 */
export async function decodedValue(
  { schemas, cards }: Pick<ApiContext, "schemas" | "cards">,
  value: Buffer | null,
  headers: Readonly<Record<string, string>>,
): Promise<unknown> {
  if (value === null || value.length > MOST_BYTES) return null;
  try {
    const bytes = cards !== null && headers[SEALED_KEY] !== undefined ? cards.open(value) : value;
    const content = await contentOf(schemas, bytes);
    if (content === null) return null;
    return JSON.parse(maskedJson(content, MOST_SHOWN, cards === null ? null : (id) => cards.ofText(id))) as unknown;
  } catch {
    return null;
  }
}

async function contentOf(schemas: ApiContext["schemas"], bytes: Buffer): Promise<unknown> {
  const id = schemaIdOf(bytes, 0, bytes.length);
  if (id === null) {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return /^\s*[{[]/.test(text) && depthOf(text) <= MOST_DEPTH ? (JSON.parse(text) as unknown) : null;
  }
  const schema = await schemas.load(id);
  if (schema instanceof JsonSchemaWriter) return JSON.parse(bytes.toString("utf8", WIRE_HEAD_BYTES)) as unknown;
  return schema === null || !isAvro(schema)
    ? null
    : avro.Type.forSchema(schema).fromBuffer(bytes.subarray(WIRE_HEAD_BYTES));
}
