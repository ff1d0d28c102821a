import type { CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import type { ClickHouseConfig } from "../../infra/config/config.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { addGaps, type OffsetMark } from "../../infra/kafka/offset-mark.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { copySections, type Section, type Snapshot, type SnapshotStore } from "../../infra/snapshots.js";
import { BucketBuilder, REPEAT_BUCKETS } from "../../models/features/bucket-builder.js";
import { bytesOf, float64Of } from "../../models/features/columns.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";
import type { Topics } from "../../schemas/topics.js";
import { CLOCK_SKEW_MS } from "../../schemas/transaction-reader.js";
import { STAMP_DISORDER_MS, addGapNumbers, gapNumbers, withoutGaps } from "../runtime/gap-bounds.js";
import type { Tenure } from "../runtime/partition-consumer.js";
import { snapshotOf, type FoldKind } from "../runtime/snapshot-of.js";
import { rebuild, storedRefusals } from "../transactions/rebuild.js";
import { refusedOffsets } from "../transactions/reread.js";
import { AddedLabels, forwardedBefore } from "./added-labels.js";
import { LabelFeed, type LabelPosition } from "./label-feed.js";
import { TransactionFold } from "./transaction-fold.js";
import type { Watermarks } from "./watermarks.js";

export interface MerchantsDeps {
  cluster: KafkaCluster;
  topics: Topics;
  group: string;
  schemas: Schemas;
  watermarks: Watermarks;
  snapshots: SnapshotStore;
  /** Where transactions that Kafka has deleted are stored; null: nowhere. */
  clickhouse: ClickHouseConfig | null;
  /** Time between two snapshots of a partition, milliseconds. */
  snapshotEveryMs: number;
  /** Replaces card ids; null: card ids are used as they are. */
  cards: CardPseudonyms | null;
  log: Logger;
}

export const FOLD: FoldKind = { kind: "merchants", layout: 1 };
const LABELS_NEXT = "labels/next";
const LABELS_TOPIC = "labels/topic";
/** Where the dead letters of later transactions begin. */
const DEAD_LETTERS_FROM = "dead-letters-from";
const GAPS = "gaps";
const FETCH_BYTES = 4 * 1024 * 1024;
/** A transaction that was ahead of the clock when it was scored may no longer be. */
const AHEAD = "event_time_ahead";

const IN_SILENCE = (): void => {};

/** A copy of a builder's state, with the end of its labels and what its log has lost. */
export function snapshotSections(
  builder: BucketBuilder,
  labels: LabelPosition | null,
  gaps: OffsetMark["gaps"],
): Section[] {
  return [
    ...copySections(builder.sections()),
    { name: LABELS_NEXT, data: Float64Array.of(labels?.next ?? -1) },
    { name: LABELS_TOPIC, data: Buffer.from(labels?.topicId ?? "") },
    { name: GAPS, data: gapNumbers(gaps) },
  ];
}

/**
 * Goes with the same snapshot: dead letters of transactions that aren't in it are at this offset or later in their
 * partition.
 */
export function deadLettersSection(from: number): Section {
  return { name: DEAD_LETTERS_FROM, data: Float64Array.of(from) };
}

/** @throws FraudstreamError `snapshot_unusable` */
function restored(
  { offset, sections: list }: Snapshot,
  mark: OffsetMark,
): { builder: BucketBuilder; labelsAt: LabelPosition | null; offset: number; deadLettersFrom: number } {
  const sections = new Map<string, ArrayBufferView>(list.map(({ name, data }) => [name, data]));
  const [next] = float64Of(sections, LABELS_NEXT);
  // A snapshot of an earlier version doesn't name its topic, and lacks the rest, too.
  const topicId = sections.has(LABELS_TOPIC) ? Buffer.from(bytesOf(sections, LABELS_TOPIC)).toString() : "";
  const [deadLettersFrom] = sections.has(DEAD_LETTERS_FROM) ? float64Of(sections, DEAD_LETTERS_FROM) : [0];
  const builder = BucketBuilder.restore(sections);
  if (sections.has(GAPS)) addGapNumbers(mark, float64Of(sections, GAPS));
  return { builder, labelsAt: next < 0 ? null : { topicId, next }, offset, deadLettersFrom };
}

/** The state in which a tenure begins. */
export interface OpenedBuilder {
  builder: BucketBuilder;
  labels: LabelFeed;
  addedLabels: AddedLabels;
  deadLettersFrom: number;
}

/**
 * The unsealed buckets of a partition as of the committed offset: the newest snapshot that isn't ahead of it, plus the
 * log from there, folded without output. Buckets that were published because of other partitions' clocks are sealed as
 * well.
 *
 * @throws FraudstreamError `history_gap` if transactions of unsealed buckets are no longer stored anywhere
 */
export async function openBuilder(
  deps: MerchantsDeps,
  tenure: Tenure,
  committed: number | null,
): Promise<OpenedBuilder> {
  const { cluster, schemas, topics, group, snapshots, watermarks, cards, log } = deps;
  const { topic, partition, signal } = tenure;
  const startedAt = performance.now();
  const of = await snapshotOf(cluster, FOLD, topic, partition, cards);
  const snapshot =
    committed === null ? null : await snapshots.load(of, committed, (loaded) => restored(loaded, tenure.mark));
  const { builder, labelsAt, offset: from } = snapshot ?? { builder: new BucketBuilder(), labelsAt: null, offset: 0 };
  let deadLettersFrom = snapshot?.deadLettersFrom ?? 0;
  const ofLabels = {
    cluster,
    schemas,
    log,
    topic: topics.labels.name,
    partition,
    partitions: topics.labels.partitions,
    cards,
    signal,
    onLost: (first: number, until: number) => {
      // Not an offset of the transactions: a separate entry among their gaps.
      addGaps(tenure.mark, [{ from: -1 - first, to: -1 - first, until }]);
    },
  };
  const labels = await LabelFeed.open(ofLabels, labelsAt, await forwardedBefore(ofLabels, group));
  try {
    const published = await watermarks.of(partition);
    if (committed !== null && committed > from)
      deadLettersFrom = await foldAgain(deps, tenure, builder, { from, to: committed, published, deadLettersFrom });
    if (builder.sealed > published) reportLostBuckets(deps, partition, published);
    builder.seal(published, IN_SILENCE);
    builder.forgetCounts();
  } catch (error) {
    await labels.close();
    throw error;
  }
  if (committed !== null)
    log.info(
      {
        partition,
        offset: committed,
        from: snapshot === null ? "log" : "snapshot",
        folded: committed - from,
        ms: Math.round(performance.now() - startedAt),
      },
      "unsealed buckets at hand",
    );
  return { builder, labels, addedLabels: new AddedLabels(ofLabels, group), deadLettersFrom };
}

/**
 * A watermark is published together with all that it seals: if the topic's watermark is lower than the fold's, the
 * topic has lost its end, or everything.
 */
function reportLostBuckets(
  { cluster, topics: { merchantBuckets } }: MerchantsDeps,
  partition: number,
  published: number,
): void {
  const last = Number.isFinite(published)
    ? `its last watermark is ${new Date(published * BUCKET_MS).toISOString()}`
    : "it has no watermark";
  const message =
    `${merchantBuckets.name}[${partition}] has lost buckets that were published: ${last}. Windows of merchants ` +
    "lack them in workers that start from now on, until they have moved past that";
  cluster.incidents.report({ kind: "cut_off", topic: merchantBuckets.name, partition, lost: 0, message });
}

/** A partition whose refused transactions are looked up, and its topic. */
type RefusalsOf = Pick<Tenure, "topic" | "partition" | "signal" | "mark">;

interface FoldedAgain {
  from: number;
  to: number;
  published: number;
  deadLettersFrom: number;
}

/** @returns where the dead letters of later transactions begin */
async function foldAgain(
  deps: MerchantsDeps,
  { topic, partition, signal, mark }: Tenure,
  builder: BucketBuilder,
  { from, to, published, deadLettersFrom }: FoldedAgain,
): Promise<number> {
  const { cluster, schemas, topics, clickhouse, cards } = deps;
  const source = { topic, partition };
  const { topicId } = mark;
  const reader = new PartitionReader(cluster, topic, partition, { signal, maxBytes: FETCH_BYTES, topicId });
  const { partitions } = topics.transactions;
  const fold = new TransactionFold(schemas, partitions, builder, cards);
  try {
    const first = await reader.firstOffset();
    /** Records before it can neither be in an unsealed bucket nor be repeated in one. */
    const neededFrom = (published - REPEAT_BUCKETS) * BUCKET_MS;
    if (first > from && (await deletedBefore(reader, first)) >= neededFrom) {
      for (const stretch of withoutGaps(from, Math.min(first, to), mark.gaps)) {
        await rebuild(
          { clickhouse, source, partitions, cards, signal },
          {
            what: "the fold of unsealed buckets",
            horizon: () => neededFrom - 1,
            fold: (rows, row) => builder.sealAndAdd(rows, row, IN_SILENCE),
            commit: () => {},
          },
          stretch.from,
          stretch.to,
        );
      }
    }
    const again = Math.max(from, first);
    const refused = await refusedAhead(deps, { ...source, signal, mark }, { from: again, to, deadLettersFrom });
    for (let next = again; next < to;) {
      signal.throwIfAborted();
      const records = await reader.fetch(next);
      await fold.decode(records, refused.offsets);
      fold.apply(IN_SILENCE, to);
      next = records.nextOffset;
    }
    return refused.next;
  } finally {
    await reader.close();
  }
}

/**
 * What scoring refused because it was ahead of the clock: from the dead letters, and where retention has deleted some
 * of those, from ClickHouse.
 */
async function refusedAhead(
  { cluster, topics, clickhouse, log }: MerchantsDeps,
  { signal, mark, ...source }: RefusalsOf,
  { from, to, deadLettersFrom }: { from: number; to: number; deadLettersFrom: number },
): Promise<{ offsets: Set<number>; next: number }> {
  const about = { from, to, code: AHEAD, mark };
  const { offsets, complete, next } = await refusedOffsets(
    { cluster, source, signal },
    topics.deadLetters.name,
    deadLettersFrom,
    about,
  );
  if (!complete && clickhouse !== null)
    for (const offset of await storedRefusals({ clickhouse, source, signal }, about)) offsets.add(offset);
  else if (!complete)
    log.warn(
      { partition: source.partition },
      "dead letters were deleted, or can't be read, that may be about transactions which are folded again: " +
        "set CLICKHOUSE_URL, where the sink has stored them",
    );
  return { offsets, next };
}

/**
 * Where the dead letters of transactions from an offset on begin, searched from where they began before. The result is
 * kept in a snapshot: the fold that resumes from it reads no others.
 */
export async function deadLettersOf(
  { cluster, topics }: MerchantsDeps,
  { topic, partition, signal, mark }: RefusalsOf,
  from: number,
  before: number,
): Promise<number> {
  const { next } = await refusedOffsets(
    { cluster, source: { topic, partition }, signal },
    topics.deadLetters.name,
    before,
    { from, to: from, mark },
  );
  return next;
}

/**
 * Every transaction that retention has deleted happened before this: none is further ahead of its record's time than
 * the skew.
 */
async function deletedBefore(reader: PartitionReader, first: number): Promise<number> {
  const records = await reader.fetch(first);
  return records.count === 0 ? Number.POSITIVE_INFINITY : records.timestamp[0] + CLOCK_SKEW_MS + STAMP_DISORDER_MS;
}
