import { FraudstreamError } from "../../schemas/errors.js";
import { fieldsOf } from "../onnx/fields.js";
import { FLOATS, listed, type GraphParts, type GraphStep, type GraphValue } from "./graph-parts.js";
import type { GraphWords } from "./score-map.js";

/** The output that scores are read from. */
export interface ChosenOutput {
  /** Of the tensor; behind a ZipMap it is what that is made of. */
  name: string;
  element: GraphValue["element"];
  rank: number | null;
  /** The column of fraud; null: there is one column, or the rank is one. */
  column: number | null;
  /** As the graph declares it; null behind a ZipMap. */
  declared: GraphValue | null;
  columns: number | null;
}

const CLASSIFIERS = new Set(["TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier"]);
const LABELS = ["classlabels_strings", "classlabels_int64s", "classlabels_ints"];
const TENSOR = { dims: 1, integers: 7, strings: 6, raw: 9 } as const;
/** What fraud is called, where its author doesn't say. */
const FRAUD_WORDS = new Set(
  "1 true yes y t fraud fraudulent frauds is_fraud chargeback scam stolen bad positive pos anomaly anomalous".split(
    " ",
  ),
);
const WITH_PROBABILITIES =
  "Export probabilities: with scikit-learn, LightGBM, XGBoost and CatBoost a classifier that has predict_proba " +
  "(a LinearSVC within a CalibratedClassifierCV), without taking its second output off; of an anomaly detector the " +
  'output of scores, with a "score_map" in the manifest';

/**
 * Which tensor has the probability of fraud, and which of its columns.
 *
 * @throws FraudstreamError `onnx_outputs`, saying what the manifest must name
 */
export function chooseOutput(parts: GraphParts, wanted: GraphWords): ChosenOutput {
  const { outputs } = parts;
  const steps = [...parts.steps.values()];
  const names = listed(outputs.map(({ name }) => name));
  const fits = (value: GraphValue): boolean =>
    (value.element !== null && FLOATS.has(value.element)) || zipMapOf(value.name, steps) !== undefined;
  const fitting = outputs.filter(fits);
  if (wanted.output === undefined && fitting.length === 0)
    throw refused(`the model gives labels only (${names}), and thresholds need scores. ${WITH_PROBABILITIES}`);
  if (wanted.output === undefined && fitting.length !== 1)
    throw refused(
      `of the model's outputs (${names}) ${fitting.length} can be probabilities; the manifest must name one that is ` +
        "(output)",
    );
  const chosen = wanted.output === undefined ? fitting[0] : outputs.find(({ name }) => name === wanted.output);
  if (chosen === undefined) throw refused(`the model has no output ${JSON.stringify(wanted.output)}; it has ${names}`);
  if (!fits(chosen))
    throw refused(
      `the model's output ${JSON.stringify(chosen.name)} is neither a float tensor nor made by a ZipMap, but labels; ` +
        `it has ${names}. ${WITH_PROBABILITIES}`,
    );
  const zipMap = zipMapOf(chosen.name, steps);
  if (zipMap !== undefined) {
    const classes = labelsOf(zipMap);
    if (classes.length < 2) throw refused(`the model has ${classes.length} classes; it must have two at least`);
    const column = columnOf(classes, classes.length, wanted);
    const element = chosen.mapped ?? "float";
    return { name: zipMap.inputs[0], element, rank: 2, column, declared: null, columns: classes.length };
  }
  const { name, element, dims } = chosen;
  const columns = dims?.length === 2 ? dims[1] : null;
  const one = dims?.length === 1 || columns === 1;
  const column = one ? null : columnOf(classesFor(parts, columns), columns, wanted);
  return { name, element, rank: dims?.length ?? null, column, declared: chosen, columns };
}

/** @param columns null: not said */
function columnOf(
  classes: readonly string[] | null,
  columns: number | null,
  { fraud_class, fraud_column }: GraphWords,
): number | null {
  const count = columns ?? classes?.length ?? null;
  if (fraud_column !== undefined && count !== null && fraud_column >= count)
    throw refused(`fraud_column is ${fraud_column}; the model's output has ${count} columns, counted from 0`);
  if (fraud_class !== undefined) {
    if (classes === null)
      throw refused("the model's file doesn't name its classes: let the manifest say fraud_column, counted from 0");
    const at = classes.indexOf(String(fraud_class));
    if (at < 0) throw refused(`the model has no class ${JSON.stringify(fraud_class)}; it has ${listed(classes)}`);
    if (fraud_column !== undefined && fraud_column !== at)
      throw refused(`fraud_class is column ${at}, and fraud_column says ${fraud_column}`);
    return at;
  }
  if (fraud_column !== undefined) return fraud_column;
  if (classes !== null) return recognised(classes);
  if (count !== null && count > 2)
    throw refused(`the model's output has ${count} columns: let the manifest say which is fraud's (fraud_column)`);
  // Without a word, or a size: the second of two, or the only one.
  return count === 2 ? 1 : null;
}

/** The class that must be fraud, by its name. */
function recognised(classes: readonly string[]): number {
  const numbers = classes.map(Number);
  const are = (...wanted: number[]): boolean => wanted.every((number) => numbers.includes(number));
  if (classes.length === 2 && (are(0, 1) || are(-1, 1))) return numbers.indexOf(1);
  const words = classes.map((name) => name.trim().toLowerCase());
  const found = words.filter((word) => Number.isNaN(Number(word)) && FRAUD_WORDS.has(word));
  if (found.length === 1) return words.indexOf(found[0]);
  throw refused(
    `the model's classes are ${listed(classes)}: let the manifest say which is fraud, such as "fraud_class": ` +
      (numbers.some(Number.isNaN) ? JSON.stringify(classes[0]) : classes[0]),
  );
}

/** The ZipMap that makes an output. */
function zipMapOf(name: string, steps: readonly GraphStep[]): GraphStep | undefined {
  const producer = new Map(steps.flatMap((step) => step.outputs.map((output) => [output, step] as const)));
  let step = producer.get(name);
  for (let passed = 0; step !== undefined && passed <= steps.length; passed++) {
    if (step.node.opType === "ZipMap") return step;
    if (step.node.opType !== "Identity") return undefined;
    step = producer.get(step.inputs[0] ?? "");
  }
  return undefined;
}

/** The classes of a graph without a ZipMap, if it names as many as there are columns; null: it doesn't. */
function classesFor(parts: GraphParts, columns: number | null): string[] | null {
  const steps = [...parts.steps.values()];
  const fits = (labels: readonly string[]): boolean =>
    labels.length > 1 && (columns === null || labels.length === columns);
  // scikit-learn's ensembles look the label up in a constant; what is within them may have other labels.
  for (const { node, inputs } of steps) {
    const constant = node.opType === "ArrayFeatureExtractor" ? parts.constants.get(inputs[0] ?? "") : undefined;
    if (constant === undefined || !inputs[0].startsWith("classes")) continue;
    const labels = constantLabels(constant);
    if (fits(labels)) return labels;
  }
  const labels = steps.filter(({ node }) => CLASSIFIERS.has(node.opType)).map(labelsOf);
  return labels.reverse().find(fits) ?? null;
}

function labelsOf({ node }: GraphStep): string[] {
  const name = LABELS.find((each) => node.attributeNames.includes(each));
  if (name === undefined) return [];
  return name === "classlabels_strings" ? node.texts(name) : node.ints(name).map(String);
}

function constantLabels(tensor: Uint8Array): string[] {
  const labels: string[] = [];
  for (const field of fieldsOf(tensor)) {
    if (field.no === TENSOR.integers) labels.push(...field.integers.map(String));
    else if (field.holds(TENSOR.strings)) labels.push(field.text);
    else if (field.holds(TENSOR.raw)) {
      const { bytes } = field;
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let at = 0; at + 8 <= bytes.length; at += 8) labels.push(String(view.getBigInt64(at, true)));
    }
  }
  return labels;
}

function refused(reason: string): FraudstreamError {
  return new FraudstreamError("onnx_outputs", reason);
}
