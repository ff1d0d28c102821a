import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { partitionOfKey } from "../../infra/kafka/murmur2.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { headerSchemaOf, schemaKeyOf } from "../../infra/kafka/writer-of.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import type { BucketBuilder } from "../../models/features/bucket-builder.js";
import type { CardIds } from "../../schemas/transaction-reader.js";
import { LabelReader } from "../../schemas/label-reader.js";
import type { SchemaKey } from "../../schemas/wire-format.js";

export interface LabelFeedOptions {
  cluster: KafkaCluster;
  schemas: Schemas;
  log: Logger;
  topic: string;
  partition: number;
  /** Partitions of the topic. */
  partitions: number;
  /** What stands for card ids; null: they stand for themselves. */
  cards: CardIds | null;
  signal: AbortSignal;
}

const FETCH_BYTES = 4 * 1024 * 1024;

/** The labels of one partition, read when they are asked for. */
export class LabelFeed {
  readonly #options: LabelFeedOptions;
  readonly #reader: PartitionReader;
  readonly #labels: LabelReader;
  /** Every label before this offset has been applied; null: none was read yet. */
  #next: number | null;
  /** Labels that are none: the sink has sent them to the dead letters. */
  unreadable = 0;
  /** Labels of cards that belong to another partition: they never meet their transaction. */
  misplaced = 0;

  /** @param next where to go on; null: at the log's beginning */
  constructor(options: LabelFeedOptions, next: number | null) {
    const { cluster, topic, partition, signal } = options;
    this.#options = options;
    this.#labels = new LabelReader(options.cards, options.schemas.shapes.labels);
    this.#reader = new PartitionReader(cluster, topic, partition, { signal, maxBytes: FETCH_BYTES });
    this.#next = next;
  }

  get next(): number | null {
    return this.#next;
  }

  /** Applies every label that is committed at the time of this call. */
  async readToEnd(builder: BucketBuilder): Promise<void> {
    const end = await this.#reader.endOffset();
    if (this.#next !== null && this.#next >= end) return;
    let next = this.#next ?? -1;
    const first = await this.#reader.firstOffset();
    if (next < first) {
      const { log, topic, partition } = this.#options;
      if (this.#next !== null) log.error({ topic, partition, next, first }, "the topic's retention has deleted labels that were not read");
      next = first;
    }
    while (next < end) {
      const records = await this.#reader.fetch(next);
      await this.#learn(records);
      this.#apply(records, builder);
      next = records.nextOffset;
      this.#next = next;
    }
    this.#next = next;
  }

  close(): Promise<void> {
    return this.#reader.close();
  }

  async #learn(records: FetchedRecords): Promise<void> {
    let last: SchemaKey | null = null;
    for (let i = 0; i < records.count; i++) {
      const key = schemaKeyOf(records, i);
      if (key === null || key === last) continue;
      last = key;
      if (this.#labels.knows(key)) continue;
      // An unknown id may be registered later: it is asked for again.
      const schema = await this.#options.schemas.load(key);
      if (schema !== null) this.#labels.learn(key, schema);
    }
  }

  #apply(records: FetchedRecords, builder: BucketBuilder): void {
    const { count, bytes, valueAt, valueLength } = records;
    const labels = this.#labels;
    const { partition, partitions } = this.#options;
    for (let i = 0; i < count; i++) {
      if (!labels.read(bytes, valueAt[i], valueLength[i], headerSchemaOf(records, i))) this.unreadable++;
      else if (partitionOfKey(labels.bytes, labels.cardAt, labels.cardLength, partitions) !== partition) this.misplaced++;
      else builder.label(labels.bytes, labels.cardAt, labels.cardLength, labels.transactionAt, labels.transactionLength, labels.isFraud === true, labels.labelTime);
    }
  }
}
