import type { Arena, Kernels } from "./kernels.js";
import type { HistogramLayout } from "./histogram.js";

/** What a split must satisfy. */
export interface SplitRules {
  lambda_l1: number;
  lambda_l2: number;
  min_sum_hessian_in_leaf: number;
  min_data_in_leaf: number;
  min_gain_to_split: number;
}

/** Rows of `bin` and before go left. */
export interface Split {
  feature: number;
  bin: number;
  /** Where missing values go; null: there were none in the node. */
  missingLeft: boolean | null;
  gain: number;
  leftGradient: number;
  leftHessian: number;
}

/** A gain that is only rounding is none. */
const ROUNDING = 1e-6;

/** A sum of gradients as an L1 penalty leaves it. */
export function shrunk(gradient: number, lambdaL1: number): number {
  return lambdaL1 === 0 ? gradient : Math.sign(gradient) * Math.max(0, Math.abs(gradient) - lambdaL1);
}

/** The sum G² / (H + lambda) that a split must raise. */
function leafScore(gradient: number, hessian: number, lambda: number): number {
  return (gradient * gradient) / (hessian + lambda);
}

/** Finds the best split of a node by its histogram. */
export class SplitFinder {
  readonly #layout: HistogramLayout;
  readonly #kernels: Kernels;
  readonly #rules: SplitRules;
  /** Where the scanning kernel writes what it found: score, left gradient, left hessian. */
  readonly #found: Float64Array;

  constructor(layout: HistogramLayout, kernels: Kernels, arena: Arena, rules: SplitRules) {
    this.#layout = layout;
    this.#kernels = kernels;
    this.#rules = rules;
    this.#found = arena.float64(3);
  }

  /**
   * The best split, or null. Of equally good ones, the first feature and bin win; missing values are tried on both
   * sides.
   *
   * @param gradient the node's sum, and `hessian` too
   * @param rows in the node
   */
  best(histogram: Float64Array, features: Int32Array, gradient: number, hessian: number, rows: number): Split | null {
    const { bins, offsets } = this.#layout;
    const { lambda_l1, lambda_l2: lambda, min_gain_to_split, min_data_in_leaf } = this.#rules;
    // At least one row on each side: every row's hessian is above zero. Histograms don't count rows: as many are
    // expected in a leaf as its share of the hessian says (LightGBM counts them so, too).
    const expected = min_data_in_leaf > 1 ? ((min_data_in_leaf - 0.5) * hessian) / rows : 0;
    const least = Math.max(this.#rules.min_sum_hessian_in_leaf, expected, Number.MIN_VALUE);
    const parent = leafScore(shrunk(gradient, lambda_l1), hessian, lambda);
    const found = this.#found;
    found[0] = parent + min_gain_to_split + ROUNDING;
    let feature = -1;
    let bestBin = -1;
    let missingLeft: boolean | null = null;
    const scan = (candidate: number, numbers: number, leftGradient: number, leftHessian: number): boolean => {
      if (lambda_l1 > 0) {
        const bin = this.#scanShrunk(histogram, offsets[candidate], numbers, [leftGradient, leftHessian], {
          gradient,
          hessian,
          least,
        });
        if (bin < 0) return false;
        feature = candidate;
        bestBin = bin;
        return true;
      }
      const from = histogram.byteOffset + 8 * offsets[candidate];
      const at = this.#kernels.scan(
        from,
        from + 16 * numbers,
        leftGradient,
        leftHessian,
        gradient,
        hessian,
        lambda,
        least,
        found[0],
        found.byteOffset,
      );
      if (at === 0) return false;
      feature = candidate;
      bestBin = ((at >>> 0) - from) / 16;
      return true;
    };
    for (const candidate of features) {
      const numbers = bins.cuts[candidate].length + 1;
      const missingAt = offsets[candidate] + 2 * numbers;
      const missingHessian = bins.missing[candidate] ? histogram[missingAt + 1] : 0;
      // Without missing values the last bin's split leaves nothing on the right, and is refused as such.
      if (scan(candidate, numbers, 0, 0)) missingLeft = missingHessian > 0 ? false : null;
      if (missingHessian > 0 && scan(candidate, numbers, histogram[missingAt], missingHessian)) missingLeft = true;
    }
    if (feature === -1) return null;
    const bin = this.#middleOfGap(histogram, feature, bestBin);
    return { feature, bin, missingLeft, gain: found[0] - parent, leftGradient: found[1], leftHessian: found[2] };
  }

  /** What the kernel does, with an L1 penalty. @returns the best bin, -1 when none exceeds what was found before */
  #scanShrunk(
    histogram: Float64Array,
    from: number,
    numbers: number,
    [leftGradient, leftHessian]: [number, number],
    node: { gradient: number; hessian: number; least: number },
  ): number {
    const { lambda_l1, lambda_l2 } = this.#rules;
    const found = this.#found;
    let [g, h] = [leftGradient, leftHessian];
    let best = -1;
    for (let bin = 0; bin < numbers; bin++) {
      const here = histogram[from + 2 * bin + 1];
      if (here === 0) continue;
      g += histogram[from + 2 * bin];
      h += here;
      const right = node.hessian - h;
      if (h < node.least) continue;
      if (right < node.least) break;
      const score =
        leafScore(shrunk(g, lambda_l1), h, lambda_l2) +
        leafScore(shrunk(node.gradient - g, lambda_l1), right, lambda_l2);
      if (score <= found[0]) continue;
      found.set([score, g, h]);
      best = bin;
    }
    return best;
  }

  /** Of the cuts that divide the node's rows alike, the one nearest to the middle of the gap. */
  #middleOfGap(histogram: Float64Array, feature: number, bin: number): number {
    const cuts = this.#layout.bins.cuts[feature];
    const offset = this.#layout.offsets[feature];
    let next = bin + 1;
    while (next <= cuts.length && histogram[offset + 2 * next + 1] === 0) next++;
    // Every number is on the left.
    if (next > cuts.length) return cuts.length;
    const middle = (cuts[bin] + cuts[next - 1]) / 2;
    let nearest = bin;
    for (let i = bin + 1; i < next; i++) if (Math.abs(cuts[i] - middle) < Math.abs(cuts[nearest] - middle)) nearest = i;
    return nearest;
  }
}
