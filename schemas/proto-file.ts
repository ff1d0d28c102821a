/** A field of a message. `type` is a scalar's name, or the full name of a message or enum. */
export interface ProtoField {
  name: string;
  number: number;
  type: string;
  repeated: boolean;
  /** Whether its absence can be told from its default. */
  presence: boolean;
  /** Of a map: the types of its keys and values. */
  map: { key: string; value: string } | null;
  /** What stands for it where it is absent, as the schema writes it; null: the schema says nothing. */
  fallback: string | null;
}

export interface ProtoMessage {
  name: string;
  fields: ProtoField[];
  messages: ProtoMessage[];
}

/** A .proto file and what it imports. */
export interface ProtoFile {
  /** Of the file itself, in their order: a record says which of them it is by its place. */
  messages: ProtoMessage[];
  /** All messages, by their full name. */
  byName: ReadonlyMap<string, ProtoMessage>;
  /** Symbols of all enums by number, by the enum's full name. */
  enums: ReadonlyMap<string, ReadonlyMap<number, string>>;
}

const PROTO_SCALARS = new Set([
  "double",
  "float",
  "int32",
  "int64",
  "uint32",
  "uint64",
  "sint32",
  "sint64",
  "fixed32",
  "fixed64",
  "sfixed32",
  "sfixed64",
  "bool",
  "string",
  "bytes",
]);

/**
 * Parses a .proto file (proto2, proto3, editions) as far as reading records needs it: options, services, extensions and
 * reserved ranges are stepped over.
 *
 * @param imports texts of the files that it imports; those of google/protobuf need not be among them
 * @throws TypeError when it is none
 */
export function parseProto(text: string, imports: readonly string[] = []): ProtoFile {
  const byName = new Map<string, ProtoMessage>();
  const enums = new Map<string, Map<number, string>>();
  const parsers = [text, ...imports, WELL_KNOWN].map((source) => new ProtoParser(source, byName, enums));
  for (const parser of parsers.toReversed()) parser.parse();
  for (const message of byName.values())
    for (const field of message.fields) resolveTypes(message, field, byName, enums);
  return { messages: parsers[0].messages, byName, enums };
}

/** What a path may lead into though registries have it built in, so that no text of it comes along. */
const WELL_KNOWN =
  'syntax = "proto3"; package google.type; message Money { string currency_code = 1; int64 units = 2; int32 ' +
  "nanos = 3; }";

/** Names are resolved from the innermost scope outwards. */
function resolveTypes(
  message: ProtoMessage,
  field: ProtoField,
  byName: ReadonlyMap<string, unknown>,
  enums: ReadonlyMap<string, unknown>,
): void {
  const resolve = (type: string): string => {
    if (PROTO_SCALARS.has(type)) return type;
    if (type.startsWith(".")) return type.slice(1);
    for (let scope = message.name; ; scope = scope.slice(0, Math.max(0, scope.lastIndexOf(".")))) {
      const name = scope === "" ? type : `${scope}.${type}`;
      if (byName.has(name) || enums.has(name)) return name;
      if (scope === "") return type;
    }
  };
  field.type = resolve(field.type);
  if (field.map !== null) field.map.value = resolve(field.map.value);
  // A message's absence can always be told.
  if (!PROTO_SCALARS.has(field.type) && !enums.has(field.type)) field.presence = true;
}

const GAP = /\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\//.source;
const STRING = /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/.source;
const NAME = /[A-Za-z_][\w.]*|\.[A-Za-z_][\w.]*/.source;
const NUMBER = /[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)/.source;
const MARK = /[{}()[\]<>=;,:/.+-]/.source;
const TOKEN = new RegExp(`${GAP}|(${STRING}|${NAME}|${NUMBER}|${MARK})`, "gy");
const MOST_DEPTH = 64;
const OPENING = new Set("{[("),
  CLOSING = new Set("}])");

class ProtoParser {
  readonly messages: ProtoMessage[] = [];
  readonly #tokens: string[] = [];
  readonly #byName: Map<string, ProtoMessage>;
  readonly #enums: Map<string, Map<number, string>>;
  #at = 0;
  #package = "";
  #implicit = false;

  constructor(text: string, byName: Map<string, ProtoMessage>, enums: Map<string, Map<number, string>>) {
    this.#byName = byName;
    this.#enums = enums;
    TOKEN.lastIndex = 0;
    for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
      const match = TOKEN.exec(text);
      if (match === null)
        throw new TypeError(`not a .proto file: unexpected ${JSON.stringify(text.slice(at, at + 20))}`);
      const token = match[1] as string | undefined;
      if (token !== undefined) this.#tokens.push(token);
    }
  }

  parse(): void {
    while (this.#at < this.#tokens.length) {
      const token = this.#next();
      if (token === "syntax") {
        this.#expect("=");
        this.#implicit = this.#next().slice(1, -1) === "proto3";
        this.#expect(";");
      } else if (token === "package") {
        this.#package = this.#next();
        this.#expect(";");
      } else if (token === "option") this.#fileOption();
      else if (token === "message") this.messages.push(this.#message(this.#package, 0));
      else if (token === "enum") this.#enum(this.#package);
      else if (token !== ";") this.#skipStatement();
    }
  }

  /** Of a file's options, one matters: whether absence can be told, which editions leave open. */
  #fileOption(): void {
    const from = this.#at;
    this.#skipStatement();
    const words = this.#tokens.slice(from, this.#at).join("");
    if (words.startsWith("features")) this.#implicit = /field_presence[=:]IMPLICIT/.test(words);
  }

  #message(scope: string, depth: number): ProtoMessage {
    if (depth > MOST_DEPTH) throw new TypeError("not a .proto file: messages are nested too deeply");
    const name = this.#next();
    const message: ProtoMessage = { name: scope === "" ? name : `${scope}.${name}`, fields: [], messages: [] };
    this.#byName.set(message.name, message);
    this.#expect("{");
    for (let token = this.#next(); token !== "}"; token = this.#next()) this.#member(token, message, depth, false);
    return message;
  }

  #member(token: string, message: ProtoMessage, depth: number, inOneof: boolean): void {
    if (token === ";") return;
    // Keywords may be names of types, too: those are followed by a field's name and an equals sign.
    const isField = token !== "option" && this.#tokens[this.#at + 1] === "=";
    if (!isField && token === "message") message.messages.push(this.#message(message.name, depth + 1));
    else if (!isField && token === "enum") this.#enum(message.name);
    else if (!isField && (token === "option" || token === "reserved" || token === "extensions" || token === "extend"))
      this.#skipStatement();
    else if (!isField && token === "oneof") {
      this.#next();
      this.#expect("{");
      for (let inner = this.#next(); inner !== "}"; inner = this.#next()) {
        if (inner === "option") this.#skipStatement();
        else this.#member(inner, message, depth, true);
      }
    } else this.#field(token, message, inOneof);
  }

  #field(first: string, message: ProtoMessage, inOneof: boolean): void {
    const label =
      (first === "optional" || first === "required" || first === "repeated") && this.#tokens[this.#at + 1] !== "="
        ? first
        : "";
    const type = label === "" ? first : this.#next();
    let map: ProtoField["map"] = null;
    if (type === "map" && this.#tokens[this.#at] === "<") {
      this.#next();
      const key = this.#next();
      this.#expect(",");
      map = { key, value: this.#next() };
      this.#expect(">");
    }
    const name = this.#next();
    this.#expect("=");
    const number = Number(this.#next());
    if (!Number.isInteger(number) || number < 1) throw new TypeError(`not a .proto file: ${name} has no field number`);
    const from = this.#at;
    this.#skipStatement();
    // A group's statement holds its fields, and no options of its own.
    const options = type === "group" ? [] : this.#tokens.slice(from, this.#at);
    const said = /field_presence=(IMPLICIT|EXPLICIT|LEGACY_REQUIRED)/.exec(options.join(""))?.[1];
    const implicit = said === undefined ? this.#implicit : said === "IMPLICIT";
    message.fields.push({
      name,
      number,
      type: map === null ? type : "map",
      repeated: label === "repeated" || map !== null,
      presence: inOneof || label !== "" || !implicit,
      map,
      fallback: inOneof ? null : fallbackIn(options),
    });
  }

  #enum(scope: string): void {
    const name = this.#next();
    const symbols = new Map<number, string>();
    this.#enums.set(scope === "" ? name : `${scope}.${name}`, symbols);
    this.#expect("{");
    for (let token = this.#next(); token !== "}"; token = this.#next()) {
      if (token === ";") continue;
      if (this.#tokens[this.#at] !== "=") {
        // An option, or a reserved range.
        this.#skipStatement();
        continue;
      }
      this.#next();
      const number = Number(this.#next());
      // Of two names of one number the first is its own.
      if (!symbols.has(number)) symbols.set(number, token);
      this.#skipStatement();
    }
  }

  /** To behind the statement's end: a semicolon, or its block. */
  #skipStatement(): void {
    for (let depth = 0; ;) {
      const token = this.#next();
      if (OPENING.has(token)) depth += 1;
      else if (CLOSING.has(token)) {
        depth -= 1;
        if (depth < 0) throw new TypeError(`not a .proto file: unexpected ${token}`);
        if (depth === 0 && token === "}" && this.#tokens[this.#at] !== ";") return;
      } else if (token === ";" && depth === 0) return;
    }
  }

  #next(): string {
    if (this.#at >= this.#tokens.length) throw new TypeError("not a .proto file: it ends too early");
    return this.#tokens[this.#at++];
  }

  #expect(wanted: string): void {
    const token = this.#next();
    if (token !== wanted)
      throw new TypeError(
        `not a .proto file: ${JSON.stringify(token.slice(0, 20))} where ${JSON.stringify(wanted)} should be`,
      );
  }
}

/** The `default` among a field's options, where it is none of a nested one. */
function fallbackIn(options: readonly string[]): string | null {
  let depth = 0;
  for (const [i, token] of options.entries()) {
    if (OPENING.has(token)) depth += 1;
    else if (CLOSING.has(token)) depth -= 1;
    else if (token === "default" && depth === 1 && options[i + 1] === "=") {
      const end = options.findIndex((later, j) => j > i && (later === "," || later === "]"));
      return options.slice(i + 2, end).join("");
    }
  }
  return null;
}
