import { listOffsetsV7 } from "@platformatic/kafka";
import { call, type KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { eventually } from "./eventually.js";

const READ_UNCOMMITTED = 0;

/**
 * Waits until no transaction is open in a partition. A commit is answered before its markers are written, partition by
 * partition: who reads right behind it may miss what it holds.
 *
 * @returns the partition's end
 */
export async function settledEnd(cluster: KafkaCluster, topic: string, partition: number): Promise<number> {
  const reader = new PartitionReader(cluster, topic, partition);
  try {
    // First with patience: a topic that was just made may have a leader that doesn't know of it yet.
    await reader.endOffset();
    const connection = await cluster.open(await cluster.leaderOf(topic, partition));
    try {
      const request = [{ name: topic, partitions: [{ partitionIndex: partition, currentLeaderEpoch: -1, timestamp: -1n }] }];
      return await eventually(`the transactions of ${topic}[${partition}] have ended`, async () => {
        const response = await call(connection, listOffsetsV7.api, [-1, READ_UNCOMMITTED, request], "listing offsets");
        const end = Number(response.topics[0].partitions[0].offset);
        return (await reader.endOffset()) >= end && end;
      });
    } finally {
      await connection.close();
    }
  } finally {
    await reader.close();
  }
}
