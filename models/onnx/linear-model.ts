import { doublesOf, type Graph } from "./read-graph.js";
import type { ModelIo } from "./session.js";

/**
 * A logistic regression: log-odds are the intercept and the sum of coefficient × (x − mean); what is missing is the
 * mean.
 */
export interface LinearParts {
  intercept: number;
  coefficients: Float64Array;
  mean: Float64Array;
}

/** The logistic regression of a graph that models/onnx/write.ts wrote; null for every other graph. */
export function linearParts(graph: Graph, { input, output, features }: ModelIo): LinearParts | null {
  const signatures = graph.nodes.map(({ signature }) => signature);
  const expected = linearSignatures(input, output);
  if (signatures.length !== expected.length || expected.some((signature, i) => signature !== signatures[i]))
    return null;
  const parts = {
    intercept: doublesOf(graph, "intercept")[0],
    coefficients: doublesOf(graph, "coefficients"),
    mean: doublesOf(graph, "mean"),
  };
  return parts.coefficients.length === features && parts.mean.length === features && Number.isFinite(parts.intercept)
    ? parts
    : null;
}

/** The nodes, as models/onnx/write.ts names them. */
function linearSignatures(input: string, output: string): string[] {
  return [
    `Cast(${input}) > x`,
    "IsNaN(x) > missing",
    "Where(missing,mean,x) > filled",
    "Sub(filled,mean) > centred",
    "MatMul(centred,coefficients) > weighted",
    "Add(weighted,intercept) > log_odds",
    "Sigmoid(log_odds) > probability_float64",
    `Cast(probability_float64) > ${output}`,
  ];
}

/** The probabilities of rows, computed in float64 as the graph does. @param features row by row */
export function scoreLinear(
  { intercept, coefficients, mean }: LinearParts,
  features: Float32Array,
  rows: number,
): Float32Array {
  const width = coefficients.length;
  const scores = new Float32Array(rows);
  for (let row = 0, at = 0; row < rows; row++) {
    let sum = 0;
    for (let i = 0; i < width; i++, at++) {
      const x = features[at];
      if (x === x) sum += coefficients[i] * (x - mean[i]);
    }
    scores[row] = 1 / (1 + Math.exp(-(sum + intercept)));
  }
  return scores;
}
