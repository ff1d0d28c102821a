import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { node, type Message } from "../../models/onnx/graph.js";

export function message(write: (writer: BinaryWriter) => void): Message {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

/** A length-delimited field, to be appended to a message. */
export function field(no: number, value: Uint8Array | string): Message {
  return message((writer) =>
    typeof value === "string"
      ? writer.tag(no, WireType.LengthDelimited).string(value)
      : writer.tag(no, WireType.LengthDelimited).bytes(value),
  );
}

const FLOAT = 1;
const INT64 = 7;
const BOOL = 9;

/**
 * A Loop that turns for ever when `condition` (a boolean without dimensions) is true; `result` is `state` (float32)
 * otherwise.
 */
export function endlessLoop(condition: string, state: string, result: string): Message {
  const value = (name: string, type: number): Message => {
    const tensor = message((writer) => {
      writer.tag(1, WireType.Varint).int32(type);
      if (type !== FLOAT) writer.raw(field(2, ""));
    });
    return message((writer) => writer.raw(field(1, name)).raw(field(2, field(1, tensor))));
  };
  const body = message((writer) => {
    writer
      .raw(field(1, node("Identity", ["go_on"], "going_on")))
      .raw(field(1, node("Neg", ["state"], "next")))
      .raw(field(2, "body"));
    writer
      .raw(field(11, value("i", INT64)))
      .raw(field(11, value("go_on", BOOL)))
      .raw(field(11, value("state", FLOAT)));
    writer.raw(field(12, value("going_on", BOOL))).raw(field(12, value("next", FLOAT)));
  });
  const bodyAttribute = message((writer) =>
    writer.raw(field(1, "body")).raw(field(6, body)).tag(20, WireType.Varint).int32(5),
  );
  return node("Loop", ["", condition, state], result, [bodyAttribute]);
}
