import type { ColumnOverrides } from "./columns.js";
import type { FormatOptions } from "./files/source.js";
import type { LabelWords } from "./labels.js";
import type { DecimalMark } from "./numbers.js";

/** What the user says of a file where its looks leave something open, or would mislead. */
export interface ReadingOptions extends FormatOptions {
  columns?: ColumnOverrides;
  /** See `parseTimeFormat`. */
  timeFormat?: string;
  /** Of dates such as 3/4/2024. */
  dayFirst?: boolean;
  labels?: LabelWords;
  /** Columns to use as attributes that would be left out. */
  keep?: readonly string[];
  /** Columns to leave out. */
  drop?: readonly string[];
  /** Columns that features are made of, whatever they hold: see `operandAttributes`. */
  operands?: readonly string[];
  /** What separates decimals. */
  decimal?: DecimalMark;
  /** Of transactions that don't name theirs. @default "XXX" */
  currency?: string;
}
