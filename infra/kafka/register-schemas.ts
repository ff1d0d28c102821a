import type { AvroObject, AvroSchema } from "../../schemas/avro-cursor.js";
import { UsageError, messageOf } from "../../schemas/errors.js";
import { RegistryRefusal, type RegistryClient } from "./registry-client.js";

/** How many versions of a subject are examined. */
const MOST_VERSIONS = 20;
/** Statuses with which a registry rejects a schema: no right, incompatible, invalid or read-only. */
const REFUSALS = new Set([401, 403, 405, 409, 422]);

/**
 * The id under which the registry has a schema of ours: registered if it isn't there, without touching any policy. If
 * the registry rejects it, a version with the same encoding serves, and failing that a subject of our own: producers
 * may have their schema under the topic's.
 *
 * @throws UsageError `schema_registry`
 */
export async function registeredId(registry: RegistryClient, topic: string, schema: AvroSchema): Promise<number> {
  const subjects = [`${topic}-value`, `${topic}-${recordName(schema)}`];
  const text = JSON.stringify(schema);
  try {
    let refusal: RegistryRefusal | null = null;
    for (const subject of subjects) {
      const outcome = await registerUnder(registry, subject, schema, text);
      if (typeof outcome === "number") return outcome;
      refusal ??= outcome;
    }
    throw new UsageError(
      "schema_registry",
      `SCHEMA_REGISTRY_URL: the registry did not take the schema of ${topic} (${refusal?.message}), and has ` +
        `none of the same fields under ${subjects.join(" or ")}: let this user register, or register it by ` +
        "hand (schemas/avro)",
      { cause: refusal },
    );
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UsageError(
      "schema_registry",
      `SCHEMA_REGISTRY_URL: the registry did not take the schema of ${topic}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

async function registerUnder(
  registry: RegistryClient,
  subject: string,
  schema: AvroSchema,
  text: string,
): Promise<number | RegistryRefusal> {
  try {
    return await registry.register(subject, text);
  } catch (error) {
    if (!(error instanceof RegistryRefusal) || !REFUSALS.has(error.status)) throw error;
    return (await findId(registry, subject, schema, text)) ?? error;
  }
}

/** The id of a subject's version that our records can carry; null: there is none. */
async function findId(
  registry: RegistryClient,
  subject: string,
  schema: AvroSchema,
  text: string,
): Promise<number | null> {
  const known = await registry.lookup(subject, text).catch((error: unknown) => {
    if (error instanceof RegistryRefusal) return null;
    throw error;
  });
  if (known !== null) return known;
  const ours = JSON.stringify(encodingOf(schema));
  let found = await registry.version(subject, "latest");
  for (let tries = 0; found !== null && tries < MOST_VERSIONS; tries++) {
    if (isSame(found.schema, ours)) return found.id;
    found = found.version > 1 ? await registry.version(subject, found.version - 1) : null;
  }
  return null;
}

function isSame(text: string, ours: string): boolean {
  try {
    return JSON.stringify(encodingOf(JSON.parse(text) as AvroSchema)) === ours;
  } catch {
    return false;
  }
}

/** A schema without the parts that don't change the bytes: documentation, defaults, aliases, the record's own name. */
function encodingOf(schema: AvroSchema): unknown {
  if (Array.isArray(schema)) return schema.map(encodingOf);
  if (typeof schema === "string") return schema;
  const { type, logicalType, fields, symbols, items, values, size } = schema;
  return {
    type: encodingOf(type),
    logicalType,
    symbols,
    size,
    fields: fields?.map((field) => [field.name, encodingOf(field.type)]),
    items: items === undefined ? undefined : encodingOf(items),
    values: values === undefined ? undefined : encodingOf(values),
  };
}

function recordName(schema: AvroSchema): string {
  const { name = "", namespace = "" } = schema as AvroObject;
  return namespace === "" ? name : `${namespace}.${name}`;
}
