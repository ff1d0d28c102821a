import type { Section } from "../../infra/snapshots.js";
import { FraudstreamError } from "../../schemas/errors.js";
import { bytesOf } from "./columns.js";

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

/**
 * Events that lie side by side, by how many a card has: walking a list whose events lie apart waits for memory at each.
 */
const RUNS = [
  { size: 4, least: 0 },
  { size: 8, least: 24 },
  { size: 16, least: 64 },
  { size: 64, least: 256 },
] as const;

/**
 * Events by index, in lists that the events themselves link. A list takes them in runs of neighbours, each list its
 * own; a run whose events are all freed is there for any other. All runs of a page are of one size. What is hot reads
 * `numbers` and `words` itself: two views of the same pages.
 */
export class EventPages {
  readonly numbers: Float64Array[] = [];
  readonly words: Int32Array[] = [];
  /** Of each page: the size of its runs, and the live events of each. */
  readonly #sizes: number[] = [];
  readonly #lives: Uint8Array[] = [];
  /** Of each size: the first event of a free run, linked by their OLDER word; the next one of its newest page. */
  readonly #free = new Int32Array(RUNS.length).fill(NONE);
  readonly #fresh = new Int32Array(RUNS.length).fill(NONE);
  #live = 0;

  /** Events. */
  get live(): number {
    return this.#live;
  }

  get bytes(): number {
    return (
      this.numbers.reduce((sum, page) => sum + page.byteLength, 0) +
      this.#lives.reduce((sum, page) => sum + page.byteLength, 0)
    );
  }

  /**
   * @param last the event that the list took last, NONE or one of a run that isn't free; @param count events of the
   *   list
   */
  allocate(last: number, count: number): number {
    this.#live += 1;
    if (last !== NONE) {
      const size = this.#sizes[last >> PAGE_BITS];
      if (((last + 1) & (size - 1)) !== 0) {
        this.#lives[last >> PAGE_BITS][((last & PAGE_MASK) / size) | 0] += 1;
        return last + 1;
      }
    }
    let sort = 0;
    while (sort + 1 < RUNS.length && count >= RUNS[sort + 1].least) sort++;
    const event = this.#takeRun(sort);
    this.#lives[event >> PAGE_BITS][((event & PAGE_MASK) / RUNS[sort].size) | 0] = 1;
    return event;
  }

  /** @returns whether its run is free now, so that the list must not take more of it */
  free(event: number): boolean {
    this.#live -= 1;
    const page = event >> PAGE_BITS;
    const size = this.#sizes[page];
    const lives = this.#lives[page];
    const run = ((event & PAGE_MASK) / size) | 0;
    lives[run] -= 1;
    if (lives[run] > 0) return false;
    const sort = RUNS.findIndex((other) => other.size === size);
    const first = event & ~(size - 1);
    this.setOlder(first, this.#free[sort]);
    this.#free[sort] = first;
    return true;
  }

  /** Whether two events are neighbours of one run. */
  together(a: number, b: number): boolean {
    return a >> PAGE_BITS === b >> PAGE_BITS && ((a ^ b) & ~(this.#sizes[a >> PAGE_BITS] - 1)) === 0;
  }

  time(event: number): number {
    return this.numbers[event >> PAGE_BITS][(event & PAGE_MASK) * NUMBERS + TIME];
  }

  merchant(event: number): number {
    return this.words[event >> PAGE_BITS][(event & PAGE_MASK) * WORDS + MERCHANT];
  }

  older(event: number): number {
    return this.words[event >> PAGE_BITS][(event & PAGE_MASK) * WORDS + OLDER];
  }

  setOlder(event: number, older: number): void {
    this.words[event >> PAGE_BITS][(event & PAGE_MASK) * WORDS + OLDER] = older;
  }

  /** Views: to be written, or copied, before anything changes. */
  sections(): Section[] {
    return [
      { name: "events", data: Float64Array.of(this.#live, ...this.#free, ...this.#fresh) },
      { name: "events/sizes", data: Uint8Array.from(this.#sizes) },
      ...this.#lives.map((data, i) => ({ name: `events/lives/${i}`, data })),
      ...this.numbers.map((data, i) => ({ name: `events/${i}`, data })),
    ];
  }

  /** @throws FraudstreamError `snapshot_unusable` */
  static restore(sections: ReadonlyMap<string, ArrayBufferView>): EventPages {
    const events = new EventPages();
    const [live, ...heads] = new Float64Array(bytesOf(sections, "events").slice().buffer);
    events.#live = live;
    events.#free.set(heads.slice(0, RUNS.length));
    events.#fresh.set(heads.slice(RUNS.length));
    for (const [page, size] of bytesOf(sections, "events/sizes").entries()) {
      const sort = RUNS.findIndex((run) => run.size === size);
      if (sort < 0) throw new FraudstreamError("snapshot_unusable", `the snapshot has events in runs of ${size}`);
      events.#addPage(sort);
      events.#lives[page].set(bytesOf(sections, `events/lives/${page}`));
      new Uint8Array(events.numbers[page].buffer).set(bytesOf(sections, `events/${page}`));
    }
    return events;
  }

  #takeRun(sort: number): number {
    const free = this.#free[sort];
    if (free !== NONE) {
      this.#free[sort] = this.older(free);
      return free;
    }
    if (this.#fresh[sort] === NONE) this.#fresh[sort] = this.#addPage(sort);
    const first = this.#fresh[sort];
    const next = first + RUNS[sort].size;
    this.#fresh[sort] = (next & PAGE_MASK) === 0 ? NONE : next;
    return first;
  }

  /** @returns its first event */
  #addPage(sort: number): number {
    const page = new ArrayBuffer((NUMBERS * 8) << PAGE_BITS);
    this.numbers.push(new Float64Array(page));
    this.words.push(new Int32Array(page));
    this.#sizes.push(RUNS[sort].size);
    this.#lives.push(new Uint8Array((1 << PAGE_BITS) / RUNS[sort].size));
    return (this.numbers.length - 1) << PAGE_BITS;
  }
}
