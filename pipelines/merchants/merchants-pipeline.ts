/**
 * Kafka → Kafka. The path of a batch of transactions of one source partition:
 *
 *  1. decode   records become columns, checked as scoring checks them; what scoring refuses or forwards is left out
 *  2. labels   if a transaction of the batch seals a bucket: this partition's labels are read, up to the end asked for
 *              now. Labels of other partitions' cards are forwarded in one Kafka transaction with the offset after
 *              them; so are labels in partitions that were added to the topic (added-labels.ts)
 *  3. fold     in the order of the records: each transaction first seals the buckets that its event time closes, then
 *              is added itself
 *  4. encode   the sealed buckets, their gaps, and after them the partition's watermark (encode-buckets.ts)
 *  5. commit   buckets, watermark and offset in one Kafka transaction; without a bucket, only the offset, now and then
 * Any error ends the tenure; the next one folds the log again up to the committed offset (open-builder.ts), without
 * output. Since buckets and offset are committed in one transaction, and a watermark never moves back, each bucket is
 * published once.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Turns } from "../../infra/async/turns.js";
import { encodeMark } from "../../infra/kafka/offset-mark.js";
import { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { TransactionalProducer } from "../../infra/kafka/transactional-producer.js";
import type { BucketBuilder } from "../../models/features/bucket-builder.js";
import { messageOf } from "../../schemas/errors.js";
import type { LiveTenure, PartitionHandler } from "../runtime/partition-consumer.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";
import { CLOCK_SKEW_MS } from "../../schemas/transaction-reader.js";
import { GapBounds } from "../runtime/gap-bounds.js";
import { BucketEncoder } from "./encode-buckets.js";
import type { AddedLabels } from "./added-labels.js";
import type { LabelFeed, MisplacedLabels } from "./label-feed.js";
import type { MerchantsState } from "./meter.js";
import { snapshotOf } from "../runtime/snapshot-of.js";
import {
  FOLD,
  deadLettersOf,
  deadLettersSection,
  openBuilder,
  snapshotSections,
  type MerchantsDeps,
  type OpenedBuilder,
} from "./open-builder.js";
import { TransactionFold } from "./transaction-fold.js";

/** The transactional id of a source partition: whoever holds it owns the partition. */
function merchantsTransactionalId(group: string, partition: number): string {
  return `${group}-${partition}`;
}

/** A partition that was read to its end and has been quiet for this long takes over the others' watermark. */
const QUIET_MS = 1_000;
const LOOK_EVERY_MS = 500;
/** How long an offset without buckets may stay uncommitted: nothing is lost, since its records are folded again. */
const COMMIT_EVERY_MS = 5_000;
/** How long the end of a tenure waits for a commit and a snapshot. */
const CLOSE_WITHIN_MS = 5_000;

/** Seals the buckets of one partition while this process owns it. */
export class MerchantsTenure implements PartitionHandler {
  readonly #deps: MerchantsDeps;
  readonly #tenure: LiveTenure;
  readonly #producer: TransactionalProducer;
  readonly #builder: BucketBuilder;
  readonly #fold: TransactionFold;
  readonly #labels: LabelFeed;
  readonly #addedLabels: AddedLabels;
  readonly #gaps: GapBounds;
  readonly #encoder: BucketEncoder;
  readonly #output: PartitionOutput;
  /** Used to check whether the partition has been read to its end. */
  readonly #reader: PartitionReader;
  readonly #timer: NodeJS.Timeout;
  /** Dead letters of transactions that aren't folded yet begin at this offset or later. */
  #deadLettersFrom: number;
  /** One at a time: a batch, a check of the quiet partition, the end. */
  readonly #turns = new Turns();
  /** Records before this offset have been folded; null: none, and no offset was ever committed. */
  #position: number | null;
  #committed: number | null;
  #committedAt = Date.now();
  #active = Date.now();
  #published = 0;
  /** The end of the gap that was published last, as a bucket index; null: none in this tenure. */
  #gapTold: number | null = null;
  #snapshotAt = Date.now();
  #snapshotOffset = -1;
  #saving: Promise<void> | null = null;
  /** A check is queued or running: batches must not queue behind more than one. */
  #looking = false;
  /** The record at this position is yet to be processed: checking again would only read it again. */
  #aheadOf: number | null = null;
  #failed = false;
  #closed = false;

  private constructor(
    deps: MerchantsDeps,
    tenure: LiveTenure,
    producer: TransactionalProducer,
    { builder, labels, addedLabels, deadLettersFrom }: OpenedBuilder,
    committed: number | null,
  ) {
    const { topics, schemas, cluster } = deps;
    const { topic, partition, signal, mark } = tenure;
    this.#deps = deps;
    this.#tenure = tenure;
    this.#producer = producer;
    this.#builder = builder;
    this.#labels = labels;
    this.#addedLabels = addedLabels;
    this.#gaps = new GapBounds(mark);
    this.#deadLettersFrom = deadLettersFrom;
    this.#fold = new TransactionFold(schemas, topics.transactions.partitions, builder, deps.cards);
    this.#encoder = new BucketEncoder(partition, schemas.idOf("merchantBuckets"));
    this.#output = new PartitionOutput(topics.merchantBuckets.name, partition);
    this.#reader = new PartitionReader(cluster, topic, partition, { signal, topicId: mark.topicId });
    this.#position = this.#committed = committed;
    this.#timer = setInterval(() => void this.#look(), LOOK_EVERY_MS);
  }

  /** Begins a tenure: fences the former owner, asks where it stood, and folds up to there. */
  static async open(
    deps: MerchantsDeps,
    tenure: LiveTenure,
  ): Promise<{ handler: MerchantsTenure; start: number | null }> {
    const producer = await TransactionalProducer.open(
      deps.cluster,
      merchantsTransactionalId(deps.group, tenure.partition),
    );
    try {
      // Null, whatever the reason: the whole log is folded, and what was published is not published again (its
      // watermark is sealed).
      const { offset: committed } = await tenure.committed();
      const opened = await openBuilder(deps, tenure, committed);
      return { handler: new MerchantsTenure(deps, tenure, producer, opened, committed), start: committed };
    } catch (error) {
      await producer.close();
      throw error;
    }
  }

  get state(): MerchantsState {
    const { counts, sealed, held, bytes } = this.#builder;
    const labels = (of: "unreadable" | "forwarded" | "misplaced" | "ahead"): number =>
      this.#labels[of] + this.#addedLabels.count(of);
    const [unreadableLabels, forwardedLabels, misplacedLabels, aheadLabels] = [
      labels("unreadable"),
      labels("forwarded"),
      labels("misplaced"),
      labels("ahead"),
    ];
    return {
      partition: this.#tenure.partition,
      sealed,
      buckets: this.#published,
      ...counts,
      unreadableLabels,
      forwardedLabels,
      misplacedLabels,
      aheadLabels,
      rejected: this.#fold.rejected,
      misplaced: this.#fold.misplaced,
      heldLabels: held,
      bytes,
    };
  }

  process(records: FetchedRecords): Promise<void> {
    return this.#inTurn(async () => {
      this.#active = Number.POSITIVE_INFINITY;
      this.#gaps.meet(records, this.#builder.clock, Date.now());
      const newest = await this.#fold.decode(records);
      await this.#addedLabels.forward(this.#builder, this.#forwardLabels);
      if (this.#builder.sealable(newest) > this.#builder.sealed)
        await this.#labels.readToEnd(this.#builder, this.#forwardLabels);
      const before = this.#builder.sealed;
      this.#fold.apply(this.#emit);
      this.#position = records.nextOffset;
      this.#gaps.committed(this.#fold.batch, this.#builder.clock);
      if (this.#builder.sealed > before) await this.#publish();
      else if (Date.now() - this.#committedAt >= COMMIT_EVERY_MS) await this.#commitOffset();
      this.#active = Date.now();
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#inTurn(async () => {
      this.#closed = true;
      // After an error the outcome of the transaction is unknown, and the fold may be ahead of what was published.
      if (!this.#failed) await Promise.race([this.#leave(), sleep(CLOSE_WITHIN_MS, undefined, { ref: false })]);
    }).catch((error: unknown) =>
      this.#deps.log.debug({ partition: this.#tenure.partition }, `leaving a partition: ${messageOf(error)}`),
    );
    await Promise.all([
      this.#saving?.catch(() => {}),
      this.#labels.close(),
      this.#addedLabels.close(),
      this.#reader.close(),
    ]);
    await this.#producer.close();
  }

  readonly #emit = (kind: "merchant" | "card", id: Buffer, bucket: number, count: number, frauds: number): void => {
    this.#encoder.bucket(kind, id, bucket, count, frauds, this.#output);
    this.#published++;
  };

  /**
   * Forwards labels of other partitions' cards, each once: until they are sent, the group's offset in the labels stays
   * before them.
   */
  readonly #forwardLabels = async ({ outputs, partition, topicId, next }: MisplacedLabels): Promise<void> => {
    const { group, topics } = this.#deps;
    const metadata = encodeMark({ topicId, cluster: this.#tenure.mark.cluster, gaps: [] });
    this.#producer.begin(outputs, { group, topic: topics.labels.name, partition, offset: next, metadata });
    await this.#producer.commit(outputs, Date.now());
  };

  /** A snapshot is only of use if the fold is at the committed offset. */
  async #leave(): Promise<void> {
    await this.#commitOffset();
    await this.#saving;
    if (this.#committed !== null && this.#committed !== this.#snapshotOffset) await this.#save(this.#committed);
  }

  async #publish(): Promise<void> {
    this.#tellOfGaps();
    this.#encoder.watermark(this.#builder.sealed, this.#output);
    await this.#commit([this.#output]);
    this.#output.reset();
  }

  /** Windows over buckets that lack lost records must say so: the gap is published before the watermark. */
  #tellOfGaps(): void {
    const { until } = this.#gaps;
    if (until === Number.NEGATIVE_INFINITY) return;
    // If nothing has arrived since, the lost records are in the past by now.
    const bucket = Math.ceil((Number.isFinite(until) ? until : Date.now() + CLOCK_SKEW_MS) / BUCKET_MS);
    if (bucket === this.#gapTold) return;
    this.#encoder.gap(bucket, this.#output);
    this.#gapTold = bucket;
  }

  async #commitOffset(): Promise<void> {
    if (this.#position !== this.#committed) await this.#commit([]);
  }

  async #commit(outputs: readonly PartitionOutput[]): Promise<void> {
    const { group } = this.#deps;
    const { topic, partition, mark } = this.#tenure;
    const position = this.#position;
    this.#producer.begin(
      outputs,
      position === this.#committed || position === null
        ? null
        : { group, topic, partition, offset: position, metadata: encodeMark(mark) },
    );
    await this.#producer.commit(outputs, Date.now());
    this.#committed = position;
    this.#committedAt = Date.now();
    if (
      position === null ||
      this.#saving !== null ||
      position === this.#snapshotOffset ||
      Date.now() - this.#snapshotAt < this.#deps.snapshotEveryMs
    )
      return;
    this.#saving = this.#save(position).finally(() => (this.#saving = null));
  }

  /** A snapshot is only a cache: failures are logged. */
  async #save(offset: number): Promise<void> {
    const { cluster, snapshots, cards, log } = this.#deps;
    const { topic, partition, signal, mark } = this.#tenure;
    this.#snapshotAt = Date.now();
    try {
      const sections = snapshotSections(this.#builder, this.#labels.position, mark.gaps);
      if (!signal.aborted)
        this.#deadLettersFrom = await deadLettersOf(this.#deps, this.#tenure, offset, this.#deadLettersFrom);
      await snapshots.save(await snapshotOf(cluster, FOLD, topic, partition, cards), offset, [
        ...sections,
        deadLettersSection(this.#deadLettersFrom),
      ]);
      this.#snapshotOffset = offset;
    } catch (error) {
      log.warn({ partition }, `no snapshot of the unsealed buckets could be written: ${messageOf(error)}`);
    }
  }

  /**
   * For a partition where nothing arrives any more: the others move on, and whoever sums up the partitions must not
   * wait for this one.
   */
  async #look(): Promise<void> {
    if (this.#closed || this.#failed || this.#looking || Date.now() - this.#active < QUIET_MS) return;
    this.#looking = true;
    try {
      await this.#inTurn(async () => {
        await this.#addedLabels.forward(this.#builder, this.#forwardLabels);
        if (Date.now() - this.#active < QUIET_MS || !(await this.#atEnd())) return;
        await this.#commitOffset();
        const highest = await this.#deps.watermarks.highestBeside(this.#tenure.partition);
        if (!(highest > this.#builder.sealed)) return;
        await this.#labels.readToEnd(this.#builder, this.#forwardLabels);
        this.#builder.seal(highest, this.#emit);
        await this.#publish();
      });
    } catch (error) {
      this.#tenure.fail(error);
    } finally {
      this.#looking = false;
    }
  }

  /** Whether every visible record has been folded; markers and aborted records don't count. */
  async #atEnd(): Promise<boolean> {
    if (this.#aheadOf !== null && this.#aheadOf === this.#position) return false;
    const end = await this.#reader.endOffset();
    for (let next = this.#position ?? (await this.#reader.firstOffset()); next < end;) {
      const records = await this.#reader.fetch(next);
      if (records.count > 0) {
        this.#aheadOf = this.#position;
        return false;
      }
      next = records.nextOffset;
    }
    return true;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.take(async () => {
      try {
        return await work();
      } catch (error) {
        this.#failed = true;
        throw error;
      }
    });
  }
}
