import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";
import type { Topics } from "../../schemas/topics.js";

/** Loading a model and a group's first assignment take seconds, on a busy machine more; longer than this is trouble. */
const PATIENCE_MS = 90_000;

/** Reads what the workers say of themselves, from the present end of their topic on. */
export class ScoringHeartbeats {
  readonly #reader: PartitionReader;
  readonly #schemas: Schemas;
  readonly #partitions: number;
  #next: number;

  private constructor(reader: PartitionReader, schemas: Schemas, partitions: number, next: number) {
    this.#reader = reader;
    this.#schemas = schemas;
    this.#partitions = partitions;
    this.#next = next;
  }

  /** To be called before the workers start. */
  static async open(cluster: KafkaCluster, topics: Topics, schemas: Schemas): Promise<ScoringHeartbeats> {
    const reader = new PartitionReader(cluster, topics.workers.name, 0);
    return new ScoringHeartbeats(reader, schemas, topics.transactions.partitions, await reader.endOffset());
  }

  /**
   * Waits until every partition of the transactions has been reported at this epoch or a later one: then the deployment is
   * live.
   *
   * @throws FraudstreamError `not_live` after a minute and a half, with what the workers complain of
   */
  async live(epoch: number, signal: AbortSignal): Promise<void> {
    const live = new Set<number>();
    let problems: string[] = [];
    const deadline = Date.now() + PATIENCE_MS;
    while (live.size < this.#partitions) {
      signal.throwIfAborted();
      if (Date.now() > deadline) {
        throw new FraudstreamError("not_live", `no scoring worker has taken on ${this.#partitions - live.size} of ${this.#partitions} partitions${problems.length > 0 ? `: ${problems.join("; ")}` : ""}`);
      }
      const records = await this.#reader.fetch(this.#next);
      for (let i = 0; i < records.count; i++) {
        const value = records.bytes.subarray(records.valueAt[i], records.valueAt[i] + records.valueLength[i]);
        const beat = (await this.#schemas.decode("workers", value)) as WorkerHeartbeat;
        if (beat.role !== "scoring") continue;
        problems = beat.problems;
        for (const owned of beat.partitions) if (owned.epoch >= epoch) live.add(owned.partition);
      }
      this.#next = records.nextOffset;
    }
  }

  async close(): Promise<void> {
    await this.#reader.close();
  }
}
