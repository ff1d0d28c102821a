import { bytesOf, type Section } from "./entity-table.js";

/** No event: the end of a list. */
export const NONE = -1;
/** Events of a page: memory grows by 640 KB, and nothing is copied. */
export const PAGE_BITS = 14;
export const PAGE_MASK = (1 << PAGE_BITS) - 1;
/** An event is 40 bytes in one place: three float64s, then four int32s. */
export const NUMBERS = 5;
export const WORDS = 10;
/** Among the numbers. */
export const TIME = 0;
export const AMOUNT = 1;
export const OFFSET = 2;
/** Among the words. */
export const ID_LOW = 6;
export const ID_HIGH = 7;
export const MERCHANT = 8;
export const OLDER = 9;

/** Events by index, with a list of free ones. What is hot reads `numbers` and `words` itself: two views of the same pages. */
export class EventPages {
  readonly numbers: Float64Array[] = [];
  readonly words: Int32Array[] = [];
  /** Indexes that were ever given. */
  #extent = 0;
  /** Free ones, linked by their OLDER word. */
  #free = NONE;
  #live = 0;

  /** Events. */
  get live(): number {
    return this.#live;
  }

  get bytes(): number {
    return this.numbers.reduce((sum, page) => sum + page.byteLength, 0);
  }

  allocate(): number {
    this.#live += 1;
    const index = this.#free;
    if (index !== NONE) {
      this.#free = this.older(index);
      return index;
    }
    if (this.#extent === this.numbers.length << PAGE_BITS) this.#addPage();
    return this.#extent++;
  }

  free(index: number): void {
    this.setOlder(index, this.#free);
    this.#free = index;
    this.#live -= 1;
  }

  time(index: number): number {
    return this.numbers[index >> PAGE_BITS][(index & PAGE_MASK) * NUMBERS + TIME];
  }

  merchant(index: number): number {
    return this.words[index >> PAGE_BITS][(index & PAGE_MASK) * WORDS + MERCHANT];
  }

  older(index: number): number {
    return this.words[index >> PAGE_BITS][(index & PAGE_MASK) * WORDS + OLDER];
  }

  setOlder(index: number, older: number): void {
    this.words[index >> PAGE_BITS][(index & PAGE_MASK) * WORDS + OLDER] = older;
  }

  /** Views: to be written, or copied, before anything changes. */
  sections(): Section[] {
    return [
      { name: "events", data: Float64Array.of(this.#extent, this.#free, this.#live) },
      ...this.numbers.map((page, i) => ({ name: `events/${i}`, data: page.subarray(0, Math.min(page.length, (this.#extent - (i << PAGE_BITS)) * NUMBERS)) })),
    ];
  }

  /** @throws FraudstreamError `snapshot_invalid` */
  static restore(sections: ReadonlyMap<string, ArrayBufferView>): EventPages {
    const events = new EventPages();
    [events.#extent, events.#free, events.#live] = new Float64Array(bytesOf(sections, "events").slice().buffer);
    while (events.numbers.length << PAGE_BITS < events.#extent) {
      const bytes = bytesOf(sections, `events/${events.numbers.length}`);
      new Uint8Array(events.#addPage()).set(bytes);
    }
    return events;
  }

  #addPage(): ArrayBuffer {
    const page = new ArrayBuffer((NUMBERS * 8) << PAGE_BITS);
    this.numbers.push(new Float64Array(page));
    this.words.push(new Int32Array(page));
    return page;
  }
}
