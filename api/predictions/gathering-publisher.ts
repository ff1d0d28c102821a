import type { OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import type { TopicSpec } from "../../schemas/topics.js";
import type { ApiContext } from "../context.js";

interface Batch {
  records: OutgoingRecord[];
  published: Promise<void>;
}

/**
 * Publishes to one topic what many requests bring at the same time: what comes while a batch is on its way goes out
 * together as the next one, so that requests don't queue for a round trip each.
 */
export class GatheringPublisher {
  readonly #produce: ApiContext["produce"];
  readonly #topic: TopicSpec;
  #gathering: Batch | null = null;
  /** Settles with the batch on its way, whatever becomes of it. */
  #underWay: Promise<void> = Promise.resolve();

  constructor({ produce }: Pick<ApiContext, "produce">, topic: TopicSpec) {
    this.#produce = produce;
    this.#topic = topic;
  }

  /**
   * Resolves when these records are stored; of the same key, earlier calls' come first. Rejects when their batch
   * failed.
   */
  publish(records: readonly OutgoingRecord[]): Promise<void> {
    const batch = (this.#gathering ??= this.#next());
    batch.records.push(...records);
    return batch.published;
  }

  #next(): Batch {
    const records: OutgoingRecord[] = [];
    const published = this.#underWay.then(() => {
      this.#gathering = null;
      return this.#produce((producer) => producer.publish(this.#topic, records));
    });
    this.#underWay = published.catch(() => {});
    return { records, published };
  }
}
