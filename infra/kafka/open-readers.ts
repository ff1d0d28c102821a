/** A reader that has come to a transaction that is still open: nothing behind its first record can be read before it ends. */
export interface OpenTransactionWait {
  /** Epoch milliseconds. */
  since: number;
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
