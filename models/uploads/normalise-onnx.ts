import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { floatsNamed, opset, rowsOf } from "../onnx/graph.js";
import type { Field } from "../onnx/fields.js";
import { AdapterNodes, OWN_OPSETS, type Opsets } from "./adapters.js";
import { bindInputs, checkInputNames, type BoundInput } from "./bind-inputs.js";
import type { ModelColumn } from "./columns.js";
import { chooseOutput, type ChosenOutput } from "./fraud-class.js";
import { GRAPH, MODEL, liveSteps, namesReadIn, partsOfOnnx, type GraphParts } from "./graph-parts.js";
import type { GraphWords } from "./score-map.js";

export interface NormalisedOnnx {
  onnx: Uint8Array;
  /** Names of the graph's only input and only output. */
  input: string;
  output: string;
  /** Rows that a run must have; absent: any number. */
  batch?: number;
}

/** Whether a graph with a fixed batch is to take any number of rows, or the number that it was exported with. */
export type Batch = "any" | "fixed";

/**
 * Brings an exported model into the one form that we score: one float32 matrix with a row for each payment in, one
 * output, the probabilities of fraud. Nodes before its inputs make what they take (columns apart, texts, other types,
 * other shapes), nodes behind its output choose fraud's column and map it to 0..1. A ZipMap, which makes a sequence
 * of maps of the probabilities, is cut out, and so is what only computes other outputs, such as the label. A model that
 * has the form already stays as it is.
 *
 * @param words what the model's author says; what is missing is derived from the graph
 * @returns `fixedBatch`: the rows that its inputs have, as it was exported; null: any number
 * @throws FraudstreamError `onnx_malformed`, `onnx_inputs`, `onnx_outputs`, `model_shape`
 */
export function normaliseOnnx(
  onnx: Uint8Array,
  words: GraphWords,
  columns: readonly ModelColumn[],
  batch: Batch = "any",
): NormalisedOnnx & { fixedBatch: number | null } {
  const parts = partsOfOnnx(onnx);
  checkInputNames(parts.inputs, words);
  const chosen = chooseOutput(parts, words);
  const live = liveSteps(parts.steps, chosen.name);
  const bound = bindInputs(parts.inputs, namesRead(parts, live, chosen.name), columns, words);
  const fixedBatch = bound.find(({ rows }) => rows !== null)?.rows ?? null;
  const rows = batch === "fixed" ? fixedBatch : null;
  const front = isPlainInput(parts, bound, columns) ? null : bound;
  const back = isPlainOutput(chosen, words) ? null : chosen;
  const adapter = front === null && back === null ? null : new AdapterNodes(opsetsOf(parts), namesIn(parts));
  const width = columns.reduce((sum, { features }) => sum + features.length, 0);
  let input = bound[0]?.name ?? parts.inputs[0].name;
  if (front !== null && adapter !== null) {
    input = adapter.name("features");
    for (const each of front) adapter.feed(input, width, each);
  }
  const before = adapter?.nodes.splice(0) ?? [];
  const output = back === null || adapter === null ? chosen.name : adapter.score(back, words.score_map);
  const behind = adapter?.nodes ?? [];

  const writer = new BinaryWriter();
  for (const each of before) writer.tag(GRAPH.node, WireType.LengthDelimited).bytes(each);
  for (const field of parts.graph)
    if (isKept(field, parts, live, adapter !== null, front !== null)) writer.raw(field.raw);
  for (const each of behind) writer.tag(GRAPH.node, WireType.LengthDelimited).bytes(each);
  if (front !== null) writer.tag(GRAPH.input, WireType.LengthDelimited).bytes(rowsOf(input, width, rows ?? undefined));
  writer.tag(GRAPH.output, WireType.LengthDelimited).bytes(outputOf(chosen, back === null ? null : output));
  const whole = assembled(parts, writer.finish(), adapter !== null);
  return { onnx: whole, input, output, fixedBatch, ...(rows === null ? {} : { batch: rows }) };
}

/** What a graph that is already as we score it takes: one float32 matrix [any, features]. */
function isPlainInput({ inputs }: GraphParts, bound: readonly BoundInput[], columns: readonly ModelColumn[]): boolean {
  if (inputs.length !== 1 || bound.length > 1 || columns.some(({ category }) => category !== null)) return false;
  if (bound.length === 0) return inputs[0].element === "float";
  const [{ element, rank, rows, columns: taken }] = bound;
  const inOrder = taken.length === columns.length && taken.every(({ column }, i) => column === columns[i]);
  return element === "float" && rank === 2 && rows === null && inOrder;
}

/** float32, and fraud is the only column or the second of two. */
function isPlainOutput({ element, column, columns }: ChosenOutput, { score_map }: GraphWords): boolean {
  return score_map === undefined && element === "float" && (column === null || (column === 1 && columns === 2));
}

function isKept(
  field: Field,
  { steps }: GraphParts,
  live: ReadonlySet<Field>,
  adapted: boolean,
  otherInput: boolean,
): boolean {
  if (field.holds(GRAPH.output) || (steps.has(field) && !live.has(field))) return false;
  if (otherInput && field.holds(GRAPH.input)) return false;
  // What is said of shapes between may hold for the exported batch only; runtimes derive it anew.
  return !(adapted && field.holds(GRAPH.valueInfo));
}

function outputOf(chosen: ChosenOutput, score: string | null): Uint8Array {
  if (score !== null) return floatsNamed(score);
  return chosen.declared?.bytes ?? rowsOf(chosen.name, chosen.columns ?? 2);
}

function assembled({ model, graphField, opsets }: GraphParts, graph: Uint8Array, adapted: boolean): Uint8Array {
  const whole = new BinaryWriter();
  for (const field of model) {
    if (field === graphField) whole.tag(MODEL.graph, WireType.LengthDelimited).bytes(graph);
    else whole.raw(field.raw);
  }
  if (adapted)
    for (const [domain, version] of [
      ["", OWN_OPSETS.main],
      ["ai.onnx.ml", OWN_OPSETS.ml],
    ] as const)
      if (!opsets.has(domain)) whole.tag(MODEL.opset, WireType.LengthDelimited).bytes(opset(domain, version));
  return whole.finish();
}

function opsetsOf({ opsets }: GraphParts): Opsets {
  return { main: opsets.get("") ?? OWN_OPSETS.main, ml: opsets.get("ai.onnx.ml") ?? OWN_OPSETS.ml };
}

/** The names that what is computed reads. */
function namesRead({ steps }: GraphParts, live: ReadonlySet<Field>, output: string): Set<string> {
  const names = new Set([output]);
  for (const [field, { inputs, attributes }] of steps) {
    if (!live.has(field)) continue;
    for (const name of [...inputs, ...attributes.flatMap(namesReadIn)]) names.add(name);
  }
  return names;
}

function namesIn({ steps, inputs, outputs, constants }: GraphParts): Set<string> {
  const names = new Set([...[...inputs, ...outputs].map(({ name }) => name), ...constants.keys()]);
  for (const step of steps.values()) for (const name of [...step.inputs, ...step.outputs]) names.add(name);
  return names;
}
