import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { reposition } from "../../infra/kafka/reposition.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { waitOut } from "../../infra/async/retry.js";
import { unlessAborted } from "../../infra/async/within.js";
import { BUCKET_MS, LABEL_DELAY_MS, RETENTION_MS } from "../../models/features/history-terms.js";
import { MerchantWindows } from "../../models/features/merchant-windows.js";
import type { Topics } from "../../schemas/topics.js";
import { BUCKET_ENTITY, BucketRecordReader, type OnBucket } from "../runtime/bucket-records.js";

export interface MerchantBoardOptions {
  cluster: KafkaCluster;
  topics: Pick<Topics, "merchantBuckets">;
  schemas: Schemas;
  log: Logger;
  /**
   * The least event time that this worker's partitions have come to; what windows at it and later look at is kept.
   * @default none: nothing is forgotten
   */
  clock?: () => number | null;
  /** Reading has ended for good. */
  onFailure: (error: unknown) => void;
}

/** A fetch is answered as soon as there is something; this long when there is nothing. */
const POLL_MS = 1_000;
const FETCH_BYTES = 4 * 1024 * 1024;
/**
 * Buckets that are kept below what this worker's slowest partition needs: what a window looks at, and two weeks for a
 * partition that lies behind.
 */
const KEPT_BUCKETS = (RETENTION_MS + LABEL_DELAY_MS) / BUCKET_MS;
const EVICT_EVERY_BUCKETS = 24;

interface Waiter {
  bucket: number;
  wake: () => void;
}

/**
 * What the merchants role publishes, as this worker knows it: all partitions of the buckets topic, followed from their
 * beginning.
 */
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
  /** Of buckets below it the topic has lost a part, or all; -Infinity: it has everything. */
  #oldestInTopic = Number.NEGATIVE_INFINITY;
  #recalling: Promise<void> | null = null;
  readonly #stopping = new AbortController();

  constructor(options: MerchantBoardOptions) {
    const {
      cluster,
      topics: { merchantBuckets },
      schemas,
    } = options;
    this.#options = options;
    this.#windows = new MerchantWindows(merchantBuckets.partitions);
    this.#records = new BucketRecordReader(schemas.idOf("merchantBuckets"), this.#options.log);
    this.#readers = Array.from(
      { length: merchantBuckets.partitions },
      (_, partition) =>
        new PartitionReader(cluster, merchantBuckets.name, partition, { maxWaitMs: POLL_MS, maxBytes: FETCH_BYTES }),
    );
  }

  /** Not to be held across an await: `recall` puts others in their place. */
  get windows(): MerchantWindows {
    return this.#windows;
  }

  /**
   * Reads what there is, and follows the topic from then on. @throws KafkaError, FraudstreamError `bucket_unreadable`
   */
  async start(): Promise<void> {
    await this.#readAll("merchants' buckets read", this.#readers, Number.NEGATIVE_INFINITY);
    this.#following = Promise.all(this.#readers.map((reader, partition) => this.#follow(reader, partition))).catch(
      (error: unknown) => {
        if (!this.#stopping.signal.aborted) this.#options.onFailure(error);
      },
    );
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const { wake } of this.#waiters) wake();
    await Promise.all(this.#readers.map((reader) => reader.close()));
    await Promise.all([this.#following, this.#recalling?.catch(() => {})]);
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

  /** Whether buckets from an index on have been forgotten that the topic may still have. */
  hasForgotten(bucket: number): boolean {
    const { oldest } = this.#windows;
    return bucket < oldest && oldest > this.#oldestInTopic;
  }

  /**
   * Reads forgotten buckets from an index on again: for a partition that comes from a worker that lay far behind this
   * one. What retention has deleted doesn't come back. What this puts into `windows` is there when the caller goes on,
   * and may be forgotten after that.
   *
   * @throws KafkaError, FraudstreamError `bucket_unreadable`; the signal's reason when it aborts
   */
  async recall(bucket: number, signal: AbortSignal): Promise<void> {
    while (this.hasForgotten(bucket)) {
      if (this.#recalling === null) {
        this.#recalling = this.#readAgain(bucket).finally(() => (this.#recalling = null));
        this.#recalling.catch(() => {}); // whoever waits for it may have gone
      }
      await unlessAborted(this.#recalling, signal);
    }
  }

  async #readAgain(bucket: number): Promise<void> {
    const {
      cluster,
      topics: { merchantBuckets },
    } = this.#options;
    const readers = this.#readers.map(
      (_, partition) =>
        new PartitionReader(cluster, merchantBuckets.name, partition, {
          maxWaitMs: POLL_MS,
          maxBytes: FETCH_BYTES,
          signal: this.#stopping.signal,
        }),
    );
    try {
      await this.#readAll(
        "merchants' buckets read again, for a partition that lies behind",
        readers,
        Math.min(bucket, this.#needed()),
      );
    } finally {
      // Not waited for: more might be forgotten meanwhile.
      void Promise.all(readers.map((reader) => reader.close()));
    }
  }

  /**
   * Fills windows with what the topic has from a bucket on, at least up to where the ones in use have come, and puts
   * them in their place.
   */
  async #readAll(msg: string, readers: readonly PartitionReader[], oldest: number): Promise<void> {
    const startedAt = performance.now();
    const windows = new MerchantWindows(this.#readers.length);
    windows.evict(oldest);
    const take = takeInto(windows);
    const froms = await Promise.all(readers.map((reader) => reader.firstOffset()));
    const ends = await Promise.all(readers.map((reader) => reader.endOffset()));
    const next = [...froms];
    let records = 0;
    // Where retention has deleted something, a part of the first bucket that is met may be gone with it; they are
    // published in order.
    let oldestInTopic = Number.NEGATIVE_INFINITY;
    const met = froms.map((from) => from === 0);
    const endOf = (partition: number): number => Math.max(ends[partition], this.#next[partition] ?? 0);
    while (next.some((offset, partition) => offset < endOf(partition))) {
      await Promise.all(
        readers.map(async (reader, partition) => {
          for (const end = endOf(partition); next[partition] < end;) {
            this.#stopping.signal.throwIfAborted();
            const fetched = await reader.fetch(next[partition]);
            this.#records.read(fetched, (entity, bytes, at, length, bucket, source, count, frauds) => {
              if (!met[partition] && !isGap(entity, length)) {
                met[partition] = true;
                oldestInTopic = Math.max(oldestInTopic, entity === BUCKET_ENTITY.watermark ? bucket : bucket + 1);
                windows.evict(oldestInTopic);
              }
              take(entity, bytes, at, length, bucket, source, count, frauds);
            });
            next[partition] = fetched.nextOffset;
            records += fetched.count;
          }
        }),
      );
    }
    this.#windows = windows;
    this.#next = next;
    this.#oldestInTopic = oldestInTopic;
    this.#evictAt = windows.complete + EVICT_EVERY_BUCKETS;
    this.#wake();
    const { complete, bytes } = windows;
    this.#options.log.info(
      {
        records,
        completeTo: Number.isFinite(complete) ? new Date(complete * BUCKET_MS).toISOString() : null,
        megabytes: Math.round(bytes / 1e6),
        ms: Math.round(performance.now() - startedAt),
      },
      msg,
    );
  }

  async #follow(reader: PartitionReader, partition: number): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      // However long the cluster is away, it is read from where this stood: a worker doesn't end for that.
      const records = await reader
        .fetch(this.#next[partition])
        .catch((error: unknown) => this.#recover(reader, partition, error));
      if (records === undefined) continue;
      if (records.count > 0) {
        // What is read twice, since it was recalled meanwhile, changes nothing.
        this.#records.read(records, takeInto(this.#windows));
        this.#evict();
        this.#wake();
      }
      this.#next[partition] = Math.max(this.#next[partition], records.nextOffset);
    }
  }

  /** Buckets that are known stay known, also when their topic was created again. */
  async #recover(reader: PartitionReader, partition: number, error: unknown): Promise<void> {
    const next = await reposition({ cluster: this.#options.cluster, reader, next: this.#next[partition], error }).catch(
      () => null,
    );
    if (next === null) await waitOut(error, this.#options.log, this.#stopping.signal);
    else this.#next[partition] = next;
  }

  #wake(): void {
    for (const waiter of this.#waiters) if (this.#windows.complete >= waiter.bucket) waiter.wake();
  }

  #evict(): void {
    const windows = this.#windows;
    if (windows.complete < this.#evictAt) return;
    windows.evict(this.#needed());
    this.#evictAt = windows.complete + EVICT_EVERY_BUCKETS;
  }

  /** Nobody looks at buckets below it; -Infinity: that isn't known. */
  #needed(): number {
    const clock = this.#options.clock?.() ?? null;
    return clock === null
      ? Number.NEGATIVE_INFINITY
      : Math.min(this.#windows.complete, MerchantWindows.needed(clock)) - KEPT_BUCKETS;
  }
}

/** Whether a record tells of a gap (encode-buckets.ts). */
const isGap = (entity: number, idLength: number): boolean => entity === BUCKET_ENTITY.watermark && idLength > 0;

/** Adds records to windows. */
function takeInto(windows: MerchantWindows): OnBucket {
  return (entity, bytes, at, length, bucket, partition, count, frauds) => {
    if (isGap(entity, length)) windows.gap(partition, count);
    else if (entity === BUCKET_ENTITY.watermark) windows.watermark(partition, bucket);
    else
      windows.add(
        entity === BUCKET_ENTITY.card ? "card" : "merchant",
        bytes,
        at,
        length,
        partition,
        bucket,
        count,
        frauds,
      );
  };
}
