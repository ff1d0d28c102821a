import type { Complaints } from "./complaints.js";
import { bucketOf } from "./ledger.js";
import type { Seen } from "./reading.js";
import type { BucketsReference, MerchantSums } from "./windows-reference.js";

const HOUR_MS = 3_600_000;

/** The merchants' buckets as they were published: each once, behind no watermark, and with what a run without faults counts. */
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
    if (source_partition !== partition) this.#complaints.add("buckets", `${partition}/${offset} is of partition ${source_partition}`);
    const watermark = this.#watermark(partition);
    if (entity === "watermark") {
      if (hour > watermark) this.#seals[partition].push({ hour, at: timestamp });
      else this.#complaints.add("watermarks", `${hour} after ${watermark} in partition ${partition}`);
      return;
    }
    if (hour < watermark) this.#complaints.add("buckets", `hour ${hour} of ${id} comes behind the watermark of partition ${partition}`);
    if (entity !== "merchant") return;
    this.count += 1;
    const key = `${hour}/${id}`;
    if (this.#published[partition].has(key)) this.#complaints.add("buckets doubled", `${key} of partition ${partition}`);
    this.#published[partition].set(key, { count, frauds });
    this.#sums.add(id, hour, count, frauds);
  }

  /**
   * A partition that was quiet is sealed by the others' clocks: what is sent to it afterwards with an older event time counts nowhere,
   * while the reference, which knows the partition's own clock only, has it.
   *
   * @param reference by partition
   */
  finish(reference: readonly BucketsReference[]): void {
    for (const [partition, { buckets }] of reference.entries()) {
      const published = this.#published[partition];
      for (const [key, transactions] of buckets) {
        const hour = Number(key.split("/")[0]);
        const seal = this.#seals[partition].find((each) => each.hour > hour);
        if (seal === undefined) continue;
        const { count, frauds } = published.get(key) ?? { count: 0, frauds: 0 };
        const inTime = transactions.filter(({ at }) => at <= seal.at);
        const counted = count === transactions.length ? transactions : inTime;
        this.afterSeal += transactions.length - counted.length;
        const expected = counted.filter(({ isFraud }) => isFraud === true).length;
        const most = counted.filter(({ isFraud }) => isFraud !== false).length;
        if (count !== counted.length || frauds < expected || frauds > most) this.#complaints.add("buckets", `${key} of partition ${partition}: ${count} with ${frauds} frauds, and ${counted.length} with ${expected} to ${most} without faults (${transactions.length - inTime.length} sent after its seal)`);
      }
      for (const key of published.keys()) if (!buckets.has(key)) this.#complaints.add("buckets", `${key} of partition ${partition} counts nothing that there is`);
    }
  }

  #watermark(partition: number): number {
    return this.#seals[partition].at(-1)?.hour ?? -Infinity;
  }
}
