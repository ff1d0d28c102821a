import type { BatchProducer } from "../infra/kafka/batch-producer.js";
import { FraudstreamError } from "../schemas/errors.js";
import { KafkaError } from "../infra/kafka/errors.js";

/** The process's producer: opened when it is first needed, and again after it has failed. */
export class OneProducer {
  readonly #open: () => Promise<BatchProducer>;
  #producer: Promise<BatchProducer> | null = null;
  #closed = false;

  constructor(open: () => Promise<BatchProducer>) {
    this.#open = open;
  }

  /** Runs work with the producer. An error of Kafka's discards it, since what became of its last batch isn't known. */
  async use<T>(work: (producer: BatchProducer) => Promise<T>): Promise<T> {
    if (this.#closed) throw new FraudstreamError("stopping", "the API is stopping");
    const opening = (this.#producer ??= this.#open());
    try {
      return await work(await opening);
    } catch (error) {
      if (error instanceof KafkaError) await this.#discard(opening);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#producer !== null) await this.#discard(this.#producer);
  }

  async #discard(opening: Promise<BatchProducer>): Promise<void> {
    // Other work may have failed with it and discarded it already.
    if (this.#producer !== opening) return;
    this.#producer = null;
    const producer = await opening.catch(() => null);
    await producer?.close();
  }
}
