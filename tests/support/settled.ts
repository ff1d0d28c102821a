import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { eventually } from "./eventually.js";

/**
 * Waits until no transaction is open in a partition. A commit is answered before its markers are written, partition by
 * partition: who reads right behind it may miss what it holds.
 *
 * @returns the partition's end
 */
export async function settledEnd(cluster: KafkaCluster, topic: string, partition: number): Promise<number> {
  const reader = new PartitionReader(cluster, topic, partition);
  try {
    return await eventually(`the transactions of ${topic}[${partition}] have ended`, async () => {
      const end = await reader.writtenEnd();
      return (await reader.endOffset()) >= end && end;
    });
  } finally {
    await reader.close();
  }
}
