import { partitionOfKey } from "../../infra/kafka/murmur2.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";

/** On a record that was sent on to its card's partition: where it stood before, `<topic>/<partition>/<offset>`. */
export const FORWARDED_FROM = "fraudstream-forwarded-from";
/** Its name in earlier versions, which producers use for other things (HTTP has a header of this name). */
const FORMER_NAME = "forwarded";
/**
 * How often a record is sent on at most. Once is enough as long as all workers agree on the partition count; while it
 * grows, workers of both counts may send a record back and forth, and then it counts where it is.
 */
const MOST_HOPS = 2;

/**
 * The partition that a transaction of `records` is to be sent on to; -1: it counts where it is, since its card belongs
 * here. Headers never decide that a transaction of another partition's card counts here, except to end a loop:
 * producers may set any header. Whoever folds a partition of transactions skips what is sent on.
 *
 * @param cardAt where its card_id stands in `bytes`
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
  // A partition that was added to the topic is nobody's home: nothing ever counts there, and nothing is sent there.
  if (records.partition >= partitions) return partition;
  // Almost every record has no headers: their count is its own first byte.
  if (records.bytes[records.headersAt[record]] !== 0 && formerPlaces(records, record, partitions) >= MOST_HOPS)
    return -1;
  return partition;
}

/**
 * The headers of a record that is sent on: its own and where it stood. @param more headers, in place of its own of
 * those names
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

/** Where a record that was sent on stood before; null: it wasn't, or says something else there. */
export function forwardedFrom(
  records: FetchedRecords,
  record: number,
): { topic: string; partition: number; offset: number } | null {
  if (records.bytes[records.headersAt[record]] === 0) return null;
  // A record may have been sent on before: the last one is where it came from.
  const text =
    readHeaders(records, record)
      .findLast(([name]) => name === FORWARDED_FROM || name === FORMER_NAME)?.[1]
      ?.toString() ?? "";
  const [, topic, partition, offset] = /^(.+)\/(\d{1,10})\/(\d{1,16})$/.exec(text) ?? [];
  return topic === undefined ? null : { topic, partition: Number(partition), offset: Number(offset) };
}

/** How many different places of this topic a record's headers name as where it stood before. */
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
