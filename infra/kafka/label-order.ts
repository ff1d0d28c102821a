import { readHeaders, type FetchedRecords } from "./records.js";

/**
 * Determines the order of a transaction's labels: the greatest counts (infra/decisions/0014-order.md). It is the time
 * at which a label was published, epoch milliseconds: the record's timestamp, or this header of the record if it has
 * one. Both survive a move to another partition, a topic that is created again, a mirror and a restore; an offset
 * survives none of them.
 */
export const LABEL_ORDER = "fraudstream-label-order";

/** A row's version is an order of 43 bits, followed by 20 bits that distinguish labels of the same millisecond. */
const MOST_ORDER = 2 ** 43 - 2;
export const LABEL_VERSION_BITS = 20;
const PLACES = 2 ** LABEL_VERSION_BITS;
/** How many milliseconds the low word of a version holds. */
const ORDERS_IN_WORD = 2 ** (32 - LABEL_VERSION_BITS);

/** A label published this far ahead of this machine's clock would outlast every correction. */
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

/** Whether a label's order can't be trusted. */
export function isTooFarAhead(order: number, now = Date.now()): boolean {
  return order > now + MOST_AHEAD_MS;
}

/**
 * The version of a label's row, as two words of 32 bits: ReplacingMergeTree keeps the greatest. Labels of the same
 * millisecond are ordered by their position in the partition of their card, where the log has them in order. A label in
 * another partition comes first: its offset says nothing there, and its forwarded copy has a position in the card's
 * partition.
 *
 * @param inPlace whether it is in its card's partition
 */
export function labelVersion(order: number, offset: number, inPlace: boolean): { low: number; high: number } {
  return {
    low: (order % ORDERS_IN_WORD) * PLACES + (inPlace ? offset % PLACES : 0),
    high: Math.floor(order / ORDERS_IN_WORD),
  };
}
