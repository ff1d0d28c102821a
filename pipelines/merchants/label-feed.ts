import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { isTooFarAhead, LABEL_ORDER, labelOrder } from "../../infra/kafka/label-order.js";
import { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { headerSchemaOf, schemaKeyOf } from "../../infra/kafka/writer-of.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import type { BucketBuilder } from "../../models/features/bucket-builder.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";
import type { CardIds } from "../../schemas/transaction-reader.js";
import { LabelReader } from "../../schemas/label-reader.js";
import type { SchemaKey } from "../../schemas/wire-format.js";
import { STAMP_DISORDER_MS } from "../runtime/gap-bounds.js";
import { forwardedHeaders, forwardTo } from "../transactions/placement.js";

export interface LabelFeedOptions {
  cluster: KafkaCluster;
  schemas: Schemas;
  log: Logger;
  topic: string;
  partition: number;
  /** Partitions of the topic. */
  partitions: number;
  /** Replaces card ids; null: card ids are used as they are. */
  cards: CardIds | null;
  signal: AbortSignal;
  /**
   * Called when labels were deleted before they were read.
   *
   * @param first the first offset that is left
   * @param until no deleted label is later than this
   */
  onLost: (first: number, until: number) => void;
}

/** Where a feed resumes, and in which topic: a topic that was created again counts from 0. */
export interface LabelPosition {
  topicId: string;
  next: number;
}

/** Labels of other partitions' cards, to be sent there, and the offset in this partition before which all have been. */
export interface MisplacedLabels {
  outputs: readonly PartitionOutput[];
  partition: number;
  topicId: string;
  next: number;
}

const FETCH_BYTES = 4 * 1024 * 1024;
/** A label that, with its headers, doesn't fit into a batch even on its own. */
const MAX_FORWARDED_BYTES = 900 * 1024;

/** Reads the labels of one partition on demand. */
export class LabelFeed {
  readonly #options: LabelFeedOptions;
  readonly #reader: PartitionReader;
  readonly #labels: LabelReader;
  readonly #topicId: string;
  /** Every label before this offset has been applied; null: none has been read yet. */
  #next: number | null;
  /** Labels of other partitions' cards before this offset have been forwarded. */
  #forwardedTo: number;
  /** Records that are not valid labels: the sink has sent them to the dead letters. */
  unreadable = 0;
  /** Labels of cards that belong to another partition; they were forwarded there. */
  forwarded = 0;
  /** Labels of cards that belong to another partition but are too large to forward. */
  misplaced = 0;
  /** Labels published too far ahead of this machine's clock: the sink has sent them to the dead letters. */
  ahead = 0;

  private constructor(options: LabelFeedOptions, topicId: string, next: number | null, forwardedTo: number) {
    const { cluster, topic, partition, signal } = options;
    this.#options = options;
    this.#labels = new LabelReader(options.cards, options.schemas.shapes.labels);
    this.#reader = new PartitionReader(cluster, topic, partition, { signal, maxBytes: FETCH_BYTES, topicId });
    this.#topicId = topicId;
    this.#next = next;
    this.#forwardedTo = forwardedTo;
  }

  /**
   * @param position where to resume, unless the topic is another one by now; null: at the log's beginning
   * @param forwardedTo labels of other partitions' cards before this offset have been forwarded; null: as far as they
   *   were read
   */
  static async open(
    options: LabelFeedOptions,
    position: LabelPosition | null,
    forwardedTo: number | null,
  ): Promise<LabelFeed> {
    const { cluster, topic, partition, log } = options;
    const { topicId } = await cluster.identityOf(topic);
    const isOther = position !== null && position.topicId !== "" && position.topicId !== topicId;
    if (isOther) log.warn({ topic, partition }, "the topic of labels was made anew: it is read from its beginning");
    const next = position === null || isOther ? null : position.next;
    return new LabelFeed(options, topicId, next, forwardedTo ?? next ?? 0);
  }

  /** Null: nothing has been read yet. */
  get position(): LabelPosition | null {
    return this.#next === null ? null : { topicId: this.#topicId, next: this.#next };
  }

  /**
   * Applies every label that is committed at the time of this call, and forwards those of other partitions' cards.
   *
   * @param forward returns once they have been sent, together with the offset after them
   */
  async readToEnd(builder: BucketBuilder, forward: (labels: MisplacedLabels) => Promise<void>): Promise<void> {
    const end = await this.#reader.endOffset();
    if (this.#next === end) return;
    const { log, topic, partition } = this.#options;
    const first = await this.#reader.firstOffset();
    let next = this.#next ?? first;
    if ((this.#next ?? 0) < first) await this.#reportLost(builder, first, end);
    if (next < first || next > end) {
      if (next < first)
        log.error({ topic, partition, next, first }, "the topic's retention has deleted labels that were not read");
      else
        log.error(
          { topic, partition, next, end },
          "the log of labels ends before what was read of it, as if it had been made anew: it is read from " +
            "its beginning",
        );
      next = first;
    }
    if (this.#forwardedTo > end) this.#forwardedTo = first;
    while (next < end) {
      const records = await this.#reader.fetch(next);
      await this.#learn(records);
      const outputs = this.#apply(records, builder);
      next = records.nextOffset;
      if (outputs.length > 0) {
        await forward({ outputs, partition, topicId: this.#topicId, next });
        this.#forwardedTo = next;
      }
      this.#next = next;
    }
    this.#next = next;
  }

  close(): Promise<void> {
    return this.#reader.close();
  }

  /**
   * No lost label is newer than the first one left. Lost labels that are too old for any bucket still to be sealed
   * change nothing. If the log has no labels left, a feed that has lost its position can't tell whether there were
   * newer ones.
   */
  async #reportLost(builder: BucketBuilder, first: number, end: number): Promise<void> {
    const records = first < end ? await this.#reader.fetch(first) : null;
    const isEmpty = records === null || records.count === 0;
    if (isEmpty && this.#next === null) return;
    const until = (isEmpty ? Date.now() : records.timestamp[0]) + STAMP_DISORDER_MS;
    if (until > builder.sealed * BUCKET_MS) this.#options.onLost(first, until);
  }

  async #learn(records: FetchedRecords): Promise<void> {
    let last: SchemaKey | null = null;
    this.#labels.forgetUnknown();
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

  /** @returns what to forward */
  #apply(records: FetchedRecords, builder: BucketBuilder): PartitionOutput[] {
    const { bytes, valueAt, valueLength } = records;
    const labels = this.#labels;
    const outputs = new Map<number, PartitionOutput>();
    for (let i = 0; i < records.count; i++) {
      if (!labels.read(bytes, valueAt[i], valueLength[i], headerSchemaOf(records, i))) {
        this.unreadable++;
        continue;
      }
      const order = labelOrder(records, i);
      if (isTooFarAhead(order)) this.ahead++;
      else {
        const partition = forwardTo(
          records,
          i,
          this.#options.partitions,
          labels.bytes,
          labels.cardAt,
          labels.cardLength,
        );
        if (partition >= 0) this.#forward(records, i, order, partition, outputs);
        else
          builder.label(
            labels.bytes,
            labels.cardAt,
            labels.cardLength,
            labels.transactionAt,
            labels.transactionLength,
            labels.isFraud === true,
            labels.labelTime,
            order,
          );
      }
    }
    return [...outputs.values()];
  }

  /** The label's own bytes, keyed by its card, with the time at which it was published. */
  #forward(
    records: FetchedRecords,
    index: number,
    order: number,
    partition: number,
    outputs: Map<number, PartitionOutput>,
  ): void {
    const { bytes, valueAt, valueLength, offset } = records;
    if (offset[index] < this.#forwardedTo) return;
    const card = this.#labels.bytes.subarray(this.#labels.cardAt, this.#labels.cardAt + this.#labels.cardLength);
    const headers = forwardedHeaders(records, index, [[LABEL_ORDER, String(order)]]);
    if (card.length + valueLength[index] + headers.length > MAX_FORWARDED_BYTES) {
      this.misplaced++;
      return;
    }
    const output = outputs.get(partition) ?? new PartitionOutput(this.#options.topic, partition);
    outputs.set(partition, output);
    output.append(card, bytes.subarray(valueAt[index], valueAt[index] + valueLength[index]), headers);
    this.forwarded++;
  }
}
