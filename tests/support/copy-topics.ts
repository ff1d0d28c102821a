import { BatchProducer, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";

/**
 * Copies the committed records of a topic to another one, partition by partition, as a mirror does: bytes, keys,
 * headers and timestamps are kept, offsets close up where markers, aborted records and what compaction removed leave
 * holes.
 *
 * @param keep which values are copied; all by default
 * @returns records
 */
export async function copyTopic(
  cluster: KafkaCluster,
  from: string,
  to: string,
  keep: (value: Buffer) => boolean = () => true,
): Promise<number> {
  const producer = await BatchProducer.open(cluster);
  let copied = 0;
  try {
    for (let partition = 0; partition < (await cluster.partitionsOf(from)); partition++) {
      const reader = new PartitionReader(cluster, from, partition);
      const end = await reader.endOffset();
      for (let next = await reader.firstOffset(); next < end;) {
        const records = await reader.fetch(next);
        for (let i = 0; i < records.count; i++) {
          const record = recordOf(records, i);
          if (record.value !== null && !keep(record.value)) continue;
          await producer.publishTo(to, partition, [record], records.timestamp[i]);
          copied += 1;
        }
        next = records.nextOffset;
      }
      await reader.close();
    }
    return copied;
  } finally {
    await producer.close();
  }
}

function recordOf(records: FetchedRecords, index: number): OutgoingRecord {
  const part = (at: number, length: number): Buffer | null =>
    length < 0 ? null : Buffer.from(records.bytes.subarray(at, at + length));
  const headers = readHeaders(records, index).map(([name, value]) => [name, value ?? Buffer.alloc(0)] as const);
  return {
    key: part(records.keyAt[index], records.keyLength[index]),
    value: part(records.valueAt[index], records.valueLength[index]),
    headers: headers.length === 0 ? null : encodeHeaders(headers),
  };
}
