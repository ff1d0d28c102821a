import { randomUUID } from "node:crypto";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import type { Transaction } from "../../schemas/generated.js";
import type { ApiContext } from "../context.js";
import { GatheringPublisher } from "./gathering-publisher.js";
import { replyToHeader, type Outcome } from "./reply-listener.js";

/** Transactions that were published here and may not be stored yet, so that a GET can say so. Bounded; forgotten in time. */
const PENDING_KEPT_MS = 10 * 60 * 1000;
const PENDING_KEPT = 100_000;

interface Pending { user: string; until: number }

/** Asks for predictions: publishes transactions like any other and waits for what the stream answers. */
export class Predictor {
  readonly #context: ApiContext;
  readonly #publisher: GatheringPublisher;
  readonly #pending = new Map<string, Pending>();

  constructor(context: ApiContext) {
    this.#context = context;
    this.#publisher = new GatheringPublisher(context, context.topics.transactions.name);
  }

  /**
   * @param user who asks; stays with the prediction, as whose it is
   * @returns the outcome of each transaction, in their order; null where the wait was over first
   */
  async ask(user: string, transactions: readonly Transaction[], waitMs: number): Promise<(Outcome | null)[]> {
    const { replies, schemas } = this.#context;
    const request = randomUUID();
    const replyTos = transactions.map((_, i) => `${replies.copy}/${user}/${request}/${i}`);
    const records = transactions.map((transaction, i) => (
      { key: Buffer.from(transaction.card_id), value: schemas.encode("transactions", transaction), headers: encodeHeaders([replyToHeader(replyTos[i])]) }
    ));
    const outcomes = replies.expect(replyTos, waitMs);
    await this.#publisher.publish(records);
    const settled = await outcomes;
    const pending = { user, until: Date.now() + PENDING_KEPT_MS };
    settled.forEach((outcome, i) => outcome?.kind !== "dead-letter" && this.#remember(transactions[i], pending));
    return settled;
  }

  /** Whether a transaction was published here a while ago, by this user (null: any), and isn't known to be a dead letter. */
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
