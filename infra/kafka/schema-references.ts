import { namespaceIn, qualified, type AvroObject, type AvroSchema } from "../../schemas/avro-cursor.js";

/**
 * A schema in one piece: each type that another schema defines (a registry's references) is inserted where it is first
 * named.
 */
export function withReferences(schema: AvroSchema, referenced: readonly AvroSchema[]): AvroSchema {
  const missing = new Map<string, AvroObject>();
  for (const other of referenced)
    if (isObject(other) && other.name !== undefined) missing.set(qualified(other.name, other.namespace ?? ""), other);
  return missing.size === 0 ? schema : filled(schema, "", missing);
}

function filled(schema: AvroSchema, namespace: string, missing: Map<string, AvroObject>): AvroSchema {
  if (Array.isArray(schema)) return schema.map((branch) => filled(branch, namespace, missing));
  if (typeof schema === "string") {
    const name = [qualified(schema, namespace), schema].find((candidate) => missing.has(candidate));
    const found = name === undefined ? undefined : missing.get(name);
    if (name === undefined || found === undefined) return schema;
    missing.delete(name);
    return filled({ ...found, namespace: found.namespace ?? "" }, "", missing);
  }
  const inside = schema.name === undefined ? namespace : namespaceIn(schema, namespace);
  return {
    ...schema,
    ...(typeof schema.type === "string" ? {} : { type: filled(schema.type, namespace, missing) }),
    ...(schema.fields === undefined
      ? {}
      : { fields: schema.fields.map((field) => ({ ...field, type: filled(field.type, inside, missing) })) }),
    ...(schema.items === undefined ? {} : { items: filled(schema.items, namespace, missing) }),
    ...(schema.values === undefined ? {} : { values: filled(schema.values, namespace, missing) }),
  };
}

function isObject(schema: AvroSchema): schema is AvroObject {
  return typeof schema === "object" && !Array.isArray(schema);
}
