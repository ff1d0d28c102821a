import { isUtf8 } from "node:buffer";
import { unitOf } from "./avro-values.js";
import { decimalOf, decimalOfText } from "./decimals.js";
import { isChangeEvent, withoutPayload } from "./change-events.js";
import { CONNECT_DECIMAL, hintsOfConnect, isNode, type JsonHint } from "./json-hints.js";
import { isDescribed, namedWithPath, shapeTree, type RecordShape } from "./record-shape.js";
import { parseTime } from "./time-text.js";
import { TransactionRejected } from "./transaction-rejected.js";

type JsonObject = Readonly<Record<string, unknown>>;

/** The last time that a Date can be. */
const LATEST_TIME = 8.64e15;
const LONE_SURROGATE = /\p{Surrogate}/u;
const NO_HINT: JsonHint = {};
/** So many keys of a record are compared with one that is missing. */
const MOST_NAMES = 100;
/** Debezium's: create, update, read, delete, truncate, message. */
const OPS: readonly string[] = ["c", "u", "r", "d", "t", "m"];

export interface JsonFormat {
  shape: RecordShape;
  /** Our names in this kind of record. */
  names: readonly string[];
  /** What the writer's schema says; null: there is none, and a record of nobody's description has our keys only. */
  hints: JsonHint | null;
}

/**
 * The payload of a JSON record: parsed, taken out of Connect's and the shape's envelopes, its values found by our
 * names. Values are converted as the schema, or the settings, say; problems are named without quoting what was written.
 */
export class JsonRecord {
  readonly #payload: JsonObject;
  readonly #paths: ReadonlyMap<string, readonly string[]>;
  readonly #hints: JsonHint;
  readonly #names: readonly string[];
  readonly #shape: RecordShape;
  /** Whether a schema or setting describes these records: further keys are then attributes, not mistakes. */
  readonly open: boolean;
  readonly #described: boolean;

  /**
   * @throws TransactionRejected `json_invalid`, `json_duplicate_key`, `json_wrong_type`, `invalid_utf8`, `no_payload`
   */
  constructor(bytes: Buffer, { shape, names, hints }: JsonFormat) {
    const { payload, hint, connect } = unwrapped(parseObject(bytes), shape, hints);
    this.#payload = payload;
    this.#shape = shape;
    this.#hints = hint;
    this.#names = names;
    this.#described = isDescribed(shape);
    this.open = this.#described || connect || hints !== null;
    this.#paths = this.#described ? pathsOf(shape, names, payload) : new Map();
  }

  /** @throws TransactionRejected `json_unknown_key` when no schema or setting describes further keys */
  refuseFurtherKeys(): void {
    if (this.open) return;
    for (const key of Object.keys(this.#payload)) {
      if (!this.#names.includes(key))
        throw new TransactionRejected(
          "json_unknown_key",
          `the JSON has a key ${shown(key)}; further values belong in attributes`,
        );
    }
  }

  text(name: string): string {
    const { value, hint } = this.#required(name);
    if (this.#described && typeof value === "number") {
      if (!Number.isSafeInteger(value))
        throw new TransactionRejected(
          "json_wrong_type",
          `${name} is a number that JSON does not carry exactly; write it as a string`,
        );
      return String(value);
    }
    if (typeof value !== "string")
      throw new TransactionRejected("json_wrong_type", `${name} is not a string, but ${kindOf(value)}`);
    return wellFormed(hint.symbols?.get(value) ?? value, name);
  }

  number(name: string): number {
    const { value, hint } = this.#required(name);
    const number = numberOf(value, hint, this.open, name);
    if (number === null)
      throw new TransactionRejected("json_wrong_type", `${name} is not a number, but ${kindOf(value)}`);
    return number;
  }

  /** Epoch milliseconds. */
  time(name: string): number {
    const { value, hint } = this.#required(name);
    const unit = unitOf(hint.name);
    if (typeof unit === "string") throw new TransactionRejected("json_wrong_type", `${name} is ${hint.name}: ${unit}`);
    let time = Number.NaN;
    if (typeof value === "string") time = parseTime(value);
    // A double holds today's nanoseconds to 256; without this a millisecond could become the one before.
    else if (typeof value === "number")
      time = unit === undefined || unit === 1 ? value : Math.floor((value + (unit > 1e3 ? 512 : 0)) / unit);
    if (!Number.isInteger(time) || Math.abs(time) > LATEST_TIME)
      throw new TransactionRejected(
        "json_wrong_type",
        `${name} is neither epoch milliseconds nor ISO 8601 with a zone`,
      );
    return time;
  }

  flag(name: string): boolean {
    const { value } = this.#required(name);
    if (typeof value === "boolean") return value;
    if (this.#described && (value === 0 || value === 1)) return value === 1;
    throw new TransactionRejected("json_wrong_type", `${name} is not true or false, but ${kindOf(value)}`);
  }

  /** Avro's unions of primitives are given unwrapped; null means absent. */
  attributes(): Record<string, unknown> {
    const attributes: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    const { value: given } = this.#find("attributes");
    if (given !== undefined && given !== null) {
      if (!isNode(given)) throw new TransactionRejected("json_wrong_type", "attributes is not an object");
      for (const [name, value] of Object.entries(given)) this.#put(attributes, name, value, NO_HINT, false);
    }
    if (!this.open) return attributes;
    const taken = new Set([...this.#names, ...[...this.#paths.values()].map(([head]) => head)]);
    for (const [name, value] of Object.entries(this.#payload))
      if (!taken.has(name)) this.#put(attributes, name, value, this.#hints.inside?.get(name) ?? NO_HINT, true);
    for (const name of this.#paths.keys()) {
      if (this.#names.includes(name)) continue;
      const { value, hint } = this.#find(name);
      this.#put(attributes, name, value, hint, true);
    }
    return attributes;
  }

  #put(attributes: Record<string, unknown>, name: string, value: unknown, hint: JsonHint, further: boolean): void {
    if (value === null || value === undefined) return;
    const number = hint.name === undefined ? null : numberOf(value, hint, false, name);
    if (number !== null) attributes[wellFormed(name, "an attribute's name")] = number;
    else if (typeof value === "number" || typeof value === "boolean")
      attributes[wellFormed(name, "an attribute's name")] = value;
    else if (typeof value === "string")
      attributes[wellFormed(name, "an attribute's name")] = wellFormed(
        hint.symbols?.get(value) ?? value,
        `attribute ${shown(name)}`,
      );
    else if (!further)
      throw new TransactionRejected(
        "json_wrong_type",
        `attribute ${shown(name)} is not a number, string or boolean, but ${kindOf(value)}`,
      );
  }

  #required(name: string): { value: unknown; hint: JsonHint } {
    const found = this.#find(name);
    if (found.value === undefined || found.value === null) {
      throw new TransactionRejected(
        "missing_field",
        `${namedWithPath(name, this.#shape, Object.keys(this.#payload).slice(0, MOST_NAMES))} is missing`,
      );
    }
    return found;
  }

  #find(name: string): { value: unknown; hint: JsonHint } {
    let value: unknown = this.#payload;
    let hint: JsonHint = this.#hints;
    for (const part of this.#paths.get(name) ?? [name]) {
      value = isNode(value) && Object.hasOwn(value, part) ? value[part] : undefined;
      hint = hint.inside?.get(part) ?? NO_HINT;
    }
    return { value, hint };
  }
}

/** By our name: the path at which a record has it. */
function pathsOf(shape: RecordShape, names: readonly string[], payload: JsonObject): Map<string, readonly string[]> {
  const paths = new Map<string, readonly string[]>();
  const has = (path: readonly string[]): boolean => {
    let value: unknown = payload;
    for (const part of path) {
      if (!isNode(value) || !Object.hasOwn(value, part)) return false;
      value = value[part];
    }
    return true;
  };
  const walk = (level: ReturnType<typeof shapeTree>, path: readonly string[]): void => {
    for (const [name, { field, inside }] of level) {
      if (field !== undefined) paths.set(field, [...path, name]);
      if (inside !== undefined) walk(inside, [...path, name]);
    }
  };
  walk(shapeTree(shape, names, has), []);
  return paths;
}

/** Takes a record out of Connect's `{schema, payload}` and out of the envelope, as far as they are there. */
function unwrapped(
  value: JsonObject,
  { envelope }: RecordShape,
  hints: JsonHint | null,
): { payload: JsonObject; hint: JsonHint; connect: boolean } {
  let payload = value;
  let hint = hints ?? NO_HINT;
  const keys = Object.keys(value);
  const connect =
    keys.length === 2 && "schema" in value && "payload" in value && (value.schema === null || isNode(value.schema));
  if (connect) {
    hint = hintsOfConnect(value.schema);
    payload = inner(payload, "payload");
  }
  let opened = envelope.length === 0;
  for (const [i, name] of envelope.entries()) {
    if ((connect && i === 0 && name === "payload") || !Object.hasOwn(payload, name)) continue;
    if (payload[name] !== null && !isNode(payload[name])) continue;
    payload = inner(payload, name);
    hint = hint.inside?.get(name) ?? NO_HINT;
    opened = true;
  }
  const whole = payload;
  if (!opened && isChangeEvent((name) => Object.hasOwn(whole, name)) && OPS.includes(String(whole.op)))
    throw withoutPayload(envelope.at(-1) ?? "", String(whole.op));
  return { payload, hint, connect };
}

function inner(value: JsonObject, name: string): JsonObject {
  const found = value[name];
  if (found === null) throw withoutPayload(name, typeof value.op === "string" ? value.op : null);
  if (!isNode(found)) throw new TransactionRejected("json_wrong_type", `${name} is not an object`);
  return found;
}

/** Null: it is not a number. @param texts whether a text may be one */
function numberOf(value: unknown, hint: JsonHint, texts: boolean, name: string): number | null {
  if (typeof value === "number") return value;
  if (typeof value === "string" && hint.name === CONNECT_DECIMAL) return decimalOfBase64(value, hint.scale ?? 0, name);
  if (
    isNode(value) &&
    (hint.name?.endsWith("VariableScaleDecimal") === true ||
      (texts && Object.keys(value).sort().join() === "scale,value"))
  ) {
    if (typeof value.value === "string" && typeof value.scale === "number")
      return decimalOfBase64(value.value, value.scale, name);
  }
  if (typeof value !== "string" || !texts) return null;
  const number = decimalOfText(value);
  return Number.isNaN(number) ? null : number;
}

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

function decimalOfBase64(text: string, scale: number, name: string): number {
  if (text === "" || !BASE64.test(text))
    throw new TransactionRejected("json_wrong_type", `${name} is not a decimal's bytes in base64, as the schema says`);
  const bytes = Buffer.from(text, "base64");
  return decimalOf(bytes, 0, bytes.length, scale);
}

function parseObject(bytes: Buffer): JsonObject {
  if (!isUtf8(bytes)) throw new TransactionRejected("invalid_utf8", "the JSON is not UTF-8");
  const text = bytes.toString("utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new TransactionRejected("json_invalid", "the value is not JSON, though it begins or is declared as such");
  }
  if (!isNode(value)) throw new TransactionRejected("json_invalid", "the value is JSON, but not an object");
  const duplicate = duplicateKey(text);
  if (duplicate !== null)
    throw new TransactionRejected("json_duplicate_key", `the JSON has the key ${shown(duplicate)} twice`);
  return value;
}

/** What a value is, without quoting it. */
function kindOf(value: unknown): string {
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : typeof value === "boolean" ? "true or false" : `a ${typeof value}`;
}

/** A lone surrogate has no UTF-8: it would be replaced, and two ids could become one. */
function wellFormed(text: string, where: string): string {
  if (LONE_SURROGATE.test(text)) throw new TransactionRejected("invalid_utf8", `${where} has half of a surrogate pair`);
  return text;
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
