import { setTimeout as sleep } from "node:timers/promises";
import type { Kafka, Producer } from "kafkajs";
import type { Gate } from "./gate.js";
import { LAST, type Outgoing, type ProducersState, type RecreatedTopic, type Traffic } from "./traffic.js";

const TICK_MS = 25;
/** What has piled up while Kafka was away goes out in batches of this many. */
const MOST_AT_ONCE = 400;
const SEND_TIMEOUT_MS = 5_000;
const PATIENCE_MS = 600_000;

/**
 * Publishes transactions and labels at a steady pace with kafkajs, waits for every acknowledgement, and repeats what
 * may not have arrived, as a payment system would: what is repeated may be there twice then, and the second is a
 * repeat.
 */
export class Feed {
  readonly #kafka: Kafka;
  readonly #topics: { transactions: string; labels: string };
  readonly #traffic: Traffic;
  readonly #perSecond: number;
  readonly #gate: Gate;
  readonly #running: Promise<void>;
  readonly state: ProducersState;
  /** Batches whose acknowledgement was lost, and that were sent again. */
  resent = 0;
  /** Numbers below this one have been acknowledged. */
  acknowledged = 0;
  /** None from this number on has been sent, nor the labels before it. */
  reached = 0;
  labels = 0;
  #producer: Producer | null = null;
  /** What the producer knows of the topics is out of date. */
  #outdated = false;
  #stopped = false;
  #failure: unknown = null;

  constructor(
    kafka: Kafka,
    topics: { transactions: string; labels: string },
    traffic: Traffic,
    { perSecond, gate }: { perSecond: number; gate: Gate },
  ) {
    this.#gate = gate;
    this.state = { upgraded: false, partitions: { transactions: traffic.homes, labels: traffic.homes } };
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

  /** Topics have changed: producers look again. */
  lookAgain(): void {
    this.#outdated = true;
  }

  /** The next ones at once, whatever is due and though the gate is closed. */
  burst(count: number): Promise<void> {
    return this.#next(this.acknowledged + count);
  }

  /** A record with a mark into each partition of a topic, though the gate is closed: nothing comes behind. */
  async publishLast(topic: RecreatedTopic, partitions: number, mark: string): Promise<void> {
    const records = Array.from({ length: partitions }, (_, partition): Outgoing => {
      const payment = {
        transaction_id: `last-${mark}-${partition}`,
        card_id: this.#traffic.cardOf(partition),
        event_time: this.#traffic.timeOf(this.acknowledged),
        merchant_id: "shop-last",
        amount: 30.5,
        currency: "EUR",
        attributes: {},
      };
      const record =
        topic === "transactions"
          ? this.#traffic.payment(payment)
          : this.#traffic.label({ ...payment, is_fraud: false, label_time: payment.event_time });
      // What can be read in a partition that was added is sent on, behind the last one of another.
      const value = partition < this.#traffic.homes || topic === "labels" ? record.value : record.value.subarray(0, -1);
      return { ...record, value, partition, headers: { [LAST]: mark } };
    });
    await this.#publish(this.#topics[topic], records, () => {});
    this.#outdated = true;
  }

  async #run(): Promise<void> {
    for (const started = Date.now(); !this.#stopped; await sleep(TICK_MS)) {
      await this.#gate.pass(() => {
        const due = Math.floor(((Date.now() - started) * this.#perSecond) / 1_000);
        return this.#next(Math.min(due, this.acknowledged + MOST_AT_ONCE));
      });
    }
  }

  async #next(to: number): Promise<void> {
    const from = this.acknowledged;
    if (to <= from) return;
    this.reached = to;
    const labels: Outgoing[] = [];
    const records: Outgoing[] = [];
    for (let n = from; n < to; n++) {
      labels.push(...this.#traffic.labels(n, this.state));
      records.push(this.#traffic.record(n, this.state));
    }
    // A label is there before the transactions behind it: so it is in time for its bucket, whatever happens.
    if (labels.length > 0) await this.#publish(this.#topics.labels, labels, () => {});
    await this.#publish(this.#topics.transactions, records, () => this.repeated.push([from, to]));
    this.labels += labels.length;
    this.acknowledged = to;
  }

  async #publish(topic: string, records: Outgoing[], onRepeat: () => void): Promise<void> {
    for (const deadline = Date.now() + PATIENCE_MS; ;) {
      try {
        if (this.#outdated) await this.#disconnect();
        this.#producer ??= await this.#connected();
        await this.#producer.send({ topic, acks: -1, timeout: SEND_TIMEOUT_MS, messages: records });
        return;
      } catch (error) {
        if (Date.now() > deadline) throw error;
        this.resent += 1;
        onRepeat();
        await this.#disconnect();
        await sleep(300);
      }
    }
  }

  async #disconnect(): Promise<void> {
    this.#outdated = false;
    await this.#producer?.disconnect().catch(() => {});
    this.#producer = null;
  }

  async #connected(): Promise<Producer> {
    const producer = this.#kafka.producer({ allowAutoTopicCreation: false, retry: { retries: 0 } });
    await producer.connect();
    return producer;
  }
}
