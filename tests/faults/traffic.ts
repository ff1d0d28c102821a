import avro from "avsc";
import { partitionOf } from "../../infra/kafka/batch-producer.js";
import { labelSchema, transactionSchema, type Label, type Transaction } from "../../schemas/generated.js";
import { WIRE_HEAD_BYTES, writeWireHead } from "../../schemas/wire-format.js";
import { seededRandom } from "../../models/training/random.js";

/** A record for fraud.transactions or fraud.labels. */
export interface Outgoing {
  partition: number;
  key: string | null;
  value: Buffer;
  headers: Record<string, string>;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

const CARDS = 600;
const MERCHANTS = 60;
const TRANSACTION_ID = 1_000_001;
const LABEL_ID = 1_000_003;
/**
 * The next version of the producers' schema, with one more optional field. In every role's SCHEMAS_DIR from the start.
 */
export const NEXT_TRANSACTION_ID = 1_100_001;
export type RecreatedTopic = "transactions" | "labels";
/** On the last record of each partition of a topic that is about to be deleted: which deletion. */
export const LAST = "last";
/** A schema that nobody knows. */
const UNKNOWN_ID = 1_200_001;

export const NEXT_TRANSACTION_SCHEMA = {
  ...transactionSchema,
  fields: [...transactionSchema.fields, { name: "channel", type: ["null", "string"], default: null }],
};

const type = avro.Type.forSchema(transactionSchema as unknown as avro.Schema);
const nextType = avro.Type.forSchema(NEXT_TRANSACTION_SCHEMA as unknown as avro.Schema);
const labelType = avro.Type.forSchema(labelSchema as unknown as avro.Schema);

export interface TrafficOptions {
  /** Whether some records are such that nobody can read them. @default true */
  unreadable?: boolean;
  seed: number;
  partitions: number;
  /** Event time of the first, epoch milliseconds; the next ones follow in steps. */
  from: number;
  stepMs: number;
}

/** How long after its transaction (in transactions) a label is published. */
export const LABEL_AFTER = 400;
export const SECOND_LABEL_AFTER = 700;
/** Of the producers, once topics have more partitions: those that have noticed, and hash over the new number. */
const NOTICED = 0.3;

/** What producers know by now. */
export interface ProducersState {
  /** They write the next version of their schema. */
  upgraded: boolean;
  /** Partitions of the topics. */
  partitions: { transactions: number; labels: number };
}

/**
 * What is published, as a function of the seed and a number: most records are fine; some come late, too late or from
 * far ahead, are repeats, refunds (which the models give no score), cut off, of an unknown schema, JSON, or in a wrong
 * partition.
 */
export class Traffic {
  readonly #options: TrafficOptions;

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  /** The stream's event time when a transaction's turn comes. */
  timeOf(n: number): number {
    return this.#options.from + Math.floor(n * this.#options.stepMs);
  }

  /** Partitions that cards are at home in. */
  get homes(): number {
    return this.#options.partitions;
  }

  record(n: number, { upgraded, partitions: { transactions } }: ProducersState): Outgoing {
    const { partitions } = this.#options;
    const random = this.#random(n, 1);
    const repeats = random() < 0.01 && n > 2_000;
    const transaction = this.#transaction(repeats ? n - 1 - Math.floor(random() * 1_000) : n);
    const home = partitionOf(Buffer.from(transaction.card_id), partitions);
    const kind = random();
    const misplaced = random() < 0.003 ? (home + 1) % partitions : home;
    const partition = this.#hashesOver(transactions, n)
      ? partitionOf(Buffer.from(transaction.card_id), transactions)
      : misplaced;
    const headers = { n: String(n) };
    const key = transaction.card_id;
    const { unreadable = true } = this.#options;
    if (kind < 0.005 && unreadable)
      return { partition, key, headers, value: wire(TRANSACTION_ID, type.toBuffer(transaction)).subarray(0, -1) };
    if (kind < 0.006 && unreadable)
      return { partition, key, headers, value: wire(UNKNOWN_ID, type.toBuffer(transaction)) };
    if (kind < 0.026) return { partition, key, headers, value: Buffer.from(JSON.stringify(transaction)) };
    if (upgraded && kind < 0.5)
      return {
        partition,
        key,
        headers,
        value: wire(NEXT_TRANSACTION_ID, nextType.toBuffer({ ...transaction, channel: kind < 0.3 ? "pos" : null })),
      };
    return { partition, key, headers, value: wire(TRANSACTION_ID, type.toBuffer(transaction)) };
  }

  /** The labels that are published before transaction `n`. */
  labels(n: number, { partitions }: ProducersState): Outgoing[] {
    const labels: Outgoing[] = [];
    for (const [after, second] of [
      [LABEL_AFTER, false],
      [SECOND_LABEL_AFTER, true],
    ] as const) {
      const about = n - after;
      if (about < 0) continue;
      const { random, labelled, fraud, changed } = this.#verdict(about);
      if (!labelled || (second && !changed)) continue;
      const { transaction_id, card_id, event_time } = this.#transaction(about);
      const homed = this.label({
        transaction_id,
        card_id,
        is_fraud: second ? !fraud : fraud,
        label_time: event_time + HOUR_MS,
      });
      const label = this.#hashesOver(partitions.labels, about)
        ? { ...homed, partition: partitionOf(Buffer.from(card_id), partitions.labels) }
        : homed;
      // Of a feed without keys: to any partition. Half of those are corrected, by way of the right one.
      const keyless = random() < (changed ? 0.5 : 0.05) && !second;
      labels.push(keyless ? { ...label, key: null, partition: Math.floor(random() * partitions.labels) } : label);
    }
    return labels;
  }

  /**
   * What is said over HTTP of a transaction that has a label by then: the contrary of its only one, or of one that is
   * going to be corrected once more, the same again. Null: it has none of that kind.
   */
  correction(about: number, kind: "last" | "between"): Pick<Label, "transaction_id" | "card_id" | "is_fraud"> | null {
    const { labelled, fraud, changed } = this.#verdict(about);
    if (!labelled || changed !== (kind === "between")) return null;
    const { transaction_id, card_id } = this.#transaction(about);
    return { transaction_id, card_id, is_fraud: kind === "last" ? !fraud : fraud };
  }

  /** The newest transaction up to a number that has no label. */
  unlabelled(upTo: number): Pick<Label, "transaction_id" | "card_id"> {
    let about = upTo;
    while (about > 0 && this.#verdict(about).labelled) about -= 1;
    return this.#transaction(about);
  }

  /** One that is not of the stream. */
  payment(payment: Transaction): Outgoing {
    return {
      partition: partitionOf(Buffer.from(payment.card_id), this.#options.partitions),
      key: payment.card_id,
      headers: {},
      value: wire(TRANSACTION_ID, type.toBuffer(payment)),
    };
  }

  /** A card of a partition; of one that is no card's home, any. */
  cardOf(partition: number): string {
    const cards = Array.from({ length: CARDS }, (_, i) => `card-${i}`);
    return cards.find((card) => partitionOf(Buffer.from(card), this.#options.partitions) === partition) ?? cards[0];
  }

  label(label: Label): Outgoing {
    return {
      partition: partitionOf(Buffer.from(label.card_id), this.#options.partitions),
      key: label.card_id,
      headers: {},
      value: wire(LABEL_ID, labelType.toBuffer(label)),
    };
  }

  /**
   * Whether a transaction gets a label and which, whether that is corrected, and what follows in the same stream of
   * random numbers.
   */
  #verdict(about: number): { random: () => number; labelled: boolean; fraud: boolean; changed: boolean } {
    const random = this.#random(about, 2);
    return { random, labelled: random() < 0.15, fraud: random() < 0.25, changed: random() < 0.1 };
  }

  #hashesOver(partitions: number, n: number): boolean {
    return partitions > this.#options.partitions && this.#random(n, 3)() < NOTICED;
  }

  #transaction(n: number): Transaction {
    const random = this.#random(n, 0);
    const card = Math.floor(random() ** 1.5 * CARDS);
    const merchant = Math.floor(random() ** 1.5 * MERCHANTS);
    const amount = Math.floor(random() * 400) / 4;
    const timing = random();
    const refund = random() < 0.01;
    const late =
      timing < 0.02
        ? random() * 20 * HOUR_MS
        : timing < 0.023
          ? (26 + random() * 6) * HOUR_MS
          : timing < 0.0233
            ? -3 * DAY_MS
            : 0;
    return {
      transaction_id: `t${n}`,
      event_time: Math.floor(this.timeOf(n) - late),
      card_id: `card-${card}`,
      merchant_id: `shop-${merchant}`,
      amount: refund ? -amount - 1 : amount,
      currency: "EUR",
      attributes: {},
    };
  }

  #random(n: number, stream: number): () => number {
    return seededRandom(Math.imul(this.#options.seed, 0x9e3779b1) ^ Math.imul(n + 1, 0x85ebca6b) ^ (stream << 29));
  }
}

function wire(id: number, body: Buffer): Buffer {
  const head = Buffer.alloc(WIRE_HEAD_BYTES);
  writeWireHead(head, 0, id);
  return Buffer.concat([head, body]);
}
