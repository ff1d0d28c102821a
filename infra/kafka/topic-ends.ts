import { call, type BrokerAddress, type KafkaCluster } from "./cluster.js";
import { addressKey, type ConnectionsByBroker } from "./connections-by-broker.js";
import { KafkaError, protocolError } from "./errors.js";
import { listOffsetsV7 } from "./wire.js";

export interface LogEnds {
  partition: number;
  /** The first offset that is left. */ first: number;
  /** What is written ends here, committed or not. */ end: number;
}

const READ_UNCOMMITTED = 0;
const LATEST = -1n;
const EARLIEST = -2n;

/**
 * Where the logs of all partitions of a topic begin and end. kafkajs only reports how far a read_committed reader can
 * get: a transaction that stays open hides what waits behind it.
 */
export async function endsOf(
  cluster: KafkaCluster,
  connections: ConnectionsByBroker,
  topic: string,
): Promise<LogEnds[]> {
  const count = await cluster.partitionsOf(topic);
  const leaders = new Map<string, { address: BrokerAddress; partitions: number[] }>();
  for (let partition = 0; partition < count; partition++) {
    const address = await cluster.leaderOf(topic, partition);
    const leader = leaders.get(addressKey(address)) ?? { address, partitions: [] };
    leader.partitions.push(partition);
    leaders.set(addressKey(address), leader);
  }
  const ends: LogEnds[] = [];
  for (const { address, partitions } of leaders.values()) {
    const [first, end] = [
      await listed(connections, address, topic, partitions, EARLIEST),
      await listed(connections, address, topic, partitions, LATEST),
    ];
    for (const partition of partitions)
      ends.push({ partition, first: first.get(partition) ?? 0, end: end.get(partition) ?? 0 });
  }
  return ends.sort((a, b) => a.partition - b.partition);
}

async function listed(
  connections: ConnectionsByBroker,
  address: BrokerAddress,
  topic: string,
  partitions: number[],
  timestamp: bigint,
): Promise<Map<number, number>> {
  const doing = `listing offsets of ${topic}`;
  const topics = [
    {
      name: topic,
      partitions: partitions.map((partitionIndex) => ({ partitionIndex, currentLeaderEpoch: -1, timestamp })),
    },
  ];
  try {
    const response = await call(
      await connections.to(address),
      listOffsetsV7.api,
      [-1, READ_UNCOMMITTED, topics],
      doing,
    );
    const answer = response.topics.find(({ name }) => name === topic);
    if (answer === undefined) throw protocolError("UNKNOWN_TOPIC_OR_PARTITION", doing);
    return new Map(answer.partitions.map(({ partitionIndex, offset }) => [partitionIndex, Number(offset)]));
  } catch (error) {
    if (error instanceof KafkaError && error.code === "kafka_network") await connections.drop(address);
    throw error;
  }
}
