/**
 * Kafka → Kafka. The path of a batch of transactions of one source partition:
 *
 *  1. decode   records become columns, checked as scoring checks them; what scoring refuses or sends on is left out
 *  2. labels where a transaction of the batch seals a bucket: this partition's labels, up to the end asked for now;
 *     those of
 *              other partitions' cards are sent there, with the offset behind them in one Kafka transaction; so are
 *              those in
 *              partitions that were added to the topic (added-labels.ts)
 *  3. fold     in the records' order: each transaction seals what its event time lets it, then is added itself
 *  4. encode   the sealed buckets, what they may lack, and behind them the partition's watermark (encode-buckets.ts)
 *  5. commit   buckets, watermark and offset in one Kafka transaction. Without a bucket, only the offset now and then
 * Any error ends the tenure; the next one folds the log again up to the committed offset (open-builder.ts), without
 * output. Since buckets and offset are one transaction, and a watermark is never taken back, each bucket is published
 * once.
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

/** A partition that was read to its end and has been quiet for this long takes the others' watermark. */
const QUIET_MS = 1_000;
const LOOK_EVERY_MS = 500;
/** An offset without buckets is committed this late: records are folded again up to there, so nothing is lost. */
const COMMIT_EVERY_MS = 5_000;
/** At the end of a tenure, a commit and a snapshot are waited for so long. */
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
  /** For looking whether the partition has ended. */
  readonly #reader: PartitionReader;
  readonly #timer: NodeJS.Timeout;
  /** Dead letters of transactions that aren't folded yet begin here or later. */
  #deadLettersFrom: number;
  /** One at a time: a batch, a look at the quiet partition, the end. */
  readonly #turns = new Turns();
  /** Records before it have been folded; null: none, and no offset was ever committed. */
  #position: number | null;
  #committed: number | null;
  #committedAt = Date.now();
  #active = Date.now();
  #published = 0;
  /** The end of the gap that was published last, as a bucket's index; null: none was in this tenure. */
  #gapTold: number | null = null;
  #snapshotAt = Date.now();
  #snapshotOffset = -1;
  #saving: Promise<void> | null = null;
  /** A look is waiting for its turn, or at work: batches must not queue behind more than one. */
  #looking = false;
  /** Something stands at this position that is yet to be processed: looking again would only read it again. */
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

  /** Begins a tenure: fences the former owner, asks where it stood, and brings the fold to there. */
  static async open(
    deps: MerchantsDeps,
    tenure: LiveTenure,
  ): Promise<{ handler: MerchantsTenure; start: number | null }> {
    const producer = await TransactionalProducer.open(
      deps.cluster,
      merchantsTransactionalId(deps.group, tenure.partition),
    );
    try {
      // Null, whatever the reason: all of the log is folded, and what was published is not published again (its
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
      // After an error the transaction's outcome is open, and the fold may be ahead of what was published.
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
   * Labels of other partitions' cards, once each: until they were sent, the group's offset in the labels stands before
   * them.
   */
  readonly #forwardLabels = async ({ outputs, partition, topicId, next }: MisplacedLabels): Promise<void> => {
    const { group, topics } = this.#deps;
    const metadata = encodeMark({ topicId, cluster: this.#tenure.mark.cluster, gaps: [] });
    this.#producer.begin(outputs, { group, topic: topics.labels.name, partition, offset: next, metadata });
    await this.#producer.commit(outputs, Date.now());
  };

  /** What is folded must be at the committed offset for a snapshot to be of use. */
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

  /** Windows over buckets that lack what was lost must say so: the gap is there before the watermark is. */
  #tellOfGaps(): void {
    const { until } = this.#gaps;
    if (until === Number.NEGATIVE_INFINITY) return;
    // Where nothing has come since, what was lost has happened by now.
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

  /** A snapshot is only a cache: what goes wrong is logged. */
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

  /** Where nothing comes any more: others go on, and whoever adds the partitions up must not wait for this one. */
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

  /** Whether every record that can be seen has been folded; markers and aborted records don't count. */
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
