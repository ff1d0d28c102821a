import type { Logger } from "../../infra/logging.js";

export interface PartitionOffset {
  topic: string;
  partition: number;
  /** Where reading resumes. */
  offset: number;
}

/** Commits consumed offsets of the group; fails when the partition belongs to another member by now. */
export type Commit = (offsets: PartitionOffset[]) => Promise<void>;

/** How far one partition of this tenure has come. */
export class PartitionProgress {
  readonly topic: string;
  readonly partition: number;
  /** Every record before this offset is in ClickHouse, or has no row. */
  stored: number;
  committed: number;
  /** Revoked: its offsets are another member's. */
  closed = false;
  readonly #onAdvance: (progress: PartitionProgress) => void;

  constructor(
    { topic, partition, start }: { topic: string; partition: number; start: number },
    onAdvance: (progress: PartitionProgress) => void,
  ) {
    this.topic = topic;
    this.partition = partition;
    this.stored = start;
    this.committed = start;
    this.#onAdvance = onAdvance;
  }

  advance(end: number): void {
    if (end <= this.stored) return;
    this.stored = end;
    this.#onAdvance(this);
  }
}

/**
 * Commits the offsets of stored records, one call at a time, each with the newest offsets of all partitions. A failed
 * commit does no harm: its offsets go with the next one, and records that are read again are stored once.
 */
export class OffsetCommits {
  readonly #commit: Commit;
  readonly #log: Logger;
  readonly #dirty = new Set<PartitionProgress>();
  #running: Promise<void> | null = null;
  #failing = false;

  constructor(commit: Commit, log: Logger) {
    this.#commit = commit;
    this.#log = log;
  }

  note(progress: PartitionProgress): void {
    this.#dirty.add(progress);
    this.#running ??= this.#run();
  }

  /** Returns once everything noted before has been committed, or could not be. */
  async settled(): Promise<void> {
    while (this.#running) await this.#running;
    if (this.#dirty.size > 0) await (this.#running = this.#run());
  }

  async #run(): Promise<void> {
    // Offsets noted in this turn of the event loop are included.
    await Promise.resolve();
    let going = true;
    while (going && this.#dirty.size > 0) going = await this.#commitDirty();
    this.#running = null;
  }

  async #commitDirty(): Promise<boolean> {
    const batch = [...this.#dirty]
      .filter((progress) => !progress.closed)
      .map((progress) => ({ progress, offset: progress.stored }));
    this.#dirty.clear();
    if (batch.length === 0) return true;
    try {
      await this.#commit(batch.map(({ progress: { topic, partition }, offset }) => ({ topic, partition, offset })));
      for (const { progress, offset } of batch) progress.committed = offset;
      if (this.#failing) this.#log.info("offsets are committed again");
      this.#failing = false;
      return true;
    } catch (error) {
      for (const { progress } of batch) this.#dirty.add(progress);
      if (!this.#failing) this.#log.warn({ err: error }, "offsets could not be committed; they go with the next block");
      this.#failing = true;
      return false;
    }
  }
}
