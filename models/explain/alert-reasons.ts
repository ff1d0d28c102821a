import type { Explainer } from "./explainer.js";

/** Reasons of an alert, at most. */
export const MOST_REASONS = 3;

/**
 * Why a model raised an alert: the features that raised the raw score most. What is found stands in `feature` and
 * `contribution` until the next `find`, so that nothing is allocated for a row.
 */
export class AlertReasons {
  /** Indices of features, the greatest contribution first; of two equal ones the first feature. */
  readonly feature = new Int32Array(MOST_REASONS);
  /** To the log-odds, above zero. */
  readonly contribution = new Float64Array(MOST_REASONS);
  /** The features' names, in UTF-8. */
  readonly names: readonly Buffer[];
  readonly longestName: number;
  readonly #explainer: Explainer;
  readonly #all: Float64Array;

  constructor(explainer: Explainer, names: readonly string[]) {
    this.#explainer = explainer;
    this.#all = new Float64Array(names.length);
    this.names = names.map((name) => Buffer.from(name));
    this.longestName = Math.max(...this.names.map(({ length }) => length));
  }

  /**
   * @param values float32 features, row by row
   * @param at where the row begins
   * @returns how many there are: features that lowered the score, or left it as it was, are none
   */
  find(values: Float32Array, at: number): number {
    const { feature, contribution } = this;
    const all = this.#all;
    this.#explainer.contributions(values, at, all);
    let count = 0;
    for (let i = 0; i < all.length; i++) {
      const given = all[i];
      if (!(given > 0) || (count === MOST_REASONS && given <= contribution[MOST_REASONS - 1])) continue;
      let place = count < MOST_REASONS ? count++ : MOST_REASONS - 1;
      for (; place > 0 && contribution[place - 1] < given; place--) {
        contribution[place] = contribution[place - 1];
        feature[place] = feature[place - 1];
      }
      contribution[place] = given;
      feature[place] = i;
    }
    return count;
  }
}
