import { FraudstreamError } from "../../schemas/errors.js";
import { fieldsOf, type Field } from "../onnx/fields.js";
import { GraphNode } from "../onnx/read-graph.js";

/** Field numbers of onnx.proto. */
export const MODEL = { graph: 7, opset: 8 } as const;
export const GRAPH = { node: 1, initializer: 5, input: 11, output: 12, valueInfo: 13 } as const;
const NODE = { input: 1, output: 2, opType: 4, attribute: 5 } as const;
const ATTRIBUTE = { graph: 6, graphs: 11 } as const;
const OPSET = { domain: 1, version: 2 } as const;
const TENSOR_NAME = 8;
const VALUE_INFO = { name: 1, type: 2 } as const;
const TYPE = { tensor: 1, sequence: 4, map: 5 } as const;
const TENSOR_TYPE = { element: 1, shape: 2 } as const;
const SEQUENCE_OF = 1;
const MAP_TO = 2;
const SHAPE_DIM = 1;
const DIM_VALUE = 1;

/** Element types of tensors that a model may take or give, by their number in onnx.proto. */
const ELEMENTS = new Map([
  [1, "float"],
  [2, "uint8"],
  [3, "int8"],
  [4, "uint16"],
  [5, "int16"],
  [6, "int32"],
  [7, "int64"],
  [8, "string"],
  [9, "bool"],
  [10, "float16"],
  [11, "double"],
  [12, "uint32"],
  [13, "uint64"],
  [16, "bfloat16"],
] as const);
export type Element = typeof ELEMENTS extends Map<number, infer Name> ? Name : never;
export const FLOATS: ReadonlySet<string> = new Set(["float", "double", "float16", "bfloat16"]);

/** A graph's input or output. */
export interface GraphValue {
  name: string;
  /** null: a sequence, a map, or a tensor of something else. */
  element: Element | null;
  /** null of a dimension: any size; null: not said. */
  dims: (number | null)[] | null;
  /** Of a ZipMap's output, a sequence of maps: what their values are. */
  mapped: Element | null;
  bytes: Uint8Array;
}

/** A node, with the names that it reads and gives. */
export interface GraphStep {
  node: GraphNode;
  inputs: string[];
  outputs: string[];
  /** Encoded messages. */
  attributes: Uint8Array[];
}

/** An ONNX file in its parts, which can be put together in another way. */
export interface GraphParts {
  /** All fields of the model; `graphField` is the graph. */
  model: Field[];
  graphField: Field;
  graph: Field[];
  steps: ReadonlyMap<Field, GraphStep>;
  /** Without the constants that old exporters list among them. */
  inputs: GraphValue[];
  outputs: GraphValue[];
  constants: ReadonlyMap<string, Uint8Array>;
  opsets: ReadonlyMap<string, number>;
}

/** @throws FraudstreamError `onnx_malformed` */
export function partsOfOnnx(onnx: Uint8Array): GraphParts {
  const model = [...fieldsOf(onnx)];
  const graphs = model.filter((field) => field.holds(MODEL.graph));
  if (graphs.length !== 1)
    throw new FraudstreamError("onnx_malformed", `not an ONNX file: it has ${graphs.length} graphs`);
  const graph = [...fieldsOf(graphs[0].bytes)];
  const steps = new Map<Field, GraphStep>();
  for (const field of graph) if (field.holds(GRAPH.node)) steps.set(field, stepOf(field.bytes));
  const constants = new Map(
    graph
      .filter((field) => field.holds(GRAPH.initializer))
      .map((field) => [textIn(field.bytes, TENSOR_NAME), field.bytes] as const),
  );
  const values = (no: number): GraphValue[] =>
    graph.filter((field) => field.holds(no)).map((field) => valueOf(field.bytes));
  return {
    model,
    graphField: graphs[0],
    graph,
    steps,
    inputs: values(GRAPH.input).filter(({ name }) => !constants.has(name)),
    outputs: values(GRAPH.output),
    constants,
    opsets: opsetsOf(model),
  };
}

/** The nodes that an output needs. */
export function liveSteps(steps: ReadonlyMap<Field, GraphStep>, output: string): Set<Field> {
  const producers = new Map(
    [...steps].flatMap(([field, step]) =>
      step.outputs.filter((name) => name !== "").map((name) => [name, { field, step }] as const),
    ),
  );
  const live = new Set<Field>();
  const open = [output];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    const producer = producers.get(name);
    if (producer === undefined || live.has(producer.field)) continue;
    live.add(producer.field);
    open.push(...producer.step.inputs, ...producer.step.attributes.flatMap(namesReadIn));
  }
  return live;
}

/** Every name that the graphs of an attribute (of If, Loop, Scan) read, from inside or from outside. */
export function namesReadIn(attribute: Uint8Array): string[] {
  const names: string[] = [];
  for (const field of fieldsOf(attribute)) {
    if (!field.holds(ATTRIBUTE.graph, ATTRIBUTE.graphs)) continue;
    for (const inner of fieldsOf(field.bytes)) {
      // A branch may pass on a value of the outer graph as its output.
      if (inner.holds(GRAPH.output)) names.push(textIn(inner.bytes, VALUE_INFO.name));
      if (!inner.holds(GRAPH.node)) continue;
      const { inputs, attributes } = stepOf(inner.bytes);
      names.push(...inputs, ...attributes.flatMap(namesReadIn));
    }
  }
  return names;
}

function stepOf(message: Uint8Array): GraphStep {
  const step: GraphStep = { node: new GraphNode(message), inputs: [], outputs: [], attributes: [] };
  for (const field of fieldsOf(message)) {
    if (field.holds(NODE.input)) step.inputs.push(field.text);
    else if (field.holds(NODE.output)) step.outputs.push(field.text);
    else if (field.holds(NODE.attribute)) step.attributes.push(field.bytes);
  }
  return step;
}

function opsetsOf(model: readonly Field[]): Map<string, number> {
  const opsets = new Map<string, number>();
  for (const field of model) {
    if (!field.holds(MODEL.opset)) continue;
    let version = 0;
    for (const part of fieldsOf(field.bytes)) if (part.no === OPSET.version) [version = 0] = part.integers;
    const domain = textIn(field.bytes, OPSET.domain);
    opsets.set(domain === "ai.onnx" ? "" : domain, version);
  }
  return opsets;
}

function valueOf(message: Uint8Array): GraphValue {
  const name = textIn(message, VALUE_INFO.name);
  const value: GraphValue = { name, element: null, dims: null, mapped: null, bytes: message };
  for (const field of fieldsOf(message)) {
    if (!field.holds(VALUE_INFO.type)) continue;
    const mapped = partAt(field.bytes, [TYPE.sequence, SEQUENCE_OF, TYPE.map, MAP_TO, TYPE.tensor]);
    for (const part of fieldsOf(mapped))
      if (part.no === TENSOR_TYPE.element) value.mapped = ELEMENTS.get(part.integers[0] as 1) ?? null;
    for (const type of fieldsOf(field.bytes)) {
      if (!type.holds(TYPE.tensor)) continue;
      for (const part of fieldsOf(type.bytes)) {
        if (part.no === TENSOR_TYPE.element) value.element = ELEMENTS.get(part.integers[0] as 1) ?? null;
        else if (part.holds(TENSOR_TYPE.shape)) value.dims = dimsOf(part.bytes);
      }
    }
  }
  return value;
}

/** The message that a path of field numbers leads to; empty where there is none. */
function partAt(message: Uint8Array, path: readonly number[]): Uint8Array {
  let at = message;
  for (const no of path) {
    const field = [...fieldsOf(at)].find((each) => each.holds(no));
    if (field === undefined) return new Uint8Array();
    at = field.bytes;
  }
  return at;
}

function dimsOf(shape: Uint8Array): (number | null)[] {
  const dims: (number | null)[] = [];
  for (const dim of fieldsOf(shape)) {
    if (!dim.holds(SHAPE_DIM)) continue;
    let size: number | null = null;
    // An unknown size is a name, or not above zero.
    for (const part of fieldsOf(dim.bytes)) if (part.no === DIM_VALUE && part.integers[0] > 0) [size] = part.integers;
    dims.push(size);
  }
  return dims;
}

/** A text field of a message; empty when it has none. */
function textIn(message: Uint8Array, no: number): string {
  let text = "";
  for (const field of fieldsOf(message)) if (field.holds(no)) text = field.text;
  return text;
}

const MOST_LISTED = 5;

export function listed(names: readonly string[]): string {
  const shown = names.slice(0, MOST_LISTED).map((name) => JSON.stringify(name.slice(0, 100)));
  return names.length > MOST_LISTED ? `${shown.join(", ")}, …` : shown.join(", ") || "none";
}

/** As people write it: `int64 [N, 1]`. */
export function describeValue({ element, dims }: GraphValue): string {
  if (element === null) return "no tensor";
  return dims === null ? element : `${element} [${dims.map((size) => size ?? "N").join(", ")}]`;
}
