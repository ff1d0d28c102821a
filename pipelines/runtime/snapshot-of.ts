import { createHash } from "node:crypto";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import type { CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import type { SnapshotOf } from "../../infra/snapshots.js";
import { HISTORY_TERMS } from "../../models/features/history-terms.js";

/**
 * A role's fold of partitions: its name, and the layout of its sections (snapshots of another layout are not loaded).
 */
export interface FoldKind {
  kind: string;
  layout: number;
}

/** What a snapshot of a partition's fold was made from. @param cards with other pseudonyms, the cards are others */
export async function snapshotOf(
  cluster: KafkaCluster,
  { kind, layout }: FoldKind,
  topic: string,
  partition: number,
  cards: CardPseudonyms | null,
): Promise<SnapshotOf> {
  const { cluster: id, topicId } = await cluster.identityOf(topic);
  const terms = createHash("sha256")
    .update(JSON.stringify([layout, HISTORY_TERMS, ...(cards === null ? [] : [cards.fingerprint])]))
    .digest("hex");
  return { kind, cluster: id, topic, topicId, partition, terms };
}
