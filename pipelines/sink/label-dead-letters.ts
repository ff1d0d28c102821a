import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { type FetchedRecords, readHeaders } from "../../infra/kafka/records.js";
import type { Refusal } from "./rows/row-mapper.js";

const STEP = "store-labels";
const MOST_REPLY_TO_BYTES = 256;

/** Sends labels that can't be stored to the dead letters: their bytes untouched, the cause in headers. */
export class LabelDeadLetters {
  readonly #cluster: KafkaCluster;
  readonly #topic: string;
  #producer: Promise<BatchProducer> | null = null;

  constructor(cluster: KafkaCluster, deadLettersTopic: string) {
    this.#cluster = cluster;
    this.#topic = deadLettersTopic;
  }

  /** Returns when Kafka has it. @throws KafkaError */
  async send(records: FetchedRecords, index: number, { code, reason }: Refusal): Promise<void> {
    const replyTo = readHeaders(records, index).find(([name, value]) => name === "reply-to" && value !== null && value.length <= MOST_REPLY_TO_BYTES)?.[1];
    const headers = encodeHeaders([
      ["code", code], ["reason", reason], ["step", STEP], ["topic", records.topic], ["partition", String(records.partition)], ["offset", String(records.offset[index])], ["attempt", "1"],
      ...(replyTo ? [["reply-to", replyTo] as const] : []),
    ]);
    const key = part(records.bytes, records.keyAt[index], records.keyLength[index]);
    const value = part(records.bytes, records.valueAt[index], records.valueLength[index]);
    this.#producer ??= BatchProducer.open(this.#cluster);
    try {
      const producer = await this.#producer;
      await producer.publish(this.#topic, [{ key, value, headers }]);
    } catch (error) {
      // What became of its last batch is unknown: the next one starts with a new producer.
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

function part(bytes: Buffer, at: number, length: number): Buffer | null {
  return length < 0 ? null : bytes.subarray(at, at + length);
}
