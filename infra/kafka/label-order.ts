import { readHeaders, type FetchedRecords } from "./records.js";

/**
 * What orders the labels of a transaction: the greatest counts (infra/decisions/0014-order.md). It is the time at which
 * a label was published, epoch milliseconds: the record's timestamp, or this header of the record where it has one.
 * Both survive another partition, a topic that is made anew, a mirror and a restore; an offset survives none of them.
 */
export const LABEL_ORDER = "fraudstream-label-order";

/** A version of a row is an order of 43 bits, and 20 bits that tell labels of one millisecond apart. */
const MOST_ORDER = 2 ** 43 - 2;
export const LABEL_VERSION_BITS = 20;
const PLACES = 2 ** LABEL_VERSION_BITS;
/** The low word of a version holds so many milliseconds. */
const ORDERS_IN_WORD = 2 ** (32 - LABEL_VERSION_BITS);

/** A label that was published so far ahead of this machine's clock would outlast every correction. */
const MOST_AHEAD_MS = 86_400_000;

/** The order of a label, epoch milliseconds. */
export function labelOrder(records: FetchedRecords, index: number): number {
  const header =
    records.bytes[records.headersAt[index]] === 0
      ? undefined
      : readHeaders(records, index)
          .find(([name]) => name === LABEL_ORDER)?.[1]
          ?.toString();
  const order = header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : records.timestamp[index];
  return Math.min(MOST_ORDER, Math.max(0, order));
}

/** Whether a label's order can't be believed. */
export function isTooFarAhead(order: number, now = Date.now()): boolean {
  return order > now + MOST_AHEAD_MS;
}

/**
 * The version of a label's row, as two words of 32 bits: ReplacingMergeTree keeps the greatest. Labels of one
 * millisecond are told apart by their place in the partition of their card, where the log has them in order. One that
 * stands in another partition comes first: its offset says nothing there, and what was sent on has a place in the
 * card's partition.
 *
 * @param inPlace whether it stands in its card's partition
 */
export function labelVersion(order: number, offset: number, inPlace: boolean): { low: number; high: number } {
  return {
    low: (order % ORDERS_IN_WORD) * PLACES + (inPlace ? offset % PLACES : 0),
    high: Math.floor(order / ORDERS_IN_WORD),
  };
}
