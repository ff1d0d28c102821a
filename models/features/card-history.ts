import type { Section } from "../../infra/snapshots.js";
import { CARD_AGGREGATE_NAMES, writeWindow } from "./card-aggregates.js";
import { bytesOf, float64Of, grown, grownCapacity, int32Of } from "./columns.js";
import { EntityTable, hashOf } from "./entity-table.js";
import {
  AMOUNT,
  EventPages,
  ID_HIGH,
  ID_LOW,
  MERCHANT,
  NONE,
  NUMBERS,
  OFFSET,
  OLDER,
  PAGE_BITS,
  PAGE_MASK,
  TIME,
  WORDS,
} from "./event-pages.js";
import type { CardWindow, HistoryPlan } from "./history-plan.js";
import type { HistoryRows } from "./history-rows.js";
import {
  BUCKET_MS,
  LABEL_DELAY_MS,
  LATENESS_MS,
  LONGEST_WINDOW_MS,
  MAX_CARD_EVENTS,
  REPEAT_HORIZON_MS,
  RETENTION_MS,
} from "./history-terms.js";
import { PartitionClock } from "./partition-clock.js";
import { RepeatIndex } from "./repeat-index.js";

/** What cards' fraud shares take their frauds from (MerchantWindows). */
export interface CardFrauds {
  /** Frauds of a card in buckets from ≤ b < to. */
  cardFrauds(bytes: Buffer, at: number, length: number, from: number, to: number): number;
}

/** What `fold` did with a row. From 0 on: it is a repeat, of the transaction at that offset. */
export const ACCEPTED = -1;
export const TOO_LATE = -2;
/**
 * Accepted, but the card has more events than are walked through: the windows that reach beyond them have no value
 * (NaN).
 */
export const BEYOND_REACH = -3;

/** Rows that `warm` takes at once: what it reads is still in the cache when the last of them is folded. */
export const WARMED_ROWS = 128;

/** Cards that a commit looks at for having been idle too long, beside one for each event of the batch. */
const SWEPT_CARDS = 16;
/**
 * A card's list is trimmed at every fourth of its events: that costs a quarter of a walk each, and keeps at most three
 * events too many.
 */
const TRIM_EVERY = 4;

/**
 * The cards of one partition: a fold of its transactions. Each card's events are a list by (event time, arrival),
 * newest first, from which every window is computed anew. What `fold` did since the last `commit` can be taken back
 * with `undo`. Which events count is a matter of event time and rank alone (RETENTION_MS, MAX_CARD_EVENTS): freeing
 * memory changes nothing. A window that holds more than MAX_CARD_EVENTS has no value; repeats are found all the same
 * (RepeatIndex).
 */
export class CardHistory {
  #clock = new PartitionClock();
  /** As of the last commit. */
  readonly #committedClock = new PartitionClock();
  #cards = new EntityTable();
  #merchants = new EntityTable();
  #events = new EventPages();
  /** Of each card: its newest event, how many it has, and the one that was given room last. */
  #head = new Int32Array(0);
  #count = new Int32Array(0);
  #last = new Int32Array(0);
  /** Of each card: 1 once it has had MAX_CARD_EVENTS: all of its events are in `#repeats` from then on. */
  #busy = new Uint8Array(0);
  #repeats = new RepeatIndex();
  /** Of each merchant: how many events name it, and the walk that last met it. */
  #uses = new Int32Array(0);
  #met = new Int32Array(0);
  #walk = 0;
  /** What was folded since the last commit, in order: event, its card, the event that is newer in the list. */
  readonly #journal: number[] = [];
  /** What went into `#repeats` alone since the last commit: hash of the card, hashes of the id, offset. */
  readonly #unlisted: number[] = [];
  /** Cards to trim at the next commit. */
  readonly #toTrim: number[] = [];
  /** The card that the sweep looks at next. */
  #sweepAt = 0;
  #shareCounts = new Float64Array(0);
  readonly #values = new Float64Array(CARD_AGGREGATE_NAMES.length);
  readonly #near = new Int32Array(WARMED_ROWS);

  /** The greatest event time so far that was believed, epoch milliseconds; -Infinity at first. */
  get clock(): number {
    return this.#clock.time;
  }

  /** Cards that have events. */
  get cards(): number {
    return this.#cards.size;
  }

  get events(): number {
    return this.#events.live;
  }

  /** Memory of the columns. */
  get bytes(): number {
    return (
      this.#events.bytes +
      this.#cards.bytes +
      this.#merchants.bytes +
      13 * this.#head.length +
      8 * this.#uses.length +
      this.#repeats.bytes
    );
  }

  /**
   * Folds one row and writes the row's card slots of `plan` to `out[at…]`; merchants' slots are left alone. A repeat
   * changes nothing (its slots hold no values); a late one is folded like any other.
   *
   * @param offset of the row's record, which a repeat of it names
   * @param frauds null: the plan has no card's fraud share, or it is missing (NaN)
   * @returns ACCEPTED, TOO_LATE, BEYOND_REACH, or the offset of the first
   */
  fold(
    rows: HistoryRows,
    row: number,
    offset: number,
    plan: HistoryPlan,
    frauds: CardFrauds | null,
    out: Float64Array,
    at: number,
  ): number {
    const time = rows.eventTime[row];
    const amount = rows.amount[row];
    const bytes = rows.bytes[row];
    const cardAt = rows.cardIdAt[row];
    const cardLength = rows.cardIdLength[row];
    const merchantAt = rows.merchantIdAt[row];
    const merchantLength = rows.merchantIdLength[row];
    const cardHash = hashOf(bytes, cardAt, cardLength);
    const card = this.#cards.find(bytes, cardAt, cardLength, cardHash);
    const idAt = rows.transactionIdAt[row];
    const idLength = rows.transactionIdLength[row];
    const idLow = hashOf(bytes, idAt, idLength) | 0;
    const idHigh = secondHash(bytes, idAt, idLength);
    const floor = Math.max(this.#clock.time, time) - RETENTION_MS;
    const { numbers, words } = this.#events;
    const busy = card >= 0 && this.#busy[card] === 1;
    if (busy) {
      const first = this.#repeats.find(
        cardHash | 0,
        idLow,
        idHigh,
        time - REPEAT_HORIZON_MS,
        time + REPEAT_HORIZON_MS,
        floor,
      );
      if (first >= 0) return first;
    }

    // Those that are newer in event time: a late transaction comes between.
    let event = card < 0 ? NONE : this.#head[card];
    let newer = NONE;
    let rank = 0;
    while (event !== NONE && rank < MAX_CARD_EVENTS) {
      const number = numbers[event >> PAGE_BITS];
      const n = (event & PAGE_MASK) * NUMBERS;
      const then = number[n + TIME];
      const ahead = then - time;
      if (!(ahead > 0)) break;
      const word = words[event >> PAGE_BITS];
      const w = (event & PAGE_MASK) * WORDS;
      if (ahead <= REPEAT_HORIZON_MS && then > floor && word[w + ID_LOW] === idLow && word[w + ID_HIGH] === idHigh)
        return number[n + OFFSET];
      newer = event;
      rank += 1;
      event = word[w + OLDER];
    }
    const older = event;
    const kept = time > floor && rank < MAX_CARD_EVENTS;
    rank += 1;

    // The transaction itself, then back in time; as the walk passes the start of a window, what was met is its value.
    const { cardWindows, lastSlot, needsSquares, needsDistinct } = plan;
    const reachMs = busy ? plan.windowsReachMs : plan.reachMs;
    const shares = plan.cardShares.length > 0 ? this.#startShares(plan) : 0;
    const lastBucket = Math.floor((time - LABEL_DELAY_MS) / BUCKET_MS) - 1;
    let window = 0;
    let windowMs = cardWindows.length > 0 ? cardWindows[0].windowMs : Infinity;
    let count = 1;
    let sum = amount;
    let max = amount;
    let mean = amount;
    let squares = 0;
    let distinct = 1;
    let walk = 0;
    if (needsDistinct) {
      walk = this.#nextWalk();
      const merchant = this.#merchants.find(bytes, merchantAt, merchantLength);
      if (merchant >= 0) this.#met[merchant] = walk;
    }
    let last = Number.NaN;
    for (; event !== NONE && rank < MAX_CARD_EVENTS; rank++) {
      const number = numbers[event >> PAGE_BITS];
      const n = (event & PAGE_MASK) * NUMBERS;
      const then = number[n + TIME];
      if (then <= floor) break;
      const age = time - then;
      const word = words[event >> PAGE_BITS];
      const w = (event & PAGE_MASK) * WORDS;
      if (age <= REPEAT_HORIZON_MS && word[w + ID_LOW] === idLow && word[w + ID_HIGH] === idHigh)
        return number[n + OFFSET];
      if (event === older && age <= LONGEST_WINDOW_MS) last = age / 1000;
      while (age >= windowMs) {
        writeWindow(cardWindows[window], this.#values, amount, count, sum, max, squares, distinct, out, at);
        window += 1;
        windowMs = window < cardWindows.length ? cardWindows[window].windowMs : Infinity;
      }
      if (age > reachMs) break;
      const value = number[n + AMOUNT];
      count += 1;
      sum += value;
      if (value > max) max = value;
      if (needsSquares) {
        // Welford 1962: no difference of large sums.
        const away = value - mean;
        mean += away / count;
        squares += away * (value - mean);
      }
      if (needsDistinct) {
        const merchant = word[w + MERCHANT];
        if (this.#met[merchant] !== walk) {
          this.#met[merchant] = walk;
          distinct += 1;
        }
      }
      if (shares > 0) this.#countForShares(plan, lastBucket, Math.floor(then / BUCKET_MS));
      event = word[w + OLDER];
    }
    // The walk ended before the card's events did: what the windows beyond would have to hold isn't known.
    const beyondReach = rank >= MAX_CARD_EVENTS && (event !== NONE || busy);
    const isUnknown = beyondReach && (window < cardWindows.length || shares > 0);
    for (; window < cardWindows.length; window++) {
      if (beyondReach) leaveOut(cardWindows[window], out, at);
      else writeWindow(cardWindows[window], this.#values, amount, count, sum, max, squares, distinct, out, at);
    }
    if (lastSlot >= 0) out[at + lastSlot] = last;
    for (let i = 0; i < shares; i++) {
      const { buckets, slot } = plan.cardShares[i];
      const own = this.#shareCounts[i];
      const known =
        frauds === null ? Number.NaN : frauds.cardFrauds(bytes, cardAt, cardLength, lastBucket - buckets, lastBucket);
      out[at + slot] = beyondReach ? Number.NaN : own === 0 && frauds !== null ? 0 : Math.min(1, known / own);
    }

    const late = time < this.#clock.time - LATENESS_MS;
    this.#clock.advance(time);
    if (kept) {
      const event = this.#insert(
        rows,
        row,
        offset,
        card >= 0 ? card : this.#newCard(bytes, cardAt, cardLength, cardHash),
        older,
        newer,
        idLow,
        idHigh,
      );
      this.#noteForRepeats(event, card, cardHash | 0, busy);
    } else if (busy && time > floor) {
      this.#repeats.add(cardHash | 0, idLow, idHigh, time, offset, this.#committedClock.time - RETENTION_MS);
      this.#unlisted.push(cardHash | 0, idLow, idHigh, offset);
    }
    return late ? TOO_LATE : isUnknown ? BEYOND_REACH : ACCEPTED;
  }

  /**
   * Reads what folding these rows will need, one kind of thing after the other: reads that don't wait for each other
   * overlap, while `fold` must wait for memory at each step from a card to its events. Changes nothing. At most
   * WARMED_ROWS rows.
   */
  warm(rows: HistoryRows, from: number, to: number): void {
    const near = this.#near;
    const { numbers } = this.#events;
    let touched = 0;
    for (let row = from; row < to; row++)
      near[row - from] = hashOf(rows.bytes[row], rows.cardIdAt[row], rows.cardIdLength[row]) | 0;
    for (let i = 0; i < to - from; i++) near[i] = this.#cards.near(near[i]);
    for (let i = 0; i < to - from; i++) {
      const card = near[i];
      if (card < 0) continue;
      touched += this.#cards.touch(card) + this.#count[card] + this.#last[card];
      near[i] = this.#head[card];
    }
    for (let i = 0; i < to - from; i++) {
      const event = near[i];
      if (event < 0) continue;
      const page = numbers[event >> PAGE_BITS];
      const n = (event & PAGE_MASK) * NUMBERS;
      // The newest event, and the one before it in its run of neighbours, which mostly lies in another line of the
      // cache.
      touched += page[n] + page[n >= NUMBERS ? n - NUMBERS : n];
    }
    for (let row = from; row < to; row++)
      near[row - from] = hashOf(rows.bytes[row], rows.merchantIdAt[row], rows.merchantIdLength[row]) | 0;
    for (let i = 0; i < to - from; i++) near[i] = this.#merchants.near(near[i]);
    for (let i = 0; i < to - from; i++)
      if (near[i] >= 0) touched += this.#merchants.touch(near[i]) + this.#uses[near[i]];
    // What is read must be of some use, or a compiler leaves the reading out.
    near[0] = touched;
  }

  /** Keeps what was folded since the last commit, and frees some of what no window can see any more. */
  commit(): void {
    const floor = this.#clock.time - RETENTION_MS;
    for (const card of this.#toTrim) if (this.#count[card] > 0) this.#trim(card, floor);
    const { extent } = this.#cards;
    for (let left = Math.min(extent, SWEPT_CARDS + this.#journal.length / 3); left > 0; left--) {
      const card = this.#sweepAt < extent ? this.#sweepAt : 0;
      this.#sweepAt = card + 1;
      if (this.#count[card] > 0 && this.#events.time(this.#head[card]) <= floor) this.#trim(card, floor);
    }
    this.#forgetJournal();
  }

  /** Takes back what was folded since the last commit. */
  undo(): void {
    const journal = this.#journal;
    for (let i = journal.length - 3; i >= 0; i -= 3) {
      const [event, card, newer] = [journal[i], journal[i + 1], journal[i + 2]];
      if (newer === NONE) this.#head[card] = this.#events.older(event);
      else this.#events.setOlder(newer, this.#events.older(event));
      if (this.#last[card] === event) this.#last[card] = event - 1;
      if (this.#busy[card] === 1) this.#takeBackRepeat(event, card);
      this.#free(event, card);
      this.#count[card] -= 1;
      if (this.#count[card] === 0) this.#cards.remove(card);
    }
    const unlisted = this.#unlisted;
    for (let i = 0; i < unlisted.length; i += 4)
      this.#repeats.takeBack(unlisted[i], unlisted[i + 1], unlisted[i + 2], unlisted[i + 3]);
    this.#clock.copyFrom(this.#committedClock);
    this.#forgetJournal();
  }

  /**
   * Views of the state as of the last commit, after which nothing was folded: to be written, or copied, before the next
   * fold.
   */
  sections(): Section[] {
    if (this.#journal.length > 0) throw new Error("cannot take a snapshot in the middle of a batch");
    return [
      // Earlier versions read the second number, too.
      { name: "clock", data: Float64Array.of(this.#clock.time, Number.NaN) },
      this.#clock.section("clock/block"),
      { name: "card/head", data: this.#head.subarray(0, this.#cards.extent) },
      { name: "card/count", data: this.#count.subarray(0, this.#cards.extent) },
      { name: "card/last", data: this.#last.subarray(0, this.#cards.extent) },
      { name: "card/busy", data: this.#busy.subarray(0, this.#cards.extent) },
      ...this.#repeats.sections("repeats"),
      { name: "merchant/uses", data: this.#uses.subarray(0, this.#merchants.extent) },
      ...this.#cards.sections("card"),
      ...this.#merchants.sections("merchant"),
      ...this.#events.sections(),
    ];
  }

  /** @throws FraudstreamError `snapshot_unusable` where a section is missing */
  static restore(sections: readonly Section[]): CardHistory {
    const byName = new Map(sections.map(({ name, data }) => [name, data]));
    const history = new CardHistory();
    history.#clock = PartitionClock.restore(byName, "clock/block", float64Of(byName, "clock")[0]);
    history.#committedClock.copyFrom(history.#clock);
    history.#cards = EntityTable.restore("card", byName);
    history.#merchants = EntityTable.restore("merchant", byName);
    history.#events = EventPages.restore(byName);
    history.#head = int32Of(byName, "card/head");
    history.#count = int32Of(byName, "card/count");
    history.#last = int32Of(byName, "card/last");
    history.#busy = byName.has("card/busy")
      ? bytesOf(byName, "card/busy").slice()
      : new Uint8Array(history.#head.length);
    history.#repeats = RepeatIndex.restore(byName, "repeats");
    history.#uses = int32Of(byName, "merchant/uses");
    history.#met = new Int32Array(history.#uses.length);
    return history;
  }

  /** An event of a busy card is found by its id; a card becomes busy with MAX_CARD_EVENTS. */
  #noteForRepeats(event: number, found: number, cardHash: number, busy: boolean): void {
    const floor = this.#committedClock.time - RETENTION_MS;
    if (busy) this.#indexRepeat(event, cardHash, floor);
    else if (found >= 0 && this.#count[found] >= MAX_CARD_EVENTS) {
      this.#busy[found] = 1;
      for (let each = this.#head[found]; each !== NONE; each = this.#events.older(each))
        this.#indexRepeat(each, cardHash, floor);
    }
  }

  #indexRepeat(event: number, cardHash: number, floor: number): void {
    const number = this.#events.numbers[event >> PAGE_BITS];
    const n = (event & PAGE_MASK) * NUMBERS;
    const word = this.#events.words[event >> PAGE_BITS];
    const w = (event & PAGE_MASK) * WORDS;
    this.#repeats.add(cardHash, word[w + ID_LOW], word[w + ID_HIGH], number[n + TIME], number[n + OFFSET], floor);
  }

  #takeBackRepeat(event: number, card: number): void {
    const word = this.#events.words[event >> PAGE_BITS];
    const w = (event & PAGE_MASK) * WORDS;
    this.#repeats.takeBack(
      this.#cards.hashOf(card) | 0,
      word[w + ID_LOW],
      word[w + ID_HIGH],
      this.#events.numbers[event >> PAGE_BITS][(event & PAGE_MASK) * NUMBERS + OFFSET],
    );
  }

  #newCard(bytes: Buffer, at: number, length: number, hash: number): number {
    const card = this.#cards.intern(bytes, at, length, hash);
    if (card >= this.#head.length) {
      const capacity = grownCapacity(card);
      this.#head = grown(this.#head, capacity);
      this.#count = grown(this.#count, capacity);
      this.#last = grown(this.#last, capacity);
      const busy = new Uint8Array(capacity);
      busy.set(this.#busy);
      this.#busy = busy;
    }
    this.#busy[card] = 0;
    this.#head[card] = NONE;
    this.#count[card] = 0;
    this.#last[card] = NONE;
    return card;
  }

  #useMerchant(bytes: Buffer, at: number, length: number): number {
    const merchant = this.#merchants.intern(bytes, at, length);
    if (merchant >= this.#uses.length) {
      const capacity = grownCapacity(merchant);
      this.#uses = grown(this.#uses, capacity);
      this.#met = grown(this.#met, capacity);
    }
    this.#uses[merchant] += 1;
    return merchant;
  }

  /** Puts a row into its card's list, between two neighbours. */
  #insert(
    rows: HistoryRows,
    row: number,
    offset: number,
    card: number,
    older: number,
    newer: number,
    idLow: number,
    idHigh: number,
  ): number {
    const events = this.#events;
    const event = events.allocate(this.#last[card], this.#count[card]);
    this.#last[card] = event;
    const number = events.numbers[event >> PAGE_BITS];
    const n = (event & PAGE_MASK) * NUMBERS;
    number[n + TIME] = rows.eventTime[row];
    number[n + AMOUNT] = rows.amount[row];
    number[n + OFFSET] = offset;
    const word = events.words[event >> PAGE_BITS];
    const w = (event & PAGE_MASK) * WORDS;
    word[w + ID_LOW] = idLow;
    word[w + ID_HIGH] = idHigh;
    word[w + MERCHANT] = this.#useMerchant(rows.bytes[row], rows.merchantIdAt[row], rows.merchantIdLength[row]);
    word[w + OLDER] = older;
    if (newer === NONE) this.#head[card] = event;
    else events.setOlder(newer, event);
    this.#count[card] += 1;
    this.#journal.push(event, card, newer);
    if (this.#count[card] % TRIM_EVERY === 0) this.#toTrim.push(card);
    return event;
  }

  /** Frees the events of a card that are no newer than `floor`, or beyond the cap; the card, where none is left. */
  #trim(card: number, floor: number): void {
    let last = NONE;
    let event = this.#head[card];
    let rank = 0;
    while (event !== NONE && rank < MAX_CARD_EVENTS && this.#events.time(event) > floor) {
      last = event;
      event = this.#events.older(event);
      rank += 1;
    }
    if (last === NONE) this.#cards.remove(card);
    else this.#events.setOlder(last, NONE);
    this.#count[card] = rank;
    while (event !== NONE) {
      const older = this.#events.older(event);
      this.#free(event, card);
      event = older;
    }
  }

  #free(event: number, card: number): void {
    const merchant = this.#events.merchant(event);
    this.#uses[merchant] -= 1;
    if (this.#uses[merchant] === 0) this.#merchants.remove(merchant);
    const last = this.#last[card];
    if (this.#events.free(event) && last !== NONE && this.#events.together(last, event)) this.#last[card] = NONE;
  }

  #forgetJournal(): void {
    this.#journal.length = 0;
    this.#toTrim.length = 0;
    this.#unlisted.length = 0;
    this.#committedClock.copyFrom(this.#clock);
  }

  #nextWalk(): number {
    // After two billion walks the marks of the first could be taken for this one's.
    if (this.#walk === 0x7fffffff) {
      this.#walk = 0;
      this.#met.fill(0);
    }
    return ++this.#walk;
  }

  #startShares({ cardShares }: HistoryPlan): number {
    if (this.#shareCounts.length < cardShares.length) this.#shareCounts = new Float64Array(cardShares.length);
    this.#shareCounts.fill(0);
    return cardShares.length;
  }

  #countForShares({ cardShares }: HistoryPlan, end: number, bucket: number): void {
    if (bucket >= end) return;
    for (let i = 0; i < cardShares.length; i++) if (bucket >= end - cardShares[i].buckets) this.#shareCounts[i] += 1;
  }
}

/** A window whose value isn't known. */
function leaveOut({ slots }: CardWindow, out: Float64Array, at: number): void {
  for (let i = 0; i < slots.length; i++) out[at + slots[i]] = Number.NaN;
}

/** The other 32 bits of a transaction id's hash: another start and another multiplier than `hashOf`'s. */
function secondHash(bytes: Buffer, at: number, length: number): number {
  let hash = 0x9747b28c;
  for (let i = at, end = at + length; i < end; i++)
    hash = (Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64) ^ Math.imul(bytes[i] + 1, 0x5bd1e995);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39);
  return hash ^ (hash >>> 15);
}
