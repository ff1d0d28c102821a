import type { RowBinaryWriter } from "../../../infra/clickhouse/row-binary.js";
import { TIME_RANGE } from "../../../infra/clickhouse/tables.js";
import { type FetchedRecords, readHeaders } from "../../../infra/kafka/records.js";
import { type RowMapper, writeCoordinates } from "./row-mapper.js";

/** Rows of `dead_letters`: any record of that topic has one, whatever its bytes and headers. */
export function deadLetterRows(): RowMapper {
  return {
    prepare: () => null,
    write(records, index, out) {
      const headers = new Map(readHeaders(records, index));
      const text = (name: string): string => headers.get(name)?.toString("utf8") ?? "";
      writeCoordinates(records, index, out);
      out.int64(Math.min(Math.max(records.timestamp[index], TIME_RANGE.least), TIME_RANGE.most));
      writeBytes(records, records.keyAt[index], records.keyLength[index], out);
      writeBytes(records, records.valueAt[index], records.valueLength[index], out);
      out.text(text("code"));
      out.text(text("reason"));
      out.text(text("step"));
      out.text(text("topic"));
      writeNumber(text("partition"), 2 ** 32 - 1, (value) => out.int32(value | 0), out);
      writeNumber(text("offset"), Number.MAX_SAFE_INTEGER, (value) => out.int64(value), out);
      writeNumber(text("attempt"), 2 ** 32 - 1, (value) => out.int32(value | 0), out);
      out.text(text("reply-to"));
      out.count(headers.size);
      for (const [name, value] of headers) {
        out.text(name);
        out.blob(value ?? NOTHING, 0, value?.length ?? 0);
      }
      return null;
    },
  };
}

const NOTHING = Buffer.alloc(0);

/** Nullable(String): a length of -1 is null, which an empty value is not. */
function writeBytes(records: FetchedRecords, at: number, size: number, out: RowBinaryWriter): void {
  out.byte(size < 0 ? 1 : 0);
  if (size >= 0) out.blob(records.bytes, at, size);
}

/** A nullable whole number from a header; null where it isn't one. */
function writeNumber(text: string, most: number, write: (value: number) => void, out: RowBinaryWriter): void {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  const valid = value <= most;
  out.byte(valid ? 0 : 1);
  if (valid) write(value);
}
