import avro from "avsc";
import { TIME_RANGE } from "../../../infra/clickhouse/tables.js";
import type { RowMapper } from "./row-mapper.js";
import { writeCoordinates } from "./row-mapper.js";
import type { AvroRowsDeps } from "./avro-rows.js";
import { payloadAt, WriterSchemas } from "./writer-schemas.js";

/**
 * Rows of `control_events`. Values are read with their writer's schema as it is, so that kinds of events unknown to
 * this version are kept, too.
 */
export function controlEventRows(deps: AvroRowsDeps): RowMapper {
  const schemas = new WriterSchemas({ ...deps, make: typeOf });
  return {
    prepare: (records, index) => schemas.prepare(records, index),
    write(records, index, out) {
      const found = schemas.of(records, index);
      if (!("made" in found)) return found;
      let value: Record<string, unknown>;
      try {
        value = found.made.fromBuffer(
          records.bytes.subarray(payloadAt(records, index), records.valueAt[index] + records.valueLength[index]),
        ) as Record<string, unknown>;
      } catch {
        return { code: "malformed_avro", reason: "the bytes are not what their schema says" };
      }
      const { key, base, at, who, event } = value;
      if (
        typeof key !== "string" ||
        typeof base !== "number" ||
        typeof at !== "number" ||
        typeof who !== "string" ||
        typeof event !== "object" ||
        event === null
      ) {
        return { code: "incompatible_schema", reason: "a control event has key, base, at, who and event" };
      }
      if (at < TIME_RANGE.least || at > TIME_RANGE.most)
        return { code: "bad_time", reason: "a time is before 1970 or after 2299" };
      // A union of records comes wrapped: { "fraudstream.Deployed": { … } }.
      const [[name, payload]] = Object.entries(event);
      writeCoordinates(records, index, out);
      out.text(key);
      out.int64(base);
      out.int64(at);
      out.text(who);
      out.text(name.slice(name.lastIndexOf(".") + 1));
      out.text(JSON.stringify(payload));
      return null;
    },
  };
}

function typeOf(schema: unknown): avro.Type {
  try {
    return avro.Type.forSchema(schema as avro.Schema, { registry: {} });
  } catch (cause) {
    throw new TypeError("not an Avro schema", { cause });
  }
}
