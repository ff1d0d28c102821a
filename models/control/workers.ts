import { setTimeout as sleep } from "node:timers/promises";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { reposition } from "../../infra/kafka/reposition.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";
import { readHeartbeat } from "./heartbeats.js";

export interface WorkerBoardOptions {
  cluster: KafkaCluster;
  /** Topic of the heartbeats. */
  topic: string;
  schemas: Schemas;
  log: Logger;
  /** How far back heartbeats are read at first, milliseconds. @default one minute */
  lookBackMs?: number;
}

/** Workers send one heartbeat per second; one that misses this many is gone or stuck. */
const ALIVE_MS = 5_000;
const LOOK_BACK_MS = 60_000;
/** A worker that has been silent for this long is forgotten. */
const FORGET_MS = 10 * 60_000;
const PAUSE_MS = 500;

interface Seen {
  beat: WorkerHeartbeat;
  /** When it was read, by this process's clock: the clocks of two machines differ. */ at: number;
}

/** The latest heartbeat of every process that has recently sent one, read from fraud.workers as they arrive. */
export class WorkerBoard {
  readonly #cluster: KafkaCluster;
  readonly #reader: PartitionReader;
  readonly #schemas: Schemas;
  readonly #log: Logger;
  readonly #lookBackMs: number;
  readonly #seen = new Map<string, Seen>();
  #wake: (() => void)[] = [];
  #next = 0;
  #following: Promise<void> = Promise.resolve();
  #closed = false;

  constructor({ cluster, topic, schemas, log, lookBackMs = LOOK_BACK_MS }: WorkerBoardOptions) {
    this.#cluster = cluster;
    this.#reader = new PartitionReader(cluster, topic, 0);
    this.#schemas = schemas;
    this.#log = log;
    this.#lookBackMs = lookBackMs;
  }

  /** A board that has been started. */
  static async open(options: WorkerBoardOptions): Promise<WorkerBoard> {
    const board = new WorkerBoard(options);
    try {
      await board.start();
    } catch (error) {
      await board.close();
      throw error;
    }
    return board;
  }

  /** Reads the recent heartbeats, then follows until `close`. Trouble with Kafka after that is waited out. */
  async start(): Promise<void> {
    const end = await this.#reader.endOffset();
    this.#next =
      this.#lookBackMs === 0 ? end : Math.min(end, await this.#reader.offsetAt(Date.now() - this.#lookBackMs));
    while (this.#next < end) await this.#read((timestamp) => Math.min(timestamp, Date.now()));
    this.#following = this.#follow();
  }

  /** Heartbeats of a role that are younger than `maxAgeMs`. */
  alive(role: string, maxAgeMs = ALIVE_MS): WorkerHeartbeat[] {
    const since = Date.now() - maxAgeMs;
    return [...this.#seen.values()].filter(({ beat, at }) => beat.role === role && at >= since).map(({ beat }) => beat);
  }

  /** Resolves at the next heartbeat of any worker, or when the signal aborts, or the board is closed. */
  changed(signal?: AbortSignal): Promise<void> {
    if (this.#closed || signal?.aborted === true) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      signal?.addEventListener("abort", wake, { once: true });
      this.#wake.push(wake);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#reader.close();
    await this.#following;
    this.#wakeAll();
  }

  async #follow(): Promise<void> {
    while (!this.#closed) {
      try {
        // Heartbeats from now on are as recent as their reading.
        await this.#read(() => Date.now());
      } catch (error) {
        if (this.#closed) return;
        this.#log.warn(`heartbeats can't be read at the moment: ${messageOf(error)}`);
        this.#next =
          (await reposition({ cluster: this.#cluster, reader: this.#reader, next: this.#next, error }).catch(
            () => null,
          )) ?? this.#next;
        await sleep(PAUSE_MS);
      }
    }
  }

  async #read(seenAt: (timestamp: number) => number): Promise<void> {
    const records = await this.#reader.fetch(this.#next);
    for (let i = 0; i < records.count; i++) {
      const beat = await this.#decode(records, i);
      if (beat !== null) this.#seen.set(beat.worker, { beat, at: seenAt(records.timestamp[i]) });
    }
    this.#next = records.nextOffset;
    if (records.count === 0) return;
    for (const [worker, { at }] of this.#seen) if (at < Date.now() - FORGET_MS) this.#seen.delete(worker);
    this.#wakeAll();
  }

  async #decode(records: FetchedRecords, index: number): Promise<WorkerHeartbeat | null> {
    try {
      return await readHeartbeat(this.#schemas, records, index);
    } catch (error) {
      if (error instanceof FraudstreamError && error.retriable) throw error;
      this.#log.warn({ offset: records.offset[index] }, `a heartbeat was left out: ${messageOf(error)}`);
      return null;
    }
  }

  #wakeAll(): void {
    const waiting = this.#wake;
    this.#wake = [];
    for (const wake of waiting) wake();
  }
}
