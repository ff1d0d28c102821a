import { AvroCursor, AvroTruncated, type AvroObject, type AvroSchema, type NamedTypes } from "./avro-cursor.js";
import { decimalOf, decimalOfText, isScale } from "./decimals.js";
import { bareSymbols } from "./enum-symbols.js";
import { parseTime } from "./time-text.js";

/** What stands behind a name in a schema: one Avro type, its logical type and its definition; a union is none. */
export interface AvroType {
  type: string;
  logicalType: string | undefined;
  /** Connect's name of it. */
  connectName: string | undefined;
  definition: AvroObject;
  /** The namespace that its own names are in. */
  named: NamedTypes;
}

/** A type seen through `{type: ...}` and through a name that stands for a definition. */
export function typeOf(schema: AvroSchema, named: NamedTypes): AvroType | null {
  if (Array.isArray(schema)) return null;
  if (typeof schema === "string") {
    const found = named.definitions?.get(qualifiedName(schema, named)) ?? named.definitions?.get(schema);
    if (found !== undefined) return typeOf(found.definition, { ...named, namespace: found.namespace });
    return { type: schema, logicalType: undefined, connectName: undefined, definition: { type: schema }, named };
  }
  const { type, logicalType, "connect.name": connectName } = schema;
  if (typeof type === "string") {
    const isNamed =
      type === "record" ||
      type === "error" ||
      type === "enum" ||
      type === "fixed" ||
      type === "array" ||
      type === "map";
    const inner = isNamed ? null : typeOf(type, named);
    if (inner !== null && inner.definition.type !== type)
      return { ...inner, logicalType: logicalType ?? inner.logicalType, connectName: connectName ?? inner.connectName };
    return { type, logicalType, connectName, definition: schema, named };
  }
  const inner = typeOf(type, named);
  return (
    inner && {
      ...inner,
      logicalType: logicalType ?? inner.logicalType,
      connectName: connectName ?? inner.connectName,
      definition: { ...schema, ...inner.definition },
    }
  );
}

function qualifiedName(name: string, { namespace }: NamedTypes): string {
  return namespace === "" || name.includes(".") ? name : `${namespace}.${name}`;
}

/** A type as messages name it. */
export function describeType({ type, logicalType, connectName, definition }: AvroType): string {
  const plain = type === "record" ? `record ${definition.name}` : type === "fixed" ? `fixed(${definition.size})` : type;
  const known = connectName ?? logicalType;
  return known === undefined ? plain : `${known} (${plain})`;
}

type Read<T> = (cursor: AvroCursor) => T;
/** How a type is read as something, or why it can't be. */
export type Reading<T> = { read: Read<T> } | { refused: string };

const INTEGERS = new Set(["int", "long"]);

/** A number: integers, floating point, and decimals whatever they stand in. @param texts whether a text may be one */
export function numberReading(found: AvroType, texts = false): Reading<number> {
  const { type, logicalType, definition, connectName } = found;
  if (type === "double") return { read: (cursor) => cursor.double() };
  if (type === "float") return { read: (cursor) => cursor.float() };
  if (INTEGERS.has(type)) return { read: (cursor) => cursor.long() };
  if (type === "bytes" && logicalType === "big-decimal") return { read: readBigDecimal };
  if (
    (type === "bytes" || type === "fixed") &&
    (logicalType === "decimal" || connectName === "org.apache.kafka.connect.data.Decimal")
  ) {
    const scale = definition.scale ?? 0;
    if (!isScale(scale)) return { refused: `${describeType(found)} with the scale ${JSON.stringify(scale)}` };
    return { read: decimalRead(type === "fixed" ? (definition.size ?? 0) : null, scale) };
  }
  if (type === "record" && isVariableDecimal(found)) return { read: readVariableDecimal };
  if (type === "string" && texts) return { read: (cursor) => decimalOfText(cursor.string()) };
  return { refused: describeType(found) };
}

function decimalRead(size: number | null, scale: number): Read<number> {
  return (cursor) => {
    const length = size ?? cursor.length();
    const at = cursor.at;
    cursor.skip(length);
    return decimalOf(cursor.bytes, at, length, scale);
  };
}

/** Avro's big-decimal: bytes that hold Avro's bytes of the number, then its scale. */
function readBigDecimal(cursor: AvroCursor): number {
  const size = cursor.length();
  const inner = new AvroCursor();
  inner.set(cursor.bytes, cursor.at, cursor.at + size);
  cursor.at += size;
  try {
    const length = inner.length();
    const at = inner.at;
    inner.skip(length);
    const scale = inner.long();
    return inner.at === inner.end ? decimalOf(inner.bytes, at, length, scale) : Number.NaN;
  } catch (error) {
    // To those who step over the bytes the record is fine.
    if (error instanceof AvroTruncated) return Number.NaN;
    throw error;
  }
}

/** Debezium's decimal without a fixed scale: a record of scale and value, in this order. */
function isVariableDecimal({ definition, connectName }: AvroType): boolean {
  const names = (definition.fields ?? []).map((field) => field.name).join();
  return (
    names === "scale,value" &&
    (connectName === "io.debezium.data.VariableScaleDecimal" ||
      `${definition.namespace ?? ""}.${definition.name ?? ""}`.endsWith("VariableScaleDecimal"))
  );
}

function readVariableDecimal(cursor: AvroCursor): number {
  const scale = cursor.long();
  const length = cursor.length();
  const at = cursor.at;
  cursor.skip(length);
  return decimalOf(cursor.bytes, at, length, scale);
}

/** By the logical type, or what Connect calls the type: how many of a unit make a millisecond. */
const UNITS: Readonly<Record<string, number>> = {
  "timestamp-millis": 1,
  "timestamp-micros": 1e3,
  "timestamp-nanos": 1e6,
  "org.apache.kafka.connect.data.Timestamp": 1,
  "io.debezium.time.Timestamp": 1,
  "io.debezium.time.MicroTimestamp": 1e3,
  "io.debezium.time.NanoTimestamp": 1e6,
};
/** Types that do not name a moment, and why. */
const NO_MOMENTS: readonly [RegExp, string][] = [
  [
    /^local-timestamp-(millis|micros|nanos)$/,
    "a local time has no zone, so it names no moment; write a timestamp of UTC",
  ],
  [
    /^(date|io\.debezium\.time\.(Date|Year)|org\.apache\.kafka\.connect\.data\.Date)$/,
    "a date has no time of day; write a timestamp",
  ],
  [
    /^(time-(milli|micro|nano)s|io\.debezium\.time\.(Micro|Nano|Zoned)?Time|org\.apache\.kafka\.connect\.data\.Time)$/,
    "a time of day has no date; write a timestamp",
  ],
];

/**
 * How many of the unit that a name stands for make a millisecond, or why it is no moment; undefined: it says nothing of
 * time.
 */
export function unitOf(name: string | undefined): number | string | undefined {
  if (name === undefined) return undefined;
  const unit = UNITS[name];
  return unit ?? NO_MOMENTS.find(([pattern]) => pattern.test(name))?.[1];
}

/**
 * A moment in epoch milliseconds: what is finer is cut off. Integers without a unit are milliseconds, texts ISO 8601.
 */
export function timeReading(found: AvroType): Reading<number> {
  const { type, logicalType, connectName } = found;
  const unit = unitOf(connectName) ?? unitOf(logicalType);
  if (typeof unit === "string") return { refused: `${describeType(found)}: ${unit}` };
  if (INTEGERS.has(type)) return { read: integerTime(unit ?? 1) };
  const per = unit ?? 1;
  if (type === "double") return { read: (cursor) => Math.floor(cursor.double() / per) };
  if (type === "float") return { read: (cursor) => Math.floor(cursor.float() / per) };
  if (type === "string") return { read: (cursor) => parseTime(cursor.string()) };
  return { refused: describeType(found) };
}

function integerTime(perMillisecond: number): Read<number> {
  if (perMillisecond === 1) return (cursor) => cursor.long();
  // Nanoseconds of today are beyond what a double holds exactly.
  if (perMillisecond > 1e3) return (cursor) => floorDivide(cursor.bigLong(), BigInt(perMillisecond));
  return (cursor) => Math.floor(cursor.long() / perMillisecond);
}

export function floorDivide(value: bigint, by: bigint): number {
  const quotient = value / by;
  return Number(value % by < 0n ? quotient - 1n : quotient);
}

/** A yes or no: a boolean, or the integers 0 and 1. NaN: neither. */
export function flagReading(found: AvroType, integers: boolean): Reading<number> {
  if (found.type === "boolean") return { read: (cursor) => (cursor.boolean() ? 1 : 0) };
  if (integers && INTEGERS.has(found.type)) {
    return {
      read: (cursor) => {
        const value = cursor.long();
        return value === 0 || value === 1 ? value : Number.NaN;
      },
    };
  }
  return { refused: describeType(found) };
}

/** How a text is got at: it stands in the record, or is made of what stands there. */
export type TextReading = { inPlace: true } | { make: Read<Buffer> } | { refused: string };

/** @param numbers whether an integer may be an id */
export function textReading(found: AvroType, numbers: boolean): TextReading {
  const { type, logicalType, definition } = found;
  if (type === "string") return { inPlace: true };
  if (type === "bytes" && logicalType === undefined && found.connectName === undefined) return { inPlace: true };
  if (type === "enum") {
    const symbols = bareSymbols(definition.name ?? "", definition.symbols ?? []).map((symbol) => Buffer.from(symbol));
    return {
      make: (cursor) => {
        const symbol = symbols[cursor.long()] as Buffer | undefined;
        if (symbol === undefined) throw new AvroTruncated("an enum has no such symbol");
        return symbol;
      },
    };
  }
  if (type === "fixed" && logicalType === "uuid" && definition.size === 16) {
    return {
      make: (cursor) => {
        const at = cursor.at;
        cursor.skip(16);
        return Buffer.from(
          cursor.bytes.toString("hex", at, at + 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"),
        );
      },
    };
  }
  if (numbers && INTEGERS.has(type)) return { make: (cursor) => Buffer.from(String(cursor.bigLong())) };
  return { refused: describeType(found) };
}
