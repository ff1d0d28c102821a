import type { Dataset } from "../datasets/dataset.js";
import { sharedMatrix, type Matrix } from "../training/matrix.js";
import { DatasetHistory } from "./dataset-history.js";
import { slotReader } from "./dataset-slots.js";
import { HistoryPlan, historySlotsOf } from "./history-plan.js";
import { FeaturePlan, slotsOf, type FeatureSpec } from "./plan.js";

/** Rows that are computed at once: the slots of a block stay in the cache. */
const BLOCK = 4096;

/**
 * The feature vectors of some rows, in shared memory, through the same plan and the same fold that the stream uses:
 * with windowed features, all rows up to the last one are folded.
 *
 * @param rows indexes into the data set, in any order
 */
export function featureMatrix(dataset: Dataset, specs: readonly FeatureSpec[], rows: Uint32Array): Matrix {
  return featureMatrices(dataset, specs, [rows])[0];
}

/** The same of several sets of rows, with one fold. */
export function featureMatrices(
  dataset: Dataset,
  specs: readonly FeatureSpec[],
  sets: readonly Uint32Array[],
): Matrix[] {
  const slots = slotsOf([specs]);
  const historySlots = historySlotsOf([specs]);
  const plan = new FeaturePlan(specs, slots, historySlots);
  const historyPlan = new HistoryPlan(historySlots);
  const history = historyPlan.size === 0 ? null : new BlockHistory(dataset, historyPlan);
  const readSlot = slotReader(dataset, slots);
  const matrices = sets.map((rows) => sharedMatrix(rows.length, plan.size));
  const eventTime = new Float64Array(BLOCK);
  const amount = new Float64Array(BLOCK);
  const values = new Float64Array(BLOCK * slots.length);
  const historyValues = new Float64Array(BLOCK * historyPlan.size);
  const vectors = new Float32Array(BLOCK * plan.size);
  for (const { rows, places } of inOrder(sets)) {
    for (let i = 0; i < rows.length; i++) {
      eventTime[i] = dataset.eventTime[rows[i]];
      amount[i] = dataset.amount[rows[i]];
    }
    for (let slot = 0; slot < slots.length; slot++) readSlot(slot, rows, values);
    history?.read(rows, historyValues);
    plan.compute(
      {
        length: rows.length,
        eventTime,
        amount,
        slots: values,
        slotCount: slots.length,
        history: historyValues,
        historyCount: historyPlan.size,
      },
      vectors,
    );
    for (let i = 0; i < rows.length; i++) {
      const [set, place] = placeOf(sets, places[i]);
      matrices[set].values.set(vectors.subarray(i * plan.size, (i + 1) * plan.size), place * plan.size);
    }
  }
  return matrices;
}

/** Rows that the stream would refuse as repeats of others (a dead letter each), ascending. */
export function repeatedRows(dataset: Dataset): Uint32Array {
  // Most data sets have none, and show it at a glance.
  if (new Set(dataset.transactionId).size === dataset.length) return new Uint32Array(0);
  const repeats: number[] = [];
  const history = new DatasetHistory(dataset, new HistoryPlan([]));
  const none = new Float64Array(0);
  for (let from = 0; from < dataset.length; from += BLOCK)
    history.fold(from, Math.min(from + BLOCK, dataset.length), none, (row) => repeats.push(row));
  return Uint32Array.from(repeats);
}

/** The history of a data set, folded block by block as far as it is asked for. */
class BlockHistory {
  readonly #fold: DatasetHistory;
  readonly #size: number;
  readonly #length: number;
  readonly #values: Float64Array;
  #from = 0;
  #to = 0;

  constructor(dataset: Dataset, plan: HistoryPlan) {
    this.#fold = new DatasetHistory(dataset, plan);
    this.#size = plan.size;
    this.#length = dataset.length;
    this.#values = new Float64Array(BLOCK * plan.size);
  }

  /** @param rows ascending, also from call to call */
  read(rows: Uint32Array, out: Float64Array): void {
    const size = this.#size;
    for (let i = 0; i < rows.length; i++) {
      while (rows[i] >= this.#to) {
        this.#from = this.#to;
        this.#to = Math.min(this.#from + BLOCK, this.#length);
        this.#fold.fold(this.#from, this.#to, this.#values);
      }
      const at = (rows[i] - this.#from) * size;
      for (let slot = 0; slot < size; slot++) out[i * size + slot] = this.#values[at + slot];
    }
  }
}

/** All rows of all sets, ascending, in blocks; `places` count on from set to set. */
function* inOrder(sets: readonly Uint32Array[]): Generator<{ rows: Uint32Array; places: Uint32Array }> {
  const rows = new Uint32Array(sets.reduce((sum, set) => sum + set.length, 0));
  let filled = 0;
  for (const set of sets) {
    rows.set(set, filled);
    filled += set.length;
  }
  const places = Uint32Array.from(rows.keys());
  if (!isAscending(rows)) places.sort((a, b) => rows[a] - rows[b] || a - b);
  for (let start = 0; start < rows.length; start += BLOCK) {
    const block = places.subarray(start, start + BLOCK);
    yield { rows: block.map((place) => rows[place]), places: block };
  }
}

function isAscending(rows: Uint32Array): boolean {
  for (let i = 1; i < rows.length; i++) if (rows[i] < rows[i - 1]) return false;
  return true;
}

function placeOf(sets: readonly Uint32Array[], place: number): [set: number, place: number] {
  let set = 0;
  while (place >= sets[set].length) place -= sets[set++].length;
  return [set, place];
}
