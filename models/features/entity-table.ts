import type { Section } from "../../infra/snapshots.js";
import { bytesOf, grown, grownCapacity, uint32Of } from "./columns.js";

/** Ids are kept in pieces of eight bytes, pages of a megabyte; an id longer than a page takes several as one. */
const UNIT_BITS = 3;
const PAGE_BITS = 20;
const PAGE_BYTES = 1 << PAGE_BITS;
const PAGE_UNITS = 1 << (PAGE_BITS - UNIT_BITS);
/** Slots of the hash table that may be taken, of eight. */
const FULLEST = 6;

/** A 32-bit hash of some bytes: FNV-1a with MurmurHash3's last step, so that ids that count upwards spread, too. */
export function hashOf(bytes: Buffer, at: number, length: number): number {
  let hash = 0x811c9dc5;
  for (let i = at, end = at + length; i < end; i++) hash = Math.imul(hash ^ bytes[i], 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * Ids, compared byte by byte, as dense indexes from 0. The index of one that was removed is given to the next new one.
 */
export class EntityTable {
  /** Open addressing: index + 1; 0: free. As many as a power of two. */
  #slots = new Uint32Array(64);
  /** Of each index: where its bytes start, in units; how many they are (-1: no entity); their hash. */
  #start = new Uint32Array(32);
  #length = new Int32Array(32);
  #hash = new Uint32Array(32);
  /** Indexes that were ever given. */
  #extent = 0;
  #size = 0;
  #freeIndexes: number[] = [];
  readonly #pages: Buffer[] = [];
  #nextUnit = 0;
  /** Starts of free pieces, by their number of units: ids of one system mostly have one length. */
  readonly #freeUnits = new Map<number, number[]>();

  /** Entities. */
  get size(): number {
    return this.#size;
  }

  /** Every index is below it. */
  get extent(): number {
    return this.#extent;
  }

  /** Memory that it takes. */
  get bytes(): number {
    return 4 * this.#slots.length + 12 * this.#start.length + this.#pages.reduce((sum, page) => sum + page.length, 0);
  }

  /** @returns -1: unknown */
  find(bytes: Buffer, at: number, length: number, hash = hashOf(bytes, at, length)): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const index = slots[slot] - 1;
      if (index < 0) return -1;
      if (this.#hash[index] === hash && this.#length[index] === length && this.#same(index, bytes, at)) return index;
    }
  }

  /** What a search for a hash meets first: an index, or -1. No promise that it is the entity. */
  near(hash: number): number {
    return this.#slots[hash & (this.#slots.length - 1)] - 1;
  }

  /** Reads what `find` will compare; the sum is of no use. */
  touch(index: number): number {
    return this.#hash[index] + this.#length[index] + this.#start[index];
  }

  intern(bytes: Buffer, at: number, length: number, hash = hashOf(bytes, at, length)): number {
    const known = this.find(bytes, at, length, hash);
    if (known >= 0) return known;
    const index = this.#freeIndexes.pop() ?? this.#newIndex();
    this.#hash[index] = hash;
    this.#length[index] = length;
    this.#start[index] = this.#store(bytes, at, length);
    this.#size += 1;
    if (8 * this.#size > FULLEST * this.#slots.length) this.#rehash(2 * this.#slots.length);
    else this.#place(index);
    return index;
  }

  /** Forgets an entity. */
  remove(index: number): void {
    const units = unitsOf(this.#length[index]);
    if (units > 0) {
      const free = this.#freeUnits.get(units);
      if (free === undefined) this.#freeUnits.set(units, [this.#start[index]]);
      else free.push(this.#start[index]);
    }
    this.#closeGap(this.#slotOf(index));
    this.#length[index] = -1;
    this.#freeIndexes.push(index);
    this.#size -= 1;
  }

  /** The hash of an entity's id. */
  hashOf(index: number): number {
    return this.#hash[index];
  }

  /** A copy of an entity's id. */
  id(index: number): Buffer {
    const start = this.#start[index];
    const length = this.#length[index];
    if (length === 0) return Buffer.alloc(0);
    const offset = (start & (PAGE_UNITS - 1)) << UNIT_BITS;
    return Buffer.from(this.#pages[start >>> (PAGE_BITS - UNIT_BITS)].subarray(offset, offset + length));
  }

  /** Views of what it holds: to be written, or copied, before it changes. */
  sections(prefix: string): Section[] {
    return [
      { name: `${prefix}/start`, data: this.#start.subarray(0, this.#extent) },
      { name: `${prefix}/length`, data: this.#length.subarray(0, this.#extent) },
      { name: `${prefix}/hash`, data: this.#hash.subarray(0, this.#extent) },
      ...this.#pages.map((page, i) => ({ name: `${prefix}/ids/${i}`, data: page })),
    ];
  }

  /** @throws FraudstreamError `snapshot_unusable` */
  static restore(prefix: string, sections: ReadonlyMap<string, ArrayBufferView>): EntityTable {
    const table = new EntityTable();
    table.#start = uint32Of(sections, `${prefix}/start`);
    table.#length = new Int32Array(uint32Of(sections, `${prefix}/length`).buffer);
    table.#hash = uint32Of(sections, `${prefix}/hash`);
    table.#extent = table.#start.length;
    const pages: Uint8Array[] = [];
    while (sections.has(`${prefix}/ids/${pages.length}`))
      pages.push(bytesOf(sections, `${prefix}/ids/${pages.length}`));
    // Ids are compacted, without the gaps of removed ones.
    for (let index = 0; index < table.#extent; index++) {
      const start = table.#start[index];
      const page = pages[start >>> (PAGE_BITS - UNIT_BITS)] ?? new Uint8Array(0);
      if (table.#length[index] < 0) table.#freeIndexes.push(index);
      else {
        table.#start[index] = table.#store(
          Buffer.from(page.buffer, page.byteOffset, page.byteLength),
          (start & (PAGE_UNITS - 1)) << UNIT_BITS,
          table.#length[index],
        );
        table.#size += 1;
      }
    }
    let slots = 64;
    while (8 * table.#size > FULLEST * slots) slots *= 2;
    table.#rehash(slots);
    return table;
  }

  #same(index: number, bytes: Buffer, at: number): boolean {
    const start = this.#start[index];
    const length = this.#length[index];
    if (length === 0) return true;
    const page = this.#pages[start >>> (PAGE_BITS - UNIT_BITS)];
    const offset = (start & (PAGE_UNITS - 1)) << UNIT_BITS;
    for (let i = 0; i < length; i++) if (page[offset + i] !== bytes[at + i]) return false;
    return true;
  }

  #newIndex(): number {
    const index = this.#extent++;
    if (index === this.#start.length) {
      const capacity = grownCapacity(index);
      this.#start = grown(this.#start, capacity);
      this.#length = grown(this.#length, capacity);
      this.#hash = grown(this.#hash, capacity);
    }
    return index;
  }

  /** @returns the unit where the bytes are now */
  #store(bytes: Buffer, at: number, length: number): number {
    const units = unitsOf(length);
    if (units === 0) return 0;
    const start = this.#freeUnits.get(units)?.pop() ?? this.#newUnits(units);
    bytes.copy(
      this.#pages[start >>> (PAGE_BITS - UNIT_BITS)],
      (start & (PAGE_UNITS - 1)) << UNIT_BITS,
      at,
      at + length,
    );
    return start;
  }

  #newUnits(units: number): number {
    const end = this.#pages.length * PAGE_UNITS;
    if (this.#nextUnit + units > end) {
      // Its own pages: the first holds all of it, the others only keep the numbers in step.
      const pages = Math.ceil(units / PAGE_UNITS);
      this.#pages.push(Buffer.alloc(pages * PAGE_BYTES));
      for (let i = 1; i < pages; i++) this.#pages.push(Buffer.alloc(0));
      this.#nextUnit = pages > 1 ? end + pages * PAGE_UNITS : end + units;
      return end;
    }
    const start = this.#nextUnit;
    this.#nextUnit += units;
    return start;
  }

  #place(index: number): void {
    const mask = this.#slots.length - 1;
    let slot = this.#hash[index] & mask;
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
    this.#slots[slot] = index + 1;
  }

  #slotOf(index: number): number {
    const mask = this.#slots.length - 1;
    let slot = this.#hash[index] & mask;
    while (this.#slots[slot] !== index + 1) slot = (slot + 1) & mask;
    return slot;
  }

  /** Frees a slot and moves those behind it up, so that no search ends too early. */
  #closeGap(gap: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = (gap + 1) & mask; slots[slot] !== 0; slot = (slot + 1) & mask) {
      const home = this.#hash[slots[slot] - 1] & mask;
      if (((slot - home) & mask) < ((slot - gap) & mask)) continue;
      slots[gap] = slots[slot];
      gap = slot;
    }
    slots[gap] = 0;
  }

  #rehash(slots: number): void {
    this.#slots = new Uint32Array(slots);
    for (let index = 0; index < this.#extent; index++) if (this.#length[index] >= 0) this.#place(index);
  }
}

function unitsOf(length: number): number {
  return (length + 7) >>> UNIT_BITS;
}
