import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import type { CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { deadLetterOf } from "../runtime/dead-letters.js";
import type { Refusal } from "./rows/row-mapper.js";

/** Sends records that the sink can't store to the dead letters: their bytes unchanged, the cause in headers. */
export class SinkDeadLetters {
  readonly #cluster: KafkaCluster;
  readonly #topic: string;
  readonly #cards: CardPseudonyms | null;
  #producer: Promise<BatchProducer> | null = null;

  constructor(cluster: KafkaCluster, deadLettersTopic: string, cards: CardPseudonyms | null = null) {
    this.#cluster = cluster;
    this.#topic = deadLettersTopic;
    this.#cards = cards;
  }

  /**
   * Returns once Kafka has it.
   *
   * @param more further headers
   * @throws KafkaError
   */
  async send(
    records: FetchedRecords,
    index: number,
    { code, reason }: Refusal,
    step: string,
    more: readonly [string, string][] = [],
  ): Promise<void> {
    const letter = deadLetterOf(records, index, { code, reason, step }, this.#cards, more);
    this.#producer ??= BatchProducer.open(this.#cluster);
    try {
      const producer = await this.#producer;
      await producer.publish(this.#topic, [letter]);
    } catch (error) {
      // The outcome of its last batch is unknown: the next one starts with a new producer.
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const producer = this.#producer;
    this.#producer = null;
    await producer?.then((opened) => opened.close()).catch(() => {});
  }
}
