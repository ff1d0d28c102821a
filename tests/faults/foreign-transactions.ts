import { setTimeout as sleep } from "node:timers/promises";
import type { Kafka, Producer } from "kafkajs";
import type { Outgoing, Traffic } from "./traffic.js";

/**
 * How somebody else's transaction ends: by its producer, by another producer with its transactional id, or by the
 * broker.
 */
export type Ending = "abort" | "commit" | "fence" | "timeout";

export interface ForeignTransaction {
  topic: "transactions" | "labels";
  partition: number;
  records: number;
  openMs: number;
  ending: Ending;
}

/** While it was open, nothing behind it in its partition could be read. Epoch milliseconds. */
export interface Blocked {
  topic: "transactions" | "labels";
  partition: number;
  from: number;
  until: number;
}

const SEND_TIMEOUT_MS = 5_000;
/** The broker looks for transactions that have timed out once a second. */
const NOTICED_WITHIN_MS = 3_000;
const FENCE_PATIENCE_MS = 120_000;
const LONG_MS = 600_000;

/** A producer that is none of ours: it opens transactions on our topics, writes, and leaves them open for a while. */
export class ForeignProducers {
  readonly blocked: Blocked[] = [];
  /** Ids of transactions in the topic of transactions that were committed, and of those that may have been. */
  readonly committed: string[] = [];
  readonly uncertain = new Set<string>();
  readonly #kafka: () => Kafka;
  readonly #topics: Record<"transactions" | "labels", string>;
  readonly #traffic: Traffic;
  readonly #prefix: string;
  #count = 0;

  constructor(
    kafka: () => Kafka,
    {
      topics,
      traffic,
      prefix,
    }: { topics: Record<"transactions" | "labels", string>; traffic: Traffic; prefix: string },
  ) {
    this.#kafka = kafka;
    this.#topics = topics;
    this.#traffic = traffic;
    this.#prefix = prefix;
  }

  /**
   * Opens one, keeps it open, and ends it.
   *
   * @param reached number of the transaction that the stream has come to
   * @returns when it was open, and what became of it
   */
  async run(
    { topic, partition, records, openMs, ending }: ForeignTransaction,
    reached: number,
    pause: (ms: number) => Promise<void>,
  ): Promise<Blocked & { outcome: string }> {
    const transactionalId = `${this.#prefix}foreign-${(this.#count += 1)}`;
    const ids = Array.from({ length: records }, (_, i) => `foreign-${this.#count}-${i}`);
    const messages =
      topic === "transactions"
        ? ids.map((id) => this.#payment(id, partition, reached))
        : ids.map((_, i) => this.#label(partition, reached, i));
    const blocked: Blocked = { topic, partition, from: Date.now(), until: Infinity };
    this.blocked.push(blocked);
    const producer = this.#producer(transactionalId, ending === "timeout" ? openMs : LONG_MS);
    let outcome: string = ending;
    try {
      await producer.connect();
      const transaction = await producer.transaction();
      blocked.from = Date.now();
      await transaction.send({ topic: this.#topics[topic], acks: -1, timeout: SEND_TIMEOUT_MS, messages });
      await pause(openMs);
      if (ending === "abort") await transaction.abort();
      if (ending === "commit") {
        if (topic === "transactions") for (const id of ids) this.uncertain.add(id);
        await transaction.commit();
        if (topic === "transactions") this.committed.push(...ids);
      }
      if (ending === "timeout") await pause(NOTICED_WITHIN_MS);
    } catch (error) {
      outcome = `${ending}: ${error instanceof Error ? error.message : String(error)}`;
    }
    await producer.disconnect().catch(() => {});
    // Whatever became of it: whoever takes the id over ends what is open under it.
    await this.#fence(transactionalId);
    blocked.until = Date.now();
    return { ...blocked, outcome };
  }

  async #fence(transactionalId: string): Promise<void> {
    for (const deadline = Date.now() + FENCE_PATIENCE_MS; ; await sleep(500)) {
      const other = this.#producer(transactionalId, LONG_MS);
      try {
        await other.connect();
        // The id is taken over when a transaction begins.
        await (await other.transaction()).abort();
        return;
      } catch (error) {
        if (Date.now() > deadline) throw error;
      } finally {
        await other.disconnect().catch(() => {});
      }
    }
  }

  #producer(transactionalId: string, transactionTimeout: number): Producer {
    return this.#kafka().producer({
      transactionalId,
      transactionTimeout,
      maxInFlightRequests: 1,
      idempotent: true,
      allowAutoTopicCreation: false,
      retry: { retries: 5 },
    });
  }

  /** Of a card of that partition, if there is one. */
  #payment(id: string, partition: number, reached: number): Outgoing {
    return {
      ...this.#traffic.payment({
        transaction_id: id,
        event_time: this.#traffic.timeOf(reached),
        card_id: this.#traffic.cardOf(partition),
        merchant_id: "shop-foreign",
        amount: 20.25,
        currency: "EUR",
        attributes: {},
      }),
      partition,
    };
  }

  /** Of a transaction that nobody else labels. */
  #label(partition: number, reached: number, i: number): Outgoing {
    const labelled = this.#traffic.unlabelled(Math.max(0, reached - 50 - 10 * i));
    return {
      ...this.#traffic.label({ ...labelled, is_fraud: true, label_time: this.#traffic.timeOf(reached) }),
      key: null,
      partition,
    };
  }
}
