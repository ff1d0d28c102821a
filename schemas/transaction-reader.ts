import { isUtf8 } from "node:buffer";
import { AvroCursor, AvroTruncated, compileSkip, namespaceIn, type AvroObject, type AvroSchema, type NamedTypes } from "./avro-cursor.js";
import { messageOf } from "./errors.js";
import { parseJsonTransaction } from "./transaction-json.js";
import { TransactionRejected } from "./transaction-rejected.js";
import { transactionSchema } from "./generated.js";
import { WIRE_HEAD_BYTES, schemaIdOf } from "./wire-format.js";

/** Where one transaction's fields stand; texts are parts of `bytes`, so that the hot path makes no strings. */
export class TransactionFields {
  bytes: Buffer = Buffer.alloc(0);
  transactionIdAt = 0;
  transactionIdLength = -1;
  cardIdAt = 0;
  cardIdLength = -1;
  merchantIdAt = 0;
  merchantIdLength = -1;
  currencyAt = 0;
  currencyLength = -1;
  /** Epoch milliseconds. */
  eventTime = Number.NaN;
  amount = Number.NaN;

  clear(): void {
    this.transactionIdLength = this.cardIdLength = this.merchantIdLength = this.currencyLength = -1;
    this.eventTime = this.amount = Number.NaN;
  }

  text(at: number, length: number): string {
    return this.bytes.toString("utf8", at, at + length);
  }
}

export type AttributeType = "number" | "boolean" | "text";

/** Takes the attributes of a transaction as they are read. A text stands at `at` in `bytes`, `length` bytes long. */
export interface AttributeTarget {
  /**
   * Asked once for each attribute of a writer schema, and for each name in an `attributes` map.
   *
   * @returns what to do with it (a number of the target's own), or -1 to step over it
   */
  find(name: string): number;
  number(found: number, value: number): void;
  boolean(found: number, value: boolean): void;
  text(found: number, bytes: Buffer, at: number, length: number): void;
}

/** What stands for card ids in all that is made of a transaction (infra/card-pseudonyms.ts). */
export interface CardIds {
  /** What stands for the card id in `length` bytes from `at` on; bytes of its own. */
  of(bytes: Uint8Array, at: number, length: number): Buffer;
}

type Op = (cursor: AvroCursor, fields: TransactionFields, target: AttributeTarget) => void;

const MAX_ID_BYTES = 256;
const EARLIEST_EVENT_TIME = Date.UTC(2000, 0, 1);
/** How far ahead of its record's time, and of the reader's clock, a transaction may lie. */
export const CLOCK_SKEW_MS = 5 * 60 * 1000;

/**
 * Reads transactions of any writer schema that has the fields of `Transaction` by name, and JSON. Compiled readers are
 * kept per schema id. One reader serves one AttributeTarget.
 */
export class TransactionReader {
  readonly #target: AttributeTarget;
  readonly #compiled = new Map<number, Op[] | TransactionRejected>();
  readonly #canonical: Op[];
  readonly #cursor = new AvroCursor();
  readonly #cards: CardIds | null;

  /** @param cards what stands for card ids from here on; null: they stand for themselves */
  constructor(target: AttributeTarget, cards: CardIds | null = null) {
    this.#target = target;
    this.#cards = cards;
    this.#canonical = compile(transactionSchema as unknown as AvroObject, target);
  }

  /** Whether records of this schema id can be read at once. */
  knows(schemaId: number): boolean {
    return this.#compiled.has(schemaId);
  }

  /** Makes a writer schema known; null: there is no such schema, and its records will be rejected. */
  learn(schemaId: number, schema: AvroSchema | null): void {
    if (schema === null) {
      this.#compiled.set(schemaId, new TransactionRejected("unknown_schema", `no schema has the id ${schemaId}`));
      return;
    }
    try {
      this.#compiled.set(schemaId, compile(schema, this.#target));
    } catch (error) {
      this.#compiled.set(schemaId, error instanceof TransactionRejected ? error : new TransactionRejected("schema_mismatch", `schema ${schemaId}: ${messageOf(error)}`));
    }
  }

  /** Forgets that a schema id is unknown, so that a schema which was registered since is found. */
  forgetUnknown(): void {
    for (const [id, compiled] of this.#compiled) if (compiled instanceof TransactionRejected && compiled.code === "unknown_schema") this.#compiled.delete(id);
  }

  /**
   * Reads the value of one record into `fields` and its attributes into the target.
   *
   * @param recordTime the record's timestamp, or the present where that is earlier; epoch milliseconds
   * @throws TransactionRejected when it is no acceptable transaction
   */
  read(bytes: Buffer, at: number, length: number, recordTime: number, fields: TransactionFields): void {
    if (length <= 0) throw new TransactionRejected("empty_value", length < 0 ? "the record has no value" : "the record's value is empty");
    fields.clear();
    if (bytes[at] === 0x7b /* { */) {
      const canonical = parseJsonTransaction(bytes.subarray(at, at + length));
      this.#run(this.#canonical, canonical, 0, canonical.length, fields);
    } else {
      const schemaId = schemaIdOf(bytes, at, length);
      if (schemaId === null) throw new TransactionRejected("unknown_format", "the value is neither Avro in the Confluent wire format nor JSON");
      const ops = this.#compiled.get(schemaId);
      if (ops === undefined) throw new TransactionRejected("unknown_schema", `no schema has the id ${schemaId}`);
      if (ops instanceof TransactionRejected) throw ops;
      this.#run(ops, bytes, at + WIRE_HEAD_BYTES, at + length, fields);
    }
    validate(fields, recordTime);
    if (this.#cards !== null) replaceCard(fields, this.#cards);
  }

  #run(ops: Op[], bytes: Buffer, at: number, end: number, fields: TransactionFields): void {
    const cursor = this.#cursor;
    cursor.set(bytes, at, end);
    fields.bytes = bytes;
    try {
      for (let i = 0; i < ops.length; i++) ops[i](cursor, fields, this.#target);
    } catch (error) {
      if (error instanceof AvroTruncated) throw new TransactionRejected("avro_truncated", `the Avro value does not fit its schema: ${error.message}`);
      throw error;
    }
    if (cursor.at !== end) {
      const off = cursor.at - end;
      throw new TransactionRejected(off > 0 ? "avro_truncated" : "avro_trailing", off > 0 ? "the Avro value ends before its schema does" : `the Avro value has ${-off} bytes more than its schema`);
    }
  }
}

/** The fields go on standing in one buffer, which no longer has the card id. */
function replaceCard(fields: TransactionFields, cards: CardIds): void {
  const { bytes, transactionIdAt, transactionIdLength, merchantIdAt, merchantIdLength, currencyAt, currencyLength } = fields;
  const card = cards.of(bytes, fields.cardIdAt, fields.cardIdLength);
  const without = Buffer.allocUnsafe(card.length + transactionIdLength + merchantIdLength + currencyLength);
  let end = card.copy(without);
  const keep = (at: number, length: number): number => (end += bytes.copy(without, end, at, at + length)) - length;
  fields.cardIdAt = 0;
  fields.cardIdLength = card.length;
  fields.transactionIdAt = keep(transactionIdAt, transactionIdLength);
  fields.merchantIdAt = keep(merchantIdAt, merchantIdLength);
  fields.currencyAt = keep(currencyAt, currencyLength);
  fields.bytes = without;
}

function validate(fields: TransactionFields, recordTime: number): void {
  checkId("transaction_id", fields.bytes, fields.transactionIdAt, fields.transactionIdLength);
  checkId("card_id", fields.bytes, fields.cardIdAt, fields.cardIdLength);
  checkId("merchant_id", fields.bytes, fields.merchantIdAt, fields.merchantIdLength);
  if (!Number.isFinite(fields.amount)) throw new TransactionRejected("bad_amount", "amount is not a finite number");
  const { bytes, currencyAt } = fields;
  if (fields.currencyLength !== 3 || !CURRENCIES[currencyIndex(bytes[currencyAt], bytes[currencyAt + 1], bytes[currencyAt + 2])]) {
    throw new TransactionRejected("bad_currency", "currency is not an ISO 4217 code");
  }
  const { eventTime } = fields;
  if (!(eventTime >= EARLIEST_EVENT_TIME)) throw new TransactionRejected("event_time_early", "event_time lies before 2000");
  if (eventTime > recordTime + CLOCK_SKEW_MS) throw new TransactionRejected("event_time_ahead", "event_time lies more than five minutes ahead of the record's time or of the present");
}

function checkId(name: string, bytes: Buffer, at: number, length: number): void {
  if (length <= 0) throw new TransactionRejected("missing_id", `${name} is missing or empty`);
  if (length > MAX_ID_BYTES) throw new TransactionRejected("long_id", `${name} is longer than ${MAX_ID_BYTES} bytes`);
  for (let i = at; i < at + length; i++) {
    if (bytes[i] < 0x80) continue;
    if (!isUtf8(bytes.subarray(at, at + length))) throw new TransactionRejected("invalid_utf8", `${name} is not UTF-8`);
    return;
  }
}

const LETTERS = 26;
/** Codes of ISO 4217 that Intl leaves out: funds, metals, units of account, tests. */
const FURTHER_CURRENCIES = "BOV CHE CHW CLF COU MXV USN UYI UYW VED XAD XAG XAU XBA XBB XBC XBD XPD XPT XTS XUA XXX".split(" ");
/** By the three letters' index: whether ISO 4217 has (or had) that code. */
const CURRENCIES = knownCurrencies();

function knownCurrencies(): Uint8Array {
  const known = new Uint8Array(LETTERS ** 3);
  for (const code of [...Intl.supportedValuesOf("currency"), ...FURTHER_CURRENCIES]) known[currencyIndex(code.charCodeAt(0), code.charCodeAt(1), code.charCodeAt(2))] = 1;
  return known;
}

function currencyIndex(a: number, b: number, c: number): number {
  const first = a - 65, second = b - 65, third = c - 65;
  if (first < 0 || first >= LETTERS || second < 0 || second >= LETTERS || third < 0 || third >= LETTERS) return -1;
  return (first * LETTERS + second) * LETTERS + third;
}

const NUMERIC = new Set(["int", "long", "float", "double"]);
const REQUIRED = ["transaction_id", "event_time", "card_id", "merchant_id", "amount", "currency"] as const;

function compile(schema: AvroSchema, target: AttributeTarget): Op[] {
  if (typeof schema === "string" || Array.isArray(schema) || schema.type !== "record" || schema.fields === undefined) {
    throw new TransactionRejected("schema_mismatch", "the writer's schema is not a record");
  }
  const names = new Set(schema.fields.map((field) => field.name));
  const missing = REQUIRED.filter((name) => !names.has(name));
  if (missing.length > 0) throw new TransactionRejected("schema_mismatch", `the writer's schema lacks ${missing.join(", ")}`);
  const named = { known: new Map(), namespace: namespaceIn(schema, "") };
  // Every name is known from here on: a field may be of the record's own type.
  compileSkip(schema, named);
  return mergeDoubles(schema.fields.map((field) => compileField(field.name, field.type, target, named)));
}

interface FieldOp { op: Op; /** The target's number of a plain double, which can be read in a run with its neighbours. */ double?: number }

function compileField(name: string, type: AvroSchema, target: AttributeTarget, named: NamedTypes): FieldOp {
  switch (name) {
    case "transaction_id":
      return { op: textField(name, type, named, (f, at, length) => { f.transactionIdAt = at; f.transactionIdLength = length; }) };
    case "card_id":
      return { op: textField(name, type, named, (f, at, length) => { f.cardIdAt = at; f.cardIdLength = length; }) };
    case "merchant_id":
      return { op: textField(name, type, named, (f, at, length) => { f.merchantIdAt = at; f.merchantIdLength = length; }) };
    case "currency":
      return { op: textField(name, type, named, (f, at, length) => { f.currencyAt = at; f.currencyLength = length; }) };
    case "amount":
      return { op: numberField(name, type, named, (f, value) => { f.amount = value; }) };
    case "event_time":
      return { op: numberField(name, type, named, (f, value, logicalType) => { f.eventTime = Math.floor(logicalType === "timestamp-micros" ? value / 1000 : value); }) };
    case "attributes":
      return { op: branched(type, (branch) => attributesMap(branch, target, named)) };
    default:
      return attributeField(name, type, target, named);
  }
}

/** The primitive type of a schema, seen through `{type: ...}`; null for anything else. */
function primitiveOf(schema: AvroSchema): { type: string; logicalType?: string | undefined } | null {
  if (typeof schema === "string") return { type: schema };
  if (Array.isArray(schema)) return null;
  const inner = primitiveOf(schema.type);
  return inner === null ? null : { type: inner.type, logicalType: schema.logicalType ?? inner.logicalType };
}

/** An op of a type, or of a union of `null` and others: each branch its own. */
function branched(type: AvroSchema, compileBranch: (branch: AvroSchema) => Op): Op {
  if (!Array.isArray(type)) return compileBranch(type);
  const branches = type.map(compileBranch);
  return (cursor, fields, target) => {
    const branch = branches[cursor.long()] as Op | undefined;
    if (branch === undefined) throw new AvroTruncated("a union has no such branch");
    branch(cursor, fields, target);
  };
}

const NOTHING: Op = () => {};

function textField(name: string, type: AvroSchema, named: NamedTypes, set: (fields: TransactionFields, at: number, length: number) => void): Op {
  return branched(type, (branch) => {
    const primitive = primitiveOf(branch)?.type;
    if (primitive === "null") return NOTHING;
    if (primitive !== "string") return wrongType(name, "a string", branch, named);
    return (cursor, fields) => {
      const length = cursor.length();
      set(fields, cursor.at, length);
      cursor.at += length;
    };
  });
}

function numberField(name: string, type: AvroSchema, named: NamedTypes, set: (fields: TransactionFields, value: number, logicalType?: string) => void): Op {
  return branched(type, (branch) => {
    const primitive = primitiveOf(branch);
    if (primitive?.type === "null") return NOTHING;
    if (primitive === null || !NUMERIC.has(primitive.type)) return wrongType(name, "a number", branch, named);
    const read = numberReader(primitive.type);
    const { logicalType } = primitive;
    return (cursor, fields) => set(fields, read(cursor), logicalType);
  });
}

function wrongType(name: string, wanted: string, branch: AvroSchema, named: NamedTypes): Op {
  compileSkip(branch, named);
  return () => {
    throw new TransactionRejected("schema_mismatch", `${name} is not ${wanted} in the writer's schema`);
  };
}

function numberReader(primitive: string): (cursor: AvroCursor) => number {
  if (primitive === "double") return (cursor) => cursor.double();
  if (primitive === "float") return (cursor) => cursor.float();
  return (cursor) => cursor.long();
}

/** A further top-level field: an attribute if it is a number, string or boolean, otherwise stepped over. */
function attributeField(name: string, type: AvroSchema, target: AttributeTarget, named: NamedTypes): FieldOp {
  const found = target.find(name);
  if (found < 0) {
    const skip = compileSkip(type, named);
    return { op: (cursor) => skip(cursor) };
  }
  const op = branched(type, (branch) => attributeBranch(branch, found, named));
  return primitiveOf(type)?.type === "double" ? { op, double: found } : { op };
}

function attributeBranch(branch: AvroSchema, found: number, named: NamedTypes): Op {
  const primitive = primitiveOf(branch)?.type;
  if (primitive === "boolean") return (cursor, _fields, target) => target.boolean(found, cursor.boolean());
  if (primitive === "string") {
    return (cursor, _fields, target) => {
      const length = cursor.length();
      target.text(found, cursor.bytes, cursor.at, length);
      cursor.at += length;
    };
  }
  if (primitive !== undefined && NUMERIC.has(primitive)) {
    const read = numberReader(primitive);
    return (cursor, _fields, target) => target.number(found, read(cursor));
  }
  const skip = compileSkip(branch, named);
  return (cursor) => skip(cursor);
}

const MAX_KNOWN_NAMES = 10_000;
const MAX_KNOWN_NAME_LENGTH = 256;

/** The `attributes` map: each value is of a primitive type or a union of them. */
function attributesMap(map: AvroSchema, target: AttributeTarget, named: NamedTypes): Op {
  if (primitiveOf(map)?.type === "null") return NOTHING;
  if (typeof map === "string" || Array.isArray(map) || map.type !== "map" || map.values === undefined) return wrongType("attributes", "a map", map, named);
  const values = map.values;
  const skip = compileSkip(values, named);
  const names = new Map<string, { found: number; op: Op }>();
  return (cursor, fields) => {
    for (let count = cursor.long(); count !== 0; count = cursor.long()) {
      if (count < 0) {
        cursor.length();
        count = -count;
      }
      for (; count > 0; count--) {
        if (cursor.at >= cursor.end) throw new AvroTruncated("a map is cut off");
        const name = cursor.string();
        let known = names.get(name);
        if (known === undefined) {
          const found = target.find(name);
          known = { found, op: found < 0 ? (at) => skip(at) : branched(values, (branch) => attributeBranch(branch, found, named)) };
          // Names come from producers: a bounded number of them is remembered, none of them huge.
          if (names.size < MAX_KNOWN_NAMES && name.length <= MAX_KNOWN_NAME_LENGTH) names.set(name, known);
        }
        known.op(cursor, fields, target);
      }
    }
  };
}

/** Runs of plain doubles become one op: a flat schema of a model's inputs is mostly that. */
function mergeDoubles(fields: FieldOp[]): Op[] {
  const ops: Op[] = [];
  for (let i = 0; i < fields.length; ) {
    let end = i;
    while (end < fields.length && fields[end].double !== undefined) end++;
    if (end - i < 2) {
      ops.push(fields[i++].op);
      continue;
    }
    const run = Int32Array.from(fields.slice(i, end), (field) => field.double ?? -1);
    ops.push((cursor, _fields, target) => {
      for (let j = 0; j < run.length; j++) target.number(run[j], cursor.double());
    });
    i = end;
  }
  return ops;
}
