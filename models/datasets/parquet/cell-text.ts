import { isUtf8 } from "node:buffer";
import type { CellKind } from "./cell-kinds.js";
import { DamagedParquet } from "./damaged.js";

/** A value as it is stored. */
export type Raw = number | bigint | boolean | Buffer;

/** Values of a page, without nulls, unpacked one at a time: as they are stored, they take least memory. */
export type Values = (index: number) => Raw;

/** Decimals of 256 bits are the longest that are written. */
const MOST_DECIMAL_BYTES = 32;
const DAY_MS = 86_400_000;
/** Beyond, Date has no text for it. */
const MOST_MS = 8.64e15;
/** Day 0 of INT96, in days since 1970. */
const JULIAN_EPOCH = 2_440_588;

/** Writes a column's values as cells of the same table's CSV file, as pandas, Spark and DuckDB write it. */
export function cellText(kind: CellKind): (value: Raw) => string {
  switch (kind.is) {
    case "boolean":
    case "integer":
      return String;
    case "unsigned32":
      return (value) => String((value as number) >>> 0);
    case "unsigned64":
      return (value) => String(BigInt.asUintN(64, BigInt(value as number | bigint)));
    case "float":
      return (value) => floatText(value as number);
    case "double":
      return (value) => numberText(value as number);
    case "half":
      return (value) => numberText(halfOf(value as Buffer));
    case "text":
      return (value) => textOf(value as Buffer);
    case "bytes":
      return (value) => (isUtf8(value as Buffer) ? (value as Buffer).toString() : hexOf(value as Buffer));
    case "uuid":
      return (value) => (value as Buffer).toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    case "decimal":
      return (value) => decimalText(integerOf(value), kind.scale);
    case "date":
      return (value) => dateText(value as number);
    case "time":
      return (value) => timeText(BigInt(value as number | bigint), kind.digits);
    case "timestamp":
      return (value) => timestampText(BigInt(value as number | bigint), kind.digits, kind.utc ? "Z" : "");
    case "int96":
      return (value) => int96Text(value as Buffer);
  }
}

/** Whole numbers have a point, as others of the column do: ids in CSV files of pandas look like 1263.0. */
function numberText(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e16 ? `${value}.0` : String(value);
}

/** The shortest number that is this one in 32 bits: 0.1, not 0.10000000149011612. */
function floatText(value: number): string {
  if (Number.isInteger(value) || !Number.isFinite(value)) return numberText(value);
  for (let digits = 7; digits < 9; digits++) {
    const shorter = Number(value.toPrecision(digits));
    if (Math.fround(shorter) === value) return String(shorter);
  }
  return String(Number(value.toPrecision(9)));
}

function halfOf(bytes: Buffer): number {
  if (bytes.length !== 2) throw new DamagedParquet("a number of 16 bits has others");
  const bits = bytes.readUInt16LE();
  const sign = bits >> 15 === 0 ? 1 : -1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

function textOf(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new DamagedParquet("a text is not UTF-8");
  return bytes.toString();
}

function hexOf(bytes: Buffer): string {
  return `\\x${bytes.toString("hex")}`;
}

/** Of bytes, the integer that they are in two's complement, the highest byte first. */
function integerOf(value: Raw): bigint {
  if (!Buffer.isBuffer(value)) return BigInt(value);
  if (value.length > MOST_DECIMAL_BYTES) throw new DamagedParquet(`a decimal has ${value.length} bytes`);
  return value.length === 0 ? 0n : BigInt.asIntN(8 * value.length, BigInt(`0x${value.toString("hex")}`));
}

function decimalText(unscaled: bigint, scale: number): string {
  if (scale <= 0 || scale > 100) return String(unscaled);
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, "0");
  return `${unscaled < 0n ? "-" : ""}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

function dateText(days: number): string {
  const ms = days * DAY_MS;
  return Math.abs(ms) > MOST_MS ? String(days) : new Date(ms).toISOString().slice(0, -"T00:00:00.000Z".length);
}

function timestampText(value: bigint, digits: number, zone: string): string {
  const perSecond = 10n ** BigInt(digits);
  const fraction = ((value % perSecond) + perSecond) % perSecond;
  const ms = Number((value - fraction) / perSecond) * 1000;
  if (Math.abs(ms) > MOST_MS) return String(value);
  const seconds = new Date(ms).toISOString().replace("T", " ").slice(0, -".000Z".length);
  return `${seconds}${fractionText(fraction, digits)}${zone}`;
}

/** Thousandths, millionths or billionths of a second, whichever are enough. */
function fractionText(fraction: bigint, digits: number): string {
  return fraction === 0n
    ? ""
    : `.${String(fraction)
        .padStart(digits, "0")
        .replace(/(000){1,2}$/, "")}`;
}

function timeText(value: bigint, digits: number): string {
  const perSecond = 10n ** BigInt(digits);
  const seconds = Number(value / perSecond);
  if (value < 0n || seconds >= DAY_MS / 1000) return String(value);
  const clock = new Date(seconds * 1000).toISOString().slice("1970-01-01T".length, -".000Z".length);
  return `${clock}${fractionText(value % perSecond, digits)}`;
}

function int96Text(bytes: Buffer): string {
  const days = BigInt(bytes.readInt32LE(8) - JULIAN_EPOCH);
  return timestampText(days * 86_400_000_000_000n + bytes.readBigInt64LE(0), 9, "");
}
