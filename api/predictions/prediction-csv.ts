import type { ListedRow } from "../queries/prediction-list.js";

const time = (ms: number): string => new Date(ms).toISOString();

/** The columns of predictions as CSV (RFC 4180), and what stands in them. */
const COLUMNS: Readonly<Record<string, (row: ListedRow) => string | number | boolean>> = {
  transaction_id: (row) => row.transaction_id,
  event_time: (row) => time(row.event_time),
  card_id: (row) => row.card_id,
  merchant_id: (row) => row.merchant_id,
  amount: (row) => row.amount,
  currency: (row) => row.currency,
  score: (row) => row.score,
  decision: (row) => row.decision,
  model: (row) => row.model,
  epoch: (row) => row.epoch,
  scored_at: (row) => time(row.scored_at),
  scoring_ms: (row) => row.scoring_ms,
  stale: (row) => Boolean(row.stale),
  is_fraud: (row) => (row.labelled ? Boolean(row.is_fraud) : ""),
  label_time: (row) => (row.labelled ? time(row.label_time) : ""),
  reasons: (row) => (row.reasons ?? []).map(({ feature, contribution }) => `${feature}=${contribution}`).join(" "),
};
const CELLS = Object.values(COLUMNS);

export function csvHead(): string {
  return `${Object.keys(COLUMNS).join(",")}\r\n`;
}

export function csvRow(row: ListedRow): string {
  return `${CELLS.map((cell) => csvCell(cell(row))).join(",")}\r\n`;
}

/**
 * A text that a spreadsheet would run as a formula gets an apostrophe before it: merchants choose their ids themselves.
 */
function csvCell(value: string | number | boolean): string {
  if (typeof value !== "string") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
