/** An attribute's values over a data set. */
export type AttributeColumn =
  | { type: "number" | "boolean"; values: Float64Array /** NaN: absent */ }
  /** `codes[row]` is an index into `categories`; -1: absent. */
  | { type: "text"; codes: Int32Array; categories: string[] };

/** Labelled transactions, column by column, in event-time order (ties in the source's order). */
export interface Dataset {
  /** Where it came from, for people. */
  source: string;
  length: number;
  transactionId: string[];
  /** Epoch milliseconds, ascending. */
  eventTime: Float64Array;
  cardId: string[];
  merchantId: string[];
  amount: Float64Array;
  currency: string[];
  /** 1: fraud. */
  label: Uint8Array;
  /**
   * When a label became known, epoch milliseconds; NaN: there is none. Null: LABEL_DELAY_MS after each event, as the
   * replay has it.
   */
  labelTime: Float64Array | null;
  /** So many of the first rows are only history of the others: nothing is trained or tested on them. */
  historyRows: number;
  /** Whether cards (and merchants) at their times are real, so that their history means something; false: made up. */
  hasCards: boolean;
  hasMerchants: boolean;
  attributes: Map<string, AttributeColumn>;
  /** What was recognised, made up or left out, a line each, for people. */
  notes: string[];
}
