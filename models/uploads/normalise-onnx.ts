import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { FraudstreamError } from "../../schemas/errors.js";
import { FLOAT, rowsOf } from "../onnx/graph.js";
import { fieldsOf, type Field } from "../onnx/fields.js";

/** Field numbers of onnx.proto. */
const MODEL_GRAPH = 7;
const GRAPH = { node: 1, initializer: 5, input: 11, output: 12, sparseInitializer: 15 } as const;
const NODE = { input: 1, output: 2, opType: 4, attribute: 5 } as const;
const ATTRIBUTE = { name: 1, graph: 6, ints: 8, strings: 9, graphs: 11 } as const;
const TENSOR_NAME = 8;
const VALUE_INFO = { name: 1, type: 2 } as const;
const TYPE_TENSOR = 1;
const TENSOR_ELEMENT = 1;

interface Node {
  opType: string;
  inputs: string[];
  outputs: string[];
  attributes: Uint8Array[];
}

/** A graph's input or output. */
interface Value {
  name: string;
  isFloatTensor: boolean;
  bytes: Uint8Array;
}

export interface NormalisedOnnx {
  onnx: Uint8Array;
  /** Names of the graph's only input and only output. */
  input: string;
  output: string;
}

/**
 * Brings an exported model into the one form that we score: one output, the probabilities. A ZipMap, which makes a
 * sequence of maps of them, is cut out, and so is what only computes other outputs, such as the label.
 *
 * @param wanted names as the model's author knows them; missing ones are derived from the graph
 * @throws FraudstreamError `onnx_malformed`, `onnx_inputs`, `onnx_outputs`
 */
export function normaliseOnnx(
  onnx: Uint8Array,
  wanted: { input?: string | undefined; output?: string | undefined },
): NormalisedOnnx {
  const model = [...fieldsOf(onnx)];
  const graphs = model.filter((field) => field.holds(MODEL_GRAPH));
  if (graphs.length !== 1)
    throw new FraudstreamError("onnx_malformed", `not an ONNX file: it has ${graphs.length} graphs`);
  const graph = [...fieldsOf(graphs[0].bytes)];
  const nodes = new Map<Field, Node>();
  for (const field of graph) if (field.holds(GRAPH.node)) nodes.set(field, nodeOf(field.bytes));
  const input = chooseInput(graph, wanted.input);
  const output = chooseOutput(graph, [...nodes.values()], wanted.output);
  const live = liveNodes(nodes, output.name);

  const writer = new BinaryWriter();
  for (const field of graph) {
    if (field.holds(GRAPH.output) || (nodes.has(field) && !live.has(field))) continue;
    writer.raw(field.raw);
  }
  writer.tag(GRAPH.output, WireType.LengthDelimited).bytes(output.bytes);
  const rewritten = writer.finish();
  const whole = new BinaryWriter();
  for (const field of model) {
    if (field === graphs[0]) whole.tag(MODEL_GRAPH, WireType.LengthDelimited).bytes(rewritten);
    else whole.raw(field.raw);
  }
  return { onnx: whole.finish(), input, output: output.name };
}

function chooseInput(graph: readonly Field[], wanted: string | undefined): string {
  // Old exporters list the constants among the inputs.
  const constants = new Set(
    graph.filter((field) => field.holds(GRAPH.initializer)).map((field) => textIn(field.bytes, TENSOR_NAME)),
  );
  const inputs = graph
    .filter((field) => field.holds(GRAPH.input))
    .map((field) => textIn(field.bytes, VALUE_INFO.name))
    .filter((name) => !constants.has(name));
  if (inputs.length !== 1)
    throw new FraudstreamError(
      "onnx_inputs",
      `the model has ${inputs.length} inputs (${listed(inputs)}); export it with a single one, a float ` +
        "tensor [None, features]",
    );
  if (wanted !== undefined && wanted !== inputs[0])
    throw new FraudstreamError(
      "onnx_inputs",
      `the model's input is ${JSON.stringify(inputs[0])}, the manifest says ${JSON.stringify(wanted)}`,
    );
  return inputs[0];
}

function chooseOutput(graph: readonly Field[], nodes: readonly Node[], wanted: string | undefined): Value {
  const outputs = graph.filter((field) => field.holds(GRAPH.output)).map((field) => valueOf(field.bytes));
  const producer = new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const zipMapOf = (name: string): Node | undefined => {
    for (
      let node = producer.get(name), steps = 0;
      node !== undefined && steps <= nodes.length;
      node = producer.get(node.inputs[0] ?? ""), steps++
    ) {
      if (node.opType === "ZipMap") return node;
      if (node.opType !== "Identity") return undefined;
    }
    return undefined;
  };
  const names = listed(outputs.map(({ name }) => name));
  const fitting = outputs.filter(({ name, isFloatTensor }) => isFloatTensor || zipMapOf(name) !== undefined);
  if (wanted === undefined && fitting.length !== 1) {
    throw new FraudstreamError(
      "onnx_outputs",
      `of the model's outputs (${names}) ${fitting.length} can be probabilities; the manifest must name one that is`,
    );
  }
  const chosen = wanted === undefined ? fitting[0] : outputs.find(({ name }) => name === wanted);
  if (chosen === undefined)
    throw new FraudstreamError("onnx_outputs", `the model has no output ${JSON.stringify(wanted)}; it has ${names}`);
  const zipMap = zipMapOf(chosen.name);
  if (zipMap === undefined) {
    if (!chosen.isFloatTensor)
      throw new FraudstreamError(
        "onnx_outputs",
        `the model's output ${JSON.stringify(chosen.name)} is neither a float tensor nor made by a ZipMap; ` +
          `it has ${names}`,
      );
    return chosen;
  }
  const classes = classesOf(zipMap);
  if (classes !== 2)
    throw new FraudstreamError(
      "onnx_outputs",
      `the model has ${classes} classes; it must have two, the second one being fraud`,
    );
  const [name] = zipMap.inputs;
  return { name, isFloatTensor: true, bytes: rowsOf(name, classes) };
}

/** The nodes that an output needs. */
function liveNodes(nodes: ReadonlyMap<Field, Node>, output: string): Set<Field> {
  const producers = new Map(
    [...nodes].flatMap(([field, node]) =>
      node.outputs.filter((name) => name !== "").map((name) => [name, { field, node }] as const),
    ),
  );
  const live = new Set<Field>();
  const open = [output];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    const producer = producers.get(name);
    if (producer === undefined || live.has(producer.field)) continue;
    live.add(producer.field);
    open.push(...producer.node.inputs, ...producer.node.attributes.flatMap(namesReadIn));
  }
  return live;
}

/** Every name that the graphs of an attribute (of If, Loop, Scan) read, from inside or from outside. */
function namesReadIn(attribute: Uint8Array): string[] {
  const names: string[] = [];
  for (const field of fieldsOf(attribute)) {
    if (!field.holds(ATTRIBUTE.graph, ATTRIBUTE.graphs)) continue;
    for (const inner of fieldsOf(field.bytes)) {
      // A branch may pass on a value of the outer graph as its output.
      if (inner.holds(GRAPH.output)) names.push(textIn(inner.bytes, VALUE_INFO.name));
      if (!inner.holds(GRAPH.node)) continue;
      const { inputs, attributes } = nodeOf(inner.bytes);
      names.push(...inputs, ...attributes.flatMap(namesReadIn));
    }
  }
  return names;
}

function nodeOf(message: Uint8Array): Node {
  const node: Node = { opType: "", inputs: [], outputs: [], attributes: [] };
  for (const field of fieldsOf(message)) {
    if (field.holds(NODE.input)) node.inputs.push(field.text);
    else if (field.holds(NODE.output)) node.outputs.push(field.text);
    else if (field.holds(NODE.opType)) node.opType = field.text;
    else if (field.holds(NODE.attribute)) node.attributes.push(field.bytes);
  }
  return node;
}

/** How many classes a ZipMap names. */
function classesOf(zipMap: Node): number {
  let classes = 0;
  for (const attribute of zipMap.attributes) {
    if (!textIn(attribute, ATTRIBUTE.name).startsWith("classlabels_")) continue;
    for (const field of fieldsOf(attribute)) {
      if (field.no === ATTRIBUTE.ints) classes += field.integers.length;
      else if (field.holds(ATTRIBUTE.strings)) classes++;
    }
  }
  return classes;
}

function valueOf(message: Uint8Array): Value {
  let isFloatTensor = false;
  for (const field of fieldsOf(message)) {
    if (!field.holds(VALUE_INFO.type)) continue;
    for (const type of fieldsOf(field.bytes)) {
      if (type.holds(TYPE_TENSOR))
        isFloatTensor = [...fieldsOf(type.bytes)].some(
          (element) => element.no === TENSOR_ELEMENT && element.integers[0] === FLOAT,
        );
    }
  }
  return { name: textIn(message, VALUE_INFO.name), isFloatTensor, bytes: message };
}

/** A text field of a message; empty when it has none. */
function textIn(message: Uint8Array, no: number): string {
  let text = "";
  for (const field of fieldsOf(message)) if (field.holds(no)) text = field.text;
  return text;
}

const MOST_LISTED = 5;

function listed(names: readonly string[]): string {
  const shown = names.slice(0, MOST_LISTED).map((name) => JSON.stringify(name.slice(0, 100)));
  return names.length > MOST_LISTED ? `${shown.join(", ")}, …` : shown.join(", ") || "none";
}
