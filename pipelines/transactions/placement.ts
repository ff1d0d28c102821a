import { partitionOfKey } from "../../infra/kafka/murmur2.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";

/** On a forwarded record: where it was before, `<topic>/<partition>/<offset>`. */
export const FORWARDED_FROM = "fraudstream-forwarded-from";
/** Its name in earlier versions; producers use this name for other things (HTTP has such a header). */
const FORMER_NAME = "forwarded";
/**
 * How often a record is forwarded at most. Once is enough as long as all workers agree on the partition count; while
 * the count grows, workers with the old and the new count may forward a record back and forth, and then it counts where
 * it is.
 */
const MOST_HOPS = 2;

/**
 * The partition to forward a transaction of `records` to; -1: it counts where it is, since its card belongs here.
 * Headers never decide that a transaction of another partition's card counts here, except to end a loop: producers may
 * set any header. Whoever folds a partition of transactions skips forwarded ones.
 *
 * @param cardAt position of its card_id in `bytes`
 */
export function forwardTo(
  records: FetchedRecords,
  record: number,
  partitions: number,
  bytes: Uint8Array,
  cardAt: number,
  cardLength: number,
): number {
  const partition = partitionOfKey(bytes, cardAt, cardLength, partitions);
  if (partition === records.partition) return -1;
  // No card belongs to a partition that was added to the topic: nothing ever counts there, and nothing is forwarded
  // there.
  if (records.partition >= partitions) return partition;
  // Almost every record has no headers: their count is its own first byte.
  if (records.bytes[records.headersAt[record]] !== 0 && formerPlaces(records, record, partitions) >= MOST_HOPS)
    return -1;
  return partition;
}

/**
 * The headers of a forwarded record: its own and where it was. @param more headers that replace its own of the same
 * names
 */
export function forwardedHeaders(
  records: FetchedRecords,
  record: number,
  more: readonly [string, string][] = [],
): Buffer {
  const replaced = new Set(more.map(([name]) => name));
  const own = readHeaders(records, record)
    .filter(([name]) => !replaced.has(name))
    .map(([name, value]) => [name, value ?? Buffer.alloc(0)] as const);
  return encodeHeaders([
    ...own,
    ...more,
    [FORWARDED_FROM, `${records.topic}/${records.partition}/${records.offset[record]}`],
  ]);
}

/** Where a forwarded record was before; null: it was not forwarded, or the header says something else. */
export function forwardedFrom(
  records: FetchedRecords,
  record: number,
): { topic: string; partition: number; offset: number } | null {
  if (records.bytes[records.headersAt[record]] === 0) return null;
  // A record may have been forwarded several times: the last header says where it came from.
  const text =
    readHeaders(records, record)
      .findLast(([name]) => name === FORWARDED_FROM || name === FORMER_NAME)?.[1]
      ?.toString() ?? "";
  const [, topic, partition, offset] = /^(.+)\/(\d{1,10})\/(\d{1,16})$/.exec(text) ?? [];
  return topic === undefined ? null : { topic, partition: Number(partition), offset: Number(offset) };
}

/** How many different places of this topic a record's headers name as its earlier place. */
function formerPlaces(records: FetchedRecords, record: number, partitions: number): number {
  const places = new Set<string>();
  for (const [name, value] of readHeaders(records, record)) {
    if (
      (name === FORWARDED_FROM || name === FORMER_NAME) &&
      value !== null &&
      isPlace(value.toString(), records.topic, partitions)
    )
      places.add(value.toString());
  }
  return places.size;
}

function isPlace(text: string, topic: string, partitions: number): boolean {
  if (!text.startsWith(`${topic}/`)) return false;
  const [, partition, offset] = /^(\d{1,10})\/(\d{1,16})$/.exec(text.slice(topic.length + 1)) ?? [];
  return partition !== undefined && Number(partition) < partitions && Number.isSafeInteger(Number(offset));
}
