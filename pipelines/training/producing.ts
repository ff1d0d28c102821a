import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { KafkaError } from "../../infra/kafka/errors.js";

/** The process's producer of decisions: one that has failed is replaced for the next call. */
export class Producing {
  readonly #cluster: KafkaCluster;
  #producer: BatchProducer | null = null;

  constructor(cluster: KafkaCluster) {
    this.#cluster = cluster;
  }

  async run<T>(work: (producer: BatchProducer) => Promise<T>): Promise<T> {
    const producer = (this.#producer ??= await BatchProducer.open(this.#cluster));
    try {
      return await work(producer);
    } catch (error) {
      if (error instanceof KafkaError && this.#producer === producer) {
        this.#producer = null;
        await producer.close();
      }
      throw error;
    }
  }

  async close(): Promise<void> {
    const producer = this.#producer;
    this.#producer = null;
    await producer?.close();
  }
}
