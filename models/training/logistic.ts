import { FraudstreamError } from "../../schemas/errors.js";
import type { Labelled, Report } from "./boost.js";
import type { Matrix } from "./matrix.js";
import type { LogisticParams } from "./params.js";

/** A logistic regression: the log-odds are `intercept + sum of weights * (x - mean) / scale`. */
export interface LinearModel {
  intercept: number;
  /** Of the standardised features. */
  weights: Float64Array;
  /** Also what stands in for a missing value. */
  mean: Float64Array;
  /** Standard deviation; 1 for a feature that never varies. */
  scale: Float64Array;
}

/** A Newton step smaller than this in every weight is the last. */
const CONVERGED = 1e-9;

/**
 * Fits a logistic regression by iteratively reweighted least squares (Newton), halving steps that don't lower the
 * penalised loss. In float64 and in row order, so that the same input gives the same weights.
 *
 * @throws FraudstreamError `training_diverged` where the weights have no optimum (separable classes without a penalty)
 */
export function fitLogistic(
  train: Labelled,
  params: LogisticParams,
  report: Report,
): { model: LinearModel; iterations: number } {
  const { matrix, labels } = train;
  const { mean, scale } = standardise(matrix);
  const size = matrix.features + 1;
  let weights = new Float64Array(size);
  let state = derivatives(matrix, labels, mean, scale, weights, params.lambda_l2);
  let iterations = 0;
  report("fitting", 5);
  while (iterations < params.num_iterations) {
    iterations++;
    const step = solve(state.hessian, state.gradient, size);
    let length = 1;
    let next = moved(weights, step, length);
    let nextState = derivatives(matrix, labels, mean, scale, next, params.lambda_l2);
    while (!(nextState.loss <= state.loss) && length > 1e-6) {
      length /= 2;
      next = moved(weights, step, length);
      nextState = derivatives(matrix, labels, mean, scale, next, params.lambda_l2);
    }
    if (!(nextState.loss <= state.loss)) break;
    weights = next;
    state = nextState;
    report("fitting", 5 + 95 * (1 - 0.7 ** iterations));
    if (Math.max(...step.map(Math.abs)) * length < CONVERGED) break;
  }
  if (weights.some((weight) => !Number.isFinite(weight)))
    throw new FraudstreamError("training_diverged", "the logistic regression has no finite weights: raise lambda_l2");
  report("fitting", 100);
  return { model: { intercept: weights[size - 1], weights: weights.slice(0, size - 1), mean, scale }, iterations };
}

/** @param out the log-odds, one a row */
export function predictLinear(model: LinearModel, matrix: Matrix, out: Float64Array): void {
  const { features, rows, values } = matrix;
  const { weights, mean, scale } = model;
  for (let row = 0, at = 0; row < rows; row++) {
    let raw = model.intercept;
    for (let feature = 0; feature < features; feature++, at++) {
      const x = values[at];
      if (x === x) raw += weights[feature] * ((x - mean[feature]) / scale[feature]);
    }
    out[row] = raw;
  }
}

/** Means and standard deviations of the values that are there, in two passes. */
function standardise({ rows, features, values }: Matrix): { mean: Float64Array; scale: Float64Array } {
  const count = new Float64Array(features);
  const mean = new Float64Array(features);
  const scale = new Float64Array(features);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let feature = 0; feature < features; feature++, at++) {
      const x = values[at];
      if (x !== x) continue;
      count[feature]++;
      mean[feature] += x;
    }
  }
  for (let feature = 0; feature < features; feature++) mean[feature] /= Math.max(1, count[feature]);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let feature = 0; feature < features; feature++, at++) {
      const x = values[at];
      if (x === x) scale[feature] += (x - mean[feature]) ** 2;
    }
  }
  for (let feature = 0; feature < features; feature++) {
    const deviation = Math.sqrt(scale[feature] / Math.max(1, count[feature]));
    // A deviation that is only the rounding of the mean is none.
    scale[feature] = deviation > 1e-9 * Math.abs(mean[feature]) ? deviation : 1;
  }
  return { mean, scale };
}

interface Derivatives {
  loss: number;
  gradient: Float64Array;
  /** Lower triangle, row by row of a square matrix. */
  hessian: Float64Array;
}

/** Of the penalised log loss, summed over the rows; the intercept is the last weight. */
function derivatives(
  { rows, features, values }: Matrix,
  labels: Uint8Array,
  mean: Float64Array,
  scale: Float64Array,
  weights: Float64Array,
  lambda: number,
): Derivatives {
  const size = features + 1;
  const gradient = new Float64Array(size);
  const hessian = new Float64Array(size * size);
  const z = new Float64Array(size).fill(1);
  let loss = 0;
  for (let row = 0, at = 0; row < rows; row++) {
    let raw = weights[features];
    for (let feature = 0; feature < features; feature++, at++) {
      const x = values[at];
      const standard = x === x ? (x - mean[feature]) / scale[feature] : 0;
      z[feature] = standard;
      raw += weights[feature] * standard;
    }
    const p = 1 / (1 + Math.exp(-raw));
    const label = labels[row];
    const away = label === 1 ? -raw : raw;
    // log(1 + exp(away)), without overflow.
    loss += away > 0 ? away + Math.log1p(Math.exp(-away)) : Math.log1p(Math.exp(away));
    const error = p - label;
    const weight = p * (1 - p);
    for (let i = 0, cell = 0; i < size; i++, cell = i * size) {
      const zi = z[i];
      gradient[i] += error * zi;
      const scaled = weight * zi;
      for (let j = 0; j <= i; j++, cell++) hessian[cell] += scaled * z[j];
    }
  }
  for (let i = 0; i < features; i++) {
    loss += (lambda / 2) * weights[i] ** 2;
    gradient[i] += lambda * weights[i];
    hessian[i * size + i] += lambda;
  }
  return { loss, gradient, hessian };
}

function moved(weights: Float64Array, step: Float64Array, length: number): Float64Array<ArrayBuffer> {
  return Float64Array.from(weights, (weight, i) => weight - length * step[i]);
}

/**
 * Solves a positive semidefinite system by Cholesky factorisation. A direction in which the matrix is flat (a copy of
 * another feature, without a penalty) gets no step.
 */
function solve(matrix: Float64Array, right: Float64Array, size: number): Float64Array {
  const factor = matrix.slice();
  const flat = new Uint8Array(size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = factor[i * size + j];
      for (let k = 0; k < j; k++) sum -= factor[i * size + k] * factor[j * size + k];
      if (i !== j) factor[i * size + j] = flat[j] === 1 ? 0 : sum / factor[j * size + j];
      else if (sum > 1e-12 * matrix[i * size + i]) factor[i * size + i] = Math.sqrt(sum);
      else {
        flat[i] = 1;
        factor[i * size + i] = 1;
      }
    }
  }
  const x = right.slice();
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < i; k++) x[i] -= factor[i * size + k] * x[k];
    x[i] = flat[i] === 1 ? 0 : x[i] / factor[i * size + i];
  }
  for (let i = size - 1; i >= 0; i--) {
    for (let k = i + 1; k < size; k++) x[i] -= factor[k * size + i] * x[k];
    x[i] = flat[i] === 1 ? 0 : x[i] / factor[i * size + i];
  }
  return x;
}
