import { schemaIdOf, type SchemaKey } from "../../schemas/wire-format.js";
import type { FetchedRecords } from "./records.js";

/** The header in which newer Confluent serializers name a value's schema, instead of before the value. */
const HEADER = Buffer.from("__value_schema_id");
const GUID_BYTES = 16;
const MOST_INDEXES = 16;

/** The value's schema as named by a record's header; null: there is no such header, and the value itself names it. */
export function headerSchemaOf(records: FetchedRecords, index: number): SchemaKey | null {
  // Almost every record has no headers: their count is its own first byte. What couldn't be read has none either,
  // behind all bytes.
  if (!(records.bytes[records.headersAt[index]] > 0)) return null;
  const value = headerValue(records, index);
  if (value === null || value.length < 1) return null;
  // Magic byte 0: the id of four bytes; 1: the GUID, followed by the message's position in its .proto file.
  if (value[0] === 0 && value.length === 5) return value.readUInt32BE(1);
  if (value[0] !== 1 || value.length < 1 + GUID_BYTES) return null;
  const guid = value.toString("hex", 1, 1 + GUID_BYTES).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  if (value.length === 1 + GUID_BYTES) return guid;
  const path = messagePath(value, 1 + GUID_BYTES);
  return path === null ? null : `${guid}#${path}`;
}

/** What names the schema of a record's value: a header, or the value itself; null: neither. */
export function schemaKeyOf(records: FetchedRecords, index: number): SchemaKey | null {
  return (
    headerSchemaOf(records, index) ?? schemaIdOf(records.bytes, records.valueAt[index], records.valueLength[index])
  );
}

/** Message indexes: their count and each of them, zigzag varints; a single 0 is the first message. */
function messagePath(value: Buffer, at: number): string | null {
  const path: number[] = [];
  let count = -1;
  while (at < value.length) {
    let number = 0;
    for (let scale = 1, more = true; more && at < value.length; scale *= 128) {
      number += (value[at] & 0x7f) * scale;
      more = value[at++] >= 0x80;
    }
    if (number % 2 !== 0) return null;
    if (count < 0) count = number / 2;
    else path.push(number / 2);
  }
  if (count === 0 && path.length === 0) return "0";
  return path.length === count && count <= MOST_INDEXES ? path.join(".") : null;
}

/** The value of the header, found without decoding the others. */
function headerValue({ bytes, headersAt }: FetchedRecords, index: number): Buffer | null {
  let at = headersAt[index];
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 0x7f) * scale;
      // Past the end of the bytes is the end, too.
      if (!(byte >= 0x80)) return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
    }
  };
  for (let left = varint(); left > 0; left--) {
    const nameLength = varint();
    const isIt = nameLength === HEADER.length && bytes.compare(HEADER, 0, HEADER.length, at, at + nameLength) === 0;
    at += nameLength;
    const length = varint();
    if (isIt) return length < 0 ? null : bytes.subarray(at, at + length);
    if (length > 0) at += length;
  }
  return null;
}
