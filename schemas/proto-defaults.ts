import { ProtoValue } from "./proto-cursor.js";
import type { ProtoField, ProtoFile } from "./proto-file.js";

/**
 * The value that a field's schema gives it where it is absent (proto2's `default`), as a record would carry it; null:
 * it gives none.
 */
export function fallbackOf({ type, fallback }: ProtoField, { enums }: ProtoFile): ProtoValue | null {
  if (fallback === null) return null;
  try {
    const bytes = encoded(type, fallback, enums.get(type));
    return bytes && new ProtoValue(bytes, 0, bytes.length);
  } catch {
    // What is no value of the type is none.
    return null;
  }
}

function encoded(type: string, text: string, symbols: ReadonlyMap<number, string> | undefined): Buffer | null {
  if (symbols !== undefined) {
    const found = [...symbols].find(([, symbol]) => symbol === text);
    return found === undefined ? null : varint(BigInt(found[0]));
  }
  if (type === "string" || type === "bytes") return Buffer.from(unquoted(text), type === "bytes" ? "latin1" : "utf8");
  if (type === "bool") return varint(text === "true" ? 1n : 0n);
  const bytes = Buffer.alloc(type.endsWith("64") || type === "double" ? 8 : 4);
  if (type === "double" || type === "float") {
    const number = numberOf(text);
    if (type === "double") bytes.writeDoubleLE(number);
    else bytes.writeFloatLE(number);
    return bytes;
  }
  const integer = text.startsWith("-") ? -BigInt(text.slice(1)) : BigInt(text);
  if (type === "fixed32") bytes.writeUInt32LE(Number(integer));
  else if (type === "sfixed32") bytes.writeInt32LE(Number(integer));
  else if (type === "fixed64") bytes.writeBigUInt64LE(integer);
  else if (type === "sfixed64") bytes.writeBigInt64LE(integer);
  else if (type === "sint32" || type === "sint64") return varint(integer < 0n ? -2n * integer - 1n : 2n * integer);
  else return varint(integer);
  return bytes;
}

function numberOf(text: string): number {
  const sign = text.startsWith("-") ? -1 : 1;
  const digits = text.replace(/^-/, "");
  return sign * (digits === "inf" ? Infinity : digits === "nan" ? Number.NaN : Number(digits));
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", a: "\x07", b: "\b", f: "\f", v: "\v" };

/** Strings that stand side by side are one. */
function unquoted(text: string): string {
  return text.replace(
    /"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'/g,
    (_all, double: string | undefined, single: string | undefined) =>
      (double ?? single ?? "").replace(
        /\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))/g,
        (_escape, hex: string | undefined, octal: string | undefined, char: string) =>
          hex !== undefined
            ? String.fromCharCode(parseInt(hex, 16))
            : octal !== undefined
              ? String.fromCharCode(parseInt(octal, 8))
              : (ESCAPES[char] ?? char),
      ),
  );
}
