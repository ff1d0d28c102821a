import type { Section } from "../../infra/snapshots.js";
import { float64Of, grown, int32Of } from "./columns.js";

const NONE = -1;
const FIRST_ROWS = 1_024;
/** Numbers of the rows' columns in a snapshot. */
const WORDS = 3;
const NUMBERS = 2;

/**
 * The transaction ids of cards that have more events than a walk looks at: found by hash instead, so that the horizon
 * of repeats holds for them as for any card. A row is 44 bytes; what is no newer than a floor is dropped when the rows
 * are full.
 */
export class RepeatIndex {
  /** Of each row: hash of the card, hashes of the id, event time and offset; offset NONE: taken back. */
  #card = new Int32Array(0);
  #low = new Int32Array(0);
  #high = new Int32Array(0);
  #time = new Float64Array(0);
  #offset = new Float64Array(0);
  /** row + 1, open addressing; twice as many as rows. */
  #slots = new Int32Array(0);
  #used = 0;

  /** Rows, including those that are no longer needed. */
  get size(): number {
    return this.#used;
  }

  get bytes(): number {
    return 4 * (this.#card.length * WORDS + this.#slots.length) + 8 * NUMBERS * this.#card.length;
  }

  /** @param floor what isn't newer than this event time is never asked for again */
  add(card: number, low: number, high: number, time: number, offset: number, floor: number): void {
    if (this.#used === this.#card.length) this.#makeRoom(floor);
    const row = this.#used++;
    this.#card[row] = card;
    this.#low[row] = low;
    this.#high[row] = high;
    this.#time[row] = time;
    this.#offset[row] = offset;
    this.#place(row);
  }

  /**
   * The offset of the newest transaction of this id whose event time is in from ≤ time ≤ to and newer than `floor`;
   * NONE (-1): there is none.
   */
  find(card: number, low: number, high: number, from: number, to: number, floor: number): number {
    const slots = this.#slots;
    if (slots.length === 0) return NONE;
    let found = NONE;
    let newest = floor;
    const mask = slots.length - 1;
    for (let slot = slotOf(card, low, high) & mask; slots[slot] !== 0; slot = (slot + 1) & mask) {
      const row = slots[slot] - 1;
      if (this.#low[row] !== low || this.#high[row] !== high || this.#card[row] !== card || this.#offset[row] === NONE)
        continue;
      const time = this.#time[row];
      if (time >= from && time <= to && time > newest) {
        newest = time;
        found = this.#offset[row];
      }
    }
    return found;
  }

  /** Takes the row of an offset back. Rows that were added last are looked at first. */
  takeBack(card: number, low: number, high: number, offset: number): void {
    const mask = this.#slots.length - 1;
    for (let slot = slotOf(card, low, high) & mask; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const row = this.#slots[slot] - 1;
      if (
        this.#offset[row] === offset &&
        this.#low[row] === low &&
        this.#high[row] === high &&
        this.#card[row] === card
      )
        this.#offset[row] = NONE;
    }
  }

  /** Views, to be copied or written before anything changes. */
  sections(prefix: string): Section[] {
    const of = <T extends Int32Array | Float64Array>(column: T): T => column.subarray(0, this.#used) as T;
    return [
      { name: `${prefix}/card`, data: of(this.#card) },
      { name: `${prefix}/low`, data: of(this.#low) },
      { name: `${prefix}/high`, data: of(this.#high) },
      { name: `${prefix}/time`, data: of(this.#time) },
      { name: `${prefix}/offset`, data: of(this.#offset) },
    ];
  }

  /** Empty where the snapshot has none, as those of earlier versions. @throws FraudstreamError `snapshot_unusable` */
  static restore(sections: ReadonlyMap<string, ArrayBufferView>, prefix: string): RepeatIndex {
    const index = new RepeatIndex();
    if (!sections.has(`${prefix}/card`)) return index;
    index.#card = int32Of(sections, `${prefix}/card`);
    index.#low = int32Of(sections, `${prefix}/low`);
    index.#high = int32Of(sections, `${prefix}/high`);
    index.#time = float64Of(sections, `${prefix}/time`);
    index.#offset = float64Of(sections, `${prefix}/offset`);
    index.#used = index.#card.length;
    index.#rehash();
    return index;
  }

  /** Drops what is of no use; where that is less than half, the columns grow. */
  #makeRoom(floor: number): void {
    let kept = 0;
    for (let row = 0; row < this.#used; row++) {
      if (this.#offset[row] === NONE || this.#time[row] <= floor) continue;
      for (const column of [this.#card, this.#low, this.#high, this.#time, this.#offset]) column[kept] = column[row];
      kept += 1;
    }
    this.#used = kept;
    const room = Math.max(FIRST_ROWS, kept * 2);
    if (room > this.#card.length) {
      this.#card = grown(this.#card, room);
      this.#low = grown(this.#low, room);
      this.#high = grown(this.#high, room);
      this.#time = grown(this.#time, room);
      this.#offset = grown(this.#offset, room);
    }
    this.#rehash();
  }

  #rehash(): void {
    let slots = 2 * FIRST_ROWS;
    while (slots < 2 * this.#card.length) slots *= 2;
    this.#slots = new Int32Array(slots);
    for (let row = 0; row < this.#used; row++) this.#place(row);
  }

  #place(row: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let slot = slotOf(this.#card[row], this.#low[row], this.#high[row]) & mask;
    while (slots[slot] !== 0) slot = (slot + 1) & mask;
    slots[slot] = row + 1;
  }
}

function slotOf(card: number, low: number, high: number): number {
  return Math.imul(low ^ Math.imul(high, 0x85ebca6b), 0xc2b2ae35) ^ card;
}
