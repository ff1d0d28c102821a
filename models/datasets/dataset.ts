/** An attribute's values over a data set. */
export type AttributeColumn =
  | { type: "number" | "boolean"; values: Float64Array /** NaN: absent */ }
  /** `codes[row]` is an index into `categories`; -1: absent. */
  | { type: "text"; codes: Int32Array; categories: string[] };

/** The values of a column that only features from columns read: an attribute's, or moments. */
export type OperandColumn = AttributeColumn | { type: "time"; values: Float64Array /** Epoch ms; NaN: absent */ };

/** What was made of one column of a file. */
export interface ColumnReading {
  name: string;
  /** A role in the transaction, the type of an attribute, or that it was left out. */
  taken_for: string;
  why: string;
  examples: string[];
  /** Cells that hold nothing, or a word for that. */
  missing: number;
}

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
  /** 1: the row has no label, and is only history: nothing is trained or tested on it. Absent: all have one. */
  unlabelled?: Uint8Array;
  /** So many of the first rows are only history of the others: nothing is trained or tested on them. */
  historyRows: number;
  /** Whether cards (and merchants) at their times are real, so that their history means something; false: made up. */
  hasCards: boolean;
  hasMerchants: boolean;
  attributes: Map<string, AttributeColumn>;
  /**
   * Columns that are no features themselves (dates, texts of many values), but that features are made of, or may be:
   * see models/features/column-sources.ts. Absent: there are none.
   */
  operands?: Map<string, OperandColumn>;
  /** What was recognised, made up or left out, a line each, for people. */
  notes: string[];
  /** Of a file: what each column was taken for. */
  columns?: ColumnReading[];
}
