import { floorDivide } from "./avro-values.js";
import { decimalOf, decimalOfText } from "./decimals.js";
import { BYTES, FIXED32, FIXED64, VARINT, type ProtoValue } from "./proto-cursor.js";
import type { ProtoField, ProtoFile } from "./proto-file.js";
import { parseTime } from "./time-text.js";

/** Null stands for the field's default: 0, nothing, the empty text. */
type Read<T> = (value: ProtoValue | null) => T;

export function describeProto({ type, repeated, map }: ProtoField): string {
  if (map !== null) return `map<${map.key}, ${map.value}>`;
  return repeated ? `repeated ${type}` : type;
}

const INTEGERS: Readonly<Record<string, (value: ProtoValue) => bigint>> = {
  int32: (value) => value.exact(), int64: (value) => value.exact(), uint32: (value) => value.unsigned(), uint64: (value) => value.unsigned(),
  sint32: (value) => value.zigzag(), sint64: (value) => value.zigzag(),
  fixed32: (value) => value.fixed32(false), sfixed32: (value) => value.fixed32(true), fixed64: (value) => value.fixed64(false), sfixed64: (value) => value.fixed64(true),
};

function integerRead(type: string): ((value: ProtoValue) => bigint) | null {
  return Object.hasOwn(INTEGERS, type) ? INTEGERS[type] : null;
}

/** How values of a type are encoded. @param file tells enums from messages; null: the type is neither */
export function wireTypeOf(type: string, file: Pick<ProtoFile, "enums"> | null): number {
  if (type === "double" || type === "fixed64" || type === "sfixed64") return FIXED64;
  if (type === "float" || type === "fixed32" || type === "sfixed32") return FIXED32;
  return type === "bool" || integerRead(type) !== null || file?.enums.has(type) === true ? VARINT : BYTES;
}

/** A number: floating point, integers, their wrappers, and decimals of Google and Confluent. Null: it is none. */
export function protoNumber({ type }: Pick<ProtoField, "type">, texts: boolean): Read<number> | null {
  if (type === "double") return (value) => value?.double() ?? 0;
  if (type === "float") return (value) => value?.float() ?? 0;
  const integer = integerRead(type);
  if (integer !== null) return (value) => (value === null ? 0 : Number(integer(value)));
  const wrapped = /^google\.protobuf\.(Double|Float|Int32|Int64|UInt32|UInt64)Value$/.exec(type)?.[1];
  if (wrapped !== undefined) {
    const inner = protoNumber({ type: wrapped.toLowerCase() }, false);
    const wireType = wireTypeOf(wrapped.toLowerCase(), null);
    return inner && ((value) => inner(value?.only(1, wireType) ?? null));
  }
  if (type === "confluent.type.Decimal") {
    return (value) => {
      const unscaled = value?.only(1, BYTES) ?? null;
      return unscaled === null ? 0 : decimalOf(unscaled.bytes, unscaled.at, unscaled.end - unscaled.at, value?.only(3, VARINT)?.integer() ?? 0);
    };
  }
  if (type === "google.type.Decimal") return (value) => decimalOfText(value?.only(1, BYTES)?.text() ?? "0");
  if (type === "google.type.Money") return moneyOf;
  if (type === "string" && texts) return (value) => decimalOfText(value?.text() ?? "");
  return null;
}

/** Units and billionths of one, of the same sign. */
function moneyOf(value: ProtoValue | null): number {
  const units = value?.only(2, VARINT)?.exact() ?? 0n;
  const nanos = value?.only(3, VARINT)?.exact() ?? 0n;
  return Number(`${units * 1_000_000_000n + nanos}e-9`);
}

/** Epoch milliseconds: a Timestamp, an integer of milliseconds, or ISO 8601. Null: it is no time. */
export function protoTime({ type }: Pick<ProtoField, "type">): Read<number> | null {
  if (type === "google.protobuf.Timestamp") {
    return (value) => {
      const seconds = value?.only(1, VARINT)?.exact() ?? 0n;
      return Number(seconds) * 1000 + floorDivide(value?.only(2, VARINT)?.exact() ?? 0n, 1_000_000n);
    };
  }
  if (type === "google.protobuf.Int64Value") return (value) => value?.only(1, VARINT)?.integer() ?? 0;
  if (type === "string" || type === "google.protobuf.StringValue") return (value) => parseTime((type === "string" ? value : value?.only(1, BYTES))?.text() ?? "");
  if (type === "double" || type === "float") {
    const read = protoNumber({ type }, false);
    return read && ((value) => Math.floor(read(value)));
  }
  const integer = integerRead(type);
  return integer && ((value) => (value === null ? 0 : Number(integer(value))));
}

/**
 * A text: the bytes of one that doesn't stand in the record, or `"in place"`; null: nothing. Null instead of a function: it
 * is no text.
 *
 * @param numbers whether an integer may be an id
 */
export function protoText({ type }: Pick<ProtoField, "type">, { enums }: ProtoFile, numbers: boolean): Read<Buffer | "in place" | null> | null {
  if (type === "string" || type === "bytes") return (value) => (value === null ? null : "in place");
  if (type === "google.protobuf.StringValue") {
    return (value) => {
      const inner = value?.only(1, BYTES) ?? null;
      return value === null ? null : inner === null ? Buffer.alloc(0) : Buffer.from(inner.bytes.subarray(inner.at, inner.end));
    };
  }
  const symbols = enums.get(type);
  if (symbols !== undefined) {
    const texts = new Map([...symbols].map(([number, symbol]) => [number, Buffer.from(symbol)]));
    // A number that the schema has no name for is from a later version of it.
    return (value) => {
      const number = value?.integer() ?? 0;
      return texts.get(number) ?? (value === null ? null : Buffer.from(String(number)));
    };
  }
  const integer = numbers ? integerRead(type) : null;
  return integer && ((value) => (value === null ? null : Buffer.from(String(integer(value)))));
}
