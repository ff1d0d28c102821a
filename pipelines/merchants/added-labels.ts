import { committedPosition } from "../../infra/kafka/group-membership.js";
import { decodeMark, formerTopicOf } from "../../infra/kafka/offset-mark.js";
import type { BucketBuilder } from "../../models/features/bucket-builder.js";
import { LabelFeed, type LabelFeedOptions, type MisplacedLabels } from "./label-feed.js";

/** How often added partitions, and labels in them, are looked for while nothing is sealed. */
const LOOK_EVERY_MS = 1_000;

/**
 * The offset before which a group has sent on all labels that stood in a partition of other partitions' cards; null:
 * none were. What was committed in a topic that had this name before says nothing of this one.
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
 * Labels in partitions that were added to their topic: no card is at home there, so all of them are sent on to the
 * partition of their card. Partition n looks after the added ones that are n modulo the configured count.
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

  /** Those that were sent on, that are too large for it, and so on. */
  count(of: "unreadable" | "forwarded" | "misplaced" | "ahead"): number {
    return this.#feeds.reduce((sum, feed) => sum + feed[of], 0);
  }

  /** Sends on what is there, unless that was looked at a moment ago. */
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
