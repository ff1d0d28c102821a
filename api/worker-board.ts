import type { KafkaCluster } from "../infra/kafka/cluster.js";
import { PartitionReader } from "../infra/kafka/partition-reader.js";
import type { Schemas } from "../infra/kafka/schemas.js";
import type { Logger } from "../infra/logging.js";
import { FraudstreamError, messageOf } from "../schemas/errors.js";
import type { WorkerHeartbeat } from "../schemas/generated.js";
import type { WorkerBoard } from "./context.js";

const PARTITION = 0;
/** Roles send a heartbeat a second. */
const ALIVE_MS = 5_000;
/** Heartbeats that are older than this when the board opens tell nothing. */
const LOOK_BACK_MS = 30_000;
/** A process that is silent for this long is forgotten. */
const FORGET_MS = 24 * 3_600_000;

/** fraud.workers as it comes: the latest heartbeat of every process. */
export class HeartbeatBoard implements WorkerBoard {
  readonly #reader: PartitionReader;
  readonly #schemas: Schemas;
  readonly #log: Logger;
  readonly #beats = new Map<string, WorkerHeartbeat>();
  readonly #listeners = new Set<() => void>();
  #following: Promise<void> | null = null;
  #closed = false;

  constructor({ cluster, topic, schemas, log }: { cluster: KafkaCluster; topic: string; schemas: Schemas; log: Logger }) {
    this.#reader = new PartitionReader(cluster, topic, PARTITION, { maxWaitMs: 500 });
    this.#schemas = schemas;
    this.#log = log;
  }

  alive(role: string, maxAgeMs = ALIVE_MS): WorkerHeartbeat[] {
    const least = Date.now() - maxAgeMs;
    return [...this.#beats.values()].filter((beat) => beat.role === role && beat.at >= least);
  }

  changed(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#listeners.delete(done);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      if (this.#closed || signal?.aborted === true) return done();
      this.#listeners.add(done);
      signal?.addEventListener("abort", done);
    });
  }

  /** Reads the heartbeats of the last seconds, then follows those that come until `close`. */
  async open(onFailure: (error: unknown) => void): Promise<void> {
    let next = await this.#reader.offsetAt(Date.now() - LOOK_BACK_MS);
    const end = await this.#reader.endOffset();
    while (next < end) next = await this.#read(next);
    this.#following = (async () => {
      while (!this.#closed) next = await this.#read(next);
    })().catch((error: unknown) => {
      if (!this.#closed) onFailure(error);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const done of [...this.#listeners]) done();
    await this.#reader.close();
    await this.#following;
  }

  /** @returns where the next read begins */
  async #read(from: number): Promise<number> {
    const records = await this.#reader.fetch(from);
    for (let i = 0; i < records.count; i++) {
      const value = records.bytes.subarray(records.valueAt[i], records.valueAt[i] + Math.max(0, records.valueLength[i]));
      try {
        const beat = (await this.#schemas.decode("workers", value)) as WorkerHeartbeat;
        this.#beats.set(beat.worker, beat);
      } catch (error) {
        if (error instanceof FraudstreamError && error.retriable) throw error;
        this.#log.warn({ offset: records.offset[i] }, `a heartbeat was left out: ${messageOf(error)}`);
      }
    }
    if (records.count > 0) {
      const least = Date.now() - FORGET_MS;
      for (const [worker, { at }] of this.#beats) if (at < least) this.#beats.delete(worker);
      for (const done of [...this.#listeners]) done();
    }
    return records.nextOffset;
  }
}
