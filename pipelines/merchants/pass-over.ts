import type { TopicPartition } from "../../infra/kafka/group-membership.js";
import type { PartitionHandler, Tenure } from "../runtime/partition-consumer.js";

/**
 * For a partition that was added to the transactions' topic: no card belongs to it. Scoring forwards what arrives there
 * to the partition of its card, where it counts, so this role only skips it.
 */
export async function passOver(
  tenure: Tenure,
  commit: (offset: TopicPartition & { offset: number }) => Promise<void>,
): Promise<{ handler: PartitionHandler; start: number | null }> {
  const { topic, partition } = tenure;
  const { offset: start } = await tenure.committed();
  return {
    start,
    handler: {
      process: ({ nextOffset }) => commit({ topic, partition, offset: nextOffset }),
      close: () => Promise.resolve(),
    },
  };
}
