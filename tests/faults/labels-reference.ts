import { partitionOf } from "../../infra/kafka/batch-producer.js";
import type { Complaints } from "./complaints.js";
import { labelOf } from "./ledger.js";
import type { Seen } from "./reading.js";

const PLACES = 2 ** 20;
/** A label that came so shortly before the end of the stream waits for the next hour to be sealed. */
const UNREAD_MS = 3_000;

interface LabelRecord {
  partition: number;
  offset: number;
  card: string;
  id: string;
  isFraud: boolean;
  /** When it was published: by its header, else by the record's timestamp. */
  order: number;
  at: number;
  home: number;
  /** Where it stood before it was sent on, `partition/offset`. */
  forwarded: string | null;
}

/** The labels of the topic, and which of a transaction counts, by decision 0014: the one that was published last. */
export class LabelsReference {
  readonly #records: LabelRecord[] = [];
  readonly #partitions: number;

  constructor(partitions: number) {
    this.#partitions = partitions;
  }

  see({ partition, offset, timestamp, value, headers }: Seen): void {
    const { card_id, transaction_id, is_fraud } = labelOf(value);
    this.#records.push({
      partition, offset, card: card_id, id: transaction_id, isFraud: is_fraud, at: timestamp,
      order: Number(headers["fraudstream-label-order"] ?? timestamp),
      home: partitionOf(Buffer.from(card_id), this.#partitions),
      forwarded: headers["fraudstream-forwarded-from"]?.split("/").slice(-2).join("/") ?? null,
    });
  }

  get count(): number {
    return this.#records.length;
  }

  has(card: string, id: string, isFraud: boolean): boolean {
    return this.#records.some((record) => record.card === card && record.id === id && record.isFraud === isFraud);
  }

  /** By `card id`. */
  last(): Map<string, LabelRecord> {
    const last = new Map<string, LabelRecord>();
    for (const record of this.#records) {
      const key = `${record.card} ${record.id}`;
      const known = last.get(key);
      if (known === undefined || record.order > known.order || (record.order === known.order && placeOf(record) >= placeOf(known))) last.set(key, record);
    }
    return last;
  }

  /** Transactions, `card id`, with a label that stood in another partition: when it reached the merchants depends on the faults. */
  misplaced(): Set<string> {
    return new Set(this.#records.filter(({ partition, home }) => partition !== home).map(({ card, id }) => `${card} ${id}`));
  }

  /** Each label of another partition was sent on once. @param end when the stream of transactions ended, epoch milliseconds */
  check(end: number, complaints: Complaints): void {
    const copies = new Map<string, number>();
    for (const { forwarded } of this.#records) if (forwarded !== null) copies.set(forwarded, (copies.get(forwarded) ?? 0) + 1);
    for (const { partition, offset, home, at, id } of this.#records) {
      if (partition === home) continue;
      const times = copies.get(`${partition}/${offset}`) ?? 0;
      if (times > 1 || (times === 0 && at < end - UNREAD_MS)) complaints.add("labels sent on", `${partition}/${offset} (${id}): ${times} times`);
    }
  }
}

function placeOf({ partition, home, offset }: LabelRecord): number {
  return partition === home ? offset % PLACES : 0;
}
