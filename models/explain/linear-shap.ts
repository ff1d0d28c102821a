import type { Explainer } from "./explainer.js";

/**
 * Exact SHAP values of a linear model, in log-odds, features taken as independent (Lundberg, Lee 2017, "A Unified
 * Approach to Interpreting Model Predictions", corollary 1): coefficient × (x − mean of the training rows). What is
 * missing is scored as the mean, and contributes nothing.
 */
export class LinearShap implements Explainer {
  readonly expected: number;
  readonly features: number;
  readonly #coefficients: Float64Array;
  readonly #mean: Float64Array;

  /** @param linear intercept: the log-odds of a row of means */
  constructor({
    intercept,
    coefficients,
    mean,
  }: {
    intercept: number;
    coefficients: Float64Array;
    mean: Float64Array;
  }) {
    this.expected = intercept;
    this.features = coefficients.length;
    this.#coefficients = coefficients;
    this.#mean = mean;
  }

  contributions(values: Float32Array, at: number, out: Float64Array): void {
    for (let feature = 0; feature < this.features; feature++) {
      const x = values[at + feature];
      out[feature] = x === x ? this.#coefficients[feature] * (x - this.#mean[feature]) : 0;
    }
  }
}
