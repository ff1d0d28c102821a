import { FraudstreamError } from "../../schemas/errors.js";
import type { Explainer } from "./explainer.js";
import type { Pieces } from "./pieces.js";
import { gaussLegendre } from "./quadrature.js";
import { splitsOf, type CoveredTree, type Split } from "./splits.js";

/**
 * Quadrature points of one walk through a tree: enough for six features on a path. Written out in the loops, for speed.
 */
const LANES = 3;
/**
 * States of a split: the row goes left, it goes right, or it has left this path at a split on the same feature above.
 */
const STATES = 3;
const OFF_PATH = 2;
/** Numbers of a split in a state at a point: factor of the left child, of the right one, then the share of each. */
const NUMBERS = 4;
const ENTRY = NUMBERS * LANES;
/** Splits that one explanation may visit: about 5 ms, and 90 MB of tables. */
const MOST_VISITS = 300_000;

/**
 * Exact path-dependent SHAP values of a tree ensemble: what Algorithm 2 of Lundberg, Erion, Lee 2018 ("Consistent
 * Individualized Feature Attribution for Tree Ensembles") computes, in log-odds. Rows go as in
 * models/training/trees.ts.
 * For a leaf of value v, let z_j be the product of the cover ratios at its path's splits on feature j, and o_j 1 where
 * the row passes all of them, else 0. The leaf is a game: a coalition is worth v times the product of o_j of its
 * members and z_j of the others. Its Shapley value is an integral over the diagonal of the multilinear extension (Owen
 * 1972):
 *
 *     φ_i = v (o_i − z_i) ∫₀¹ ∏_{j≠i} (t o_j + (1 − t) z_j) dt
 * With m features on the path, that is a polynomial of degree m − 1 in t, so quadrature at ⌈m/2⌉ points is exact; its
 * terms are all positive, so nothing cancels, however deep the tree. As in Linear TreeShap (Yu et al. 2022), products
 * go down from the root, the leaves' sums come back up, and each edge pays its feature, less what the feature's edge
 * above was to get. Whatever doesn't depend on the row is worked out ahead, so that a row costs O(leaves × depth / 2).
 */
export class TreeShap implements Explainer {
  readonly expected: number;
  readonly features: number;
  readonly #walks: Walk[];
  readonly #buffers: Buffers;

  private constructor(features: number, expected: number, walks: Walk[], longest: number) {
    this.features = features;
    this.expected = expected;
    this.#walks = walks;
    this.#buffers = { state: new Uint8Array(longest), value: new Float64Array((2 * longest + 1) * LANES) };
  }

  /** @throws FraudstreamError `not_explainable` where covers are missing or don't add up, or the trees are too many */
  static *of({
    baseScore,
    trees,
    features,
  }: {
    baseScore: number;
    trees: readonly CoveredTree[];
    features: number;
  }): Pieces<TreeShap> {
    let visits = 0;
    const read: ReturnType<typeof splitsOf>[] = [];
    for (const tree of trees) {
      yield;
      const { splits, mostFeatures, expected } = splitsOf(tree);
      visits += splits.length * Math.ceil(mostFeatures / (2 * LANES));
      if (visits > MOST_VISITS) throw new FraudstreamError("not_explainable", "its trees are too many, or too large");
      read.push({ splits, mostFeatures, expected });
    }
    const walks: Walk[] = [];
    for (const { splits, mostFeatures } of read) {
      yield;
      const { points, weights } = gaussLegendre(Math.ceil(mostFeatures / 2));
      for (let at = 0; at < points.length; at += LANES)
        walks.push(new Walk(splits, points.subarray(at, at + LANES), weights.subarray(at, at + LANES)));
    }
    const longest = Math.max(0, ...read.map(({ splits }) => splits.length));
    return new TreeShap(
      features,
      read.reduce((sum, { expected }) => sum + expected, baseScore),
      walks,
      longest,
    );
  }

  contributions(values: Float32Array, at: number, out: Float64Array): void {
    out.fill(0, 0, this.features);
    for (const walk of this.#walks) walk.addTo(values, at, out, this.#buffers);
  }
}

interface Buffers {
  state: Uint8Array;
  /** Of each node and point: its product on the way down, what its leaves have together on the way up. */
  value: Float64Array;
}

/** One tree at up to `LANES` points of its quadrature. */
class Walk {
  readonly #feature: Int32Array;
  readonly #threshold: Float32Array;
  readonly #missingLeft: Uint8Array;
  /** Where the children's values are. */
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #above: Int32Array;
  readonly #aboveState: Uint8Array;
  /** `table[(split * STATES + state) * ENTRY + point * NUMBERS]` */
  readonly #table: Float64Array;

  constructor(splits: readonly Split[], points: Float64Array, weights: Float64Array) {
    this.#feature = Int32Array.from(splits, ({ feature }) => feature);
    this.#threshold = Float32Array.from(splits, ({ threshold }) => threshold);
    this.#missingLeft = Uint8Array.from(splits, ({ missingLeft }) => missingLeft);
    this.#left = Int32Array.from(splits, ({ left }) => left.slot * LANES);
    this.#right = Int32Array.from(splits, ({ right }) => right.slot * LANES);
    this.#above = Int32Array.from(splits, ({ above }) => above);
    this.#aboveState = Uint8Array.from(splits, ({ aboveState }) => aboveState);
    // A point that isn't there has only zeros, and adds nothing.
    this.#table = new Float64Array(splits.length * STATES * ENTRY);
    const table = this.#table;
    let at = 0;
    for (const { left, right, before } of splits) {
      for (let state = 0; state < STATES; state++, at += ENTRY) {
        for (let point = 0; point < points.length; point++) {
          for (let side = 0; side < 2; side++) {
            const { share, value } = side === 0 ? left : right;
            const cell = at + point * NUMBERS + side;
            table[cell] =
              value * (state === OFF_PATH ? share / before : factor(state === side, share, before, points[point]));
            // Off the path, the edge above has charged the feature already.
            table[cell + 2] =
              state === OFF_PATH
                ? 0
                : weights[point] *
                  (payment(state === side, share, points[point]) - payment(true, before, points[point]));
          }
        }
      }
    }
  }

  addTo(values: Float32Array, at: number, out: Float64Array, { state, value }: Buffers): void {
    const feature = this.#feature;
    const threshold = this.#threshold;
    const missingLeft = this.#missingLeft;
    const left = this.#left;
    const right = this.#right;
    const above = this.#above;
    const aboveState = this.#aboveState;
    const table = this.#table;
    const splits = feature.length;
    value.fill(1, 0, LANES);
    for (let split = 0; split < splits; split++) {
      const x = values[at + feature[split]];
      const from = above[split];
      const here =
        from !== -1 && state[from] !== aboveState[split]
          ? OFF_PATH
          : x <= threshold[split] || (x !== x && missingLeft[split] === 1)
            ? 0
            : 1;
      state[split] = here;
      const entry = (split * STATES + here) * ENTRY;
      const node = split * LANES;
      const a = left[split];
      const b = right[split];
      value[a] = value[node] * table[entry];
      value[b] = value[node] * table[entry + 1];
      value[a + 1] = value[node + 1] * table[entry + 4];
      value[b + 1] = value[node + 1] * table[entry + 5];
      value[a + 2] = value[node + 2] * table[entry + 8];
      value[b + 2] = value[node + 2] * table[entry + 9];
    }
    for (let split = splits - 1; split >= 0; split--) {
      const entry = (split * STATES + state[split]) * ENTRY;
      const node = split * LANES;
      const a = left[split];
      const b = right[split];
      const pay0 = value[a] * table[entry + 2] + value[b] * table[entry + 3];
      const pay1 = value[a + 1] * table[entry + 6] + value[b + 1] * table[entry + 7];
      const pay2 = value[a + 2] * table[entry + 10] + value[b + 2] * table[entry + 11];
      out[feature[split]] += pay0 + pay1 + pay2;
      value[node] = value[a] + value[b];
      value[node + 1] = value[a + 1] + value[b + 1];
      value[node + 2] = value[a + 2] + value[b + 2];
    }
  }
}

/** What an edge multiplies the product above it by at a point t; `share` is z with it, `before` without it. */
function factor(passes: boolean, share: number, before: number, t: number): number {
  return (passes ? t + (1 - t) * share : (1 - t) * share) / (t + (1 - t) * before);
}

/** (o − z) / (t o + (1 − t) z): what a feature gets, at a point t, of its leaves' sum. */
function payment(passes: boolean, z: number, t: number): number {
  return passes ? (1 - z) / (t + (1 - t) * z) : -1 / (1 - t);
}
