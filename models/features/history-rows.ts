/** Transactions, column by column, with their ids as bytes. */
export interface HistoryRows {
  /** Epoch milliseconds. */
  readonly eventTime: Float64Array;
  readonly amount: Float64Array;
  /** The buffer that a row's ids stand in, and where. */
  readonly bytes: readonly Buffer[];
  readonly cardIdAt: Int32Array;
  readonly cardIdLength: Int32Array;
  readonly merchantIdAt: Int32Array;
  readonly merchantIdLength: Int32Array;
  readonly transactionIdAt: Int32Array;
  readonly transactionIdLength: Int32Array;
}

/** What buckets are made of. */
export type BucketRows = Omit<HistoryRows, "amount">;

/** What a merchant's windows are looked up by. */
export type MerchantRows = Pick<HistoryRows, "eventTime" | "bytes" | "merchantIdAt" | "merchantIdLength">;
