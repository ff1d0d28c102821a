import { FraudstreamError } from "../../schemas/errors.js";
import { mayBeMissing } from "../features/plan.js";
import type { ModelColumn } from "./columns.js";
import { FLOATS, describeValue, listed, type Element, type GraphValue } from "./graph-parts.js";
import type { GraphWords } from "./score-map.js";

/** An input of the graph, and what it is made of. */
export interface BoundInput {
  name: string;
  element: Element;
  rank: 1 | 2;
  /** Rows that a run must have; null: any number. */
  rows: number | null;
  columns: BoundColumn[];
}

export interface BoundColumn {
  column: ModelColumn;
  /** Where its features begin. */
  at: number;
}

const TAKEN: ReadonlySet<string> = new Set([
  ...["float", "double", "float16", "string", "bool"],
  ...["int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"],
]);
const HOW =
  'say it in the manifest: "inputs": [{"name": "…", "features": ["…"]}], in the order of each input\'s columns';

/**
 * Which features each input takes: as the manifest says, all of them where there is one input, or else the feature of
 * the input's name.
 *
 * @param used names of the inputs that are read; others are left out
 * @throws FraudstreamError `onnx_inputs`, saying what to declare
 */
export function bindInputs(
  inputs: readonly GraphValue[],
  used: ReadonlySet<string>,
  columns: readonly ModelColumn[],
  words: GraphWords,
): BoundInput[] {
  if (inputs.length === 0) throw refused("the model has no input");
  const places = new Map<string, BoundColumn>();
  let at = 0;
  for (const column of columns) {
    places.set(column.name, { column, at });
    at += column.features.length;
  }
  const named = namesFor(inputs, used, columns, words);
  const fed = new Set([...named.values()].flat());
  const unfed = columns.filter(({ name }) => !fed.has(name)).map(({ name }) => name);
  if (unfed.length > 0)
    throw refused(`the features ${listed(unfed)} feed no input of the model (${namesOf(inputs)}); ${HOW}`);
  const bound = inputs
    .filter(({ name }) => used.has(name))
    .map((input) =>
      bind(
        input,
        (named.get(input.name) ?? []).map((name) => {
          const place = places.get(name);
          if (place === undefined)
            throw refused(`the input ${quoted(input.name)} takes ${quoted(name)}, which is not one of the features`);
          return place;
        }),
      ),
    );
  const sizes = new Set(bound.flatMap(({ rows }) => (rows === null ? [] : [rows])));
  if (sizes.size > 1) throw refused(`the model's inputs have fixed batches of ${[...sizes].join(" and ")} rows`);
  return bound;
}

/** @throws FraudstreamError `onnx_inputs` for an input that the manifest names and the graph hasn't got */
export function checkInputNames(inputs: readonly GraphValue[], { input, inputs: mapping = [] }: GraphWords): void {
  if (input !== undefined && mapping.length > 0)
    throw refused("the manifest names both input and inputs; give one of them");
  if (input !== undefined && inputs.length === 1 && input !== inputs[0].name)
    throw refused(`the model's input is ${quoted(inputs[0].name)}, the manifest says ${quoted(input)}`);
  if (input !== undefined && inputs.every(({ name }) => name !== input))
    throw refused(`the model has no input ${quoted(input)}; it has ${namesOf(inputs)}`);
  const unknown = mapping.filter(({ name }) => inputs.every((each) => each.name !== name)).map(({ name }) => name);
  if (unknown.length > 0) throw refused(`the model has no input ${listed(unknown)}; it has ${namesOf(inputs)}`);
}

/** The names of each input's features. */
function namesFor(
  inputs: readonly GraphValue[],
  used: ReadonlySet<string>,
  columns: readonly ModelColumn[],
  { inputs: mapping }: GraphWords,
): Map<string, string[]> {
  if (mapping !== undefined) {
    const lacking = inputs.filter(({ name }) => used.has(name) && mapping.every((each) => each.name !== name));
    if (lacking.length > 0) throw refused(`the manifest's inputs lack ${namesOf(lacking)}`);
    return new Map(mapping.map(({ name, features }) => [name, features]));
  }
  if (inputs.length === 1) return new Map([[inputs[0].name, columns.map(({ name }) => name)]]);
  const lacking = inputs.filter(({ name }) => used.has(name) && columns.every((column) => column.name !== name));
  if (lacking.length > 0)
    throw refused(`the model has ${inputs.length} inputs, and no feature has the name of ${namesOf(lacking)}; ${HOW}`);
  return new Map(
    inputs.flatMap(({ name }) => (columns.some((column) => column.name === name) ? [[name, [name]] as const] : [])),
  );
}

function bind(input: GraphValue, columns: BoundColumn[]): BoundInput {
  const { name, element, dims } = input;
  const what = `the input ${quoted(name)} is ${describeValue(input)}`;
  if (element === null || !TAKEN.has(element))
    throw refused(`${what}; numbers, booleans and texts are taken, as tensors [None, columns]`);
  const rank = dims?.length ?? 2;
  if (rank !== 1 && rank !== 2) throw refused(`${what}; export it with the shape [None, columns]`);
  const [rows = null, width = null] = dims ?? [];
  if (rank === 1 && columns.length > 1)
    throw refused(
      `${what}, which has room for one feature a row, and ${columns.length} are mapped to it (${listed(
        columns.map(({ column }) => column.name),
      )}); export it with the shape [None, ${columns.length}]`,
    );
  if (rank === 2 && width !== null && width !== columns.length)
    throw new FraudstreamError("model_shape", `${what}, and ${columns.length} features are mapped to it; ${HOW}`);
  for (const { column } of columns) checkType(column, element, what);
  return { name, element, rank, rows, columns };
}

function checkType({ name, category, features: [feature] }: ModelColumn, element: Element, what: string): void {
  if (element === "string" && category === null)
    throw refused(`${what}: texts. Give its feature ${quoted(name)} the type "category"`);
  if (element !== "string" && category !== null)
    throw refused(
      `${what}: numbers. Its feature ${quoted(name)} is a category; export the model with its encoder, and an ` +
        "input of texts",
    );
  if (element === "string" || FLOATS.has(element)) return;
  if (mayBeMissing(feature.source) && feature.default === null)
    throw refused(`${what}, which can't be missing: give its feature ${quoted(name)} a default in the manifest`);
}

function namesOf(inputs: readonly GraphValue[]): string {
  return listed(inputs.map(({ name }) => name));
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}

function refused(reason: string): FraudstreamError {
  return new FraudstreamError("onnx_inputs", reason);
}
