import { setTimeout as sleep } from "node:timers/promises";
import type { Kafka, Producer } from "kafkajs";
import type { Outgoing, Traffic } from "./traffic.js";

const TICK_MS = 25;
/** What has piled up while Kafka was away goes out in batches of this many. */
const MOST_AT_ONCE = 400;
const SEND_TIMEOUT_MS = 5_000;
const PATIENCE_MS = 600_000;

/**
 * Publishes transactions and labels at a steady pace with kafkajs, waits for every acknowledgement, and repeats what may
 * not have arrived, as a payment system would: what is repeated may be there twice then, and the second is a repeat.
 */
export class Feed {
  readonly #kafka: Kafka;
  readonly #topics: { transactions: string; labels: string };
  readonly #traffic: Traffic;
  readonly #perSecond: number;
  readonly #running: Promise<void>;
  /** Producers write the next version of their schema from now on. */
  upgraded = false;
  /** Batches whose acknowledgement was lost, and that were sent again. */
  resent = 0;
  /** Numbers below this one have been acknowledged. */
  acknowledged = 0;
  labels = 0;
  #producer: Producer | null = null;
  #stopped = false;
  #failure: unknown = null;

  constructor(kafka: Kafka, topics: { transactions: string; labels: string }, traffic: Traffic, perSecond: number) {
    this.#kafka = kafka;
    this.#topics = topics;
    this.#traffic = traffic;
    this.#perSecond = perSecond;
    this.#running = this.#run().catch((error: unknown) => void (this.#failure = error));
  }

  /** The numbers that may have been sent more than once: from, to (not included). */
  readonly repeated: [from: number, to: number][] = [];

  /** Ends when what is under way is acknowledged. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
    await this.#producer?.disconnect().catch(() => {});
    if (this.#failure !== null) throw this.#failure as Error;
  }

  async #run(): Promise<void> {
    for (const started = Date.now(); !this.#stopped; await sleep(TICK_MS)) {
      const due = Math.floor(((Date.now() - started) * this.#perSecond) / 1_000);
      const from = this.acknowledged;
      const to = Math.min(due, from + MOST_AT_ONCE);
      if (to <= from) continue;
      const labels: Outgoing[] = [];
      const records: Outgoing[] = [];
      for (let n = from; n < to; n++) {
        labels.push(...this.#traffic.labels(n));
        records.push(this.#traffic.record(n, this.upgraded));
      }
      // A label is there before the transactions behind it: so it is in time for its bucket, whatever happens.
      if (labels.length > 0) await this.#publish(this.#topics.labels, labels, () => {});
      await this.#publish(this.#topics.transactions, records, () => this.repeated.push([from, to]));
      this.labels += labels.length;
      this.acknowledged = to;
    }
  }

  async #publish(topic: string, records: Outgoing[], onRepeat: () => void): Promise<void> {
    for (const deadline = Date.now() + PATIENCE_MS; ; ) {
      try {
        this.#producer ??= await this.#connected();
        await this.#producer.send({ topic, acks: -1, timeout: SEND_TIMEOUT_MS, messages: records });
        return;
      } catch (error) {
        if (Date.now() > deadline) throw error;
        this.resent += 1;
        onRepeat();
        await this.#producer?.disconnect().catch(() => {});
        this.#producer = null;
        await sleep(300);
      }
    }
  }

  async #connected(): Promise<Producer> {
    const producer = this.#kafka.producer({ allowAutoTopicCreation: false, retry: { retries: 0 } });
    await producer.connect();
    return producer;
  }
}
