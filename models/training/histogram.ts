import { binCount, type BinnedMatrix } from "./bins.js";
import type { Kernels } from "./kernels.js";

/**
 * Sums of gradients and hessians by feature and bin: `values[offsets[feature] + 2 * bin]` and the one after it. The
 * gradients are rounded to multiples of a power of two (see gradients.ts), so sums are exact: subtracting a child's
 * histogram from its parent's gives the sibling's to the last bit, in whatever order rows were added.
 */
export class HistogramLayout {
  readonly bins: BinnedMatrix;
  readonly offsets: Int32Array;
  /** Numbers in a histogram. */
  readonly size: number;
  readonly #kernels: Kernels;

  constructor(bins: BinnedMatrix, kernels: Kernels) {
    this.bins = bins;
    this.#kernels = kernels;
    this.offsets = new Int32Array(bins.columns.length);
    let size = 0;
    for (let feature = 0; feature < bins.columns.length; feature++) {
      this.offsets[feature] = size;
      size += 2 * binCount(bins, feature);
    }
    this.size = size;
  }

  /** Clears the parts of the given features. */
  clear(histogram: Float64Array, features: Int32Array): void {
    for (const feature of features) {
      const from = this.offsets[feature];
      histogram.fill(0, from, from + 2 * binCount(this.bins, feature));
    }
  }

  /**
   * Adds the rows `rows[from..to)` to the given features' parts, or takes them away. All arrays are of the arena.
   * Features are independent of each other: a second thread can take some of them.
   */
  add(
    histogram: Float64Array,
    features: Int32Array,
    rows: Int32Array,
    from: number,
    to: number,
    gradients: Float64Array,
  ): void {
    this.#eachThree("add", histogram, features, rows, from, to, gradients);
  }

  /** The reverse of `add`. */
  remove(
    histogram: Float64Array,
    features: Int32Array,
    rows: Int32Array,
    from: number,
    to: number,
    gradients: Float64Array,
  ): void {
    this.#eachThree("subtract", histogram, features, rows, from, to, gradients);
  }

  #eachThree(
    kernel: "add" | "subtract",
    histogram: Float64Array,
    features: Int32Array,
    rows: Int32Array,
    from: number,
    to: number,
    gradients: Float64Array,
  ): void {
    if (from === to) return;
    const { columns } = this.bins;
    const kernels = this.#kernels;
    const [start, end] = [rows.byteOffset + 4 * from, rows.byteOffset + 4 * to];
    const column = (i: number): number => columns[features[i]].byteOffset;
    const part = (i: number): number => this.#address(histogram, features[i]);
    let i = 0;
    for (; i + 3 <= features.length; i += 3) {
      kernels[`${kernel}Three`](
        start,
        end,
        gradients.byteOffset,
        column(i),
        column(i + 1),
        column(i + 2),
        part(i),
        part(i + 1),
        part(i + 2),
      );
    }
    for (; i < features.length; i++) kernels[`${kernel}One`](start, end, gradients.byteOffset, column(i), part(i));
  }

  /** Takes a child's histogram from its parent's, which becomes the sibling's. */
  subtract(parent: Float64Array, child: Float64Array, features: Int32Array): void {
    for (const feature of features) {
      const from = this.#address(parent, feature);
      this.#kernels.subtractPairs(from, from + 16 * binCount(this.bins, feature), this.#address(child, feature));
    }
  }

  #address(histogram: Float64Array, feature: number): number {
    return histogram.byteOffset + 8 * this.offsets[feature];
  }
}
