import { BucketRing } from "./bucket-ring.js";
import { grown } from "./columns.js";
import { EntityTable } from "./entity-table.js";
import type { HistoryPlan } from "./history-plan.js";
import type { MerchantRows } from "./history-rows.js";
import { BUCKET_MS, LABEL_DELAY_MS } from "./history-terms.js";

type Kind = "merchant" | "card";

/**
 * Sealed buckets of all source partitions, added up once every partition's watermark has passed them
 * (infra/decisions/0006). Buckets are indexes: event time divided by BUCKET_MS, rounded down. What it answers depends
 * only on which buckets are complete, not on the order in which partitions gave them.
 */
export class MerchantWindows {
  readonly #watermarks: Float64Array;
  /** By source partition: its buckets below this index may lack what was lost. */
  readonly #gaps: Float64Array;
  #complete = Number.NEGATIVE_INFINITY;
  #oldest = Number.NEGATIVE_INFINITY;
  readonly #kinds: Record<Kind, KindBuckets>;

  /** @param sourcePartitions how many partitions the transactions have */
  constructor(sourcePartitions: number) {
    this.#watermarks = new Float64Array(sourcePartitions).fill(Number.NEGATIVE_INFINITY);
    this.#gaps = new Float64Array(sourcePartitions).fill(Number.NEGATIVE_INFINITY);
    this.#kinds = { merchant: new KindBuckets(sourcePartitions), card: new KindBuckets(sourcePartitions) };
  }

  /** Every bucket below this index is complete over all partitions; -Infinity at first. */
  get complete(): number {
    return this.#complete;
  }

  /** Buckets below this index have been evicted: a window that reaches further back lacks them. -Infinity: none. */
  get oldest(): number {
    return this.#oldest;
  }

  /** Buckets below this index may lack transactions or labels that were lost; -Infinity: none are known to be. */
  get lackingBelow(): number {
    return this.#gaps.reduce((highest, until) => Math.max(highest, until), Number.NEGATIVE_INFINITY);
  }

  get bytes(): number {
    return this.#kinds.merchant.bytes + this.#kinds.card.bytes;
  }

  /** The index that `complete` must have reached for a transaction of this event time (the E of decision 0006). */
  static needed(eventTime: number): number {
    return Math.floor((eventTime - LABEL_DELAY_MS) / BUCKET_MS) - 1;
  }

  /**
   * A sealed bucket of a source partition. The first one of an entity, bucket and partition stands; none counts below
   * the partition's watermark.
   */
  add(
    kind: Kind,
    bytes: Buffer,
    at: number,
    length: number,
    partition: number,
    bucket: number,
    count: number,
    frauds: number,
  ): void {
    if (bucket < this.#watermarks[partition] || bucket < this.#oldest) return;
    this.#kinds[kind].add(bytes, at, length, partition, bucket, count, frauds);
  }

  /** Every bucket of the partition below this index has been added. */
  watermark(partition: number, bucket: number): void {
    if (!(bucket > this.#watermarks[partition])) return;
    this.#watermarks[partition] = bucket;
    const complete = this.#watermarks.reduce(
      (least, watermark) => Math.min(least, watermark),
      Number.POSITIVE_INFINITY,
    );
    if (!(complete > this.#complete)) return;
    this.#complete = complete;
    this.#kinds.merchant.settle(complete);
    this.#kinds.card.settle(complete);
  }

  /** Buckets of the partition below this index may lack what was lost. What was said of it before is over. */
  gap(partition: number, until: number): void {
    this.#gaps[partition] = until;
  }

  /**
   * Writes the merchant slots of `plan` for one row to out[at…]: over the complete buckets E − w ≤ b < E. 0 where there
   * was none.
   */
  lookup(
    rows: MerchantRows,
    row: number,
    plan: Pick<HistoryPlan, "merchantWindows">,
    out: Float64Array | Float32Array,
    at: number,
  ): void {
    const windows = plan.merchantWindows;
    if (windows.length === 0) return;
    const { table, ring } = this.#kinds.merchant;
    const merchant = table.find(rows.bytes[row], rows.merchantIdAt[row], rows.merchantIdLength[row]);
    const to = MerchantWindows.needed(rows.eventTime[row]);
    let summed = 0;
    for (let i = 0; i < windows.length; i++) {
      const { aggregate, buckets, slot } = windows[i];
      if (merchant < 0) {
        out[at + slot] = 0;
        continue;
      }
      if (buckets !== summed) ring.sum(merchant, to - buckets, to);
      summed = buckets;
      out[at + slot] = aggregate === "count" ? ring.count : ring.count === 0 ? 0 : ring.frauds / ring.count;
    }
  }

  /** Frauds of a card in the complete buckets from ≤ b < to. */
  cardFrauds(bytes: Buffer, at: number, length: number, from: number, to: number): number {
    const { table, ring } = this.#kinds.card;
    const card = table.find(bytes, at, length);
    if (card < 0) return 0;
    ring.sum(card, from, to);
    return ring.frauds;
  }

  /** Forgets the buckets below an index. */
  evict(beforeBucket: number): void {
    if (!(beforeBucket > this.#oldest)) return;
    this.#oldest = beforeBucket;
    this.#kinds.merchant.evict(beforeBucket);
    this.#kinds.card.evict(beforeBucket);
  }
}

/** Of one bucket and source partition, until the bucket is complete. */
class Waiting {
  length = 0;
  entity = new Int32Array(16);
  count = new Int32Array(16);
  frauds = new Int32Array(16);

  add(entity: number, count: number, frauds: number): void {
    if (this.length === this.entity.length) {
      this.entity = grown(this.entity, this.length * 2);
      this.count = grown(this.count, this.length * 2);
      this.frauds = grown(this.frauds, this.length * 2);
    }
    this.entity[this.length] = entity;
    this.count[this.length] = count;
    this.frauds[this.length++] = frauds;
  }
}

/** The buckets of merchants, or those of cards. */
class KindBuckets {
  readonly table = new EntityTable();
  readonly ring = new BucketRing();
  readonly #partitions: number;
  /** By bucket, then by partition. */
  readonly #waiting = new Map<number, (Waiting | undefined)[]>();
  /** By entity: how many waiting entries name it, and the number of the list that named it last. */
  #named = new Int32Array(0);
  #lists = 0;
  #lastList = new Float64Array(0);

  constructor(partitions: number) {
    this.#partitions = partitions;
  }

  get bytes(): number {
    let waiting = 0;
    for (const lists of this.#waiting.values()) for (const list of lists) waiting += 3 * (list?.entity.byteLength ?? 0);
    return this.table.bytes + this.ring.bytes + 3 * this.#named.byteLength + waiting;
  }

  add(
    bytes: Buffer,
    at: number,
    length: number,
    partition: number,
    bucket: number,
    count: number,
    frauds: number,
  ): void {
    let lists = this.#waiting.get(bucket);
    if (lists === undefined) {
      lists = new Array<Waiting | undefined>(this.#partitions);
      this.#waiting.set(bucket, lists);
    }
    const entity = this.table.intern(bytes, at, length);
    if (entity >= this.#named.length) this.#grow(entity);
    this.#named[entity]++;
    (lists[partition] ??= new Waiting()).add(entity, count, frauds);
  }

  /** Adds the buckets below an index up, in their order. */
  settle(complete: number): void {
    const due = [...this.#waiting.keys()].filter((bucket) => bucket < complete).sort((a, b) => a - b);
    for (const bucket of due) {
      for (const list of this.#waiting.get(bucket) ?? []) if (list !== undefined) this.#addUp(bucket, list);
      this.#waiting.delete(bucket);
    }
  }

  evict(before: number): void {
    this.ring.evict(before, (entity) => this.#named[entity] === 0 && this.table.remove(entity));
    for (const bucket of [...this.#waiting.keys()]) {
      if (bucket >= before) continue;
      for (const list of this.#waiting.get(bucket) ?? [])
        for (let i = 0; i < (list?.length ?? 0); i++) this.#unname(list?.entity[i] ?? 0);
      this.#waiting.delete(bucket);
    }
  }

  #addUp(bucket: number, { length, entity, count, frauds }: Waiting): void {
    const list = ++this.#lists;
    for (let i = 0; i < length; i++) {
      const index = entity[i];
      this.#named[index]--;
      if (this.#lastList[index] === list) continue;
      this.#lastList[index] = list;
      this.ring.add(index, bucket, count[i], frauds[i]);
    }
  }

  #unname(entity: number): void {
    if (--this.#named[entity] === 0 && !this.ring.has(entity)) this.table.remove(entity);
  }

  #grow(entity: number): void {
    const length = Math.max(64, Math.ceil((entity + 1) * 1.5));
    this.#named = grown(this.#named, length);
    this.#lastList = grown(this.#lastList, length);
  }
}
