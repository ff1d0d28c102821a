import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { reposition } from "../../infra/kafka/reposition.js";
import { BUCKET_ENTITY, type BucketRecordReader } from "../runtime/bucket-records.js";

/** A watermark is the last record of its transaction; a marker follows it. */
const LAST_RECORDS = 4;

/** The last watermark of each source partition, as the buckets topic has it. */
export class Watermarks {
  readonly #cluster: KafkaCluster;
  readonly #records: BucketRecordReader;
  readonly #partitions: Tail[];
  /** A read is shared: idle partitions ask at about the same time. */
  #looking: Promise<number[]> | null = null;

  constructor(cluster: KafkaCluster, topic: string, partitions: number, records: BucketRecordReader) {
    this.#cluster = cluster;
    this.#records = records;
    this.#partitions = Array.from({ length: partitions }, (_, partition) => ({
      reader: new PartitionReader(cluster, topic, partition),
      watermark: Number.NEGATIVE_INFINITY,
      end: 0,
      looking: null,
    }));
  }

  /** The last committed watermark of a source partition, as a bucket's index; -Infinity: none. */
  async of(partition: number): Promise<number> {
    const tail = this.#partitions[partition];
    // A read under way may have begun before what its caller wants to see.
    await tail.looking?.catch(() => {});
    tail.looking ??= this.#look(tail).finally(() => (tail.looking = null));
    return tail.looking;
  }

  /** The highest of the others' watermarks. */
  async highestBeside(partition: number): Promise<number> {
    this.#looking ??= Promise.all(this.#partitions.map((_, other) => this.of(other))).finally(
      () => (this.#looking = null),
    );
    const watermarks = await this.#looking;
    return watermarks.reduce(
      (highest, watermark, other) => (other === partition ? highest : Math.max(highest, watermark)),
      Number.NEGATIVE_INFINITY,
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.#partitions.map(({ reader }) => reader.close()));
  }

  /** Reads the last records, and further back until it finds a watermark. */
  async #look(tail: Tail): Promise<number> {
    try {
      return await this.#lookOnce(tail);
    } catch (error) {
      const next = await reposition({ cluster: this.#cluster, reader: tail.reader, next: tail.end, error });
      if (next === null) throw error;
      tail.end = next;
      return this.#lookOnce(tail);
    }
  }

  async #lookOnce(tail: Tail): Promise<number> {
    const { reader } = tail;
    const end = await reader.endOffset();
    const first = Math.max(tail.end, await reader.firstOffset());
    for (let back = LAST_RECORDS, to = end; to > first; back *= 8) {
      const from = Math.max(first, end - back);
      let found = false;
      for (let next = from; next < to;) {
        const records = await reader.fetch(next);
        this.#records.read(records, (entity, _bytes, _at, length, bucket) => {
          if (entity !== BUCKET_ENTITY.watermark || length > 0) return;
          found = true;
          tail.watermark = Math.max(tail.watermark, bucket);
        });
        next = records.nextOffset;
      }
      if (found) break;
      to = from;
    }
    // If the log has lost its end, what was read isn't taken back.
    tail.end = end;
    return tail.watermark;
  }
}

interface Tail {
  reader: PartitionReader;
  watermark: number;
  /** Everything before this offset has been read. */
  end: number;
  looking: Promise<number> | null;
}
