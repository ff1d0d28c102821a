import { averagePrecision } from "./average-precision.js";
import { binMatrix } from "./bins.js";
import { ExactUnit } from "./gradients.js";
import { TreeGrower } from "./grow.js";
import { Arena } from "./kernels.js";
import type { Matrix } from "./matrix.js";
import type { TreeParams } from "./params.js";
import { sample, seededRandom } from "./random.js";
import { addTree, type Tree, type TreeEnsemble } from "./trees.js";

export interface Labelled {
  matrix: Matrix;
  labels: Uint8Array;
}

/** What training tells while it runs: percent of the whole, never less than before. */
export type Report = (phase: "binning" | "boosting" | "fitting", percent: number) => void;

/** The share of the progress that binning takes. */
const BINNING_PERCENT = 10;

/**
 * Gradient boosting of the logistic loss (Friedman 2001) with second-order gains (Chen and Guestrin 2016) on
 * histograms. Deterministic: the same input, parameters and seed give the same trees.
 *
 * @param validation what early stopping looks at
 */
export function boost(train: Labelled, validation: Labelled | null, params: TreeParams, report: Report): TreeEnsemble {
  const { matrix, labels } = train;
  const { rows } = matrix;
  report("binning", 0);
  const arena = new Arena();
  const bins = binMatrix(matrix, labels, params.max_bin, arena, (done) => report("binning", BINNING_PERCENT * done));
  const grower = new TreeGrower(bins, arena, { ...params, num_leaves: leafLimit(params) });
  const random = seededRandom(params.seed);
  const fraudWeight = params.is_unbalance ? balancingWeight(labels) : params.scale_pos_weight;
  const unit = new ExactUnit(rows, fraudWeight);
  const baseScore = params.boost_from_average ? Math.fround(averageOdds(labels, fraudWeight)) : 0;
  const raw = new Float64Array(rows).fill(baseScore);
  const gradients = arena.float64(2 * rows);
  const all = arena.int32(rows);
  const stopping =
    validation === null || params.early_stopping_rounds === 0
      ? null
      : new EarlyStopping(validation, baseScore, params.early_stopping_rounds);
  const trees: Tree[] = [];
  let bag: Bag | null = null;
  for (let done = 1; done <= params.num_iterations; done++) {
    unit.logisticGradients(raw, labels, fraudWeight, gradients);
    bag = nextBag(bag, done, random, all, params);
    const { inBag, others } = bag;
    const chosen = sampleFeatures(random, bins.usable, params.feature_fraction);
    const tree = grower.grow(inBag, gradients, chosen);
    grower.addToGrown(tree, raw);
    grower.addToOthers(tree, others, raw);
    trees.push(tree);
    report("boosting", BINNING_PERCENT + (100 - BINNING_PERCENT) * (done / params.num_iterations));
    if (stopping?.isOver(tree) === true) break;
  }
  return { baseScore, trees: stopping === null ? trees : trees.slice(0, stopping.best), features: matrix.features };
}

function leafLimit({ num_leaves, grow_policy, max_depth }: TreeParams): number {
  if (num_leaves > 0) return num_leaves;
  return grow_policy === "leafwise" ? 31 : 2 ** max_depth;
}

function averageOdds(labels: Uint8Array, fraudWeight: number): number {
  let frauds = 0;
  for (const label of labels) frauds += label;
  return Math.log((frauds * fraudWeight) / (labels.length - frauds));
}

/** The weight of a fraud with which all frauds weigh as much as all genuine rows. */
function balancingWeight(labels: Uint8Array): number {
  let frauds = 0;
  for (const label of labels) frauds += label;
  return (labels.length - frauds) / frauds;
}

/** The rows that a tree is grown on, ascending, and those that it isn't. */
interface Bag {
  inBag: Int32Array;
  others: Int32Array;
}

/** @param tree counted from 1 */
function nextBag(
  last: Bag | null,
  tree: number,
  random: () => number,
  all: Int32Array,
  { bagging_fraction, bagging_freq }: TreeParams,
): Bag {
  if (bagging_freq === 0) return draw(random, all, 1);
  if (last === null || (tree - 1) % bagging_freq === 0) return draw(random, all, bagging_fraction);
  // The last tree has left them grouped by its leaves.
  last.inBag.sort();
  return last;
}

/**
 * Divides the rows at random.
 *
 * @param all as many as there are rows: filled with the rows in the bag, then the others
 */
function draw(random: () => number, all: Int32Array, fraction: number): Bag {
  const rows = all.length;
  if (fraction >= 1) {
    for (let row = 0; row < rows; row++) all[row] = row;
    return { inBag: all, others: all.subarray(rows) };
  }
  let inBag = 0;
  let others = rows;
  for (let row = 0; row < rows; row++) {
    if (random() < fraction) all[inBag++] = row;
    else all[--others] = row;
  }
  return { inBag: all.subarray(0, inBag), others: all.subarray(inBag) };
}

function sampleFeatures(random: () => number, usable: Int32Array, fraction: number): Int32Array {
  if (fraction >= 1 || usable.length === 0) return usable;
  return sample(random, usable.length, Math.max(1, Math.round(usable.length * fraction))).map((i) => usable[i]);
}

/** Watches the average precision on the validation part. */
class EarlyStopping {
  /** Trees up to the best average precision so far, the first of equal ones. */
  best = 0;
  readonly #part: Labelled;
  readonly #patience: number;
  readonly #raw: Float64Array;
  #trees = 0;
  #bestPrecision = -1;

  constructor(part: Labelled, baseScore: number, patience: number) {
    this.#part = part;
    this.#patience = patience;
    this.#raw = new Float64Array(part.matrix.rows).fill(baseScore);
  }

  /** @returns whether too many trees in a row, this one the last, brought nothing */
  isOver(tree: Tree): boolean {
    this.#trees++;
    addTree(tree, this.#part.matrix, 0, this.#part.matrix.rows, this.#raw);
    const precision = averagePrecision(this.#raw, this.#part.labels);
    if (precision > this.#bestPrecision) {
      this.#bestPrecision = precision;
      this.best = this.#trees;
    }
    return this.#trees - this.best >= this.#patience;
  }
}
