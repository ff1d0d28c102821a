import { numberIn, structIn, type Struct } from "./thrift.js";

/** Parquet's `Type`: how values are stored. */
export const STORED = {
  boolean: 0,
  int32: 1,
  int64: 2,
  int96: 3,
  float: 4,
  double: 5,
  bytes: 6,
  fixedBytes: 7,
} as const;

/** What a column's values mean. */
export type CellKind =
  | {
      is:
        | "boolean"
        | "integer"
        | "unsigned32"
        | "unsigned64"
        | "float"
        | "double"
        | "half"
        | "text"
        | "bytes"
        | "uuid"
        | "date";
    }
  | { is: "decimal"; scale: number }
  /** `utc` false: what clocks showed, in a zone that the file doesn't say. */
  | { is: "timestamp"; digits: 3 | 6 | 9; utc: boolean }
  | { is: "time"; digits: 3 | 6 | 9 }
  /** Days and nanoseconds, as Impala and older Spark write times. */
  | { is: "int96" };

/** `ConvertedType`, which older files have instead of a logical type. */
const CONVERTED = {
  utf8: 0,
  map: 1,
  mapKeyValue: 2,
  list: 3,
  enum: 4,
  decimal: 5,
  date: 6,
  timeMillis: 7,
  timeMicros: 8,
  timestampMillis: 9,
  timestampMicros: 10,
  unsigned8: 11,
  unsigned64: 14,
  json: 19,
  bson: 20,
  interval: 21,
} as const;

/** Fields of the union `LogicalType`. */
const LOGICAL = {
  text: 1,
  enum: 4,
  decimal: 5,
  date: 6,
  time: 7,
  timestamp: 8,
  integer: 10,
  json: 12,
  uuid: 14,
  half: 15,
} as const;
/** Of what no cell can be made. */
const OTHER_LOGICAL: ReadonlyMap<number, string> = new Map([
  [2, "a map"],
  [3, "a list"],
  [13, "BSON"],
  [16, "a variant"],
  [17, "a geometry"],
  [18, "a geography"],
]);

/** What a column's values mean, or why they are left out. */
export function cellKindOf(element: Struct, type: number): CellKind | string {
  const logical = structIn(element, 10);
  const kind =
    (logical === null ? null : logicalKind(logical, type)) ?? convertedKind(element, type) ?? storedKind(type);
  if (typeof kind === "string") return kind;
  return fits(kind, type) ? kind : storedKind(type);
}

function logicalKind(logical: Struct, type: number): CellKind | string | null {
  for (const [field, what] of OTHER_LOGICAL) if (logical.has(field)) return `it holds ${what}`;
  if ([LOGICAL.text, LOGICAL.enum, LOGICAL.json].some((field) => logical.has(field))) return { is: "text" };
  if (logical.has(LOGICAL.date)) return { is: "date" };
  if (logical.has(LOGICAL.uuid)) return { is: "uuid" };
  if (logical.has(LOGICAL.half)) return { is: "half" };
  const decimal = structIn(logical, LOGICAL.decimal);
  if (decimal !== null) return { is: "decimal", scale: numberIn(decimal, 1) ?? 0 };
  const integer = structIn(logical, LOGICAL.integer);
  if (integer !== null) return { is: integer.get(2) !== false ? "integer" : unsignedOf(type) };
  const timestamp = structIn(logical, LOGICAL.timestamp);
  if (timestamp !== null)
    return { is: "timestamp", digits: digitsOf(structIn(timestamp, 2)), utc: timestamp.get(1) !== false };
  const time = structIn(logical, LOGICAL.time);
  return time === null ? null : { is: "time", digits: digitsOf(structIn(time, 2)) };
}

/** Those of up to 32 bits are stored in 32. */
function unsignedOf(type: number): "unsigned32" | "unsigned64" {
  return type === STORED.int64 ? "unsigned64" : "unsigned32";
}

/** Of the union `TimeUnit`. */
function digitsOf(unit: Struct | null): 3 | 6 | 9 {
  if (unit?.has(3) === true) return 9;
  return unit?.has(2) === true ? 6 : 3;
}

function convertedKind(element: Struct, type: number): CellKind | string | null {
  const converted = numberIn(element, 6);
  switch (converted) {
    case null:
      return null;
    case CONVERTED.utf8:
    case CONVERTED.enum:
    case CONVERTED.json:
      return { is: "text" };
    case CONVERTED.map:
    case CONVERTED.mapKeyValue:
    case CONVERTED.list:
      return "it is nested (a list or map)";
    case CONVERTED.bson:
      return "it holds BSON";
    case CONVERTED.interval:
      return "it holds spans of time";
    case CONVERTED.decimal:
      return { is: "decimal", scale: numberIn(element, 7) ?? 0 };
    case CONVERTED.date:
      return { is: "date" };
    case CONVERTED.timeMillis:
      return { is: "time", digits: 3 };
    case CONVERTED.timeMicros:
      return { is: "time", digits: 6 };
    // By the format's definition, the older types are adjusted to UTC.
    case CONVERTED.timestampMillis:
      return { is: "timestamp", digits: 3, utc: true };
    case CONVERTED.timestampMicros:
      return { is: "timestamp", digits: 6, utc: true };
    default:
      return converted >= CONVERTED.unsigned8 && converted <= CONVERTED.unsigned64 ? { is: unsignedOf(type) } : null;
  }
}

function storedKind(type: number): CellKind | string {
  switch (type) {
    case STORED.boolean:
      return { is: "boolean" };
    case STORED.int32:
    case STORED.int64:
      return { is: "integer" };
    case STORED.int96:
      return { is: "int96" };
    case STORED.float:
      return { is: "float" };
    case STORED.double:
      return { is: "double" };
    case STORED.bytes:
    case STORED.fixedBytes:
      return { is: "bytes" };
    default:
      return `it is stored in the unknown way ${type}`;
  }
}

/** Whether values can mean that, as they are stored. */
function fits({ is }: CellKind, type: number): boolean {
  const integer = type === STORED.int32 || type === STORED.int64;
  const bytes = type === STORED.bytes || type === STORED.fixedBytes;
  if (is === "text") return bytes;
  if (is === "decimal") return integer || bytes;
  if (is === "uuid" || is === "half") return type === STORED.fixedBytes;
  if (is === "date") return type === STORED.int32;
  if (is === "timestamp") return type === STORED.int64;
  return is === "integer" || is === "unsigned32" || is === "unsigned64" || is === "time" ? integer : true;
}
