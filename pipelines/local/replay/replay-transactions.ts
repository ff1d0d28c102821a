import type { BatchProducer, OutgoingRecord } from "../../../infra/kafka/batch-producer.js";
import type { Dataset, OperandColumn } from "../../../models/datasets/dataset.js";
import { LABEL_DELAY_MS } from "../simulator/simulate.js";
import type { Label, Transaction } from "../../../schemas/generated.js";
import type { LabelSchedule, Rows } from "./label-schedule.js";
import type { Pace } from "./pace.js";

export interface ReplayOptions {
  /** What to publish, in event-time order. */
  rows: Iterable<Rows> | AsyncIterable<Rows>;
  /** Labels that are still due: empty, or with transactions of an earlier run, all before `rows`. */
  schedule: LabelSchedule;
  /** Keeps the order of calls for records of one key, and stamps each with the time of its sending. */
  publisher: Pick<BatchProducer, "publish">;
  topics: { transactions: string; labels: string };
  encode: { transaction(value: Transaction): Buffer; label(value: Label): Buffer };
  pace: Pace;
  /** Ends the transactions; the labels of those that were published still follow. */
  signal: AbortSignal;
  /**
   * Leaves labels that aren't due at the last transaction to the schedule: more transactions will follow. @default
   * false
   */
  keepLabels?: boolean;
  /** Called just before transactions are sent, with the present time (epoch milliseconds). */
  onSend?: (rows: Rows, timestamp: number) => void;
  /** Called when Kafka has acknowledged transactions or labels. */
  onAcknowledged?: (what: "transactions" | "labels", count: number) => void;
}

export interface Replayed {
  transactions: number;
  labels: number;
  /** Every row before this event time was published, none from it on; null when there was none. */
  until: number | null;
}

/** Transactions in one batch, at most (more when they share a millisecond), and batches that wait for Kafka. */
const MAX_BATCH = 1_000;
const MAX_IN_FLIGHT = 4;
/** A batch covers less event time than this, since the labels of its whole span go before it. */
const MAX_SPAN_MS = 3_600_000;
const LABEL_BATCH = 5_000;

/**
 * Publishes transactions, and each one's label when the event time of the transactions reaches its label_time
 * (event time + 7 days). A batch is sent in this order:
 *
 * 1. every label whose label_time is not after the batch's last event time; so a label is early by at most an hour of
 *    event time, and never late;
 * 2. once Kafka has acknowledged those, the transactions.
 * The labels that remain at the end are published then, unless they are kept. A transaction carries no trace of its
 * label.
 *
 * @throws KafkaError as `publisher.publish` does
 */
export async function replayTransactions(options: ReplayOptions): Promise<Replayed> {
  const { pace, schedule, signal } = options;
  const replayed: Replayed = { transactions: 0, labels: 0, until: null };
  const inFlight = new InFlight();
  try {
    for await (const { dataset, start, end } of options.rows) {
      for (let row = start; row < end;) {
        const due = await pace.take(MAX_BATCH, signal);
        if (due === 0) break;
        const batch = { dataset, start: row, end: batchEnd(dataset, row, Math.min(row + due, end), end) };
        const last = dataset.eventTime[batch.end - 1];
        replayed.labels += await publishLabels(options, last);
        await inFlight.room(MAX_IN_FLIGHT);
        send(options, batch, inFlight);
        schedule.add(batch);
        pace.sent(batch.end - row);
        replayed.transactions += batch.end - row;
        replayed.until = last + 1;
        row = batch.end;
      }
      if (signal.aborted) break;
    }
  } finally {
    // Also after a failure: nothing may settle unseen.
    await inFlight.room(1);
  }
  if (options.keepLabels !== true) replayed.labels += await publishLabels(options, Number.POSITIVE_INFINITY);
  return replayed;
}

/** Cuts at the span, then moves the end behind rows of the same millisecond, so that a run may stop after any batch. */
function batchEnd({ eventTime }: Dataset, start: number, wanted: number, end: number): number {
  let cut = start + 1;
  while (cut < wanted && eventTime[cut] - eventTime[start] < MAX_SPAN_MS) cut++;
  while (cut < end && eventTime[cut] === eventTime[cut - 1]) cut++;
  return cut;
}

function send(options: ReplayOptions, batch: Rows, inFlight: InFlight): void {
  const { dataset, start, end } = batch;
  const records: OutgoingRecord[] = [];
  for (let row = start; row < end; row++) {
    records.push({
      key: Buffer.from(dataset.cardId[row]),
      value: options.encode.transaction(transactionOf(dataset, row)),
    });
  }
  options.onSend?.(batch, Date.now());
  inFlight.add(
    options.publisher
      .publish(options.topics.transactions, records)
      .then(() => options.onAcknowledged?.("transactions", records.length)),
  );
}

/** Publishes what is known at `time` and waits until Kafka has it; returns how many. */
async function publishLabels(options: ReplayOptions, time: number): Promise<number> {
  let published = 0;
  for (;;) {
    const due = options.schedule.take(time, LABEL_BATCH);
    if (due.length === 0) return published;
    const records = due.flatMap(({ dataset, start, end }) =>
      Array.from({ length: end - start }, (_, i) => start + i)
        .filter((row) => dataset.unlabelled?.[row] !== 1)
        .map((row) => {
          const label = labelOf(dataset, row);
          return { key: Buffer.from(label.card_id), value: options.encode.label(label) };
        }),
    );
    if (records.length === 0) continue;
    await options.publisher.publish(options.topics.labels, records);
    published += records.length;
    options.onAcknowledged?.("labels", records.length);
  }
}

/** A row as its payment system would publish it. */
function transactionOf(dataset: Dataset, row: number): Transaction {
  const attributes: Transaction["attributes"] = {};
  for (const [name, column] of [...dataset.attributes, ...(dataset.operands ?? [])]) {
    const value = valueOf(column, row);
    if (value !== null) attributes[name] = value;
  }
  return {
    transaction_id: dataset.transactionId[row],
    event_time: dataset.eventTime[row],
    card_id: dataset.cardId[row],
    merchant_id: dataset.merchantId[row],
    amount: dataset.amount[row],
    currency: dataset.currency[row],
    attributes,
  };
}

/** An attribute as its payment system would write it; null: it is absent. */
function valueOf(column: OperandColumn, row: number): number | string | boolean | null {
  if (column.type === "text") return column.codes[row] < 0 ? null : column.categories[column.codes[row]];
  const value = column.values[row];
  if (Number.isNaN(value)) return null;
  if (column.type === "time") return new Date(value).toISOString().replace("T00:00:00.000Z", "");
  return column.type === "boolean" ? value !== 0 : value;
}

/** What becomes known of a row a week later. */
function labelOf(dataset: Dataset, row: number): Label {
  return {
    transaction_id: dataset.transactionId[row],
    card_id: dataset.cardId[row],
    is_fraud: dataset.label[row] === 1,
    label_time: dataset.eventTime[row] + LABEL_DELAY_MS,
  };
}

/** Promises under way; the first failure is thrown to whoever waits next. */
class InFlight {
  readonly #promises = new Set<Promise<void>>();
  #failure: { error: unknown } | null = null;

  add(promise: Promise<void>): void {
    const settled = promise
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#promises.delete(settled));
    this.#promises.add(settled);
  }

  /** Waits until fewer than `most` are under way. */
  async room(most: number): Promise<void> {
    while (this.#promises.size >= most) await Promise.race(this.#promises);
    if (this.#failure !== null) throw this.#failure.error;
  }
}
