import type { Section } from "../../infra/snapshots.js";
import { float64Of, grown, int32Of } from "./columns.js";
import { CountedEntities } from "./counted-entities.js";
import { FINGERPRINT_WORDS, Fingerprints } from "./fingerprints.js";
import type { BucketRows } from "./history-rows.js";
import { BUCKET_MS, LABEL_DELAY_MS, REPEAT_HORIZON_MS, RETENTION_MS } from "./history-terms.js";
import { PartitionClock } from "./partition-clock.js";

type BucketKind = "merchant" | "card";
export type EmitBucket = (kind: BucketKind, id: Buffer, bucket: number, count: number, frauds: number) => void;

/** What a builder has seen since it was made or restored. */
export interface BuilderCounts {
  /** Counted in a bucket. */
  transactions: number;
  /** Their bucket was sealed already: not counted. */
  lateTransactions: number;
  /** The same transaction again within the horizon: ignored. */
  repeats: number;
  labels: number;
  /** Of a transaction in a sealed bucket, or known only after its bucket's end and the delay: not applied. */
  lateLabels: number;
}

/** Sealed buckets so far back can still hold the first of a repeated transaction. */
export const REPEAT_BUCKETS = REPEAT_HORIZON_MS / BUCKET_MS;
const RETENTION_BUCKETS = RETENTION_MS / BUCKET_MS;
/** Held labels are looked through when there are twice as many as were left the last time, and more than this. */
const SWEEP_FROM = 4_096;
const NONE = -1;

/**
 * The unsealed buckets of one source partition: its transactions and their labels joined (infra/decisions/0006). 53
 * bytes a transaction of the unsealed week, beside the ids of its merchants and of the cards with frauds, each once.
 */
export class BucketBuilder {
  readonly counts: BuilderCounts = { transactions: 0, lateTransactions: 0, repeats: 0, labels: 0, lateLabels: 0 };
  #sealed = Number.NEGATIVE_INFINITY;
  /** What accepted transactions say of how far the partition has come; `seal` raises it. */
  #clock = new PartitionClock();
  /** Of every transaction of an unsealed bucket, and of sealed ones within the repeat horizon. */
  readonly #known = new Fingerprints();
  #time = new Float64Array(0);
  /** Index of the merchant; NONE: the transaction isn't counted any more, or never was. */
  #merchant = new Int32Array(0);
  /** Index of the card; NONE: no fraud as far as is known. */
  #card = new Int32Array(0);
  /** The order of the label that stands; 0: none came. */
  #order = new Float64Array(0);
  /** The row before in the same bucket. */
  #next = new Int32Array(0);
  /** The last row of each bucket. */
  readonly #buckets = new Map<number, number>();
  #merchants = new CountedEntities();
  #cards = new CountedEntities();
  /** Labels whose transaction hasn't come: of one transaction the last that was read first. */
  readonly #early = new Fingerprints();
  #earlyTime = new Float64Array(0);
  /** NONE: genuine. */
  #earlyCard = new Int32Array(0);
  #earlyOrder = new Float64Array(0);
  /** What was sealed when it came. */
  #earlySince = new Float64Array(0);
  #sweepAt = SWEEP_FROM;
  /** Scratch for one bucket's counts, by entity; zero between calls. */
  #count = new Int32Array(0);
  #frauds = new Int32Array(0);

  /** Buckets below this index are sealed; -Infinity at first. */
  get sealed(): number {
    return this.#sealed;
  }

  /** Labels that wait for their transactions. */
  get held(): number {
    return this.#early.size;
  }

  /** Memory of the columns. */
  get bytes(): number {
    return (
      this.#known.bytes +
      this.#early.bytes +
      this.#merchants.bytes +
      this.#cards.bytes +
      this.#time.byteLength * 2 +
      this.#merchant.byteLength * 3 +
      this.#earlyTime.byteLength * 3 +
      this.#earlyCard.byteLength +
      this.#count.byteLength * 2
    );
  }

  /** The index below which an accepted transaction of this event time lets buckets be sealed. */
  sealable(eventTime: number): number {
    return Math.floor((eventTime - LABEL_DELAY_MS) / BUCKET_MS);
  }

  /** Whether the same transaction came before, within the horizon: it seals nothing and counts nowhere. */
  #isRepeat(rows: BucketRows, row: number): boolean {
    const known = this.#known;
    const time = rows.eventTime[row];
    known.point(
      rows.bytes[row],
      rows.cardIdAt[row],
      rows.cardIdLength[row],
      rows.transactionIdAt[row],
      rows.transactionIdLength[row],
    );
    for (let same = known.find(); same >= 0; same = known.older(same))
      if (Math.abs(this.#time[same] - time) <= REPEAT_HORIZON_MS) return true;
    return false;
  }

  /** The event time that the partition has come to, epoch milliseconds; -Infinity at first. */
  get clock(): number {
    return this.#clock.time;
  }

  /**
   * Adds an accepted transaction after sealing what it lets be sealed, as far as it is believed (PartitionClock). A
   * repeat seals nothing.
   */
  sealAndAdd(rows: BucketRows, row: number, emit: EmitBucket): void {
    if (this.#isRepeat(rows, row)) {
      this.counts.repeats++;
      return;
    }
    this.#clock.advance(rows.eventTime[row]);
    const upTo = this.sealable(this.#clock.time);
    if (upTo > this.#sealed) {
      this.#seal(upTo, emit);
      // Sealing has looked at other fingerprints.
      this.#known.point(
        rows.bytes[row],
        rows.cardIdAt[row],
        rows.cardIdLength[row],
        rows.transactionIdAt[row],
        rows.transactionIdLength[row],
      );
    }
    this.#addTransaction(rows, row);
  }

  /** A late one is counted, not added. `#known` points at it. */
  #addTransaction(rows: BucketRows, row: number): void {
    const { counts } = this;
    const time = rows.eventTime[row];
    const bytes = rows.bytes[row];
    const bucket = Math.floor(time / BUCKET_MS);
    const late = bucket < this.#sealed;
    if (late) counts.lateTransactions++;
    else counts.transactions++;
    // A late one still makes what follows a repeat.
    if (bucket < this.#sealed - REPEAT_BUCKETS) return;
    const added = this.#add(
      time,
      late ? NONE : this.#merchants.take(bytes, rows.merchantIdAt[row], rows.merchantIdLength[row]),
      NONE,
    );
    if (this.#early.size > 0) this.#takeEarly(added, bucket, late);
  }

  /**
   * Applies a label to its transaction, or holds it until that comes. The one with the greatest order stands, of equal
   * ones the last that was read, among those that became known in time for the transaction's bucket.
   *
   * @param labelTime epoch milliseconds
   * @param order when it was published, epoch milliseconds
   */
  label(
    bytes: Buffer,
    cardAt: number,
    cardLength: number,
    transactionAt: number,
    transactionLength: number,
    isFraud: boolean,
    labelTime: number,
    order = 0,
  ): void {
    const { counts } = this;
    const known = this.#known;
    counts.labels++;
    known.point(bytes, cardAt, cardLength, transactionAt, transactionLength);
    let row = known.find();
    if (row < 0) {
      this.#hold(bytes, cardAt, cardLength, isFraud, labelTime, order);
      return;
    }
    // An id that came again beyond the repeat horizon is several transactions; nothing tells which one is meant.
    let late = true;
    for (; row >= 0; row = known.older(row)) {
      const bucket = Math.floor(this.#time[row] / BUCKET_MS);
      if (bucket < this.#sealed || labelTime > deadline(bucket)) continue;
      late = false;
      if (order < this.#order[row]) continue;
      this.#order[row] = order;
      const was = this.#card[row];
      if (isFraud === was >= 0) continue;
      this.#card[row] = isFraud ? this.#cards.take(bytes, cardAt, cardLength) : NONE;
      if (was >= 0) this.#cards.release(was);
    }
    if (late) counts.lateLabels++;
  }

  /**
   * Seals the buckets below an index and emits those that count something, in their order: merchants' with all of their
   * transactions, cards' with their frauds only. The id is valid until `emit` returns.
   */
  seal(upTo: number, emit: EmitBucket): void {
    if (!(upTo > this.#sealed)) return;
    this.#clock.raise(upTo * BUCKET_MS + LABEL_DELAY_MS);
    this.#seal(upTo, emit);
  }

  #seal(upTo: number, emit: EmitBucket): void {
    this.#sealed = upTo;
    const due = [...this.#buckets.keys()].filter((bucket) => bucket < upTo).sort((a, b) => a - b);
    for (const bucket of due) {
      const last = this.#buckets.get(bucket) ?? NONE;
      this.#emit(bucket, last, emit);
      if (bucket < upTo - REPEAT_BUCKETS) this.#forget(bucket, last);
    }
    if (this.#early.size > this.#sweepAt) this.#sweep();
  }

  /** What was seen so far was the log read again. */
  forgetCounts(): void {
    for (const name of Object.keys(this.counts) as (keyof BuilderCounts)[]) this.counts[name] = 0;
  }

  /** For a snapshot: copies of what it holds. */
  sections(): Section[] {
    const rows = new Int32Array(this.#known.size);
    let end = 0;
    for (const bucket of [...this.#buckets.keys()].sort((a, b) => a - b)) {
      const start = end;
      for (let row = this.#buckets.get(bucket) ?? NONE; row >= 0; row = this.#next[row]) rows[end++] = row;
      rows.subarray(start, end).reverse(); // in the order of their arrival
    }
    const early = Int32Array.from([...this.#early.newestRows()].flatMap((newest) => this.#chain(newest).reverse()));
    return [
      { name: "buckets/sealed", data: Float64Array.of(this.#sealed, Number.NaN) },
      this.#clock.section("buckets/clock"),
      { name: "buckets/words", data: wordsOf(this.#known, rows) },
      { name: "buckets/time", data: picked(this.#time, rows) },
      { name: "buckets/merchant", data: picked(this.#merchant, rows) },
      { name: "buckets/card", data: picked(this.#card, rows) },
      { name: "buckets/order", data: picked(this.#order, rows) },
      { name: "early/words", data: wordsOf(this.#early, early) },
      { name: "early/time", data: picked(this.#earlyTime, early) },
      { name: "early/card", data: picked(this.#earlyCard, early) },
      { name: "early/order", data: picked(this.#earlyOrder, early) },
      { name: "early/since", data: picked(this.#earlySince, early) },
      ...this.#merchants.sections("merchants"),
      ...this.#cards.sections("cards"),
    ];
  }

  /** @throws FraudstreamError `snapshot_unusable` */
  static restore(sections: ReadonlyMap<string, ArrayBufferView>): BucketBuilder {
    const builder = new BucketBuilder();
    [builder.#sealed] = float64Of(sections, "buckets/sealed");
    builder.#clock = PartitionClock.restore(sections, "buckets/clock", builder.#sealed * BUCKET_MS + LABEL_DELAY_MS);
    builder.#merchants = CountedEntities.restore("merchants", sections);
    builder.#cards = CountedEntities.restore("cards", sections);
    const words = int32Of(sections, "buckets/words"),
      merchants = int32Of(sections, "buckets/merchant"),
      cards = int32Of(sections, "buckets/card");
    // A snapshot of an earlier version has no orders: its labels give way to any later one, as they did.
    const orders = sections.has("buckets/order") ? float64Of(sections, "buckets/order") : [];
    const earlyOrders = sections.has("early/order") ? float64Of(sections, "early/order") : [];
    float64Of(sections, "buckets/time").forEach((time, i) => {
      builder.#known.pointTo(words, i * FINGERPRINT_WORDS);
      builder.#order[builder.#add(time, merchants[i], cards[i])] = orders[i] ?? 0;
      if (merchants[i] >= 0) builder.#merchants.hold(merchants[i]);
      if (cards[i] >= 0) builder.#cards.hold(cards[i]);
    });
    const earlyWords = int32Of(sections, "early/words"),
      earlyCards = int32Of(sections, "early/card"),
      since = float64Of(sections, "early/since");
    float64Of(sections, "early/time").forEach((time, i) => {
      builder.#early.pointTo(earlyWords, i * FINGERPRINT_WORDS);
      builder.#addEarly(time, earlyCards[i], since[i], earlyOrders[i] ?? 0);
      if (earlyCards[i] >= 0) builder.#cards.hold(earlyCards[i]);
    });
    return builder;
  }

  #add(time: number, merchant: number, card: number): number {
    const bucket = Math.floor(time / BUCKET_MS);
    const row = this.#known.add();
    if (this.#known.capacity > this.#time.length) this.#growKnown(this.#known.capacity);
    this.#time[row] = time;
    this.#merchant[row] = merchant;
    this.#card[row] = card;
    this.#order[row] = 0;
    this.#next[row] = this.#buckets.get(bucket) ?? NONE;
    this.#buckets.set(bucket, row);
    return row;
  }

  #addEarly(labelTime: number, card: number, since: number, order: number): void {
    const row = this.#early.add();
    if (this.#early.capacity > this.#earlyTime.length) this.#growEarly(this.#early.capacity);
    this.#earlyTime[row] = labelTime;
    this.#earlyCard[row] = card;
    this.#earlySince[row] = since;
    this.#earlyOrder[row] = order;
  }

  /** A held label and the older ones of its transaction. */
  #chain(newest: number): number[] {
    const rows: number[] = [];
    for (let row = newest; row >= 0; row = this.#early.older(row)) rows.push(row);
    return rows;
  }

  #emit(bucket: number, last: number, emit: EmitBucket): void {
    const merchants: number[] = [];
    const cards: number[] = [];
    this.#reserveCounts(Math.max(this.#merchants.extent, this.#cards.extent));
    const count = this.#count,
      frauds = this.#frauds;
    for (let row = last; row >= 0; row = this.#next[row]) {
      const merchant = this.#merchant[row];
      if (merchant < 0) continue;
      if (count[merchant]++ === 0) merchants.push(merchant);
      if (this.#card[row] >= 0) frauds[merchant]++;
    }
    for (const merchant of merchants) {
      emit("merchant", this.#merchants.id(merchant), bucket, count[merchant], frauds[merchant]);
      count[merchant] = frauds[merchant] = 0;
    }
    for (let row = last; row >= 0; row = this.#next[row]) {
      if (this.#merchant[row] < 0) continue;
      const card = this.#card[row];
      if (card >= 0 && count[card]++ === 0) cards.push(card);
    }
    for (const card of cards) {
      emit("card", this.#cards.id(card), bucket, count[card], count[card]);
      count[card] = 0;
    }
    for (let row = last; row >= 0; row = this.#next[row]) {
      if (this.#merchant[row] < 0) continue;
      this.#merchants.release(this.#merchant[row]);
      if (this.#card[row] >= 0) this.#cards.release(this.#card[row]);
      this.#merchant[row] = this.#card[row] = NONE;
    }
  }

  #forget(bucket: number, last: number): void {
    this.#buckets.delete(bucket);
    for (let row = last; row >= 0; row = this.#next[row]) this.#known.remove(row);
  }

  /**
   * The labels that came before their transaction: among those that were in time for it, the one with the greatest
   * order counts.
   */
  #takeEarly(added: number, bucket: number, late: boolean): void {
    const early = this.#early;
    early.pointAs(this.#known);
    const newest = early.find();
    if (newest < 0) return;
    if (!late) {
      let best = NONE;
      for (let row = newest; row >= 0; row = early.older(row)) {
        if (this.#earlyTime[row] <= deadline(bucket) && (best < 0 || this.#earlyOrder[row] > this.#earlyOrder[best]))
          best = row;
      }
      if (best >= 0) {
        this.#order[added] = this.#earlyOrder[best];
        this.#card[added] = this.#earlyCard[best];
        this.#earlyCard[best] = NONE;
      }
    } else this.counts.lateLabels++;
    this.#drop(newest);
  }

  #hold(bytes: Buffer, cardAt: number, cardLength: number, isFraud: boolean, labelTime: number, order: number): void {
    const early = this.#early;
    // Its transaction could only be late, or has been forgotten long ago.
    if (labelTime < this.#sealed * BUCKET_MS) {
      this.counts.lateLabels++;
      return;
    }
    early.pointAs(this.#known);
    // Nothing held says fraud: a genuine one changes nothing.
    if (!isFraud && early.find() < 0) return;
    this.#addEarly(labelTime, isFraud ? this.#cards.take(bytes, cardAt, cardLength) : NONE, this.#sealed, order);
  }

  /** Removes a held label and the older ones of its transaction. */
  #drop(newest: number): void {
    for (const row of this.#chain(newest)) {
      if (this.#earlyCard[row] >= 0) this.#cards.release(this.#earlyCard[row]);
      this.#early.remove(row);
    }
  }

  /** Forgets held labels whose transaction could only be late, and those that have waited for the whole retention. */
  #sweep(): void {
    const early = this.#early;
    for (const newest of early.newestRows()) {
      const since = this.#earlySince[newest];
      if (since === Number.NEGATIVE_INFINITY) this.#earlySince[newest] = this.#sealed;
      if (
        this.#earlyTime[newest] < this.#sealed * BUCKET_MS ||
        this.#sealed - this.#earlySince[newest] > RETENTION_BUCKETS
      )
        this.#drop(newest);
    }
    this.#sweepAt = Math.max(SWEEP_FROM, early.size * 2);
  }

  #growKnown(capacity: number): void {
    this.#time = grown(this.#time, capacity);
    this.#merchant = grown(this.#merchant, capacity);
    this.#card = grown(this.#card, capacity);
    this.#order = grown(this.#order, capacity);
    this.#next = grown(this.#next, capacity);
  }

  #growEarly(capacity: number): void {
    this.#earlyTime = grown(this.#earlyTime, capacity);
    this.#earlyCard = grown(this.#earlyCard, capacity);
    this.#earlySince = grown(this.#earlySince, capacity);
    this.#earlyOrder = grown(this.#earlyOrder, capacity);
  }

  #reserveCounts(limit: number): void {
    if (limit <= this.#count.length) return;
    this.#count = new Int32Array(Math.ceil(limit * 1.25));
    this.#frauds = new Int32Array(this.#count.length);
  }
}

/** A label that became known later says nothing of a bucket. */
function deadline(bucket: number): number {
  return (bucket + 1) * BUCKET_MS + LABEL_DELAY_MS;
}

/** The values of some rows. */
function picked<T extends Int32Array | Float64Array>(column: T, rows: Int32Array): T {
  const values = new (column.constructor as new (length: number) => T)(rows.length);
  for (let i = 0; i < rows.length; i++) values[i] = column[rows[i]];
  return values;
}

function wordsOf(fingerprints: Fingerprints, rows: Int32Array): Int32Array {
  const words = new Int32Array(rows.length * FINGERPRINT_WORDS);
  for (let i = 0; i < rows.length; i++) fingerprints.copyWords(rows[i], words, i * FINGERPRINT_WORDS);
  return words;
}
