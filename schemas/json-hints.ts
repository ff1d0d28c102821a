/** What a schema says of a JSON value beyond its JSON type. */
export interface JsonHint {
  /** A logical type: Connect's name, or `decimal`. */
  name?: string;
  /** Of a decimal. */
  scale?: number;
  inside?: Map<string, JsonHint>;
}

type Node = Readonly<Record<string, unknown>>;

const MOST_DEPTH = 20;
export const CONNECT_DECIMAL = "org.apache.kafka.connect.data.Decimal";

/** Hints of a schema in Connect's JSON (`{"schema": …, "payload": …}`). */
export function hintsOfConnect(schema: unknown, depth = 0): JsonHint {
  if (!isNode(schema) || depth > MOST_DEPTH) return {};
  const hint = namedHint(schema.name, isNode(schema.parameters) ? schema.parameters.scale : undefined);
  if (!Array.isArray(schema.fields)) return hint;
  const inside = new Map<string, JsonHint>();
  for (const field of schema.fields) if (isNode(field) && typeof field.field === "string") inside.set(field.field, hintsOfConnect(field, depth + 1));
  return { ...hint, inside };
}

/** Hints of a JSON Schema: Connect's converter writes its logical types as titles, and the rest beside them. */
export function hintsOfJsonSchema(schema: unknown): JsonHint {
  return hintsOf(schema, schema, 0);
}

function hintsOf(schema: unknown, root: unknown, depth: number): JsonHint {
  if (!isNode(schema) || depth > MOST_DEPTH) return {};
  if (typeof schema.$ref === "string") return hintsOf(referred(schema.$ref, root), root, depth + 1);
  const hint = namedHint(schema.title, isNode(schema["connect.parameters"]) ? schema["connect.parameters"].scale : undefined);
  const inside = new Map<string, JsonHint>();
  for (const choices of [schema.oneOf, schema.anyOf, schema.allOf]) {
    if (!Array.isArray(choices)) continue;
    for (const choice of choices) {
      const { inside: further, ...own } = hintsOf(choice, root, depth + 1);
      Object.assign(hint, own);
      further?.forEach((value, name) => inside.set(name, value));
    }
  }
  if (isNode(schema.properties)) for (const [name, property] of Object.entries(schema.properties)) inside.set(name, hintsOf(property, root, depth + 1));
  return inside.size === 0 ? hint : { ...hint, inside };
}

/** A reference within the document, `#/definitions/Payment`. */
function referred(reference: string, root: unknown): unknown {
  if (!reference.startsWith("#")) return undefined;
  let found = root;
  for (const part of reference.slice(1).split("/").filter((piece) => piece !== "")) {
    found = isNode(found) ? found[part.replaceAll("~1", "/").replaceAll("~0", "~")] : undefined;
  }
  return found;
}

function namedHint(name: unknown, scale: unknown): JsonHint {
  if (typeof name !== "string" || !name.includes(".")) return {};
  return name === CONNECT_DECIMAL ? { name, scale: Number(scale ?? 0) } : { name };
}

export function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
