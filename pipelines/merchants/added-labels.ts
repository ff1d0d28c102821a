import { committedPosition } from "../../infra/kafka/group-membership.js";
import { decodeMark, formerTopicOf } from "../../infra/kafka/offset-mark.js";
import type { BucketBuilder } from "../../models/features/bucket-builder.js";
import { LabelFeed, type LabelFeedOptions, type MisplacedLabels } from "./label-feed.js";

/** How often to look for added partitions, and for labels in them, while no bucket is sealed. */
const LOOK_EVERY_MS = 1_000;

/**
 * The offset before which a group has forwarded all labels of a partition that belong to other partitions' cards; null:
 * none were forwarded. An offset committed for an earlier topic of this name does not count.
 */
export async function forwardedBefore(
  { cluster, topic, partition }: Pick<LabelFeedOptions, "cluster" | "topic" | "partition">,
  group: string,
): Promise<number | null> {
  const committed = await committedPosition(cluster, group, { topic, partition });
  if (committed === null) return null;
  const { topicId, cluster: clusterId } = await cluster.identityOf(topic);
  return formerTopicOf(decodeMark(committed.metadata), { topicId, cluster: clusterId, gaps: [] }) === null
    ? committed.offset
    : 0;
}

/**
 * Labels in partitions that were added to their topic: no card belongs there, so all of them are forwarded to their
 * card's partition. Partition n takes care of the added partitions whose number modulo the configured count is n.
 */
export class AddedLabels {
  readonly #options: LabelFeedOptions;
  readonly #group: string;
  readonly #feeds: LabelFeed[] = [];
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(options: LabelFeedOptions, group: string) {
    this.#options = options;
    this.#group = group;
  }

  /** Counts of the labels that were forwarded, that are too large to forward, and so on. */
  count(of: "unreadable" | "forwarded" | "misplaced" | "ahead"): number {
    return this.#feeds.reduce((sum, feed) => sum + feed[of], 0);
  }

  /** Forwards the labels that are there, unless it looked a moment ago. */
  async forward(builder: BucketBuilder, send: (labels: MisplacedLabels) => Promise<void>): Promise<void> {
    const now = Date.now();
    if (now - this.#lookedAt < LOOK_EVERY_MS) return;
    this.#lookedAt = now;
    await this.#openNew();
    for (const feed of this.#feeds) await feed.readToEnd(builder, send);
  }

  async close(): Promise<void> {
    await Promise.all(this.#feeds.map((feed) => feed.close()));
  }

  async #openNew(): Promise<void> {
    const { cluster, topic, partition: home, partitions } = this.#options;
    const count = (await cluster.partitionCounts([topic])).get(topic) ?? 0;
    for (let partition = home + partitions * (this.#feeds.length + 1); partition < count; partition += partitions) {
      const options = { ...this.#options, partition };
      const before = await forwardedBefore(options, this.#group);
      this.#feeds.push(await LabelFeed.open(options, before === null ? null : { topicId: "", next: before }, before));
    }
  }
}
