import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { reposition } from "../../infra/kafka/reposition.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import { readHeartbeat } from "../../models/control/heartbeats.js";
import type { TrainingJob } from "../../models/control/state.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";

export interface TrainerSignsOptions {
  cluster: KafkaCluster;
  topic: string;
  schemas: Schemas;
  silenceMs: number;
}

/**
 * Which claimed jobs still have a trainer, by the heartbeats on fraud.workers. Silence is measured with this process's
 * own clock, from when it first knew of the claim or last received a heartbeat: the clocks of two machines are never
 * compared. Being wrong costs time only, since the fold refuses what the former trainer decides.
 */
export class TrainerSigns {
  readonly #options: TrainerSignsOptions;
  readonly #reader: PartitionReader;
  #next = -1;
  /** By job and attempt: when this process last received a heartbeat, and whether its trainer has given it up since. */
  readonly #heard = new Map<string, number>();
  /** The last heartbeat of each worker. */
  readonly #last = new Map<string, WorkerHeartbeat>();

  constructor(options: TrainerSignsOptions) {
    this.#options = options;
    this.#reader = new PartitionReader(options.cluster, options.topic, 0, { maxWaitMs: 100 });
  }

  /** Takes in every heartbeat that was published up to now; the first call, those from now on. */
  async read(): Promise<void> {
    try {
      await this.#readOn();
    } catch (error) {
      const next = await reposition({ cluster: this.#options.cluster, reader: this.#reader, next: this.#next, error });
      if (next === null) throw error;
      this.#next = next;
      await this.#readOn();
    }
  }

  async #readOn(): Promise<void> {
    const end = await this.#reader.endOffset();
    // A log that ends before what was read has lost its end.
    if (this.#next < 0 || this.#next > end) this.#next = end;
    while (this.#next < end) {
      const records = await this.#reader.fetch(this.#next);
      for (let i = 0; i < records.count; i++) await this.#take(records, i);
      this.#next = records.nextOffset;
    }
  }

  /** Whether a claimed job's trainer has been silent for too long, or has said that it does something else by now. */
  isAbandoned(job: TrainingJob): boolean {
    const last = job.worker === null ? undefined : this.#last.get(job.worker);
    // Both times are of the worker's own clock, and it names the job from before it claims it.
    if (last !== undefined && last.at > (job.claimedAt ?? Infinity) && !isAbout(last, job.id, job.attempt)) return true;
    const key = keyOf(job.id, job.attempt);
    const heard = this.#heard.get(key);
    if (heard === undefined) this.#heard.set(key, performance.now());
    return heard !== undefined && performance.now() - heard >= this.#options.silenceMs;
  }

  /** Forgets what is no longer needed. */
  forget(isOpen: (job: string, attempt: number) => boolean): void {
    for (const key of this.#heard.keys()) {
      const [id, attempt] = key.split("/");
      if (!isOpen(id, Number(attempt))) this.#heard.delete(key);
    }
    const stale = Date.now() - 3_600_000;
    for (const [worker, { at }] of this.#last) if (at < stale) this.#last.delete(worker);
  }

  close(): Promise<void> {
    return this.#reader.close();
  }

  async #take(records: FetchedRecords, index: number): Promise<void> {
    let beat: WorkerHeartbeat;
    try {
      beat = await readHeartbeat(this.#options.schemas, records, index);
    } catch (error) {
      // A heartbeat that cannot be read is ignored.
      if (error instanceof FraudstreamError && !error.retriable) return;
      throw error;
    }
    if (beat.role !== "training") return;
    this.#last.set(beat.worker, beat);
    const { job } = beat;
    if (job !== null) this.#heard.set(keyOf(job.id, job.attempt), performance.now());
  }
}

function isAbout({ job }: WorkerHeartbeat, id: string, attempt: number): boolean {
  return job !== null && job.id === id && job.attempt === attempt;
}

function keyOf(id: string, attempt: number): string {
  return `${id}/${attempt}`;
}
