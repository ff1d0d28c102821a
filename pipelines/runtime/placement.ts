import { partitionOfKey } from "../../infra/kafka/murmur2.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";

/** On a record that was sent on to its card's partition: where it stood before, `<topic>/<partition>/<offset>`. */
export const FORWARDED = "forwarded";

/**
 * The partition that a transaction of `records` is to be sent on to, once; -1: it counts where it is, since its card
 * belongs here or since it was sent on already. Whoever folds a partition of transactions skips what is sent on.
 *
 * @param cardAt where its card_id stands in `bytes`
 */
export function forwardTo(records: FetchedRecords, record: number, partitions: number, bytes: Uint8Array, cardAt: number, cardLength: number): number {
  const partition = partitionOfKey(bytes, cardAt, cardLength, partitions);
  if (partition === records.partition) return -1;
  // Almost every record has no headers: their count is its own first byte.
  if (records.bytes[records.headersAt[record]] !== 0 && readHeaders(records, record).some(([name]) => name === FORWARDED)) return -1;
  return partition;
}

/** The headers of a record that is sent on: its own and where it stood. */
export function forwardedHeaders(records: FetchedRecords, record: number): Buffer {
  const own = readHeaders(records, record).map(([name, value]) => [name, value ?? Buffer.alloc(0)] as const);
  return encodeHeaders([...own, [FORWARDED, `${records.topic}/${records.partition}/${records.offset[record]}`]]);
}
