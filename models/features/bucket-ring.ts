import { grown } from "./columns.js";

const NONE = -1;
/**
 * Numbers of an entry, and where each stands. BACK and JUMP are how many entries lie between it and the one it points
 * to; 0: none.
 */
const COLUMNS = 8;
const ENTITY = 0,
  BUCKET = 1,
  BACK = 2,
  JUMP = 3,
  DEPTH = 4,
  COUNT = 5,
  FRAUDS = 6;
const FIRST_CAPACITY = 64;

/**
 * What entities counted in time buckets, added in the order of buckets: 32 bytes for each bucket in which an entity has
 * something. An entry knows what its entity counted before it (modulo 2^32), so the sum of any window is a difference
 * of two; it points to its entity's entry before and to one further back (E. W. Myers, "An applicative random-access
 * stack", 1983), so that any is found in O(log n) steps. Entries stand in a ring: the oldest are forgotten at its end.
 */
export class BucketRing {
  /** The entries from #oldest up to #next, each at its number modulo the capacity, a power of two. */
  #entries = new Int32Array(FIRST_CAPACITY * COLUMNS);
  #capacity = FIRST_CAPACITY;
  #oldest = 0;
  #next = 0;
  /** By entity: the number of its newest entry, and all that it ever counted (modulo 2^32). */
  #newest = new Float64Array(0);
  #count = new Int32Array(0);
  #frauds = new Int32Array(0);
  /** What the last `sum` found. */
  count = 0;
  frauds = 0;

  /** Entries. */
  get size(): number {
    return this.#next - this.#oldest;
  }

  get bytes(): number {
    return this.#entries.byteLength + 2 * this.#newest.byteLength;
  }

  /** Whether an entity has anything left. */
  has(entity: number): boolean {
    return entity < this.#newest.length && this.#newest[entity] !== NONE;
  }

  /** Adds to an entity's bucket, which must not lie before any that was added. */
  add(entity: number, bucket: number, count: number, frauds: number): void {
    if (entity >= this.#newest.length) this.#growEntities(entity);
    const newest = this.#newest[entity];
    if (newest === NONE || this.#entries[this.#at(newest) + BUCKET] !== bucket) this.#append(entity, bucket, newest);
    this.#count[entity] += count;
    this.#frauds[entity] += frauds;
  }

  /** Sets `count` and `frauds` to what an entity counted in the buckets from ≤ b < to. */
  sum(entity: number, from: number, to: number): void {
    this.count = this.frauds = 0;
    const newest = entity < this.#newest.length ? this.#newest[entity] : NONE;
    if (newest === NONE || to <= from) return;
    const end = this.#firstFrom(newest, to);
    const start = this.#firstFrom(end === NONE ? newest : end, from);
    if (start === NONE) return;
    const entries = this.#entries;
    const startAt = this.#at(start);
    const endAt = end === NONE ? NONE : this.#at(end);
    this.count = ((endAt === NONE ? this.#count[entity] : entries[endAt + COUNT]) - entries[startAt + COUNT]) | 0;
    this.frauds = ((endAt === NONE ? this.#frauds[entity] : entries[endAt + FRAUDS]) - entries[startAt + FRAUDS]) | 0;
  }

  /** Forgets what lies before a bucket. `emptied` is called with each entity that has nothing left. */
  evict(before: number, emptied: (entity: number) => void): void {
    for (; this.#oldest < this.#next; this.#oldest++) {
      const at = this.#at(this.#oldest);
      if (this.#entries[at + BUCKET] >= before) return;
      const entity = this.#entries[at + ENTITY];
      if (this.#newest[entity] !== this.#oldest) continue;
      this.#newest[entity] = NONE;
      this.#count[entity] = this.#frauds[entity] = 0;
      emptied(entity);
    }
  }

  /** The first entry of an entity at or after a bucket, seen from one of its entries; NONE: that one lies before it. */
  #firstFrom(entry: number, bucket: number): number {
    const entries = this.#entries;
    let at = this.#at(entry);
    if (entries[at + BUCKET] < bucket) return NONE;
    for (;;) {
      let step = entries[at + JUMP];
      if (!this.#reaches(entry, step, bucket)) {
        step = entries[at + BACK];
        if (!this.#reaches(entry, step, bucket)) return entry;
      }
      entry -= step;
      at = this.#at(entry);
    }
  }

  #reaches(entry: number, step: number, bucket: number): boolean {
    return step > 0 && entry - step >= this.#oldest && this.#entries[this.#at(entry - step) + BUCKET] >= bucket;
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
    entries[at + BACK] = entries[at + JUMP] = previous === NONE ? 0 : entry - previous;
    entries[at + DEPTH] = 0;
    entries[at + COUNT] = this.#count[entity];
    entries[at + FRAUDS] = this.#frauds[entity];
    this.#newest[entity] = entry;
    if (previous === NONE) return;
    const before = this.#at(previous);
    entries[at + DEPTH] = entries[before + DEPTH] + 1;
    // Two jumps of the same length become one of both.
    const middle = previous - entries[before + JUMP];
    if (middle === previous || middle < this.#oldest) return;
    const between = this.#at(middle);
    const far = middle - entries[between + JUMP];
    if (far === middle || far < this.#oldest) return;
    if (
      entries[before + DEPTH] - entries[between + DEPTH] ===
      entries[between + DEPTH] - entries[this.#at(far) + DEPTH]
    )
      entries[at + JUMP] = entry - far;
  }

  #grow(): void {
    const capacity = this.#capacity * 2;
    const larger = new Int32Array(capacity * COLUMNS);
    for (let entry = this.#oldest; entry < this.#next; entry++) {
      const at = this.#at(entry);
      larger.set(this.#entries.subarray(at, at + COLUMNS), (entry & (capacity - 1)) * COLUMNS);
    }
    this.#entries = larger;
    this.#capacity = capacity;
  }

  #growEntities(entity: number): void {
    const former = this.#newest.length;
    const length = Math.max(FIRST_CAPACITY, Math.ceil((entity + 1) * 1.5));
    this.#newest = grown(this.#newest, length).fill(NONE, former);
    this.#count = grown(this.#count, length);
    this.#frauds = grown(this.#frauds, length);
  }
}
