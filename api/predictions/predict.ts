import { randomUUID } from "node:crypto";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { within } from "../../infra/async/within.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { Transaction } from "../../schemas/generated.js";
import type { ApiContext } from "../context.js";
import { Admission, costOf } from "./admission.js";
import { GatheringPublisher } from "./gathering-publisher.js";
import { replyToHeader, type Outcome } from "./reply-listener.js";

/**
 * Transactions that were published here and may not be stored yet, so that a GET can say so. Bounded; forgotten in
 * time.
 */
const PENDING_KEPT_MS = 10 * 60 * 1000;
const PENDING_KEPT = 100_000;

/** Transactions that are asked about at a time, with one more for each KB. */
const MOST_UNDER_WAY = 20_000;
/** How long Kafka may take to store what was asked about. */
const PUBLISHED_WITHIN_MS = 5_000;

interface Pending {
  user: string;
  until: number;
}

/** Asks for predictions: publishes transactions like any other and waits for what the stream answers. */
export class Predictor {
  readonly #context: ApiContext;
  readonly #publisher: GatheringPublisher;
  readonly #pending = new Map<string, Pending>();
  readonly #admission: Admission;

  constructor(context: ApiContext) {
    this.#context = context;
    this.#admission = new Admission({ most: MOST_UNDER_WAY });
    context.replies.onLate((replyTo) => this.#admission.came(replyTo));
    this.#publisher = new GatheringPublisher(context, context.topics.transactions);
  }

  /**
   * @param user who asks; stays with the prediction, as whose it is
   * @returns the outcome of each transaction, in their order; null where the wait was over first
   * @throws HttpProblem 503 `overloaded`; FraudstreamError `kafka_slow` (retriable) when it isn't known in time whether
   *   they were published: to be asked about again under the same ids
   */
  async ask(user: string, transactions: readonly Transaction[], waitMs: number): Promise<(Outcome | null)[]> {
    const { replies, schemas } = this.#context;
    const request = randomUUID();
    const replyTos = transactions.map((_, i) => `${replies.copy}/${user}/${request}/${i}`);
    const records = transactions.map((transaction, i) => ({
      key: Buffer.from(transaction.card_id),
      value: schemas.encode("transactions", transaction),
      headers: encodeHeaders([replyToHeader(replyTos[i])]),
    }));
    const leave = this.#admission.enter(costOf(records), waitMs > 0);
    const askedAt = performance.now();
    const outcomes = replies.expect(replyTos, waitMs);
    const published = this.#publisher.publish(records);
    // It is under way until Kafka has it or not, also when its caller was told to come again.
    void Promise.allSettled([published, outcomes]).then(leave);
    await within(
      PUBLISHED_WITHIN_MS,
      published,
      () => new FraudstreamError("kafka_slow", `Kafka has not stored it within ${PUBLISHED_WITHIN_MS} ms`),
    );
    const settled = await outcomes;
    if (waitMs > 0)
      settled.forEach((outcome, i) =>
        outcome === null ? this.#admission.late(replyTos[i], askedAt) : this.#admission.inTime(),
      );
    const pending = { user, until: Date.now() + PENDING_KEPT_MS };
    settled.forEach((outcome, i) => outcome?.kind !== "dead-letter" && this.#remember(transactions[i], pending));
    return settled;
  }

  /**
   * Whether a transaction was published here a while ago, by this user (null: any), and isn't known to be a dead
   * letter.
   */
  isPending(transactionId: string, user: string | null): boolean {
    const entry = this.#pending.get(transactionId);
    return entry !== undefined && entry.until > Date.now() && (user === null || entry.user === user);
  }

  #remember({ transaction_id }: Transaction, pending: Pending): void {
    this.#pending.delete(transaction_id);
    this.#pending.set(transaction_id, pending);
    for (const key of this.#pending.keys()) {
      if (this.#pending.size <= PENDING_KEPT) break;
      this.#pending.delete(key);
    }
  }
}
