import type { AttributeSlot } from "./attribute-slots.js";
import { EARTH_RADIUS_KM, YEAR_DAYS, operandSlots, type ColumnSource } from "./column-sources.js";

/** What features from columns are computed from: see TransactionColumns. */
interface Columns {
  readonly length: number;
  readonly eventTime: Float64Array;
  readonly amount: Float64Array;
  readonly slots: Float64Array;
  readonly slotCount: number;
}

const DAY_MS = 86_400_000;
const RADIANS = Math.PI / 180;
/** The amount's place among operands' slots. */
const AMOUNT = -1;

type Fill = (columns: Columns, operands: Int32Array, values: Float64Array) => void;

/** One feature from columns, computed in double precision for all rows of a batch, and rounded to float32 once. */
export class ColumnFeature {
  readonly #fill: Fill;
  /** Slots of the operands; AMOUNT. */
  readonly #operands: Int32Array;
  readonly #missing: number;
  #values = new Float64Array(0);

  /** @param slotOf where the columns hold a slot. Throws if they don't */
  constructor(source: ColumnSource, slotOf: (slot: AttributeSlot) => number, missing: number) {
    this.#operands = Int32Array.from(operandSlots(source), (slot) => (slot === null ? AMOUNT : slotOf(slot)));
    this.#fill = fillOf(source);
    this.#missing = missing;
  }

  /** @param out one value a row, from `feature` on, `size` apart */
  compute(columns: Columns, out: Float32Array, feature: number, size: number): void {
    const { length } = columns;
    if (this.#values.length < length) this.#values = new Float64Array(length);
    const values = this.#values;
    const missing = this.#missing;
    this.#fill(columns, this.#operands, values);
    for (let row = 0, at = feature; row < length; row++, at += size) {
      const value = Math.fround(values[row]);
      out[at] = Number.isFinite(value) ? value : missing;
    }
  }
}

function fillOf(source: ColumnSource): Fill {
  switch (source.kind) {
    case "difference":
      return fillSum(1);
    case "ratio":
      return fillRatio;
    case "sum_error":
      return fillSum(source.plus.length);
    case "distance":
      return fillDistance;
    case "age":
      return fillSince(YEAR_DAYS * DAY_MS);
    case "days_since":
      return fillSince(DAY_MS);
    case "text_part":
      return fillSlot;
  }
}

/** One operand of a row. */
function operand({ amount, slots, slotCount }: Columns, row: number, slot: number): number {
  return slot === AMOUNT ? amount[row] : slots[row * slotCount + slot];
}

/** The first operands minus the others. A result within the rounding error of its operands is 0. */
function fillSum(positive: number): Fill {
  return (columns, operands, values) => {
    const tolerance = operands.length * Number.EPSILON;
    for (let row = 0; row < columns.length; row++) {
      let sum = 0;
      let size = 0;
      for (let i = 0; i < operands.length; i++) {
        const value = operand(columns, row, operands[i]);
        sum += i < positive ? value : -value;
        size += Math.abs(value);
      }
      values[row] = Math.abs(sum) <= tolerance * size ? 0 : sum;
    }
  };
}

const fillRatio: Fill = (columns, operands, values) => {
  for (let row = 0; row < columns.length; row++) {
    const divisor = operand(columns, row, operands[1]);
    values[row] = divisor === 0 ? Number.NaN : operand(columns, row, operands[0]) / divisor;
  }
};

/** The haversine formula (R. W. Sinnott, Virtues of the Haversine, Sky and Telescope 68, 1984). */
const fillDistance: Fill = (columns, operands, values) => {
  for (let row = 0; row < columns.length; row++) {
    const lat1 = operand(columns, row, operands[0]);
    const lon1 = operand(columns, row, operands[1]);
    const lat2 = operand(columns, row, operands[2]);
    const lon2 = operand(columns, row, operands[3]);
    if (!(isOnEarth(lat1, lon1) && isOnEarth(lat2, lon2))) {
      values[row] = Number.NaN;
      continue;
    }
    const north = Math.sin(((lat2 - lat1) * RADIANS) / 2);
    const east = Math.sin(((lon2 - lon1) * RADIANS) / 2);
    const haversine = north * north + Math.cos(lat1 * RADIANS) * Math.cos(lat2 * RADIANS) * east * east;
    values[row] = 2 * EARTH_RADIUS_KM * Math.asin(Math.sqrt(Math.min(1, haversine)));
  }
};

function isOnEarth(latitude: number, longitude: number): boolean {
  return latitude >= -90 && latitude <= 90 && longitude >= -180 && longitude <= 180;
}

function fillSince(unitMs: number): Fill {
  return (columns, operands, values) => {
    const { eventTime } = columns;
    for (let row = 0; row < columns.length; row++)
      values[row] = (eventTime[row] - operand(columns, row, operands[0])) / unitMs;
  };
}

const fillSlot: Fill = (columns, operands, values) => {
  for (let row = 0; row < columns.length; row++) values[row] = operand(columns, row, operands[0]);
};
