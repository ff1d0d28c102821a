import type { Assigner, PartitionAssigner } from "kafkajs";
import { kafkajs } from "./kafkajs.js";

const {
  AssignerProtocol: { MemberAssignment, MemberMetadata },
} = kafkajs;
/** Part of the protocol between members: a different meaning needs a different name. */
const NAME = "fraudstream-sticky";
const VERSION = 0;

/** What a member had when it was last assigned partitions. */
export interface Claim {
  at: number;
  partitions: Readonly<Record<string, readonly number[]>>;
}

export interface StickyMember {
  id: string;
  topics: readonly string[];
  claim: Claim | null;
}

/** Partitions by topic, by member. */
export type Assignment = Map<string, Map<string, number[]>>;

/**
 * Spreads each topic's partitions over the members that want it, as evenly as possible, and leaves a partition with its
 * member wherever that is even enough: when a member joins or leaves, only what must move moves.
 */
export function assignSticky(
  members: readonly StickyMember[],
  partitionsOf: ReadonlyMap<string, readonly number[]>,
): Assignment {
  const assignment: Assignment = new Map(members.map(({ id }) => [id, new Map<string, number[]>()]));
  const totals = new Map(members.map(({ id }) => [id, 0]));
  const give = (id: string, topic: string, partition: number): void => {
    const topics = assignment.get(id) as Map<string, number[]>;
    topics.set(topic, [...(topics.get(topic) ?? []), partition]);
    totals.set(id, (totals.get(id) ?? 0) + 1);
  };
  for (const [topic, partitions] of [...partitionsOf].sort(([a], [b]) => compare(a, b))) {
    const wanting = members
      .filter(({ topics }) => topics.includes(topic))
      .map(({ id }) => id)
      .sort(compare);
    if (wanting.length === 0) continue;
    const held = claimed(
      members.filter(({ id }) => wanting.includes(id)),
      topic,
      new Set(partitions),
    );
    const heldBy = (id: string): number[] => held.get(id) ?? [];
    const least = Math.floor(partitions.length / wanting.length);
    let extra = partitions.length % wanting.length;
    const kept = new Map(wanting.map((id) => [id, 0]));
    const taken = new Set<number>();
    // Members with more than the minimum keep one extra while there are extras; members with less in total come first.
    for (const id of [...wanting].sort((a, b) => (totals.get(a) ?? 0) - (totals.get(b) ?? 0) || compare(a, b))) {
      const quota = heldBy(id).length > least && extra > 0 ? least + 1 : least;
      if (quota > least) extra--;
      for (const partition of heldBy(id).slice(0, quota)) {
        give(id, topic, partition);
        taken.add(partition);
        kept.set(id, (kept.get(id) ?? 0) + 1);
      }
    }
    for (const partition of partitions) {
      if (taken.has(partition)) continue;
      const [next] = [...wanting].sort(
        (a, b) =>
          (kept.get(a) ?? 0) - (kept.get(b) ?? 0) || (totals.get(a) ?? 0) - (totals.get(b) ?? 0) || compare(a, b),
      );
      give(next, topic, partition);
      kept.set(next, (kept.get(next) ?? 0) + 1);
    }
  }
  return assignment;
}

/** Who has which partitions of a topic; if two members claim one, the one that was assigned it later. */
function claimed(
  members: readonly StickyMember[],
  topic: string,
  existing: ReadonlySet<number>,
): Map<string, number[]> {
  const held = new Map<string, number[]>();
  const taken = new Set<number>();
  const latest = [...members].sort((a, b) => (b.claim?.at ?? 0) - (a.claim?.at ?? 0) || compare(a.id, b.id));
  for (const { id, claim } of latest) {
    const partitions = [...(claim?.partitions[topic] ?? [])]
      .filter((partition) => existing.has(partition) && !taken.has(partition))
      .sort((a, b) => a - b);
    for (const partition of partitions) taken.add(partition);
    held.set(id, partitions);
  }
  return held;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** kafkajs' assigner for that. @param claim what this member has now, and since when; null: it never had any */
export function stickyAssigner(claim: () => Claim | null): PartitionAssigner {
  return ({ cluster }): Assigner => ({
    name: NAME,
    version: VERSION,
    assign({ members, topics }) {
      const partitionsOf = new Map(
        topics.map((topic) => [topic, cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => partitionId)]),
      );
      const assignment = assignSticky(
        members.map(({ memberId, memberMetadata }) => memberOf(memberId, memberMetadata)),
        partitionsOf,
      );
      return Promise.resolve(
        [...assignment].map(([memberId, given]) => ({
          memberId,
          memberAssignment: MemberAssignment.encode({
            version: VERSION,
            assignment: Object.fromEntries(given),
            userData: Buffer.alloc(0),
          }),
        })),
      );
    },
    protocol: ({ topics }) => ({
      name: NAME,
      metadata: MemberMetadata.encode({ version: VERSION, topics, userData: Buffer.from(JSON.stringify(claim())) }),
    }),
  });
}

/** A member as it describes itself; a claim that can't be read counts as none. */
function memberOf(id: string, metadata: Buffer): StickyMember {
  const decoded = MemberMetadata.decode(metadata);
  if (decoded === null) return { id, topics: [], claim: null };
  return { id, topics: decoded.topics, claim: readClaim(decoded.userData) };
}

function readClaim(userData: Buffer): Claim | null {
  try {
    const { at, partitions } = JSON.parse(userData.toString()) as { at?: unknown; partitions?: unknown };
    if (typeof at !== "number" || typeof partitions !== "object" || partitions === null) return null;
    const lists = Object.entries(partitions).filter(
      (entry): entry is [string, number[]] => Array.isArray(entry[1]) && entry[1].every(Number.isInteger),
    );
    return { at, partitions: Object.fromEntries(lists) };
  } catch {
    return null;
  }
}
