import { grown } from "./fingerprints.js";

const NONE = -1;
const COLUMNS = 6;
/** Where each number of an entry stands. */
const ENTITY = 0, BUCKET = 1, PREVIOUS = 2, JUMP = 3, DEPTH = 4, COUNT = 0, FRAUDS = 1;
const SUMS = 2;

/**
 * What entities counted in time buckets, added in the order of buckets: 40 bytes for each bucket in which an entity has
 * something. An entry knows what its entity counted before it, so the sum of any window is a difference of two; it points to its
 * entity's entry before and to one further back (E. W. Myers, "An applicative random-access stack", 1983), so that one is found
 * in O(log n) steps. Entries stand in a ring: the oldest are forgotten at its end.
 */
export class BucketRing {
  /** Entries from #oldest up to #next, each at its number modulo the capacity (a power of two). */
  #entries = new Int32Array(64 * COLUMNS);
  #sums = new Float64Array(64 * SUMS);
  #capacity = 64;
  #oldest = 0;
  #next = 0;
  /** By entity: its newest entry, and what it counted in all of them and before. */
  #newest = new Int32Array(0);
  #totals = new Float64Array(0);
  /** Sums of the last `sum`. */
  count = 0;
  frauds = 0;

  /** Entries. */
  get size(): number {
    return this.#next - this.#oldest;
  }

  get bytes(): number {
    return this.#entries.byteLength + this.#sums.byteLength + this.#newest.byteLength + this.#totals.byteLength;
  }

  /** Adds to an entity's bucket, which must not lie before one that was added. */
  add(entity: number, bucket: number, count: number, frauds: number): void {
    if (entity >= this.#newest.length) this.#growEntities(entity + 1);
    const previous = this.#newest[entity];
    if (previous === NONE || this.#entries[this.#at(previous) + BUCKET] !== bucket) this.#append(entity, bucket, previous);
    this.#totals[entity * SUMS + COUNT] += count;
    this.#totals[entity * SUMS + FRAUDS] += frauds;
  }

  /** Sets `count` and `frauds` to what an entity counted in the buckets from ≤ b < to. */
  sum(entity: number, from: number, to: number): void {
    this.count = this.frauds = 0;
    if (entity >= this.#newest.length || this.#newest[entity] === NONE || to <= from) return;
    const newest = this.#newest[entity];
    this.#add(entity, this.#firstFrom(newest, to), 1);
    this.#add(entity, this.#firstFrom(newest, from), -1);
  }

  /** Forgets what lies before a bucket. `emptied` is called with each entity that has nothing left. */
  evict(before: number, emptied: (entity: number) => void): void {
    while (this.#oldest < this.#next) {
      const at = this.#at(this.#oldest);
      if (this.#entries[at + BUCKET] >= before) return;
      const entity = this.#entries[at + ENTITY];
      if (this.#newest[entity] === this.#oldest) {
        this.#newest[entity] = NONE;
        this.#totals[entity * SUMS + COUNT] = this.#totals[entity * SUMS + FRAUDS] = 0;
        emptied(entity);
      }
      this.#oldest++;
    }
  }

  /** Adds what an entity counted before an entry (NONE: in all), times a sign. */
  #add(entity: number, entry: number, sign: number): void {
    const sums = entry === NONE ? this.#totals : this.#sums;
    const at = SUMS * (entry === NONE ? entity : entry & (this.#capacity - 1));
    this.count += sign * sums[at + COUNT];
    this.frauds += sign * sums[at + FRAUDS];
  }

  /** The entity's first entry at or after a bucket; NONE: all lie before it. */
  #firstFrom(newest: number, bucket: number): number {
    const entries = this.#entries;
    const reaches = (entry: number): boolean => entry >= this.#oldest && entries[this.#at(entry) + BUCKET] >= bucket;
    if (!reaches(newest)) return NONE;
    for (let entry = newest; ; ) {
      const at = this.#at(entry);
      if (reaches(entries[at + JUMP])) entry = entries[at + JUMP];
      else if (reaches(entries[at + PREVIOUS])) entry = entries[at + PREVIOUS];
      else return entry;
    }
  }

  #at(entry: number): number {
    return (entry & (this.#capacity - 1)) * COLUMNS;
  }

  #append(entity: number, bucket: number, previous: number): void {
    if (this.size === this.#capacity) this.#grow();
    const entry = this.#next++;
    const entries = this.#entries;
    const at = this.#at(entry);
    entries[at + ENTITY] = entity;
    entries[at + BUCKET] = bucket;
    entries[at + PREVIOUS] = previous;
    entries[at + JUMP] = NONE;
    entries[at + DEPTH] = 0;
    if (previous !== NONE) {
      const before = this.#at(previous);
      const jump = entries[before + JUMP];
      entries[at + DEPTH] = entries[before + DEPTH] + 1;
      entries[at + JUMP] = previous;
      // Two steps of the same length become one twice as long.
      if (jump >= this.#oldest) {
        const further = entries[this.#at(jump) + JUMP];
        const depth = entries[this.#at(jump) + DEPTH];
        if (further >= this.#oldest && entries[before + DEPTH] - depth === depth - entries[this.#at(further) + DEPTH]) entries[at + JUMP] = further;
      }
    }
    const slot = SUMS * (entry & (this.#capacity - 1));
    this.#sums[slot + COUNT] = this.#totals[entity * SUMS + COUNT];
    this.#sums[slot + FRAUDS] = this.#totals[entity * SUMS + FRAUDS];
    this.#newest[entity] = entry;
  }
}
