/** A probability from the logarithm of its odds. */
export function sigmoid(raw: number): number {
  return 1 / (1 + Math.exp(-raw));
}

/**
 * Rounds gradients so that no sum over the training rows is ever rounded: to multiples of the smallest power of two
 * with which `rows` of them fit a float64 (2^-34 for 300,000 rows).
 */
export class ExactUnit {
  /** The smallest hessian: one that is rounded to zero would make its row invisible. */
  readonly smallest: number;
  /** Adding and subtracting it rounds to a multiple of `smallest`. */
  readonly #magic: number;

  /** @param greatest the greatest magnitude of a gradient or hessian */
  constructor(rows: number, greatest: number) {
    const exponent = Math.ceil(Math.log2(rows)) + Math.ceil(Math.log2(Math.max(1, greatest)));
    this.smallest = 2 ** (exponent - 52);
    this.#magic = 1.5 * 2 ** 52 * this.smallest;
  }

  /**
   * The logistic loss's first and second derivative by the raw score (Friedman 2001; second order as in XGBoost, Chen
   * and Guestrin 2016), as pairs in row order.
   *
   * @param out `2 * rows` numbers
   */
  logisticGradients(raw: Float64Array, labels: Uint8Array, fraudWeight: number, out: Float64Array): void {
    const magic = this.#magic;
    const smallest = this.smallest;
    for (let row = 0; row < raw.length; row++) {
      const p = 1 / (1 + Math.exp(-raw[row]));
      const label = labels[row];
      const weight = label === 1 ? fraudWeight : 1;
      const hessian = p * (1 - p) * weight + magic - magic;
      out[2 * row] = (p - label) * weight + magic - magic;
      out[2 * row + 1] = hessian > smallest ? hessian : smallest;
    }
  }
}
