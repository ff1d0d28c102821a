import { setTimeout as sleep } from "node:timers/promises";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { BUCKET_MS, LABEL_DELAY_MS, RETENTION_MS } from "../../models/features/history-terms.js";
import { MerchantWindows } from "../../models/features/merchant-windows.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { Topics } from "../../schemas/topics.js";
import { BUCKET_ENTITY, BucketRecordReader, type OnBucket } from "../runtime/bucket-records.js";

export interface MerchantBoardOptions {
  cluster: KafkaCluster;
  topics: Pick<Topics, "merchantBuckets">;
  schemas: Schemas;
  log: Logger;
  /** The least event time that this worker's partitions have come to; what windows at it and later look at is kept. @default none: nothing is forgotten */
  clock?: () => number | null;
  /** Reading has ended for good. */
  onFailure: (error: unknown) => void;
}

/** A fetch is answered as soon as there is something; this long when there is nothing. */
const POLL_MS = 1_000;
const AGAIN_MS = 1_000;
const FETCH_BYTES = 4 * 1024 * 1024;
/** Buckets that are kept below what this worker's slowest partition needs: what a window looks at, and two weeks for a partition that lies behind. */
const KEPT_BUCKETS = (RETENTION_MS + LABEL_DELAY_MS) / BUCKET_MS;
const EVICT_EVERY_BUCKETS = 24;

interface Waiter { bucket: number; wake: () => void }

/** What the merchants role publishes, as this worker knows it: all partitions of the buckets topic, followed from their beginning. */
export class MerchantBoard {
  readonly #options: MerchantBoardOptions;
  readonly #records: BucketRecordReader;
  readonly #readers: PartitionReader[];
  readonly #waiters = new Set<Waiter>();
  #following: Promise<unknown> = Promise.resolve();
  #windows: MerchantWindows;
  /** Of each partition, what was read of it stands before here. */
  #next: number[] = [];
  #evictAt = Number.NEGATIVE_INFINITY;
  /** What `windows.oldest` was when all that the topic has had been read. */
  #oldestInTopic = Number.NEGATIVE_INFINITY;
  #recalling: Promise<void> | null = null;
  readonly #stopping = new AbortController();

  constructor(options: MerchantBoardOptions) {
    const { cluster, topics: { merchantBuckets }, schemas } = options;
    this.#options = options;
    this.#windows = new MerchantWindows(merchantBuckets.partitions);
    this.#records = new BucketRecordReader(schemas.idOf("merchantBuckets"));
    this.#readers = Array.from({ length: merchantBuckets.partitions }, (_, partition) => new PartitionReader(cluster, merchantBuckets.name, partition, { maxWaitMs: POLL_MS, maxBytes: FETCH_BYTES }));
  }

  /** Not to be held across an await: `recall` puts others in their place. */
  get windows(): MerchantWindows {
    return this.#windows;
  }

  /** Reads what there is, and follows the topic from then on. @throws KafkaError, FraudstreamError `bucket_unreadable` */
  async start(): Promise<void> {
    await this.#readAll("merchants' buckets read", this.#readers);
    this.#following = Promise.all(this.#readers.map((reader, partition) => this.#follow(reader, partition))).catch((error: unknown) => {
      if (!this.#stopping.signal.aborted) this.#options.onFailure(error);
    });
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const { wake } of this.#waiters) wake();
    await Promise.all(this.#readers.map((reader) => reader.close()));
    await this.#following;
  }

  /**
   * Waits until every bucket below an index is complete.
   *
   * @returns false when that didn't come within the time, or `signal` aborted
   */
  async waitFor(bucket: number, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    if (this.windows.complete >= bucket) return true;
    if (signal.aborted || this.#stopping.signal.aborted) return false;
    await new Promise<void>((resolve) => {
      const waiter: Waiter = {
        bucket,
        wake: () => {
          clearTimeout(timer);
          signal.removeEventListener("abort", waiter.wake);
          this.#waiters.delete(waiter);
          resolve();
        },
      };
      const timer = setTimeout(waiter.wake, timeoutMs);
      signal.addEventListener("abort", waiter.wake, { once: true });
      this.#waiters.add(waiter);
    });
    return this.windows.complete >= bucket;
  }

  /**
   * Reads the topic again where buckets from an index on have been forgotten: for a partition that comes from a worker that lay
   * far behind this one. What retention has deleted doesn't come back.
   *
   * @throws KafkaError, FraudstreamError `bucket_unreadable`
   */
  async recall(bucket: number): Promise<void> {
    const { oldest } = this.#windows;
    if (bucket >= oldest || oldest <= this.#oldestInTopic) return;
    this.#recalling ??= this.#readAgain().finally(() => (this.#recalling = null));
    await this.#recalling;
  }

  async #readAgain(): Promise<void> {
    const { cluster, topics: { merchantBuckets } } = this.#options;
    const readers = this.#readers.map((_, partition) => new PartitionReader(cluster, merchantBuckets.name, partition, { maxWaitMs: POLL_MS, maxBytes: FETCH_BYTES, signal: this.#stopping.signal }));
    try {
      await this.#readAll("merchants' buckets read again, for a partition that lies behind", readers);
    } finally {
      await Promise.all(readers.map((reader) => reader.close()));
    }
  }

  /** Fills windows with all that the topic has, at least up to where the ones in use have come, and puts them in their place. */
  async #readAll(msg: string, readers: readonly PartitionReader[]): Promise<void> {
    const startedAt = performance.now();
    const windows = new MerchantWindows(this.#readers.length);
    const froms = await Promise.all(readers.map((reader) => reader.firstOffset()));
    const ends = await Promise.all(readers.map((reader) => reader.endOffset()));
    const next = [...froms];
    let records = 0;
    const behind = (): boolean => next.some((offset, partition) => offset < Math.max(ends[partition], this.#next[partition] ?? 0));
    while (behind()) {
      await Promise.all(readers.map(async (reader, partition) => {
        const end = Math.max(ends[partition], this.#next[partition] ?? 0);
        const read = await this.#readTo(reader, next[partition], end, windows, froms[partition] > 0 && next[partition] === froms[partition]);
        next[partition] = read.next;
        records += read.records;
      }));
    }
    this.#windows = windows;
    this.#next = next;
    this.#oldestInTopic = windows.oldest;
    this.#evictAt = windows.complete + EVICT_EVERY_BUCKETS;
    this.#wake();
    const { complete, bytes } = windows;
    this.#options.log.info({ records, completeTo: Number.isFinite(complete) ? new Date(complete * BUCKET_MS).toISOString() : null, megabytes: Math.round(bytes / 1e6), ms: Math.round(performance.now() - startedAt) }, msg);
  }

  /** @param partial of the first bucket a part may be gone with what retention has deleted; buckets are published in order */
  async #readTo(reader: PartitionReader, from: number, end: number, windows: MerchantWindows, partial: boolean): Promise<{ next: number; records: number }> {
    let next = from;
    let count = 0;
    while (next < end) {
      const records = await reader.fetch(next);
      this.#records.read(records, (entity, bytes, at, length, bucket, partition, transactions, frauds) => {
        if (partial && entity !== BUCKET_ENTITY.watermark) {
          partial = false;
          windows.evict(bucket + 1);
        }
        take(windows, entity, bytes, at, length, bucket, partition, transactions, frauds);
      });
      count += records.count;
      next = records.nextOffset;
    }
    return { next, records: count };
  }

  async #follow(reader: PartitionReader, partition: number): Promise<void> {
    const takeOne: OnBucket = (...record) => take(this.#windows, ...record);
    while (!this.#stopping.signal.aborted) {
      const records = await reader.fetch(this.#next[partition]).catch((error: unknown) => this.#waitOut(error));
      if (records === null) continue;
      if (records.count > 0) {
        // What is read twice, since it was recalled meanwhile, changes nothing.
        this.#records.read(records, takeOne);
        this.#evict();
        this.#wake();
      }
      this.#next[partition] = Math.max(this.#next[partition], records.nextOffset);
    }
  }

  #wake(): void {
    for (const waiter of this.#waiters) if (this.#windows.complete >= waiter.bucket) waiter.wake();
  }

  /** However long the cluster is away, it is read from where this stood: a worker doesn't end for that. */
  async #waitOut(error: unknown): Promise<null> {
    if (this.#stopping.signal.aborted || !(error instanceof FraudstreamError) || !error.retriable) throw error;
    this.#options.log.warn({ code: error.code, retryInMs: AGAIN_MS }, messageOf(error));
    await sleep(AGAIN_MS, undefined, { signal: this.#stopping.signal }).catch(() => {});
    return null;
  }

  #evict(): void {
    const windows = this.#windows;
    if (windows.complete < this.#evictAt) return;
    const clock = this.#options.clock?.() ?? null;
    if (clock !== null) windows.evict(Math.min(windows.complete, MerchantWindows.needed(clock)) - KEPT_BUCKETS);
    this.#evictAt = windows.complete + EVICT_EVERY_BUCKETS;
  }
}

function take(windows: MerchantWindows, entity: number, bytes: Buffer, at: number, length: number, bucket: number, partition: number, count: number, frauds: number): void {
  if (entity === BUCKET_ENTITY.watermark) windows.watermark(partition, bucket);
  else windows.add(entity === BUCKET_ENTITY.card ? "card" : "merchant", bytes, at, length, partition, bucket, count, frauds);
}
