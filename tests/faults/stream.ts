import { setTimeout as sleep } from "node:timers/promises";
import type { OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { transaction, wireValue } from "../support/transactions.js";
import type { TestSystem } from "../support/workers-system.js";

const CARDS = 500;
/** Every so many transactions are cut off by a byte: they must come out as dead letters. */
export const BAD_EVERY = 97;
const TICK_MS = 10;

/** The id of the transaction with this number: numbers of one card grow in the order in which they were published. */
export const idOf = (n: number): string => `t${n}`;
export const isBad = (n: number): boolean => n % BAD_EVERY === 0;

/** Publishes transactions at a steady rate until it is stopped, and knows how many Kafka has acknowledged. */
export class TransactionStream {
  readonly #system: TestSystem;
  readonly #perSecond: number;
  readonly #record: (n: number) => OutgoingRecord;
  readonly #running: Promise<void>;
  #acknowledged = 0;
  #stopped = false;
  #failure: unknown = null;

  /** @param record the transaction with a number, published by its key */
  constructor(system: TestSystem, perSecond: number, record: (n: number) => OutgoingRecord = recordOf) {
    this.#system = system;
    this.#perSecond = perSecond;
    this.#record = record;
    this.#running = this.#run().catch((error: unknown) => void (this.#failure = error));
  }

  /** Transactions `t0` to `t<acknowledged - 1>` are in Kafka. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Waits until so many are acknowledged. */
  async reached(count: number): Promise<void> {
    while (this.#acknowledged < count) {
      if (this.#failure !== null) throw this.#failure as Error;
      await sleep(TICK_MS);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
    if (this.#failure !== null) throw this.#failure as Error;
  }

  async #run(): Promise<void> {
    for (const started = Date.now(); !this.#stopped; await sleep(TICK_MS)) {
      const due = Math.floor(((Date.now() - started) * this.#perSecond) / 1000);
      const records: OutgoingRecord[] = [];
      for (let n = this.#acknowledged; n < due; n++) records.push(this.#record(n));
      if (records.length === 0) continue;
      await this.#system.publish(records);
      this.#acknowledged += records.length;
    }
  }
}

function recordOf(n: number): OutgoingRecord {
  const value = wireValue(transaction(n, { transaction_id: idOf(n), card_id: `card-${n % CARDS}`, amount: n % 1_000 }));
  return {
    key: Buffer.from(`card-${n % CARDS}`),
    value: isBad(n) ? value.subarray(0, -1) : value,
    headers: encodeHeaders([["n", String(n)]]),
  };
}
