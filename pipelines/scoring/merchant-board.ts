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
   * The lowest event time that this worker's partitions have reached; buckets that windows at it and later look at are
   * kept.
   *
   * @default none: nothing is forgotten
   */
  clock?: () => number | null;
  /** Reading has ended for good. */
  onFailure: (error: unknown) => void;
}

/** How long a fetch waits when there is nothing; it is answered as soon as there is something. */
const POLL_MS = 1_000;
const FETCH_BYTES = 4 * 1024 * 1024;
/**
 * Buckets kept below what this worker's slowest partition needs: the reach of a window, plus two weeks for a partition
 * that lags behind.
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
  /** Position in each partition: everything before it has been read. */
  #next: number[] = [];
  #evictAt = Number.NEGATIVE_INFINITY;
  /** The topic has lost some or all of the buckets below this index; -Infinity: it has everything. */
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

  /** Not to be held across an await: `recall` replaces it. */
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
   * Reads forgotten buckets again, from an index on: for a partition taken over from a worker that lagged far behind
   * this one. What retention has deleted doesn't come back. What this puts into `windows` is there when the caller
   * continues, and may be forgotten after that.
   *
   * @throws KafkaError, FraudstreamError `bucket_unreadable`; the signal's reason when it aborts
   */
  async recall(bucket: number, signal: AbortSignal): Promise<void> {
    while (this.hasForgotten(bucket)) {
      if (this.#recalling === null) {
        this.#recalling = this.#readAgain(bucket).finally(() => (this.#recalling = null));
        this.#recalling.catch(() => {}); // the waiting caller may have gone
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

  /** Fills windows with the topic's buckets from one on, at least as far as the windows in use, and replaces those. */
  async #readAll(msg: string, readers: readonly PartitionReader[], oldest: number): Promise<void> {
    const startedAt = performance.now();
    const windows = new MerchantWindows(this.#readers.length);
    windows.evict(oldest);
    const take = takeInto(windows);
    const froms = await Promise.all(readers.map((reader) => reader.firstOffset()));
    const ends = await Promise.all(readers.map((reader) => reader.endOffset()));
    const next = [...froms];
    let records = 0;
    // If retention has deleted something, part of the first bucket found may be gone with it; buckets are published in
    // order.
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
      // However long the cluster is away, reading resumes where it stopped: a worker doesn't end because of it.
      const records = await reader
        .fetch(this.#next[partition])
        .catch((error: unknown) => this.#recover(reader, partition, error));
      if (records === undefined) continue;
      if (records.count > 0) {
        // Reading a bucket twice, because of a recall meanwhile, changes nothing.
        this.#records.read(records, takeInto(this.#windows));
        this.#evict();
        this.#wake();
      }
      this.#next[partition] = Math.max(this.#next[partition], records.nextOffset);
    }
  }

  /** Known buckets stay known, even if their topic was created again. */
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

  /** No window looks at buckets below this; -Infinity: not known. */
  #needed(): number {
    const clock = this.#options.clock?.() ?? null;
    return clock === null
      ? Number.NEGATIVE_INFINITY
      : Math.min(this.#windows.complete, MerchantWindows.needed(clock)) - KEPT_BUCKETS;
  }
}

/** Whether a record describes a gap (encode-buckets.ts). */
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
