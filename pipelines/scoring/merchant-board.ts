import { setTimeout as sleep } from "node:timers/promises";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { BUCKET_MS, LABEL_DELAY_MS, RETENTION_MS } from "../../models/features/history-terms.js";
import { MerchantWindows } from "../../models/features/merchant-windows.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { Topics } from "../../schemas/topics.js";
import { BUCKET_ENTITY, BucketRecordReader } from "../runtime/bucket-records.js";

export interface MerchantBoardOptions {
  cluster: KafkaCluster;
  topics: Pick<Topics, "merchantBuckets">;
  schemas: Schemas;
  log: Logger;
  /** The least event time that this worker's partitions have come to; buckets for it and later ones are kept. @default none: nothing is forgotten */
  clock?: () => number | null;
  /** Reading has ended for good. */
  onFailure: (error: unknown) => void;
}

/** A fetch is answered as soon as there is something; this long when there is nothing. */
const POLL_MS = 1_000;
const AGAIN_MS = 1_000;
const FETCH_BYTES = 4 * 1024 * 1024;
/** Buckets that are kept below what this worker's slowest partition needs: what a window looks at, and two weeks for a partition that comes from a slower worker. */
const KEPT_BUCKETS = (RETENTION_MS + LABEL_DELAY_MS) / BUCKET_MS;
const EVICT_EVERY_BUCKETS = 24;

interface Waiter { bucket: number; wake: () => void }

/** What the merchants role publishes, as this worker knows it: all partitions of the buckets topic, followed from their beginning. */
export class MerchantBoard {
  readonly windows: MerchantWindows;
  readonly #options: MerchantBoardOptions;
  readonly #records: BucketRecordReader;
  readonly #readers: PartitionReader[];
  readonly #waiters = new Set<Waiter>();
  #following: Promise<unknown> = Promise.resolve();
  #evictAt = Number.NEGATIVE_INFINITY;
  readonly #stopping = new AbortController();

  constructor(options: MerchantBoardOptions) {
    const { cluster, topics: { merchantBuckets }, schemas } = options;
    this.#options = options;
    this.windows = new MerchantWindows(merchantBuckets.partitions);
    this.#records = new BucketRecordReader(schemas.idOf("merchantBuckets"));
    this.#readers = Array.from({ length: merchantBuckets.partitions }, (_, partition) => new PartitionReader(cluster, merchantBuckets.name, partition, { maxWaitMs: POLL_MS, maxBytes: FETCH_BYTES }));
  }

  /** Reads what there is, and follows the topic from then on. @throws KafkaError, FraudstreamError `bucket_unreadable` */
  async start(): Promise<void> {
    const startedAt = performance.now();
    const positions = await Promise.all(this.#readers.map((reader) => this.#readToEnd(reader)));
    const { complete, bytes } = this.windows;
    const ms = Math.round(performance.now() - startedAt);
    this.#options.log.info({ records: positions.reduce((sum, { read }) => sum + read, 0), completeTo: Number.isFinite(complete) ? new Date(complete * BUCKET_MS).toISOString() : null, megabytes: Math.round(bytes / 1e6), ms }, "merchants' buckets read");
    this.#following = Promise.all(this.#readers.map((reader, partition) => this.#follow(reader, positions[partition].next))).catch((error: unknown) => {
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

  async #readToEnd(reader: PartitionReader): Promise<{ next: number; read: number }> {
    const end = await reader.endOffset();
    const first = await reader.firstOffset();
    let next = first;
    let read = 0;
    // Of the oldest bucket a part may be gone with what retention has deleted; they are published in order.
    let partial = first > 0;
    while (next < end) {
      const records = await reader.fetch(next);
      this.#records.read(records, (entity, bytes, at, length, bucket, partition, count, frauds) => {
        if (partial && entity !== BUCKET_ENTITY.watermark) {
          partial = false;
          this.windows.evict(bucket + 1);
        }
        this.#take(entity, bytes, at, length, bucket, partition, count, frauds);
      });
      read += records.count;
      next = records.nextOffset;
    }
    return { next, read };
  }

  async #follow(reader: PartitionReader, from: number): Promise<void> {
    const take = this.#take.bind(this);
    for (let next = from; !this.#stopping.signal.aborted; ) {
      const records = await reader.fetch(next).catch((error: unknown) => this.#waitOut(error));
      if (records === null) continue;
      if (records.count > 0) {
        this.#records.read(records, take);
        for (const waiter of this.#waiters) if (this.windows.complete >= waiter.bucket) waiter.wake();
      }
      next = records.nextOffset;
    }
  }

  /** However long the cluster is away, it is read from where this stood: a worker doesn't end for that. */
  async #waitOut(error: unknown): Promise<null> {
    if (this.#stopping.signal.aborted || !(error instanceof FraudstreamError) || !error.retriable) throw error;
    this.#options.log.warn({ code: error.code, retryInMs: AGAIN_MS }, messageOf(error));
    await sleep(AGAIN_MS, undefined, { signal: this.#stopping.signal }).catch(() => {});
    return null;
  }

  #take(entity: number, bytes: Buffer, at: number, length: number, bucket: number, partition: number, count: number, frauds: number): void {
    const { windows } = this;
    if (entity !== BUCKET_ENTITY.watermark) return windows.add(entity === BUCKET_ENTITY.card ? "card" : "merchant", bytes, at, length, partition, bucket, count, frauds);
    windows.watermark(partition, bucket);
    if (windows.complete < this.#evictAt) return;
    const clock = this.#options.clock?.() ?? null;
    if (clock !== null) windows.evict(Math.min(windows.complete, MerchantWindows.needed(clock)) - KEPT_BUCKETS);
    this.#evictAt = windows.complete + EVICT_EVERY_BUCKETS;
  }
}
