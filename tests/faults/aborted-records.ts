import { createRequire } from "node:module";

interface FetchedMessage {
  offset: string;
  key: Buffer | null;
  isControlRecord: boolean;
  batchContext: { producerId: string; inTransaction: boolean };
}

interface FetchedPartition {
  abortedTransactions?: { firstOffset: string; producerId: string }[] | null;
  messages: FetchedMessage[];
}

interface FetchResponse {
  responses: { partitions: FetchedPartition[] }[];
}

/** The key of an abort marker: version 0, type 0 (KIP-98). */
const ABORT = Buffer.alloc(4);

/**
 * Makes kafkajs leave out all aborted records. It steps into aborted transactions in the order in which the broker
 * names them, which is the order in which they ended, and takes one of them a record. So it shows records of a
 * transaction that began before another one and was aborted after it. (Java's consumer sorts them by their first offset
 * first.)
 */
export function dropAbortedRecords(): void {
  const { prototype } = createRequire(import.meta.url)("kafkajs/src/broker/index.js") as {
    prototype: { fetch: (this: unknown, request: object) => Promise<FetchResponse> };
  };
  const fetch = prototype.fetch;
  prototype.fetch = async function (request) {
    const response = await fetch.call(this, request);
    for (const { partitions } of response.responses) for (const partition of partitions) dropAborted(partition);
    return response;
  };
}

/** They count as control records: kafkajs leaves these out, and goes on behind them. */
function dropAborted(partition: FetchedPartition): void {
  const pending = (partition.abortedTransactions ?? [])
    .map(({ firstOffset, producerId }) => ({ from: Number(firstOffset), producerId }))
    .sort((a, b) => a.from - b.from);
  const aborting = new Set<string>();
  partition.abortedTransactions = [];
  for (const message of partition.messages) {
    const { producerId, inTransaction } = message.batchContext;
    while (pending.length > 0 && pending[0].from <= Number(message.offset))
      aborting.add((pending.shift() as { producerId: string }).producerId);
    if (message.isControlRecord) {
      if (message.key !== null && ABORT.equals(message.key)) aborting.delete(producerId);
    } else if (inTransaction && aborting.has(producerId)) message.isControlRecord = true;
  }
}
