import type { ClickHouse } from "../../infra/clickhouse/client.js";

/** A stored prediction, as far as metrics look at it. */
export interface StoredPrediction {
  offset: number;
  transaction_id: string;
  card_id: string;
  /** Epoch milliseconds. */
  event_time: number;
  amount: number;
  currency: string;
  scoring_ms: number;
  score: number;
  decision: "approve" | "review" | "decline";
  model: string;
  /** @default none */
  features?: readonly number[];
}

/** The label with the greatest version counts. @default its offset */
export interface StoredLabel {
  offset: number;
  transaction_id: string;
  card_id: string;
  is_fraud: boolean;
  version?: number;
}

const BLOCK = 1_000;

/** Stores predictions as one block (of up to 1,000), from partition offset % 3 of a topic. */
export async function storePredictions(
  clickhouse: ClickHouse,
  rows: readonly StoredPrediction[],
  table: "predictions" | "shadow_predictions" = "predictions",
): Promise<void> {
  for (let at = 0; at < rows.length; at += BLOCK) {
    const tuples = rows
      .slice(at, at + BLOCK)
      .map(
        (row) =>
          `('${table}', ${row.offset % 3}, ${row.offset}, '${row.transaction_id}', '${row.card_id}', 'm', ` +
          `${row.amount}, '${row.currency}', ${time(row.event_time)}, ${time(row.event_time)}, ` +
          `${row.scoring_ms}, ${row.score}, '${row.decision}', '${row.model}', 1, ` +
          `[${(row.features ?? []).map((value) => (Number.isNaN(value) ? "nan" : value)).join(",")}], 't', ` +
          `${row.offset % 3}, ${row.offset})`,
      );
    await clickhouse.command(
      `INSERT INTO ${table} (topic, partition, offset, transaction_id, card_id, merchant_id, amount, ` +
        "currency, event_time, scored_at, scoring_ms, score, decision, model, epoch, features, source_topic, " +
        `source_partition, source_offset) VALUES ${tuples.join(",")}`,
    );
  }
}

/** Stores labels as one block (of up to 1,000). */
export async function storeLabels(clickhouse: ClickHouse, rows: readonly StoredLabel[]): Promise<void> {
  for (let at = 0; at < rows.length; at += BLOCK) {
    const tuples = rows
      .slice(at, at + BLOCK)
      .map(
        (row) =>
          `('labels', ${row.offset % 3}, ${row.offset}, '${row.transaction_id}', '${row.card_id}', ` +
          `${row.is_fraud}, now64(3), ${row.version ?? row.offset})`,
      );
    await clickhouse.command(
      "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time, version) " +
        `VALUES ${tuples.join(",")}`,
    );
  }
}

function time(ms: number): string {
  return `'${new Date(ms).toISOString().replace("T", " ").replace("Z", "")}'`;
}
