/** Shapley values of one model's raw score (log-odds): `expected` and a row's contributions add up to it. */
export interface Explainer {
  /** The raw score of a row of which nothing is known. */
  readonly expected: number;
  readonly features: number;
  /**
   * @param values float32 features, row by row; NaN: missing
   * @param at where the row begins
   * @param out takes a contribution for each feature
   */
  contributions(values: Float32Array, at: number, out: Float64Array): void;
}
