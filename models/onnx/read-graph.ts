import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { fieldsOf, reading, type Field } from "./fields.js";

/** Field numbers of onnx.proto. */
const MODEL_GRAPH = 7;
const GRAPH = { node: 1, initializer: 5 } as const;
const NODE = { input: 1, output: 2, opType: 4, attribute: 5 } as const;
const ATTRIBUTE = { name: 1, int: 3, text: 4, floats: 7, ints: 8, texts: 9 } as const;
const TENSOR = { name: 8, raw: 9 } as const;

export interface Graph {
  /** In the order in which they are computed. */
  nodes: GraphNode[];
  /** Tensors by name. */
  constants: Map<string, Field[]>;
}

/** A node of an ONNX graph, and how its attributes are asked for: what it doesn't have is empty, null or zero. */
export class GraphNode {
  readonly opType: string;
  /** `Op(inputs) > outputs` */
  readonly signature: string;
  /** Read when they are asked for: a large model's hold a field for each number. */
  readonly #attributes = new Map<string, Uint8Array>();

  constructor(message: Uint8Array) {
    const fields = [...fieldsOf(message)];
    const texts = (no: number): string =>
      fields
        .filter((field) => field.holds(no))
        .map(({ text }) => text)
        .join();
    this.opType = texts(NODE.opType);
    this.signature = `${this.opType}(${texts(NODE.input)}) > ${texts(NODE.output)}`;
    for (const field of fields) {
      if (!field.holds(NODE.attribute)) continue;
      this.#attributes.set(nameIn(fieldsOf(field.bytes), ATTRIBUTE.name), field.bytes);
    }
  }

  get attributeNames(): string[] {
    return [...this.#attributes.keys()];
  }

  int(name: string, missing: number): number {
    return this.#of(name, ATTRIBUTE.int)[0]?.integers[0] ?? missing;
  }

  text(name: string, missing: string): string {
    return this.#of(name, ATTRIBUTE.text)[0]?.text ?? missing;
  }

  ints(name: string): number[] {
    return numbersOf(this.#attributes.get(name), ATTRIBUTE.ints, WireType.Varint, readInteger);
  }

  floats(name: string): number[] {
    return numbersOf(this.#attributes.get(name), ATTRIBUTE.floats, WireType.Bit32, (reader) => reader.float());
  }

  texts(name: string): string[] {
    return this.#of(name, ATTRIBUTE.texts).map(({ text }) => text);
  }

  #of(name: string, no: number): Field[] {
    return [...fieldsOf(this.#attributes.get(name) ?? new Uint8Array())].filter((field) => field.no === no);
  }
}

/** @throws FraudstreamError `onnx_malformed` */
export function readGraph(onnx: Uint8Array): Graph {
  const graph: Graph = { nodes: [], constants: new Map() };
  for (const part of fieldsOf(onnx)) {
    if (!part.holds(MODEL_GRAPH)) continue;
    for (const field of fieldsOf(part.bytes)) {
      if (field.holds(GRAPH.node)) graph.nodes.push(new GraphNode(field.bytes));
      else if (field.holds(GRAPH.initializer)) {
        const tensor = [...fieldsOf(field.bytes)];
        graph.constants.set(nameIn(tensor, TENSOR.name), tensor);
      }
    }
  }
  return graph;
}

/**
 * The float64 numbers of a constant that is stored as raw bytes, as models/onnx/graph.ts does; empty if there is none.
 */
export function doublesOf({ constants }: Graph, name: string): Float64Array {
  const raw = constants.get(name)?.find((field) => field.holds(TENSOR.raw))?.bytes ?? new Uint8Array();
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  return Float64Array.from({ length: Math.floor(raw.byteLength / 8) }, (_, i) => view.getFloat64(8 * i, true));
}

/** The numbers of a repeated field, packed or not; with no object a number: a large model has a hundred thousand. */
function numbersOf(
  message: Uint8Array | undefined,
  no: number,
  type: WireType,
  read: (reader: BinaryReader, message: Uint8Array) => number,
): number[] {
  const values: number[] = [];
  if (message === undefined) return values;
  const reader = new BinaryReader(message);
  return reading(() => {
    while (reader.pos < reader.len) {
      const [field, wire] = reader.tag();
      if (field !== no || (wire !== type && wire !== WireType.LengthDelimited)) reader.skip(wire, field);
      else if (wire === type) values.push(read(reader, message));
      else for (const end = reader.uint32() + reader.pos; reader.pos < end;) values.push(read(reader, message));
    }
    return values;
  });
}

/** An int64; those of models are one or two bytes long, which is read without a bigint. */
function readInteger(reader: BinaryReader, message: Uint8Array): number {
  const low = message[reader.pos];
  const high = low < 0x80 ? 0 : message[reader.pos + 1];
  if (!(high < 0x80)) return Number(reader.int64());
  reader.pos += low < 0x80 ? 1 : 2;
  return (low & 0x7f) | (high << 7);
}

function nameIn(fields: Iterable<Field>, no: number): string {
  for (const field of fields) if (field.holds(no)) return field.text;
  return "";
}
