import type { AttributeTarget, Unreadable } from "./avro-attributes.js";
import { messageOf } from "./errors.js";
import type { ProtoField, ProtoFile, ProtoMessage } from "./proto-file.js";
import { locateFields, ProtoValue, readVarint, varintEnd, VARINT, type Slot } from "./proto-cursor.js";
import { fallbackOf } from "./proto-defaults.js";
import { describeProto, protoFlag, protoNumber, protoText, protoTime, wireTypeOf } from "./proto-values.js";
import { OP, isChangeEvent, withoutPayload } from "./change-events.js";
import { isDescribed, misplaced, namedWithPath, shapeTree, type RecordShape, type ShapeNode } from "./record-shape.js";
import { namesOf, type FieldKind, type RecordFields, type RecordSpec } from "./record-spec.js";
import { TransactionRejected } from "./transaction-rejected.js";
import type { SchemaKey } from "./wire-format.js";

interface Options<F> {
  spec: RecordSpec<F>;
  shape: RecordShape;
  target: AttributeTarget;
}
/** Hands on what stands at one field of a message; null: it isn't there. */
type Take<F> = (value: ProtoValue | null, fields: F) => void;
interface Program<F> {
  read: Take<F>;
  unreadable: Unreadable[];
}

const MOST_MESSAGES = 64;

/** Reads records of one .proto file: of any of its messages, which each record names by its place in the file. */
export class ProtobufRecords<F extends RecordFields> {
  readonly #file: ProtoFile;
  readonly #options: Options<F>;
  readonly #programs = new Map<string, Program<F> | TransactionRejected>();

  constructor(file: ProtoFile, options: Options<F>) {
    this.#file = file;
    this.#options = options;
  }

  /** What can't be read of the file's first message, which is nearly always the record's. */
  unreadable(key: SchemaKey): readonly Unreadable[] {
    const program = this.#program("0", key);
    return program instanceof TransactionRejected ? [] : program.unreadable;
  }

  /** @throws TransactionRejected `protobuf_malformed`, `schema_mismatch` */
  read(bytes: Buffer, at: number, end: number, key: SchemaKey, fields: F): void {
    const inHeader = typeof key === "string";
    const message = inHeader ? { path: key.split("#")[1] ?? "0", from: at } : messagePath(bytes, at, end);
    const program = this.#program(message.path, key);
    if (program instanceof TransactionRejected) throw program;
    fields.bytes = bytes;
    program.read(new ProtoValue(bytes, message.from, end), fields);
  }

  #program(path: string, key: SchemaKey): Program<F> | TransactionRejected {
    let program = this.#programs.get(path);
    if (program === undefined) {
      program = this.#compile(path, key);
      if (this.#programs.size < MOST_MESSAGES) this.#programs.set(path, program);
    }
    return program;
  }

  #compile(path: string, key: SchemaKey): Program<F> | TransactionRejected {
    let messages = this.#file.messages;
    let message: ProtoMessage | undefined;
    for (const index of path.split(".").map(Number)) {
      message = index < 0 ? undefined : messages.at(index);
      messages = message?.messages ?? [];
    }
    if (message === undefined)
      return new TransactionRejected(
        "schema_mismatch",
        `schema ${key}: the record names a message that the .proto file doesn't have`,
      );
    try {
      return compileMessage(message, this.#file, this.#options);
    } catch (error) {
      return new TransactionRejected("schema_mismatch", `schema ${key}: ${messageOf(error)}`);
    }
  }
}

/**
 * The message indexes in front of a value: their count and each of them, zigzag varints; a single 0 is the first
 * message.
 */
function messagePath(bytes: Buffer, at: number, end: number): { path: string; from: number } {
  const zigzag = (): number => {
    const value = readVarint(bytes, at, end);
    at = varintEnd();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  };
  const count = zigzag();
  if (count === 0) return { path: "0", from: at };
  if (count < 0 || count > 16)
    throw new TransactionRejected(
      "protobuf_malformed",
      "the value doesn't begin with the place of its message in the .proto file",
    );
  const path: number[] = [];
  for (let i = 0; i < count; i++) path.push(zigzag());
  return { path: path.join("."), from: at };
}

function compileMessage<F extends RecordFields>(root: ProtoMessage, file: ProtoFile, options: Options<F>): Program<F> {
  const unreadable: Unreadable[] = [];
  return { read: compileEnvelope(root, options.shape.envelope, { file, options, unreadable }), unreadable };
}

interface Context<F> {
  file: ProtoFile;
  options: Options<F>;
  unreadable: Unreadable[];
}

function compileEnvelope<F extends RecordFields>(
  message: ProtoMessage,
  envelope: readonly string[],
  context: Context<F>,
): Take<F> {
  const [head, ...rest] = envelope;
  if (head === undefined) return compilePayload(message, context);
  const holder = message.fields.find(({ name }) => name === head);
  const inner = holder === undefined || holder.repeated ? undefined : context.file.byName.get(holder.type);
  if (holder === undefined || inner === undefined) return compileEnvelope(message, rest, context);
  const take = compileEnvelope(inner, rest, context);
  return withOp(message, context.file, (op) => ({
    field: holder,
    take: (value, fields) => {
      if (value === null) throw withoutPayload(head, op());
      take(value, fields);
    },
  }));
}

/** Reads a message's `op` before the field that is wanted of it. */
function withOp<F>(
  message: ProtoMessage,
  file: ProtoFile,
  wanted: (op: () => string | null) => { field: ProtoField; take: Take<F> },
): Take<F> {
  let op: string | null = null;
  const field = opOf(message);
  const take: Take<F> = (value) => void (op = value?.text() ?? null);
  return takeFields([...(field === undefined ? [] : [{ field, take }]), wanted(() => op)], file);
}

/** The field that says what a change event is. */
function opOf({ fields }: ProtoMessage): ProtoField | undefined {
  return fields.find(({ name, type, repeated }) => name === OP && type === "string" && !repeated);
}

function compilePayload<F extends RecordFields>(message: ProtoMessage, context: Context<F>): Take<F> {
  const {
    file,
    options: { spec, shape },
  } = context;
  const has = (path: readonly string[]): boolean => hasPath(message, path, file);
  const there = message.fields.map(({ name }) => name);
  const missing = spec.required.filter((name) => !has([name]) && !has(shape.fields.get(name) ?? [name]));
  const op = opOf(message);
  if (missing.length > 0 && op !== undefined && shape.envelope.length > 0 && isChangeEvent((name) => has([name]))) {
    return takeFields(
      [
        {
          field: op,
          take: (value) => {
            throw withoutPayload(shape.envelope.at(-1) ?? "", value?.text() ?? null);
          },
        },
      ],
      file,
    );
  }
  if (missing.length > 0) {
    const named = missing.map((name) => namedWithPath(name, shape, there));
    throw new TypeError(`the message ${message.name} lacks ${named.join(", ")}`);
  }
  const isAskedFor = (attribute: string): boolean => spec.attributes && context.options.target.find(attribute) >= 0;
  context.unreadable.push(
    ...misplaced(shape, namesOf(spec), has, there).filter(
      ({ attribute, ofOurs }) => ofOurs === true || isAskedFor(attribute),
    ),
  );
  return compileLevel(message, shapeTree(shape, namesOf(spec), has), context, true);
}

function hasPath(message: ProtoMessage, [name, ...rest]: readonly string[], file: ProtoFile): boolean {
  const field = message.fields.find((candidate) => candidate.name === name);
  if (field === undefined) return false;
  if (rest.length === 0) return true;
  const inner = field.repeated ? undefined : file.byName.get(field.type);
  return inner !== undefined && hasPath(inner, rest, file);
}

function compileLevel<F extends RecordFields>(
  message: ProtoMessage,
  level: Map<string, ShapeNode>,
  context: Context<F>,
  payload: boolean,
): Take<F> {
  const {
    file,
    options: { spec },
  } = context;
  const takes: { field: ProtoField; take: Take<F> }[] = [];
  for (const field of message.fields) {
    const node = level.get(field.name);
    if (node === undefined) {
      if (payload && spec.attributes && !namesOf(spec).includes(field.name))
        takes.push(...attributeTake(field.name, field, context));
      continue;
    }
    const inner = field.repeated ? undefined : file.byName.get(field.type);
    if (node.inside !== undefined && inner !== undefined) {
      const take = compileLevel(inner, node.inside, context, false);
      takes.push({ field, take: (value, fields) => void (value !== null && take(value, fields)) });
    }
    if (node.field !== undefined) takes.push(...namedTake(node.field, field, context));
  }
  return takeFields(takes, file);
}

function namedTake<F extends RecordFields>(
  name: string,
  field: ProtoField,
  context: Context<F>,
): { field: ProtoField; take: Take<F> }[] {
  const { spec, shape } = context.options;
  if (name === "attributes" && spec.attributes) return [mapTake(field, context)];
  const kind = spec.fields[name] as FieldKind<F> | undefined;
  if (kind === undefined) return attributeTake(name, field, context);
  return [{ field, take: oursTake(name, field, kind, context.file, isDescribed(shape)) }];
}

function oursTake<F extends RecordFields>(
  name: string,
  field: ProtoField,
  kind: FieldKind<F>,
  file: ProtoFile,
  described: boolean,
): Take<F> {
  const refuse = (): never => {
    throw new TransactionRejected(
      "schema_mismatch",
      `${name} must be ${kind.wanted}; in the writer's schema it is ${describeProto(field)}`,
    );
  };
  if (field.repeated) return refuse;
  if (kind.kind === "text") {
    const read = protoText(field, file, described);
    if (read === null) return refuse;
    return (value, fields) => {
      const text = value === null && field.presence ? null : read(value);
      if (text === null) return;
      if (typeof text === "object") kind.make(fields, text);
      // A default of the schema's stands in no record.
      else if (value !== null && value.bytes !== fields.bytes) kind.make(fields, value.bytes);
      else if (value !== null) kind.place(fields, value.at, value.end - value.at);
    };
  }
  const { set } = kind;
  if (kind.kind === "flag") {
    const flag = protoFlag(field, described);
    if (flag === null) return refuse;
    return (value, fields) => {
      if (value === null && field.presence) return;
      const answer = flag(value);
      if (Number.isNaN(answer))
        throw new TransactionRejected(kind.badCode, `${name} is a ${field.type} that is not ${kind.wanted}`);
      set(fields, answer);
    };
  }
  const read = kind.kind === "time" ? protoTime(field) : protoNumber(field, true);
  if (read === null) return refuse;
  const isText = field.type === "string" || field.type === "google.protobuf.StringValue";
  return (value, fields) => {
    if (value === null && field.presence) return;
    const number = read(value);
    if (Number.isNaN(number) && isText)
      throw new TransactionRejected(kind.badCode, `${name} is a string that is not ${kind.wanted}`);
    set(fields, number);
  };
}

function attributeTake<F extends RecordFields>(
  name: string,
  field: ProtoField,
  { file, options: { target }, unreadable }: Context<F>,
): { field: ProtoField; take: Take<F> }[] {
  const found = target.find(name);
  if (found < 0) return [];
  const take = attributeRead(field, found, file, target);
  if (take !== null) return [{ field, take }];
  unreadable.push({ attribute: name, type: describeProto(field) });
  return [];
}

/** Null: it can't be read as an attribute. An absent value of a field without presence is its default. */
function attributeRead(
  field: ProtoField,
  found: number,
  file: ProtoFile,
  target: AttributeTarget,
): ((value: ProtoValue | null) => void) | null {
  if (field.repeated) return null;
  const { presence } = field;
  if (field.type === "bool" || field.type === "google.protobuf.BoolValue") {
    const wrapped = field.type !== "bool";
    return (value) => {
      if (value !== null || !presence)
        target.boolean(
          found,
          value !== null && (wrapped ? (value.only(1, VARINT)?.integer() ?? 0) : value.integer()) !== 0,
        );
    };
  }
  const number = field.type === "google.protobuf.Timestamp" ? null : protoNumber(field, false);
  if (number !== null) {
    return (value) => {
      if (value !== null || !presence) target.number(found, number(value));
    };
  }
  const text = protoText(field, file, false);
  if (text === null || field.type === "bytes" || field.type === "google.protobuf.BytesValue") return null;
  return (value) => {
    if (value === null && presence) return;
    const made = text(value);
    if (typeof made === "object" && made !== null) target.text(found, made, 0, made.length);
    else if (value === null) target.text(found, NO_TEXT, 0, 0);
    else target.text(found, value.bytes, value.at, value.end - value.at);
  };
}

const NO_TEXT = Buffer.alloc(0);
const MOST_NAMES = 10_000;

/** The `attributes` map: of one key that stands twice the last counts. */
function mapTake<F extends RecordFields>(
  field: ProtoField,
  { file, unreadable, options: { target } }: Context<F>,
): { field: ProtoField; take: Take<F> } {
  const { map } = field;
  if (map === null || map.key !== "string") {
    return {
      field,
      take: () => {
        throw new TransactionRejected(
          "schema_mismatch",
          `attributes must be a map of strings; in the writer's schema it is ${describeProto(field)}`,
        );
      },
    };
  }
  const valueField: ProtoField = {
    name: "value",
    number: 2,
    type: map.value,
    repeated: false,
    presence: false,
    map: null,
    fallback: null,
  };
  if (attributeRead(valueField, -1, file, target) === null)
    unreadable.push({ attribute: "attributes", type: describeProto(field) });
  const wireType = wireTypeOf(map.value, file);
  const readers = new Map<string, ((value: ProtoValue | null) => void) | null>();
  const readerOf = (name: string): ((value: ProtoValue | null) => void) | null => {
    let reader = readers.get(name);
    if (reader === undefined) {
      const found = target.find(name);
      reader = found < 0 ? null : attributeRead(valueField, found, file, target);
      if (readers.size < MOST_NAMES && name.length <= 256) readers.set(name, reader);
    }
    return reader;
  };
  return {
    field,
    take: (value) => {
      const entries = new Map<string, ProtoValue | null>();
      for (let entry = value; entry !== null; entry = entry.before) {
        const { key, value: inner } = entry.entry(wireType);
        if (!entries.has(key)) entries.set(key, inner);
      }
      for (const [name, inner] of entries) readerOf(name)?.(inner);
    },
  };
}

/** Finds the fields of a message that are wanted, then reads each once: the last value of a field counts. */
function takeFields<F>(takes: { field: ProtoField; take: Take<F> }[], file: ProtoFile): Take<F> {
  const slots = new Map<number, Slot>();
  for (const { field } of takes) {
    if (!slots.has(field.number))
      slots.set(field.number, { at: slots.size, wireType: wireTypeOf(field.type, file), all: field.map !== null });
  }
  const fallbacks = takes.map(({ field }) => fallbackOf(field, file));
  const slotOf = takes.map(({ field }) => slots.get(field.number)?.at ?? 0);
  return (value, fields) => {
    const found = value === null ? [] : locateFields(value, slots, slots.size);
    for (let i = 0; i < takes.length; i++) takes[i].take(found[slotOf[i]] ?? fallbacks[i], fields);
  };
}
