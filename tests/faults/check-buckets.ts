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
  readonly #watermarks: number[];

  constructor(partitions: number, sums: MerchantSums, complaints: Complaints) {
    this.#sums = sums;
    this.#complaints = complaints;
    this.#published = Array.from({ length: partitions }, () => new Map<string, { count: number; frauds: number }>());
    this.#watermarks = Array.from({ length: partitions }, () => -Infinity);
  }

  see({ partition, offset, value }: Seen): void {
    const { entity, id, bucket, source_partition, count, frauds } = bucketOf(value);
    const hour = Math.floor(Number(bucket) / HOUR_MS);
    if (source_partition !== partition) this.#complaints.add("buckets", `${partition}/${offset} is of partition ${source_partition}`);
    if (entity === "watermark") {
      if (hour <= this.#watermarks[partition]) this.#complaints.add("watermarks", `${hour} after ${this.#watermarks[partition]} in partition ${partition}`);
      this.#watermarks[partition] = Math.max(this.#watermarks[partition], hour);
      return;
    }
    if (hour < this.#watermarks[partition]) this.#complaints.add("buckets", `hour ${hour} of ${id} comes behind the watermark of partition ${partition}`);
    if (entity !== "merchant") return;
    this.count += 1;
    const key = `${hour}/${id}`;
    if (this.#published[partition].has(key)) this.#complaints.add("buckets doubled", `${key} of partition ${partition}`);
    this.#published[partition].set(key, { count, frauds });
    this.#sums.add(id, hour, count, frauds);
  }

  /** @param reference by partition */
  finish(reference: readonly BucketsReference[]): void {
    for (const [partition, { buckets }] of reference.entries()) {
      const published = this.#published[partition];
      for (const [key, { count, frauds }] of buckets) {
        if (Number(key.split("/")[0]) >= this.#watermarks[partition]) continue;
        const found = published.get(key);
        if (found?.count !== count || found.frauds !== frauds) this.#complaints.add("buckets", `${key} of partition ${partition}: ${found === undefined ? "none" : `${found.count} with ${found.frauds} frauds`}, and ${count} with ${frauds} without faults`);
      }
      for (const key of published.keys()) if (!buckets.has(key)) this.#complaints.add("buckets", `${key} of partition ${partition} counts nothing that there is`);
    }
  }
}
