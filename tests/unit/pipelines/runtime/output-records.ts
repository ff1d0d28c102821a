import type { PartitionOutput } from "../../../../infra/kafka/partition-output.js";
import { readRecords } from "../../../../infra/kafka/record-reader.js";
import { readHeaders } from "../../../../infra/kafka/records.js";

export interface OutputRecord {
  key: Buffer | null;
  value: Buffer | null;
  headers: [name: string, value: Buffer | null][];
}

/** The records in an output, read back from the bytes that would go to Kafka. */
export function outputRecords(output: PartitionOutput): OutputRecord[] {
  return output.batches.flatMap((batch) => {
    const bytes = Buffer.from(
      batch.finish(1_000, { producerId: 1n, producerEpoch: 0, firstSequence: 0, transactional: false }),
    );
    const records = readRecords({
      topic: output.topic,
      partition: output.partition,
      from: 0,
      bytes,
      aborted: [],
      lastStableOffset: 0,
    });
    const part = (at: number, length: number): Buffer | null =>
      length < 0 ? null : records.bytes.subarray(at, at + length);
    return Array.from({ length: records.count }, (_, i) => ({
      key: part(records.keyAt[i], records.keyLength[i]),
      value: part(records.valueAt[i], records.valueLength[i]),
      headers: readHeaders(records, i),
    }));
  });
}
