import avro from "avsc";
import { partitionOf } from "../../infra/kafka/batch-producer.js";
import type { FeatureSpec } from "../../models/features/plan.js";
import { transactionSchema, type Transaction } from "../../schemas/generated.js";
import { WIRE_HEAD_BYTES } from "../../schemas/wire-format.js";
import { amountFeature } from "./models.js";
import type { ReadRecord } from "./workers-system.js";
import { ReferenceClock } from "./reference-clock.js";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const transactionType = avro.Type.forSchema(transactionSchema as unknown as avro.Schema);

const WINDOWS = { PT1H: HOUR_MS, P1D: DAY_MS, P7D: 7 * DAY_MS };
const AGGREGATES = ["count", "sum", "max", "distinct_merchants", "amount_over_mean"] as const;

/** The amount, five aggregates over three windows, and the time since the last transaction. Missing values are 0. */
export const HISTORY_FEATURES: FeatureSpec[] = [
  amountFeature,
  ...Object.keys(WINDOWS).flatMap((window) =>
    AGGREGATES.map((aggregate): FeatureSpec => ({
      name: `${aggregate}_${window}`,
      type: "number",
      source: { kind: "card", aggregate, window },
      default: 0,
    })),
  ),
  { name: "seconds_since_last", type: "number", source: { kind: "card", aggregate: "seconds_since_last" }, default: 0 },
];

/** What must become of a record of fraud.transactions. */
export type Outcome =
  | { kind: "prediction"; features: number[]; stale: boolean }
  | { kind: "dead letter"; code: string; firsts: number[] }
  | { kind: "forwarded"; to: number };

interface Event {
  transaction: Transaction;
  offset: number;
}

/**
 * What must become of the records of one partition, in their order, worked out record by record from the definitions of
 * infra/decisions/0006-history.md, with nothing of the code under test. The champion gives no score for a refund.
 */
export function outcomesOf(records: readonly ReadRecord[], partitions: number): Map<number, Outcome> {
  const outcomes = new Map<number, Outcome>();
  const cards = new Map<string, Event[]>();
  const clock = new ReferenceClock();
  for (const { value, offset, partition } of records) {
    const transaction = decoded(value as Buffer);
    if (transaction === null) {
      outcomes.set(offset, { kind: "dead letter", code: "avro_truncated", firsts: [] });
      continue;
    }
    const home = partitionOf(Buffer.from(transaction.card_id), partitions);
    if (home !== partition) {
      outcomes.set(offset, { kind: "forwarded", to: home });
      continue;
    }
    const time = transaction.event_time;
    const before = cards.get(transaction.card_id) ?? [];
    const firsts = before.filter(
      (event) =>
        event.transaction.transaction_id === transaction.transaction_id &&
        Math.abs(event.transaction.event_time - time) <= DAY_MS,
    );
    if (firsts.length > 0)
      outcomes.set(offset, { kind: "dead letter", code: "repeated", firsts: firsts.map((event) => event.offset) });
    else if (transaction.amount < 0) outcomes.set(offset, { kind: "dead letter", code: "no_score", firsts: [] });
    else {
      outcomes.set(offset, {
        kind: "prediction",
        features: featuresOf(transaction, before),
        stale: time < clock.time - DAY_MS,
      });
      cards.set(transaction.card_id, [...before, { transaction, offset }]);
      clock.advance(time);
    }
  }
  return outcomes;
}

function decoded(value: Buffer): Transaction | null {
  try {
    return { ...(transactionType.fromBuffer(value.subarray(WIRE_HEAD_BYTES)) as Transaction) };
  } catch {
    return null;
  }
}

function featuresOf(transaction: Transaction, before: readonly Event[]): number[] {
  const { amount, event_time: time } = transaction;
  // Newest first; of one time, the later in the log first.
  const past = before
    .filter((event) => event.transaction.event_time <= time)
    .sort((a, b) => b.transaction.event_time - a.transaction.event_time || b.offset - a.offset);
  const windows = Object.values(WINDOWS).flatMap((window) => {
    const inside = [
      transaction,
      ...past.map((event) => event.transaction).filter((other) => other.event_time > time - window),
    ];
    const sum = inside.reduce((total, other) => total + other.amount, 0);
    return [
      inside.length,
      sum,
      Math.max(...inside.map((other) => other.amount)),
      new Set(inside.map((other) => other.merchant_id)).size,
      sum > 0 ? amount / (sum / inside.length) : 0,
    ];
  });
  const last = past.length > 0 ? (time - past[0].transaction.event_time) / 1_000 : 0;
  return [amount, ...windows, last].map(Math.fround);
}
