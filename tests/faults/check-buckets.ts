import type { Complaints } from "./complaints.js";
import { bucketOf } from "./ledger.js";
import type { Seen } from "./reading.js";
import type { BucketsReference, Counted, MerchantSums } from "./windows-reference.js";

const HOUR_MS = 3_600_000;
/** A role that reads a topic has noticed by then that it was deleted. */
const NOTICED_WITHIN_MS = 60_000;
/** A role has read by then what was sent, or what an open transaction hid from it, slow connections included. */
const READ_WITHIN_MS = 10_000;

/**
 * The merchants' buckets as they were published: each once, behind no watermark, and with what a run without faults
 * counts.
 */
export class Buckets {
  /** Merchants' buckets. */
  count = 0;
  readonly #sums: MerchantSums;
  readonly #complaints: Complaints;
  /** By source partition: `<hour>/<merchant>`. */
  readonly #published: Map<string, { count: number; frauds: number }>[];
  /** By source partition, rising: each watermark, and when it was committed. */
  readonly #seals: { hour: number; at: number }[][];
  /** Transactions that were sent after their bucket had been sealed. */
  afterSeal = 0;

  constructor(partitions: number, sums: MerchantSums, complaints: Complaints) {
    this.#sums = sums;
    this.#complaints = complaints;
    this.#published = Array.from({ length: partitions }, () => new Map<string, { count: number; frauds: number }>());
    this.#seals = Array.from({ length: partitions }, () => []);
  }

  see({ partition, offset, timestamp, value }: Seen): void {
    const { entity, id, bucket, source_partition, count, frauds } = bucketOf(value);
    const hour = Math.floor(Number(bucket) / HOUR_MS);
    if (source_partition !== partition)
      this.#complaints.add("buckets", `${partition}/${offset} is of partition ${source_partition}`);
    const watermark = this.#watermark(partition);
    // A gap, which says that buckets may lack what was deleted unread.
    if (entity === "watermark" && id !== "") return;
    if (entity === "watermark") {
      if (hour > watermark) this.#seals[partition].push({ hour, at: timestamp });
      else this.#complaints.add("watermarks", `${hour} after ${watermark} in partition ${partition}`);
      return;
    }
    if (hour < watermark)
      this.#complaints.add("buckets", `hour ${hour} of ${id} comes behind the watermark of partition ${partition}`);
    if (entity !== "merchant") return;
    this.count += 1;
    const key = `${hour}/${id}`;
    if (this.#published[partition].has(key))
      this.#complaints.add("buckets doubled", `${key} of partition ${partition}`);
    this.#published[partition].set(key, { count, frauds });
    this.#sums.add(id, hour, count, frauds);
  }

  /**
   * A partition that was quiet is sealed by the others' clocks: what is sent to it afterwards with an older event time
   * counts nowhere, nor does what stood behind an open transaction then, while the reference, which knows the
   * partition's own clock only, has it.
   *
   * @param generations of the topic of transactions: who seals counts those of one
   */
  finish(generations: readonly { reference: readonly BucketsReference[]; deletedAt: number }[]): void {
    for (const [partition, published] of this.#published.entries()) {
      const keys = new Set(generations.flatMap(({ reference }) => [...(reference[partition]?.buckets.keys() ?? [])]));
      for (const key of keys) {
        const hour = Number(key.split("/")[0]);
        const seal = this.#seals[partition].find((each) => each.hour > hour);
        if (seal === undefined) continue;
        const found = published.get(key) ?? { count: 0, frauds: 0 };
        // Whoever reads a topic that is deleted may seal with what it has read, for a moment.
        const possible = generations.filter(
          ({ deletedAt }, i) =>
            seal.at <= deletedAt + NOTICED_WITHIN_MS && (i === 0 || seal.at >= generations[i - 1].deletedAt),
        );
        const wrong = possible.map(({ reference }) =>
          this.#differs(reference[partition]?.buckets.get(key) ?? [], seal.at, found),
        );
        // What it had not read of the former topic is gone, and of the new one it may have read nothing yet.
        const isBetween = generations.some(
          ({ deletedAt }) => seal.at >= deletedAt && seal.at <= deletedAt + NOTICED_WITHIN_MS,
        );
        const sent = generations.reduce(
          (sum, { reference }) =>
            sum + (reference[partition]?.buckets.get(key) ?? []).filter(({ at }) => at <= seal.at).length,
          0,
        );
        if (isBetween && found.count <= sent && found.frauds <= found.count) continue;
        if (!wrong.includes(null))
          this.#complaints.add("buckets", `${key} of partition ${partition}: ${wrong.join("; or ")}`);
      }
      for (const key of published.keys())
        if (!keys.has(key))
          this.#complaints.add("buckets", `${key} of partition ${partition} counts nothing that there is`);
    }
  }

  /** @returns what is wrong; null: nothing is */
  #differs(
    transactions: readonly Counted[],
    sealedAt: number,
    { count, frauds }: { count: number; frauds: number },
  ): string | null {
    const sent = transactions.filter(({ at }) => at <= sealedAt);
    const readable = transactions.filter(({ readable: at }) => at <= sealedAt);
    const read = transactions.filter(({ readable: from }) => from + READ_WITHIN_MS <= sealedAt);
    const exact = [transactions, sent, readable, read].find((each) => each.length === count);
    // What came, or was released by an open transaction, shortly before the seal may have been read or not: whoever
    // seals a quiet partition looks for its end and for its labels first, over a connection that may be slow.
    if (exact === undefined && (count < read.length || count > sent.length))
      return (
        `${count} with ${frauds} frauds, and ${transactions.length} without faults, of which ${sent.length} ` +
        `were sent before its seal and ${readable.length} could be read`
      );
    const isCertain = ({ uncertainFrom }: Counted): boolean => sealedAt < uncertainFrom;
    const least = (exact ?? read).filter((each) => each.isFraud && isCertain(each)).length;
    const most = (exact ?? sent).filter((each) => each.isFraud || !isCertain(each)).length;
    if (frauds < least || frauds > most) return `${frauds} frauds of ${count}, and ${least} to ${most} without faults`;
    this.afterSeal += transactions.length - count;
    return null;
  }

  #watermark(partition: number): number {
    return this.#seals[partition].at(-1)?.hour ?? -Infinity;
  }
}
