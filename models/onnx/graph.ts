import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/**
 * Writers for the messages of ONNX (onnx.proto of ONNX 1.12, IR version 8) that our models need. Each returns the
 * encoded message, so that a file is one expression.
 */
export type Message = Uint8Array;

export const FLOAT = 1;
export const DOUBLE = 11;

const IR_VERSION = 8;
const OPSETS = [
  { domain: "", version: 17 },
  { domain: "ai.onnx.ml", version: 3 },
];

function message(write: (writer: BinaryWriter) => void): Message {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

/** AttributeProto, its type told by what is given. */
export const attribute = {
  int: (name: string, value: number): Message =>
    attributeOf(name, 2, (writer) => writer.tag(3, WireType.Varint).int64(value)),
  string: (name: string, value: string): Message =>
    attributeOf(name, 3, (writer) => writer.tag(4, WireType.LengthDelimited).string(value)),
  floats: (name: string, values: Iterable<number>): Message =>
    attributeOf(name, 6, (writer) => {
      writer.tag(7, WireType.LengthDelimited).fork();
      for (const value of values) writer.float(value);
      writer.join();
    }),
  ints: (name: string, values: Iterable<number>): Message =>
    attributeOf(name, 7, (writer) => {
      writer.tag(8, WireType.LengthDelimited).fork();
      for (const value of values) writer.int64(value);
      writer.join();
    }),
  tensor: (name: string, value: Message): Message =>
    attributeOf(name, 4, (writer) => writer.tag(5, WireType.LengthDelimited).bytes(value)),
  strings: (name: string, values: Iterable<string>): Message =>
    attributeOf(name, 8, (writer) => {
      for (const value of values) writer.tag(9, WireType.LengthDelimited).string(value);
    }),
};

function attributeOf(name: string, type: number, value: (writer: BinaryWriter) => void): Message {
  return message((writer) => {
    writer.tag(1, WireType.LengthDelimited).string(name);
    value(writer);
    writer.tag(20, WireType.Varint).int32(type);
  });
}

/** NodeProto. */
export function node(
  opType: string,
  inputs: readonly string[],
  output: string,
  attributes: readonly Message[] = [],
  domain = "",
): Message {
  return message((writer) => {
    for (const input of inputs) writer.tag(1, WireType.LengthDelimited).string(input);
    writer.tag(2, WireType.LengthDelimited).string(output);
    writer.tag(3, WireType.LengthDelimited).string(output);
    writer.tag(4, WireType.LengthDelimited).string(opType);
    for (const each of attributes) writer.tag(5, WireType.LengthDelimited).bytes(each);
    if (domain !== "") writer.tag(7, WireType.LengthDelimited).string(domain);
  });
}

/** TensorProto of float64 numbers. */
export function doubles(name: string, dims: readonly number[], values: Iterable<number>): Message {
  return message((writer) => {
    for (const dim of dims) writer.tag(1, WireType.Varint).int64(dim);
    writer.tag(2, WireType.Varint).int32(DOUBLE);
    writer.tag(8, WireType.LengthDelimited).string(name);
    writer.tag(9, WireType.LengthDelimited).fork();
    for (const value of values) writer.double(value);
    writer.join();
  });
}

/** TensorProto without a name, as a Constant node has it. */
export const tensor = {
  integers: (dims: readonly number[], values: Iterable<number>): Message =>
    tensorOf(dims, 7, (writer) => {
      writer.tag(7, WireType.LengthDelimited).fork();
      for (const value of values) writer.int64(value);
      writer.join();
    }),
  floats: (dims: readonly number[], values: Iterable<number>): Message =>
    tensorOf(dims, FLOAT, (writer) => {
      writer.tag(4, WireType.LengthDelimited).fork();
      for (const value of values) writer.float(value);
      writer.join();
    }),
};

function tensorOf(dims: readonly number[], type: number, values: (writer: BinaryWriter) => void): Message {
  return message((writer) => {
    for (const dim of dims) writer.tag(1, WireType.Varint).int64(dim);
    writer.tag(2, WireType.Varint).int32(type);
    values(writer);
  });
}

/** ValueInfoProto of a float32 tensor of any shape. */
export function floatsNamed(name: string): Message {
  return valueInfo(
    name,
    message((writer) => writer.tag(1, WireType.Varint).int32(FLOAT)),
  );
}

/** OperatorSetIdProto. */
export function opset(domain: string, version: number): Message {
  return message((writer) =>
    writer.tag(1, WireType.LengthDelimited).string(domain).tag(2, WireType.Varint).int64(version),
  );
}

/**
 * ValueInfoProto of a float32 tensor with one row a transaction.
 *
 * @param rows of every run; absent: any number
 */
export function rowsOf(name: string, columns: number, rows?: number): Message {
  const dims = [
    rows === undefined
      ? message((writer) => writer.tag(2, WireType.LengthDelimited).string("N"))
      : message((writer) => writer.tag(1, WireType.Varint).int64(rows)),
    message((writer) => writer.tag(1, WireType.Varint).int64(columns)),
  ];
  const shape = message((writer) => {
    for (const dim of dims) writer.tag(1, WireType.LengthDelimited).bytes(dim);
  });
  const floats = message((writer) =>
    writer.tag(1, WireType.Varint).int32(FLOAT).tag(2, WireType.LengthDelimited).bytes(shape),
  );
  return valueInfo(name, floats);
}

function valueInfo(name: string, tensor: Message): Message {
  const type = message((writer) => writer.tag(1, WireType.LengthDelimited).bytes(tensor));
  return message((writer) =>
    writer.tag(1, WireType.LengthDelimited).string(name).tag(2, WireType.LengthDelimited).bytes(type),
  );
}

/** ModelProto with one float input [N, features] and one float output [N, 1]. */
export function model(graph: {
  name: string;
  input: { name: string; features: number };
  output: string;
  nodes: readonly Message[];
  constants: readonly Message[];
  metadata: Readonly<Record<string, string>>;
}): Message {
  const graphProto = message((writer) => {
    for (const each of graph.nodes) writer.tag(1, WireType.LengthDelimited).bytes(each);
    writer.tag(2, WireType.LengthDelimited).string(graph.name);
    for (const each of graph.constants) writer.tag(5, WireType.LengthDelimited).bytes(each);
    writer.tag(11, WireType.LengthDelimited).bytes(rowsOf(graph.input.name, graph.input.features));
    writer.tag(12, WireType.LengthDelimited).bytes(rowsOf(graph.output, 1));
  });
  return message((writer) => {
    writer.tag(1, WireType.Varint).int64(IR_VERSION);
    writer.tag(2, WireType.LengthDelimited).string("fraudstream");
    writer.tag(7, WireType.LengthDelimited).bytes(graphProto);
    for (const { domain, version } of OPSETS) {
      writer.tag(8, WireType.LengthDelimited).bytes(opset(domain, version));
    }
    for (const [key, value] of Object.entries(graph.metadata)) {
      writer
        .tag(14, WireType.LengthDelimited)
        .bytes(
          message((entry) =>
            entry.tag(1, WireType.LengthDelimited).string(key).tag(2, WireType.LengthDelimited).string(value),
          ),
        );
    }
  });
}
