import { crc32 } from "node:zlib";
import { partitionOf } from "../../infra/kafka/batch-producer.js";
import type { Complaints } from "./complaints.js";
import { labelOf } from "./ledger.js";
import type { Blocked } from "./foreign-transactions.js";
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
  crc: number;
  /** Of a topic that was deleted. */
  former: FormerLabels | null;
  /** It came over HTTP: when the merchants got it is not the feed's to say. */
  overHttp: boolean;
}

/**
 * Labels of a topic that was deleted: whether all of them were stored, when it was deleted, epoch milliseconds, and, by
 * partition, from where on nobody has seen what stood there.
 */
export interface FormerLabels {
  drained: boolean;
  deletedAt: number;
  ends: readonly number[];
}

/** What the table has of a transaction's label. */
export interface Stored {
  partition: number;
  offset: number;
  isFraud: boolean;
}

/** The labels of the topic, and which of a transaction counts, by decision 0014: the one that was published last. */
export class LabelsReference {
  #records: LabelRecord[] = [];
  readonly #partitions: number;

  constructor(partitions: number) {
    this.#partitions = partitions;
  }

  /** @param former null: it stands in the topic that is there */
  see({ partition, offset, timestamp, value, headers }: Seen, former: FormerLabels | null = null): void {
    const { card_id, transaction_id, is_fraud } = labelOf(value);
    this.#records.push({
      partition,
      offset,
      card: card_id,
      id: transaction_id,
      isFraud: is_fraud,
      at: timestamp,
      order: Number(headers["fraudstream-label-order"] ?? timestamp),
      home: partitionOf(Buffer.from(card_id), this.#partitions),
      forwarded: headers["fraudstream-forwarded-from"]?.split("/").slice(-2).join("/") ?? null,
      crc: crc32(value),
      former,
      overHttp: headers["fraudstream-label-order"] !== undefined && headers["fraudstream-forwarded-from"] === undefined,
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
      if (
        known === undefined ||
        record.order > known.order ||
        (record.order === known.order && placeOf(record) >= placeOf(known))
      )
        last.set(key, record);
    }
    return last;
  }

  /** The table has of each transaction what was published last. @param stored by `card id` */
  compare(stored: ReadonlyMap<string, Stored>, complaints: Complaints): void {
    const last = this.last();
    for (const [key, row] of stored) {
      const { partition, offset, isFraud } = last.get(key) ?? {};
      if (partition !== row.partition || offset !== row.offset || isFraud !== row.isFraud)
        complaints.add("labels stored", `${key}: ${JSON.stringify(row)}, of ${this.#describe(key)}`);
    }
  }

  /** All that was said of a `card id`. */
  #describe(key: string): string {
    const said = this.#records.filter(({ card, id }) => `${card} ${id}` === key);
    return JSON.stringify(said.map((record) => ({ ...record, former: record.former !== null })));
  }

  get hasFormer(): boolean {
    return this.#records.some(({ former }) => former !== null);
  }

  /** Whether something was deleted that may not have been stored. */
  get isUncertain(): boolean {
    return this.#records.some(({ former }) => former?.drained === false);
  }

  /**
   * Labels that were deleted count where they are stored: some may not have been, and of those of other partitions the
   * copy may be that nobody has seen.
   *
   * @param stored by `card id`
   */
  settleFormer(stored: ReadonlyMap<string, Stored>): void {
    for (;;) {
      const unstored = new Set<LabelRecord>();
      for (const [key, record] of this.last()) {
        const row = stored.get(key);
        if (record.former === null || (row?.partition === record.partition && row.offset === record.offset)) continue;
        if (row !== undefined && isUnseenCopy(record, row))
          Object.assign(record, { partition: row.partition, offset: row.offset });
        else if (!record.former.drained) unstored.add(record);
      }
      if (unstored.size === 0) return;
      this.#records = this.#records.filter((record) => !unstored.has(record));
    }
  }

  /**
   * From when on it depends on the faults whether the merchants count a transaction's label, by `card id`: it stood in
   * another partition, behind a transaction that was open, in a topic that was deleted, or came over HTTP. Epoch
   * milliseconds.
   */
  uncertainFrom(blocked: readonly Blocked[]): Map<string, number> {
    const uncertain = new Map<string, number>();
    for (const { card, id, partition, home, former, overHttp, at } of this.#records) {
      const waited = blocked.some(
        (each) => each.topic === "labels" && each.partition === partition && at >= each.from && at <= each.until,
      );
      const from =
        partition !== home || overHttp || waited || former?.drained === false
          ? -Infinity
          : (former?.deletedAt ?? Infinity);
      const key = `${card} ${id}`;
      if (from < Infinity) uncertain.set(key, Math.min(from, uncertain.get(key) ?? Infinity));
    }
    return uncertain;
  }

  /**
   * Each label of another partition was sent on once, but for partitions that were added. @param end when the stream of
   * transactions ended, epoch milliseconds
   */
  check(end: number, complaints: Complaints): void {
    const copies = new Map<string, number>();
    for (const { forwarded, crc } of this.#records)
      if (forwarded !== null) copies.set(`${forwarded}/${crc}`, (copies.get(`${forwarded}/${crc}`) ?? 0) + 1);
    for (const { partition, offset, home, at, id, crc, former } of this.#records) {
      if (partition === home) continue;
      const times = copies.get(`${partition}/${offset}/${crc}`) ?? 0;
      const required = former === null && partition < this.#partitions && at < end - UNREAD_MS;
      if (times > 1 || (times === 0 && required))
        complaints.add("labels sent on", `${partition}/${offset} (${id}): ${times} times`);
    }
  }
}

/**
 * A misplaced label may have been sent on, and that stored, after the topic was read here and before it was deleted.
 */
function isUnseenCopy({ partition, home, isFraud, former }: LabelRecord, row: Stored): boolean {
  return (
    partition !== home &&
    row.partition === home &&
    row.isFraud === isFraud &&
    row.offset >= (former?.ends[home] ?? Infinity)
  );
}

function placeOf({ partition, home, offset }: LabelRecord): number {
  return partition === home ? offset % PLACES : 0;
}
