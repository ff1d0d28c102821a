import { bareSymbols } from "./enum-symbols.js";

/** What a schema says of a JSON value beyond its JSON type. */
export interface JsonHint {
  /** A logical type: Connect's name, or `decimal`. */
  name?: string;
  /** Of a decimal. */
  scale?: number;
  inside?: Map<string, JsonHint>;
  /** Of an enum: what its symbols stand for, where they have its name in front. */
  symbols?: ReadonlyMap<string, string>;
}

type Node = Readonly<Record<string, unknown>>;

const MOST_DEPTH = 20;
const MOST_NODES = 20_000;
export const CONNECT_DECIMAL = "org.apache.kafka.connect.data.Decimal";

/** Hints of a schema in Connect's JSON (`{"schema": …, "payload": …}`). */
export function hintsOfConnect(schema: unknown, depth = 0): JsonHint {
  if (!isNode(schema) || depth > MOST_DEPTH) return {};
  const hint = namedHint(schema.name, isNode(schema.parameters) ? schema.parameters.scale : undefined);
  if (!Array.isArray(schema.fields)) return hint;
  const inside = new Map<string, JsonHint>();
  for (const field of schema.fields)
    if (isNode(field) && typeof field.field === "string") inside.set(field.field, hintsOfConnect(field, depth + 1));
  return { ...hint, inside };
}

/** JSON Schemas that others refer to, by the name that they use. */
export type JsonDocuments = ReadonlyMap<string, unknown>;

interface Place {
  root: unknown;
  documents: JsonDocuments;
  /** Nodes that may still be looked at: a schema that refers to itself many times has no end. */ left: {
    nodes: number;
  };
}

/** Hints of a JSON Schema: Connect's converter writes its logical types as titles, and the rest beside them. */
export function hintsOfJsonSchema(schema: unknown, documents: JsonDocuments = new Map()): JsonHint {
  return hintsOf(schema, "", { root: schema, documents, left: { nodes: MOST_NODES } }, 0);
}

/** @param name of the property that has the schema */
function hintsOf(schema: unknown, name: string, place: Place, depth: number): JsonHint {
  if (!isNode(schema) || depth > MOST_DEPTH || --place.left.nodes < 0) return {};
  const hint: JsonHint = {
    ...namedHint(schema.title, isNode(schema["connect.parameters"]) ? schema["connect.parameters"].scale : undefined),
    ...symbolsHint(schema, name),
  };
  const inside = new Map<string, JsonHint>();
  const add = ({ inside: further, ...own }: JsonHint): void => {
    Object.assign(hint, own);
    further?.forEach((value, key) => inside.set(key, value));
  };
  if (typeof schema.$ref === "string") {
    const found = referred(schema.$ref, place);
    add(hintsOf(found.schema, name, { ...place, root: found.root }, depth + 1));
  }
  for (const choices of [schema.oneOf, schema.anyOf, schema.allOf]) {
    if (Array.isArray(choices)) for (const choice of choices) add(hintsOf(choice, name, place, depth + 1));
  }
  if (isNode(schema.properties))
    for (const [key, property] of Object.entries(schema.properties))
      inside.set(key, hintsOf(property, key, place, depth + 1));
  return inside.size === 0 ? hint : { ...hint, inside };
}

/** A reference within the document, `#/definitions/Payment`, or to another one, `money.json#/definitions/Money`. */
function referred(reference: string, { root, documents }: Place): { schema: unknown; root: unknown } {
  const [document, path = ""] = reference.split("#");
  const other =
    document === "" ? root : (documents.get(document) ?? (isNode(root) && root.$id === document ? root : undefined));
  let found = other;
  for (const part of path.split("/").filter((piece) => piece !== "")) {
    found = isNode(found) ? found[decoded(part).replaceAll("~1", "/").replaceAll("~0", "~")] : undefined;
  }
  return { schema: found, root: other };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** What the symbols of an enum stand for, where that is something else. */
function symbolsHint({ enum: symbols, title }: Node, property: string): JsonHint {
  if (!Array.isArray(symbols)) return {};
  const texts = symbols.filter((symbol) => typeof symbol === "string");
  for (const name of [property, title]) {
    const bare = typeof name === "string" ? bareSymbols(name, texts) : texts;
    const changed = texts
      .map((symbol, i): [string, string] => [symbol, bare[i]])
      .filter(([symbol, to]) => symbol !== to);
    if (changed.length > 0) return { symbols: new Map(changed) };
  }
  return {};
}

function namedHint(name: unknown, scale: unknown): JsonHint {
  if (typeof name !== "string" || !name.includes(".")) return {};
  return name === CONNECT_DECIMAL ? { name, scale: Number(scale ?? 0) } : { name };
}

export function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
