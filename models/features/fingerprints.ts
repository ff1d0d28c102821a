import { grown } from "./columns.js";

/** Words of a fingerprint. */
export const FINGERPRINT_WORDS = 4;
const WORDS = FINGERPRINT_WORDS;
const EMPTY = 0;

/** One multiplier a lane, as in MurmurHash3 x86_128 (A. Appleby, 2011). */
const C0 = 0x239b961b,
  C1 = 0xab0e9789,
  C2 = 0x38b34ae5,
  C3 = 0xa1e38b93;

/**
 * Rows by the 128-bit fingerprint of (card, transaction id): 16 bytes each instead of the ids, so that a week of
 * transactions fits. Two of a billion transactions share one with a probability of 1e-21. Several rows may have the
 * same fingerprint: `find` gives the newest, `older` leads from there to the others. Whoever uses it keeps columns of
 * its own beside it, by row; the rows of removed entries are used again.
 */
export class Fingerprints {
  #words = new Int32Array(0);
  /** The row before of the same fingerprint, -1: none; of a free row the next free one. */
  #older = new Int32Array(0);
  /** row + 1 of the newest row of a fingerprint; linear probing. */
  #slots = new Int32Array(16);
  #used = 0;
  #distinct = 0;
  #free = -1;
  #freed = 0;
  #a = 0;
  #b = 0;
  #c = 0;
  #d = 0;

  /** Rows that are taken. */
  get size(): number {
    return this.#used - this.#freed;
  }

  /** Rows are below this. */
  get capacity(): number {
    return this.#older.length;
  }

  /** Memory of the columns here. */
  get bytes(): number {
    return this.#words.byteLength + this.#older.byteLength + this.#slots.byteLength;
  }

  /** Takes the fingerprint of two ids in hand; what follows is about it. */
  point(bytes: Uint8Array, cardAt: number, cardLength: number, idAt: number, idLength: number): void {
    // The card's length keeps ("ab", "c") and ("a", "bc") apart.
    this.#a = this.#b = this.#c = this.#d = cardLength ^ (idLength << 16);
    this.#mix(bytes, cardAt, cardLength);
    this.#mix(bytes, idAt, idLength);
    let a = this.#a,
      b = this.#b,
      c = this.#c,
      d = this.#d;
    a = (a + b + c + d) | 0;
    b = (b + a) | 0;
    c = (c + a) | 0;
    d = (d + a) | 0;
    a = finish(a);
    b = finish(b);
    c = finish(c);
    d = finish(d);
    this.#a = (a + b + c + d) | 0;
    this.#b = (b + this.#a) | 0;
    this.#c = (c + this.#a) | 0;
    this.#d = (d + this.#a) | 0;
  }

  /** Takes the fingerprint that another table has in hand. */
  pointAs(other: Fingerprints): void {
    this.#a = other.#a;
    this.#b = other.#b;
    this.#c = other.#c;
    this.#d = other.#d;
  }

  /** Takes the fingerprint of a row of this table in hand. */
  pointAt(row: number): void {
    this.pointTo(this.#words, row * WORDS);
  }

  /** Takes a fingerprint that `words` gave in hand. */
  pointTo(words: Int32Array, at: number): void {
    this.#a = words[at];
    this.#b = words[at + 1];
    this.#c = words[at + 2];
    this.#d = words[at + 3];
  }

  /** Copies a row's fingerprint. */
  copyWords(row: number, to: Int32Array, at: number): void {
    to.set(this.#words.subarray(row * WORDS, row * WORDS + WORDS), at);
  }

  /** The newest row of the fingerprint in hand, -1: none. */
  find(): number {
    return this.#slots[this.#slotOf()] - 1;
  }

  /** The row of the same fingerprint that was added before; -1: none. */
  older(row: number): number {
    return this.#older[row];
  }

  /** Adds a row of the fingerprint in hand, the newest. The caller's columns must reach `capacity` afterwards. */
  add(): number {
    if ((this.#distinct + 1) * 5 > this.#slots.length * 3) this.#rehash();
    let row = this.#free;
    if (row >= 0) {
      this.#free = this.#older[row];
      this.#freed--;
    } else {
      row = this.#used++;
      if (row === this.#older.length) this.#grow();
    }
    const at = row * WORDS;
    this.#words[at] = this.#a;
    this.#words[at + 1] = this.#b;
    this.#words[at + 2] = this.#c;
    this.#words[at + 3] = this.#d;
    const slot = this.#slotOf();
    if (this.#slots[slot] === EMPTY) this.#distinct++;
    this.#older[row] = this.#slots[slot] - 1;
    this.#slots[slot] = row + 1;
    return row;
  }

  remove(row: number): void {
    this.pointAt(row);
    const slot = this.#slotOf();
    const newest = this.#slots[slot] - 1;
    if (newest !== row) {
      let newer = newest;
      while (this.#older[newer] !== row) newer = this.#older[newer];
      this.#older[newer] = this.#older[row];
    } else if (this.#older[row] >= 0) this.#slots[slot] = this.#older[row] + 1;
    else this.#empty(slot);
    this.#older[row] = this.#free;
    this.#free = row;
    this.#freed++;
  }

  /** The newest row of each fingerprint. */
  newestRows(): Int32Array {
    const rows = new Int32Array(this.#distinct);
    let count = 0;
    for (const entry of this.#slots) if (entry !== EMPTY) rows[count++] = entry - 1;
    return rows;
  }

  #mix(bytes: Uint8Array, at: number, length: number): void {
    let a = this.#a,
      b = this.#b,
      c = this.#c,
      d = this.#d;
    const end = at + length;
    while (at < end) {
      let word = bytes[at++];
      if (at < end) word |= bytes[at++] << 8;
      if (at < end) word |= bytes[at++] << 16;
      if (at < end) word |= bytes[at++] << 24;
      // Each lane sees each word, multiplied and turned in a way of its own.
      let k = Math.imul(word, C0);
      a ^= Math.imul((k << 15) | (k >>> 17), C1);
      a = (Math.imul((a << 19) | (a >>> 13), 5) + 0x561ccd1b) | 0;
      k = Math.imul(word, C1);
      b ^= Math.imul((k << 16) | (k >>> 16), C2);
      b = (Math.imul((b << 17) | (b >>> 15), 5) + 0x0bcaa747) | 0;
      k = Math.imul(word, C2);
      c ^= Math.imul((k << 17) | (k >>> 15), C3);
      c = (Math.imul((c << 15) | (c >>> 17), 5) + 0x96cd1c35) | 0;
      k = Math.imul(word, C3);
      d ^= Math.imul((k << 18) | (k >>> 14), C0);
      d = (Math.imul((d << 13) | (d >>> 19), 5) + 0x32ac3b17) | 0;
    }
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#d = d;
  }

  /** Where the fingerprint in hand stands, or the empty slot where it would. */
  #slotOf(): number {
    const slots = this.#slots,
      words = this.#words;
    const mask = slots.length - 1;
    for (let slot = this.#a & mask; ; slot = (slot + 1) & mask) {
      if (slots[slot] === EMPTY) return slot;
      const at = (slots[slot] - 1) * WORDS;
      if (words[at] === this.#a && words[at + 1] === this.#b && words[at + 2] === this.#c && words[at + 3] === this.#d)
        return slot;
    }
  }

  /** Linear probing without tombstones: what stands behind moves up (Knuth, TAOCP 3, 6.4, algorithm R). */
  #empty(slot: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    this.#distinct--;
    for (let hole = slot, next = (slot + 1) & mask; ; next = (next + 1) & mask) {
      if (slots[next] === EMPTY) {
        slots[hole] = EMPTY;
        return;
      }
      const home = this.#words[(slots[next] - 1) * WORDS] & mask;
      if (((next - home) & mask) >= ((next - hole) & mask)) {
        slots[hole] = slots[next];
        hole = next;
      }
    }
  }

  #rehash(): void {
    const former = this.#slots;
    this.#slots = new Int32Array(former.length * 2);
    const mask = this.#slots.length - 1;
    for (const entry of former) {
      if (entry === EMPTY) continue;
      let slot = this.#words[(entry - 1) * WORDS] & mask;
      while (this.#slots[slot] !== EMPTY) slot = (slot + 1) & mask;
      this.#slots[slot] = entry;
    }
  }

  #grow(): void {
    const capacity = Math.max(16, Math.ceil(this.#older.length * 1.5));
    this.#words = grown(this.#words, capacity * WORDS);
    this.#older = grown(this.#older, capacity);
  }
}

/** MurmurHash3's finalizer. */
function finish(h: number): number {
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}
