import { floorDivide } from "./avro-values.js";
import { decimalOf, decimalOfText } from "./decimals.js";
import { bareSymbols } from "./enum-symbols.js";
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
  int32: (value) => value.exact(),
  int64: (value) => value.exact(),
  uint32: (value) => value.unsigned(),
  uint64: (value) => value.unsigned(),
  sint32: (value) => value.zigzag(),
  sint64: (value) => value.zigzag(),
  fixed32: (value) => value.fixed32(false),
  sfixed32: (value) => value.fixed32(true),
  fixed64: (value) => value.fixed64(false),
  sfixed64: (value) => value.fixed64(true),
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

/** What a wrapper of google.protobuf holds; null: the type is none. */
function wrappedType(type: string): string | null {
  return (
    /^google\.protobuf\.(Double|Float|Int32|Int64|UInt32|UInt64|Bool|String|Bytes)Value$/
      .exec(type)?.[1]
      .toLowerCase() ?? null
  );
}

/** A yes or no, 1 or 0; NaN: neither. Null: it is none. @param integers whether 0 and 1 may be one */
export function protoFlag({ type }: Pick<ProtoField, "type">, integers: boolean): Read<number> | null {
  if (type === "bool") return (value) => (value !== null && value.integer() !== 0 ? 1 : 0);
  const wrapped = wrappedType(type);
  if (wrapped !== null) {
    const inner = protoFlag({ type: wrapped }, integers);
    const wireType = wireTypeOf(wrapped, null);
    return inner && ((value) => inner(value?.only(1, wireType) ?? null));
  }
  const integer = integers ? integerRead(type) : null;
  return (
    integer &&
    ((value) => {
      const number = value === null ? 0 : Number(integer(value));
      return number === 0 || number === 1 ? number : Number.NaN;
    })
  );
}

/** A number: floating point, integers, their wrappers, and decimals of Google and Confluent. Null: it is none. */
export function protoNumber({ type }: Pick<ProtoField, "type">, texts: boolean): Read<number> | null {
  if (type === "double") return (value) => value?.double() ?? 0;
  if (type === "float") return (value) => value?.float() ?? 0;
  const integer = integerRead(type);
  if (integer !== null) return (value) => (value === null ? 0 : Number(integer(value)));
  const wrapped = wrappedType(type);
  if (wrapped !== null) {
    const inner = protoNumber({ type: wrapped }, texts);
    const wireType = wireTypeOf(wrapped, null);
    return inner && ((value) => inner(value?.only(1, wireType) ?? null));
  }
  if (type === "confluent.type.Decimal") {
    return (value) => {
      const unscaled = value?.only(1, BYTES) ?? null;
      return unscaled === null
        ? 0
        : decimalOf(unscaled.bytes, unscaled.at, unscaled.end - unscaled.at, value?.only(3, VARINT)?.integer() ?? 0);
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

/** Epoch milliseconds: a Timestamp, an integer of milliseconds, or ISO 8601. Null: it is not a time. */
export function protoTime({ type }: Pick<ProtoField, "type">): Read<number> | null {
  if (type === "google.protobuf.Timestamp") {
    return (value) => {
      const seconds = value?.only(1, VARINT)?.exact() ?? 0n;
      return Number(seconds) * 1000 + floorDivide(value?.only(2, VARINT)?.exact() ?? 0n, 1_000_000n);
    };
  }
  const wrapped = wrappedType(type);
  if (wrapped !== null && wrapped !== "string") {
    const inner = protoTime({ type: wrapped });
    const wireType = wireTypeOf(wrapped, null);
    return inner && ((value) => inner(value?.only(1, wireType) ?? null));
  }
  if (type === "string" || type === "google.protobuf.StringValue")
    return (value) => parseTime((type === "string" ? value : value?.only(1, BYTES))?.text() ?? "");
  if (type === "double" || type === "float") {
    const read = protoNumber({ type }, false);
    return read && ((value) => Math.floor(read(value)));
  }
  const integer = integerRead(type);
  return integer && ((value) => (value === null ? 0 : Number(integer(value))));
}

/**
 * A text: the bytes of one that doesn't stand in the record, or `"in place"`; null: nothing. Null instead of a
 * function: it is no text.
 *
 * @param numbers whether an integer may be an id
 */
export function protoText(
  { type }: Pick<ProtoField, "type">,
  { enums }: Pick<ProtoFile, "enums">,
  numbers: boolean,
): Read<Buffer | "in place" | null> | null {
  if (type === "string" || type === "bytes") return (value) => (value === null ? null : "in place");
  const wrapped = wrappedType(type);
  if (wrapped !== null) {
    const read = protoText({ type: wrapped }, { enums }, numbers);
    const wireType = wireTypeOf(wrapped, null);
    return (
      read &&
      ((value) => {
        if (value === null) return null;
        const inner = value.only(1, wireType);
        if (inner === null) return Buffer.from(wireType === BYTES ? "" : "0");
        const made = read(inner);
        return made === "in place" ? Buffer.from(inner.bytes.subarray(inner.at, inner.end)) : made;
      })
    );
  }
  const symbols = enums.get(type);
  if (symbols !== undefined) {
    const bare = bareSymbols(type, [...symbols.values()]);
    const texts = new Map([...symbols.keys()].map((number, i) => [number, Buffer.from(bare[i])]));
    // A number that the schema has no name for is from a later version of it.
    return (value) => {
      const number = value?.integer() ?? 0;
      return texts.get(number) ?? (value === null ? null : Buffer.from(String(number)));
    };
  }
  const integer = numbers ? integerRead(type) : null;
  return integer && ((value) => (value === null ? null : Buffer.from(String(integer(value)))));
}
