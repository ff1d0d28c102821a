import { setTimeout as sleep } from "node:timers/promises";
import { BatchProducer, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { transaction, wireValue } from "../support/transactions.js";
import type { TestSystem } from "../support/workers-system.js";

/**
 * So many that a card has a handful of transactions in an hour's run: what a score costs grows with what its card has
 * done.
 */
const CARDS = 100_003;
const MERCHANTS = 5_003;
const TICK_MS = 20;
const MOST_AT_ONCE = 5_000;
/** Longer than any engine is away: what is published waits, in its order, and is stored once. */
const PATIENCE_MS = 60 * 60 * 1_000;
/** Every so many transactions are cut off by a byte: they must come out as dead letters. */
const BAD_EVERY = 97;

/**
 * Transactions `e0`, `e1`, … at a steady rate. What can't be published now is published later, as a payment system
 * would.
 */
export class PacedLoad {
  readonly #system: TestSystem;
  readonly #producer: BatchProducer;
  readonly #cluster: KafkaCluster;
  #running: Promise<void> = Promise.resolve();
  #acknowledged = 0;
  #due = 0;
  #rate = 0;
  #failure: unknown = null;

  private constructor(system: TestSystem, cluster: KafkaCluster, producer: BatchProducer) {
    this.#system = system;
    this.#cluster = cluster;
    this.#producer = producer;
  }

  static async open(system: TestSystem): Promise<PacedLoad> {
    const cluster = new KafkaCluster(system.kafka, "endurance-load");
    return new PacedLoad(system, cluster, await BatchProducer.open(cluster, { patienceMs: PATIENCE_MS }));
  }

  /** The transaction with this number becomes a dead letter. */
  static isBad(n: number): boolean {
    return n % BAD_EVERY === 0;
  }

  /** Transactions `e0` to `e<acknowledged - 1>` are in Kafka. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Transactions that should be in Kafka by now and are not. */
  get waiting(): number {
    return Math.max(0, Math.floor(this.#due) - this.#acknowledged);
  }

  /** From now on so many a second. */
  async pace(perSecond: number): Promise<void> {
    await this.#settle(0);
    this.#rate = perSecond;
    this.#running = this.#run(perSecond).catch((error: unknown) => void (this.#failure = error));
  }

  /** Ends the load, once everything that was due is published. */
  async stop(): Promise<void> {
    await this.#settle(0);
    this.throwIfFailed();
  }

  async close(): Promise<void> {
    this.#rate = 0;
    // A broker that is gone for good would keep the producer for all its patience.
    await Promise.race([this.#producer.close(), sleep(2_000)]);
    await this.#cluster.close();
  }

  throwIfFailed(): void {
    if (this.#failure !== null) throw this.#failure as Error;
  }

  async #settle(rate: number): Promise<void> {
    this.#rate = rate;
    await this.#running;
  }

  async #run(rate: number): Promise<void> {
    for (let before = performance.now(); this.#rate === rate || this.waiting > 0;) {
      const now = performance.now();
      if (this.#rate === rate) this.#due += ((now - before) * rate) / 1_000;
      before = now;
      if (this.waiting === 0) {
        await sleep(TICK_MS);
        continue;
      }
      const until = Math.min(Math.floor(this.#due), this.#acknowledged + MOST_AT_ONCE);
      const records: OutgoingRecord[] = [];
      for (let n = this.#acknowledged; n < until; n++) records.push(recordOf(n));
      await this.#producer.publish(this.#system.topics.transactions.name, records);
      this.#acknowledged = until;
      if (this.waiting < rate / 20) await sleep(TICK_MS);
    }
  }
}

function recordOf(n: number): OutgoingRecord {
  // Not in the order of their numbers: windows of cards and merchants mix.
  const card_id = `card-${(n * 7_919) % CARDS}`;
  const value = wireValue(
    transaction(n, {
      transaction_id: `e${n}`,
      card_id,
      merchant_id: `merchant-${(n * 104_729) % MERCHANTS}`,
      amount: (n % 1_000) / 4,
    }),
  );
  return { key: Buffer.from(card_id), value: PacedLoad.isBad(n) ? value.subarray(0, -1) : value };
}
