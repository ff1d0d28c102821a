/**
 * A reader that has come to a transaction that is still open: nothing behind its first record can be read before it
 * ends.
 */
export interface OpenTransactionWait {
  /** When it was met first, and when it was last seen to be there still; epoch milliseconds. */
  since: number;
  seen: number;
  lastStableOffset: number;
  highWatermark: number;
}

/** A reader of a partition, as a cluster keeps account of it. */
export interface OpenReader {
  readonly topic: string;
  readonly partition: number;
  /** Set while its last fetch could read no further because of a transaction that is still open. */
  readonly waiting: OpenTransactionWait | null;
}

/**
 * A reader that reads on looks again within this time; another one may have come to the transaction by chance, and be
 * read no further.
 */
const SEEN_WITHIN_MS = 15_000;

/** What a fetch says of such a wait. @param before what the fetch before said */
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

/** Whether the reader still stands there, as far as is known. */
export function isWaiting({ seen }: OpenTransactionWait, now: number): boolean {
  return now - seen < SEEN_WITHIN_MS;
}

/** Whether the reader has been seen to stand there for so long. */
export function hasWaited(wait: OpenTransactionWait, ms: number, now: number): boolean {
  return isWaiting(wait, now) && wait.seen - wait.since >= ms;
}
