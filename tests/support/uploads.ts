import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { packageRoot } from "../../infra/package-root.js";
import { attribute, doubles, model, node, type Message } from "../../models/onnx/graph.js";
import type { UploadedManifest } from "../../models/uploads/upload.js";

/** One exported model of tests/fixtures/onnx, in the parts of an upload. */
export interface Fixture {
  name: string;
  manifest: UploadedManifest;
  onnx: Buffer;
  samples: { columns: string[]; rows: (number | null)[][]; scores: number[] };
}

const FOLDER = join(packageRoot(), "tests", "fixtures", "onnx");

/** Every exported model, by name. */
export function fixtures(): Fixture[] {
  const names = readdirSync(FOLDER).filter((file) => file.endsWith(".onnx")).map((file) => file.slice(0, -".onnx".length));
  return names.sort().map((name) => fixture(name));
}

export function fixture(name: string): Fixture {
  const json = (part: string): unknown => JSON.parse(readFileSync(join(FOLDER, `${name}.${part}.json`), "utf8"));
  return { name, onnx: readFileSync(join(FOLDER, `${name}.onnx`)), manifest: json("manifest") as UploadedManifest, samples: json("samples") as Fixture["samples"] };
}

export function message(write: (writer: BinaryWriter) => void): Message {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

/** A length-delimited field, to be appended to a message. */
export function field(no: number, value: Uint8Array | string): Message {
  return message((writer) => (typeof value === "string" ? writer.tag(no, WireType.LengthDelimited).string(value) : writer.tag(no, WireType.LengthDelimited).bytes(value)));
}

/** A model from x [N, 2] to y [N, 1] of these nodes. */
export function graphOf(nodes: readonly Message[], constants: readonly Message[] = []): Message {
  return model({ name: "test", input: { name: "x", features: 2 }, output: "y", nodes, constants, metadata: {} });
}

/** The mean of the two features: of values from 0 to 1 a score that a test can work out. */
export function mean(): Message {
  return graphOf([node("ReduceMean", ["x"], "y", [attribute.ints("axes", [1])])]);
}

/** The mean, by way of `values` numbers in memory. */
export function memoryBomb(values: number): Message {
  const nodes = [
    node("Cast", ["size"], "shape", [attribute.int("to", 7)]), node("ConstantOfShape", ["shape"], "zeros"), node("ReduceSum", ["zeros"], "zero"),
    node("ReduceMean", ["x"], "mean", [attribute.ints("axes", [1])]), node("Add", ["mean", "zero"], "y"),
  ];
  return graphOf(nodes, [doubles("size", [1], [values])]);
}

/** A loop without an end. */
export function endless(): Message {
  const FLOAT = 1;
  const INT64 = 7;
  const BOOL = 9;
  const value = (name: string, type: number): Message => {
    const tensor = message((writer) => {
      writer.tag(1, WireType.Varint).int32(type);
      if (type !== FLOAT) writer.raw(field(2, ""));
    });
    return message((writer) => writer.raw(field(1, name)).raw(field(2, field(1, tensor))));
  };
  const body = message((writer) => {
    writer.raw(field(1, node("Identity", ["go_on"], "going_on"))).raw(field(1, node("Neg", ["state"], "next"))).raw(field(2, "body"));
    writer.raw(field(11, value("i", INT64))).raw(field(11, value("go_on", BOOL))).raw(field(11, value("state", FLOAT)));
    writer.raw(field(12, value("going_on", BOOL))).raw(field(12, value("next", FLOAT)));
  });
  const bodyAttribute = message((writer) => writer.raw(field(1, "body")).raw(field(6, body)).tag(20, WireType.Varint).int32(5));
  const nodes = [node("Cast", ["one"], "true", [attribute.int("to", BOOL)]), node("ReduceMean", ["x"], "mean", [attribute.ints("axes", [1])]), node("Loop", ["", "true", "mean"], "y", [bodyAttribute])];
  return graphOf(nodes, [doubles("one", [], [1])]);
}
