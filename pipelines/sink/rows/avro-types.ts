import type { AvroObject, AvroSchema } from "../../../schemas/avro-cursor.js";

/**
 * The encoding of a type in one line, ignoring names of types and documentation: `long`, `text`, `[float]`,
 * `(null|[{feature:text,contribution:double}])`. Two types with the same encoding can be read as each other without
 * conversion.
 *
 * @param named the named types seen so far; those of `type` are added
 * @throws TypeError when it isn't an Avro type
 */
export function encodingOf(
  type: AvroSchema,
  named = new Map<string, AvroObject>(),
  open = new Set<AvroObject>(),
): string {
  if (Array.isArray(type)) return `(${type.map((branch) => encodingOf(branch, named, open)).join("|")})`;
  if (typeof type === "string") {
    // A full name whose namespace was inherited is found by its last part, and from then on under both.
    const definition = named.get(type) ?? named.get(type.slice(type.lastIndexOf(".") + 1));
    if (definition) named.set(type, definition);
    if (definition) return encodingOfNamed(definition, named, open);
    const primitive = PRIMITIVES.get(type);
    if (primitive === undefined) throw new TypeError(`not an Avro type: ${type}`);
    return primitive;
  }
  if (typeof type !== "object" || (type as unknown) === null) throw new TypeError("not an Avro schema");
  switch (type.type) {
    case "array":
      return `[${encodingOf(type.items as AvroSchema, named, open)}]`;
    case "map":
      return `<${encodingOf(type.values as AvroSchema, named, open)}>`;
    case "record":
    case "enum":
    case "fixed":
      if (type.name !== undefined) {
        named.set(type.name, type);
        if (type.namespace !== undefined) named.set(`${type.namespace}.${type.name}`, type);
      }
      return encodingOfNamed(type, named, open);
    default:
      return encodingOf(type.type, named, open);
  }
}

function encodingOfNamed(type: AvroObject, named: Map<string, AvroObject>, open: Set<AvroObject>): string {
  if (type.type === "enum") return "enum";
  if (type.type === "fixed") return `fixed${type.size}`;
  if (!Array.isArray(type.fields)) throw new TypeError("an Avro record without fields");
  // Inside itself, a recursive record is only named.
  if (open.has(type)) return `@${type.name}`;
  open.add(type);
  const fields = type.fields.map((field) => `${field.name}:${encodingOf(field.type, named, open)}`);
  open.delete(type);
  return `{${fields.join(",")}}`;
}

const PRIMITIVES = new Map([
  ["null", "null"],
  ["boolean", "boolean"],
  ["int", "long"],
  ["long", "long"],
  ["float", "float"],
  ["double", "double"],
  ["string", "text"],
  ["bytes", "text"],
]);
