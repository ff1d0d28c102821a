import type { CardPseudonyms } from "../../infra/card-pseudonyms.js";
import type { ClickHouseConfig } from "../../infra/config.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { copySections, type Section, type Snapshot, type SnapshotStore } from "../../infra/snapshots.js";
import { BucketBuilder, REPEAT_BUCKETS } from "../../models/features/bucket-builder.js";
import { bytesOf, float64Of } from "../../models/features/columns.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";
import type { Topics } from "../../schemas/topics.js";
import { CLOCK_SKEW_MS } from "../../schemas/transaction-reader.js";
import type { Tenure } from "../runtime/partition-consumer.js";
import { snapshotOf, type FoldKind } from "../runtime/snapshot-of.js";
import { rebuild } from "../scoring/history/rebuild.js";
import { refusedOffsets } from "../scoring/history/reread.js";
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
  /** Where transactions are stored that Kafka has deleted; null: nowhere. */
  clickhouse: ClickHouseConfig | null;
  /** Between two snapshots of a partition, milliseconds. */
  snapshotEveryMs: number;
  /** What stands for card ids; null: they stand for themselves. */
  cards: CardPseudonyms | null;
  log: Logger;
}

export const FOLD: FoldKind = { kind: "merchants", layout: 1 };
const LABELS_NEXT = "labels/next";
const LABELS_TOPIC = "labels/topic";
const FETCH_BYTES = 4 * 1024 * 1024;
/** Producers' clocks differ: a record may be stamped earlier than one before it in the log, by less than this. */
const STAMP_DISORDER_MS = 3_600_000;

const IN_SILENCE = (): void => {};

/** A copy of a builder's state, with where its labels end. */
export function snapshotSections(builder: BucketBuilder, labels: LabelPosition | null): Section[] {
  return [...copySections(builder.sections()), { name: LABELS_NEXT, data: Float64Array.of(labels?.next ?? -1) }, { name: LABELS_TOPIC, data: Buffer.from(labels?.topicId ?? "") }];
}

/** @throws FraudstreamError `snapshot_invalid` */
function restored({ offset, sections: list }: Snapshot): { builder: BucketBuilder; labelsAt: LabelPosition | null; offset: number } {
  const sections = new Map<string, ArrayBufferView>(list.map(({ name, data }) => [name, data]));
  const [next] = float64Of(sections, LABELS_NEXT);
  // A snapshot of an earlier version doesn't say of which topic.
  const topicId = sections.has(LABELS_TOPIC) ? Buffer.from(bytesOf(sections, LABELS_TOPIC)).toString() : "";
  return { builder: BucketBuilder.restore(sections), labelsAt: next < 0 ? null : { topicId, next }, offset };
}

/**
 * The unsealed buckets of a partition as of the committed offset: the newest snapshot that isn't ahead of it, and the log from
 * there, folded without output. What was published by the clock of other partitions is sealed as well.
 *
 * @throws FraudstreamError `history_gap` where transactions of unsealed buckets are nowhere any more
 */
export async function openBuilder(deps: MerchantsDeps, tenure: Tenure, committed: number | null): Promise<{ builder: BucketBuilder; labels: LabelFeed }> {
  const { cluster, schemas, topics, group, snapshots, watermarks, cards, log } = deps;
  const { topic, partition, signal } = tenure;
  const startedAt = performance.now();
  const of = await snapshotOf(cluster, FOLD, topic, partition, cards);
  const snapshot = committed === null ? null : await snapshots.load(of, committed, restored);
  const { builder, labelsAt, offset: from } = snapshot ?? { builder: new BucketBuilder(), labelsAt: null, offset: 0 };
  const forwardedTo = await committedOffset(cluster, group, { topic: topics.labels.name, partition });
  const labels = await LabelFeed.open({ cluster, schemas, log, topic: topics.labels.name, partition, partitions: topics.labels.partitions, cards, signal }, labelsAt, forwardedTo);
  try {
    const published = await watermarks.of(partition);
    if (committed !== null && committed > from) await foldAgain(deps, tenure, builder, from, committed, published);
    if (builder.sealed > published) reportLostBuckets(deps, partition, published);
    builder.seal(published, IN_SILENCE);
    builder.forgetCounts();
  } catch (error) {
    await labels.close();
    throw error;
  }
  if (committed !== null) log.info({ partition, offset: committed, from: snapshot === null ? "log" : "snapshot", folded: committed - from, ms: Math.round(performance.now() - startedAt) }, "unsealed buckets at hand");
  return { builder, labels };
}

/** A watermark is published with all that it seals: where the topic has a lower one than the fold, it has lost its end, or all. */
function reportLostBuckets({ cluster, topics: { merchantBuckets } }: MerchantsDeps, partition: number, published: number): void {
  const last = Number.isFinite(published) ? `its last watermark is ${new Date(published * BUCKET_MS).toISOString()}` : "it has no watermark";
  const message = `${merchantBuckets.name}[${partition}] has lost buckets that were published: ${last}. Windows of merchants lack them in workers that start from now on, until they have moved past that`;
  cluster.incidents.report({ kind: "cut_off", topic: merchantBuckets.name, partition, lost: 0, message });
}

async function foldAgain({ cluster, schemas, topics, clickhouse, cards }: MerchantsDeps, { topic, partition, signal }: Tenure, builder: BucketBuilder, from: number, to: number, published: number): Promise<void> {
  const reader = new PartitionReader(cluster, topic, partition, { signal, maxBytes: FETCH_BYTES });
  const { partitions } = topics.transactions;
  const fold = new TransactionFold(schemas, partitions, builder, cards);
  try {
    const first = await reader.firstOffset();
    /** What lies before can neither be in an unsealed bucket nor be repeated in one. */
    const neededFrom = (published - REPEAT_BUCKETS) * BUCKET_MS;
    if (first > from && (await deletedBefore(reader, first)) >= neededFrom) {
      await rebuild({ clickhouse, source: { topic, partition }, partitions, cards, signal }, {
        what: "the fold of unsealed buckets",
        horizon: () => neededFrom - 1,
        fold: (rows, row) => builder.sealAndAdd(rows, row, IN_SILENCE),
        commit: () => {},
      }, from, Math.min(first, to));
    }
    const again = Math.max(from, first);
    // What lay ahead of the present when it was scored may not do so now.
    const { offsets: refused } = await refusedOffsets({ cluster, source: { topic, partition }, signal }, topics.deadLetters.name, 0, { from: again, to, code: "event_time_ahead" });
    for (let next = again; next < to; ) {
      signal.throwIfAborted();
      const records = await reader.fetch(next);
      await fold.decode(records, refused);
      fold.apply(IN_SILENCE, to);
      next = records.nextOffset;
    }
  } finally {
    await reader.close();
  }
}

/** Every transaction that retention has deleted happened before this: none lies further ahead of its record's time than the skew. */
async function deletedBefore(reader: PartitionReader, first: number): Promise<number> {
  const records = await reader.fetch(first);
  return records.count === 0 ? Number.POSITIVE_INFINITY : records.timestamp[0] + CLOCK_SKEW_MS + STAMP_DISORDER_MS;
}
