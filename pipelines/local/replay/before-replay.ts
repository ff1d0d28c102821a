import type { KafkaCluster } from "../../../infra/kafka/cluster.js";
import { PartitionReader } from "../../../infra/kafka/partition-reader.js";
import type { Schemas } from "../../../infra/kafka/schemas.js";
import type { Dataset } from "../../../models/datasets/dataset.js";
import { LATENESS_MS } from "../../../models/features/history-terms.js";
import type { TopicSpec } from "../../../schemas/topics.js";
import { TransactionReader } from "../../../schemas/transaction-reader.js";
import { decodeTransactions, learnSchemas } from "../../transactions/decode-transactions.js";
import { TransactionBatch } from "../../transactions/transaction-batch.js";

/** Records that are looked at in each partition; more than half of them must be as late: one alone may be a stray. */
const LOOKED_AT = 100;
const HOUR_MS = 3_600_000;

/** How far the event time of each partition has come, roughly; partitions without a transaction are left out. */
export async function newestEventTimes(cluster: KafkaCluster, topic: TopicSpec, schemas: Schemas): Promise<number[]> {
  const batch = new TransactionBatch([]);
  const reader = new TransactionReader(batch);
  const times = await Promise.all(
    Array.from({ length: topic.partitions }, async (_, partition) => {
      const log = new PartitionReader(cluster, topic.name, partition, { maxWaitMs: 100 });
      const found: number[] = [];
      try {
        const end = await log.endOffset();
        for (let next = Math.max(await log.firstOffset(), end - LOOKED_AT); next < end;) {
          const records = await log.fetch(next);
          await learnSchemas(records, reader, schemas);
          decodeTransactions(records, reader, batch);
          found.push(...batch.eventTime.subarray(0, batch.length));
          next = records.nextOffset;
        }
      } finally {
        await log.close();
      }
      return found.sort((a, b) => a - b).at(Math.floor(found.length / 2));
    }),
  );
  return times.filter((time) => time !== undefined);
}

/** What whoever replays a file should know before: which of its payments will be stale, and why. */
export function warningsOf(
  { eventTime, length }: Pick<Dataset, "eventTime" | "length">,
  newest: readonly number[],
  now: number,
): string[] {
  if (length === 0 || newest.length === 0) return [];
  const reached = Math.max(...newest);
  let late = 0;
  while (late < length && eventTime[late] < reached - LATENESS_MS) late++;
  if (late === 0) return [];
  const day = (time: number): string => new Date(time).toISOString().slice(0, 10);
  return [
    `WARNING: this cluster's payments have come to ${day(reached)}; ` +
      `${late === length ? "all" : late.toLocaleString("en-US")} of the file's ` +
      `${length.toLocaleString("en-US")} (${day(eventTime[0])} to ${day(eventTime[length - 1])}) are more than ` +
      `${LATENESS_MS / HOUR_MS} hours older.`,
    "They are scored as stale (their windows lack what was forgotten since) and merchants don't count them. " +
      "To replay them with their history, use another",
    "TOPIC_PREFIX or cluster, or npm start -- --dataset FILE in a DATA_DIR of its own. In metrics they are " +
      `apart by their time: a window that ends now (${day(now)}) leaves them out.`,
  ];
}
