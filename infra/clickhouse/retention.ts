import type { Logger } from "../logging.js";
import { type ClickHouse, quoteName } from "./client.js";
import { DEFAULT_RETENTION, DERIVED_TABLES, type Retention } from "./tables.js";

/**
 * Gives each table its time to live. A table that has it already is left alone, since a change makes the server go
 * through the table's parts.
 */
export async function applyRetention(clickhouse: ClickHouse, log: Logger, retention: Partial<Retention> = {}): Promise<void> {
  const rows = await clickhouse.query<{ name: string; engine_full: string }>("SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()");
  const engines = new Map(rows.map((row) => [row.name, row.engine_full]));
  const tables = (Object.keys(DEFAULT_RETENTION) as (keyof Retention)[]).map((table) => [table, table] as const);
  for (const [table, as] of [...tables, ...Object.entries(DERIVED_TABLES)]) {
    const days = retention[as] ?? DEFAULT_RETENTION[as];
    const now = Number(/ TTL toDateTime\(inserted_at\) \+ toIntervalDay\((\d+)\)/.exec(engines.get(table) ?? "")?.[1] ?? 0);
    if (now === days) continue;
    const change = days === 0 ? "REMOVE TTL" : `MODIFY TTL toDateTime(inserted_at) + toIntervalDay(${days})`;
    await clickhouse.command(`ALTER TABLE ${quoteName(table)} ${change}`);
    log.info({ table, days }, days === 0 ? "rows are kept forever" : "rows are kept for this many days");
  }
}
