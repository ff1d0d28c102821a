import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { eventually } from "../support/workers.js";
import { BAD_EVERY } from "./stream.js";

export interface ClickHouseReport { rows: Record<string, number>; rowsWithRepeats: Record<string, number>; wrong: string[] }

const TABLES = ["transactions", "predictions", "dead_letters"] as const;

/** Counts what the sink has stored, with FINAL, once it has caught up. */
export async function checkClickHouse(clickhouse: ClickHouse, acknowledged: number): Promise<ClickHouseReport> {
  const bad = Math.ceil(acknowledged / BAD_EVERY);
  const expected: Record<string, number> = { transactions: acknowledged - bad, predictions: acknowledged - bad, dead_letters: bad };
  const counts = async (final: string): Promise<Record<string, number>> => {
    const [row] = await clickhouse.query<Record<string, number>>(`SELECT ${TABLES.map((table) => `(SELECT count() FROM ${table} ${final}) AS ${table}`).join(", ")}`);
    return row;
  };
  const wrong: string[] = [];
  await eventually("ClickHouse has caught up", async () => Object.entries(await counts("FINAL")).every(([table, count]) => count >= expected[table]), 120_000).catch((error: unknown) => wrong.push(String(error)));
  const rows = await counts("FINAL");
  for (const [table, count] of Object.entries(rows)) if (count !== expected[table]) wrong.push(`${table} has ${count} rows of ${expected[table]}`);
  const [ids] = await clickhouse.query<Record<string, number>>(`
    SELECT uniqExact(card_id, transaction_id) AS ids, uniqExact(source_partition, source_offset) AS sources,
      countIf((card_id, transaction_id) NOT IN (SELECT card_id, transaction_id FROM transactions)) AS strays
    FROM predictions FINAL`);
  if (ids["ids"] !== expected["predictions"] || ids["sources"] !== expected["predictions"] || ids["strays"] !== 0) wrong.push(`predictions: ${JSON.stringify(ids)}`);
  const [lost] = await clickhouse.query<{ lost: number }>("SELECT count() AS lost FROM transactions FINAL WHERE (card_id, transaction_id) NOT IN (SELECT card_id, transaction_id FROM predictions)");
  if (lost.lost !== 0) wrong.push(`${lost.lost} transactions have no prediction`);
  return { rows, rowsWithRepeats: await counts(""), wrong };
}
