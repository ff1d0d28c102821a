/**
 * A reader that has reached a transaction that is still open: nothing from its first record on can be read before it
 * ends.
 */
export interface OpenTransactionWait {
  /** When it was first met, and when it was last seen to be still there; epoch milliseconds. */
  since: number;
  seen: number;
  lastStableOffset: number;
  highWatermark: number;
}

/** A reader of a partition, as tracked by a cluster. */
export interface OpenReader {
  readonly topic: string;
  readonly partition: number;
  /** Set while its last fetch could read no further because of a transaction that is still open. */
  readonly waiting: OpenTransactionWait | null;
}

/**
 * A reader that is still reading checks again within this time; another one may have reached the transaction by chance
 * and stopped reading.
 */
const SEEN_WITHIN_MS = 15_000;

/** What a fetch says about such a wait. @param before what the previous fetch said */
export function waitAfter(
  before: OpenTransactionWait | null,
  {
    nextOffset,
    lastStableOffset,
    highWatermark,
  }: { nextOffset: number; lastStableOffset: number; highWatermark: number },
  now: number,
): OpenTransactionWait | null {
  if (nextOffset < lastStableOffset || lastStableOffset >= highWatermark) return null;
  const since = before?.lastStableOffset === lastStableOffset ? before.since : now;
  return { since, seen: now, lastStableOffset, highWatermark };
}

/** Whether the reader is still waiting there, as far as is known. */
export function isWaiting({ seen }: OpenTransactionWait, now: number): boolean {
  return now - seen < SEEN_WITHIN_MS;
}

/** Whether the reader has been seen waiting there for this long. */
export function hasWaited(wait: OpenTransactionWait, ms: number, now: number): boolean {
  return isWaiting(wait, now) && wait.seen - wait.since >= ms;
}
