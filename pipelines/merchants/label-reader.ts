import { TIME_RANGE } from "../../infra/clickhouse/tables.js";
import { AvroCursor, AvroTruncated, compileSkip, namespaceIn, type AvroSchema, type NamedTypes } from "../../schemas/avro-cursor.js";
import type { CardIds } from "../../schemas/transaction-reader.js";
import { WIRE_HEAD_BYTES, schemaIdOf } from "../../schemas/wire-format.js";

type Field = "transaction_id" | "card_id" | "is_fraud" | "label_time";
type Op = (cursor: AvroCursor, label: LabelReader) => void;

const PRIMITIVES: Record<Field, readonly string[]> = { transaction_id: ["string", "bytes"], card_id: ["string", "bytes"], is_fraud: ["boolean"], label_time: ["long", "int"] };
const FIELDS = Object.keys(PRIMITIVES) as Field[];

/** Reads labels of any writer schema that has the fields of `Label` by name. */
export class LabelReader {
  readonly #compiled = new Map<number, Op[] | null>();
  readonly #cursor = new AvroCursor();
  readonly #cards: CardIds | null;
  /** What the ids stand in: the record's bytes, unless something else stands for its card. */
  bytes: Buffer = Buffer.alloc(0);
  cardAt = 0;
  cardLength = 0;
  transactionAt = 0;
  transactionLength = 0;
  isFraud = false;
  /** Epoch milliseconds. */
  labelTime = 0;

  /** @param cards what stands for card ids from here on; null: they stand for themselves */
  constructor(cards: CardIds | null = null) {
    this.#cards = cards;
  }

  knows(schemaId: number): boolean {
    return this.#compiled.has(schemaId);
  }

  /** A schema that isn't a label's makes its records unreadable. */
  learn(schemaId: number, schema: AvroSchema): void {
    this.#compiled.set(schemaId, compile(schema));
  }

  /** Reads a value; false: it is no label that can be stored. */
  read(bytes: Buffer, at: number, length: number): boolean {
    const ops = this.#compiled.get(schemaIdOf(bytes, at, length) ?? -1);
    if (ops === undefined || ops === null) return false;
    const cursor = this.#cursor;
    cursor.set(bytes, at + WIRE_HEAD_BYTES, at + length);
    this.cardLength = this.transactionLength = 0;
    this.labelTime = Number.NaN;
    try {
      for (let i = 0; i < ops.length; i++) ops[i](cursor, this);
    } catch (error) {
      if (error instanceof AvroTruncated) return false;
      throw error;
    }
    const whole = cursor.at === at + length && this.cardLength > 0 && this.transactionLength > 0 && this.labelTime >= TIME_RANGE.least && this.labelTime <= TIME_RANGE.most;
    this.bytes = bytes;
    if (whole && this.#cards !== null) this.#replaceCard(this.#cards);
    return whole;
  }

  #replaceCard(cards: CardIds): void {
    const card = cards.of(this.bytes, this.cardAt, this.cardLength);
    this.bytes = Buffer.concat([card, this.bytes.subarray(this.transactionAt, this.transactionAt + this.transactionLength)]);
    this.cardAt = 0;
    this.cardLength = this.transactionAt = card.length;
  }
}

function compile(schema: AvroSchema): Op[] | null {
  if (typeof schema === "string" || Array.isArray(schema) || schema.type !== "record" || schema.fields === undefined) return null;
  const names = new Set(schema.fields.map(({ name }) => name));
  if (!FIELDS.every((name) => names.has(name))) return null;
  const named = { known: new Map(), namespace: namespaceIn(schema, "") };
  try {
    compileSkip(schema, named);
    return schema.fields.map(({ name, type }) => (isField(name) ? fieldOp(name, type, named) : skipOp(type, named)));
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

function isField(name: string): name is Field {
  return (FIELDS as string[]).includes(name);
}

function skipOp(type: AvroSchema, named: NamedTypes): Op {
  const skip = compileSkip(type, named);
  return (cursor) => skip(cursor);
}

/** @throws TypeError for a type that can't be read as the field's */
function fieldOp(name: Field, type: AvroSchema, named: NamedTypes): Op {
  if (Array.isArray(type)) {
    const branches = type.map((branch): Op => {
      try {
        return fieldOp(name, branch, named);
      } catch (error) {
        if (error instanceof TypeError) return wrongBranch;
        throw error;
      }
    });
    if (branches.every((branch) => branch === wrongBranch)) throw new TypeError(`${name} has another type`);
    return (cursor, label) => (branches[cursor.long()] ?? wrongBranch)(cursor, label);
  }
  const primitive = typeof type === "string" ? type : type.type;
  if (typeof primitive !== "string") return fieldOp(name, primitive, named);
  if (!PRIMITIVES[name].includes(primitive)) throw new TypeError(`${name} is ${primitive}`);
  return READ[name];
}

const wrongBranch: Op = () => {
  throw new AvroTruncated("a union has no such branch, or one that fits no label");
};

const READ: Record<Field, Op> = {
  transaction_id: (cursor, label) => {
    label.transactionLength = cursor.length();
    label.transactionAt = cursor.at;
    cursor.at += label.transactionLength;
  },
  card_id: (cursor, label) => {
    label.cardLength = cursor.length();
    label.cardAt = cursor.at;
    cursor.at += label.cardLength;
  },
  is_fraud: (cursor, label) => {
    label.isFraud = cursor.boolean();
  },
  label_time: (cursor, label) => {
    label.labelTime = cursor.long();
  },
};
