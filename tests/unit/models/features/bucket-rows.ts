import { BUCKET_MS, LABEL_DELAY_MS, REPEAT_HORIZON_MS } from "../../../../models/features/history-terms.js";
import { BucketBuilder, type EmitBucket } from "../../../../models/features/bucket-builder.js";
import { PartitionClock } from "../../../../models/features/partition-clock.js";
import type { BucketRows } from "../../../../models/features/history-rows.js";

export interface TestTransaction {
  id: string;
  card: string;
  merchant: string;
  time: number;
}
export interface TestLabel {
  id: string;
  card: string;
  fraud: boolean;
  time: number;
}
/** What one partition's logs bring, in the order in which the builder gets it. */
export type TestEvent = { transaction: TestTransaction } | { label: TestLabel } | { seal: number };
/** "merchant m1 472222": [count, frauds] */
export type Buckets = Map<string, [number, number]>;

/** Columns of one transaction, behind other bytes, as they stand in what was fetched. */
export function rowsOf({ id, card, merchant, time }: TestTransaction): BucketRows {
  const [a, b, c] = [Buffer.from(id), Buffer.from(card), Buffer.from(merchant)];
  const at = [3, 3 + a.length, 3 + a.length + b.length];
  const column = (value: number): Int32Array => Int32Array.of(value);
  return {
    eventTime: Float64Array.of(time),
    bytes: [Buffer.concat([Buffer.from("xyz"), a, b, c])],
    transactionIdAt: column(at[0]),
    transactionIdLength: column(a.length),
    cardIdAt: column(at[1]),
    cardIdLength: column(b.length),
    merchantIdAt: column(at[2]),
    merchantIdLength: column(c.length),
  };
}

function applyLabel(builder: BucketBuilder, { id, card, fraud, time }: TestLabel): void {
  const bytes = Buffer.from(`_${card}${id}`);
  const cardLength = Buffer.byteLength(card);
  builder.label(bytes, 1, cardLength, 1 + cardLength, bytes.length - 1 - cardLength, fraud, time);
}

/** Feeds events to a builder. */
export function build(
  events: readonly TestEvent[],
  builder = new BucketBuilder(),
  found: Buckets = new Map(),
): Buckets {
  const emit: EmitBucket = (kind, id, bucket, count, frauds) => {
    const key = `${kind} ${id.toString()} ${bucket}`;
    if (found.has(key)) throw new Error(`${key} comes twice`);
    found.set(key, [count, frauds]);
  };
  for (const event of events) {
    if ("seal" in event) builder.seal(event.seal, emit);
    else if ("label" in event) applyLabel(builder, event.label);
    else builder.sealAndAdd(rowsOf(event.transaction), 0, emit);
  }
  return found;
}

/** The same by the words of decision 0006: for each bucket, look through everything that came before its seal. */
export function naiveBuckets(events: readonly TestEvent[]): Buckets {
  const found: Buckets = new Map();
  const accepted: TestTransaction[] = [];
  const clock = new PartitionClock();
  let sealed = Number.NEGATIVE_INFINITY;
  events.forEach((event, at) => {
    let upTo = "seal" in event ? event.seal : sealed;
    if ("seal" in event) clock.raise(upTo * BUCKET_MS + LABEL_DELAY_MS);
    const before = events.slice(0, at);
    const known = [...accepted];
    if ("transaction" in event) {
      const { transaction } = event;
      const repeat = accepted.some(
        ({ id, card, time }) =>
          id === transaction.id && card === transaction.card && Math.abs(time - transaction.time) <= REPEAT_HORIZON_MS,
      );
      if (!repeat) {
        accepted.push(transaction);
        clock.advance(transaction.time);
        upTo = Math.floor((clock.time - LABEL_DELAY_MS) / BUCKET_MS);
      }
    }
    if (upTo <= sealed) return;
    for (const { id, card, merchant, time } of known) {
      const bucket = Math.floor(time / BUCKET_MS);
      // Late ones among them were never counted.
      if (bucket < sealed || bucket >= upTo) continue;
      const labels = before.flatMap((earlier) =>
        "label" in earlier &&
        earlier.label.id === id &&
        earlier.label.card === card &&
        earlier.label.time <= (bucket + 1) * BUCKET_MS + LABEL_DELAY_MS
          ? [earlier.label]
          : [],
      );
      const fraud = labels.at(-1)?.fraud === true;
      for (const key of [`merchant ${merchant} ${bucket}`, ...(fraud ? [`card ${card} ${bucket}`] : [])]) {
        const [count, frauds] = found.get(key) ?? [0, 0];
        found.set(key, [count + 1, frauds + (fraud ? 1 : 0)]);
      }
    }
    sealed = upTo;
  });
  return found;
}
