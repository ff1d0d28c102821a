import { setTimeout as sleep } from "node:timers/promises";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { allTopics, type TopicSpec } from "../../schemas/topics.js";
import { messageOf } from "../../schemas/errors.js";
import type { System } from "./system.js";

const LOOK_EVERY_MS = 1_000;
/** It must hold for this many looks in a row: what is sent on or again is behind what was read. */
const LOOKS = 3;

/**
 * Waits until every group has read every record, and no Kafka transaction is open. @returns what is behind when the
 * patience ends; none: all is settled
 */
export async function settled(system: System, patienceMs: number, signal: AbortSignal): Promise<string[]> {
  const { topics, prefix } = system.test;
  const [transactions, labels] = [system.current(topics.transactions), system.current(topics.labels)];
  const groups: [group: string, topic: TopicSpec][] = [
    [`${prefix}scoring`, transactions],
    [`${prefix}merchants`, transactions],
    ...[transactions, topics.predictions, topics.shadowPredictions, labels, topics.deadLetters, topics.control].map(
      (topic): [string, TopicSpec] => [`${prefix}sink`, topic],
    ),
  ];
  const deadline = Date.now() + patienceMs;
  for (let quiet = 0, behind: string[] = []; ; await sleep(LOOK_EVERY_MS)) {
    signal.throwIfAborted();
    try {
      behind = [];
      for (const [group, topic] of groups) behind.push(...(await behindIn(system, group, topic)));
      for (const topic of allTopics(topics)) behind.push(...(await openIn(system, system.current(topic))));
    } catch (error) {
      behind.push(messageOf(error));
    }
    quiet = behind.length === 0 ? quiet + 1 : 0;
    if (quiet === LOOKS) return [];
    if (Date.now() > deadline) return behind;
  }
}

/** Partitions of a topic that a group has not read to the end. */
export async function behindIn(
  { test: { cluster } }: System,
  group: string,
  { name, partitions }: TopicSpec,
): Promise<string[]> {
  const behind: string[] = [];
  for (let partition = 0; partition < partitions; partition++) {
    const reader = new PartitionReader(cluster, name, partition, {
      maxWaitMs: 50,
      maxBytes: 64 * 1024,
      patienceMs: 5_000,
    });
    try {
      const end = await reader.endOffset();
      const committed =
        (await committedOffset(cluster, group, { topic: name, partition })) ?? (await reader.firstOffset());
      // The ends of transactions are no records: nobody has to have read them.
      for (let next = committed; next < end;) {
        const records = await reader.fetch(next);
        if (records.count > 0) {
          behind.push(`${group} stands at ${committed} of ${end} in ${name}[${partition}]`);
          break;
        }
        next = records.nextOffset;
      }
    } finally {
      await reader.close();
    }
  }
  return behind;
}

/** Transactions that are open: the last stable offset is behind the end. */
export async function openIn({ test: { cluster } }: System, { name, partitions }: TopicSpec): Promise<string[]> {
  const open: string[] = [];
  for (let partition = 0; partition < partitions; partition++) {
    const reader = new PartitionReader(cluster, name, partition, { patienceMs: 5_000 });
    try {
      const written = await reader.writtenEnd();
      if ((await reader.endOffset()) < written) open.push(`a transaction is open in ${name}[${partition}]`);
    } finally {
      await reader.close();
    }
  }
  return open;
}
