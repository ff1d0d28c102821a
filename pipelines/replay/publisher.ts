/** A record to be published. Its partition is that of its key (murmur2, as Kafka's Java clients do it). */
export interface OutgoingRecord {
  key: Buffer;
  value: Buffer;
  /** Epoch milliseconds. */
  timestamp: number;
}

/** An idempotent producer, by the batch. */
export interface Publisher {
  /**
   * Resolves when every in-sync replica has the records. Calls may overlap: records of one key keep the order of the calls.
   *
   * @throws FraudstreamError when they can't be published, or nobody knows whether they were
   */
  publish(topic: string, records: readonly OutgoingRecord[]): Promise<void>;
  close(): Promise<void>;
}
