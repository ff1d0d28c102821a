import type { Logger } from "../logging.js";
import { type ClickHouse, quoteName } from "./client.js";
import { DEFAULT_RETENTION, DERIVED_TABLES, type Retention } from "./tables.js";

const DAY_SECONDS = 86_400;
/** The last second of ClickHouse's DateTime, 2106-02-07: a sum of 32-bit seconds beyond it wraps to 1970. */
const LAST_SECOND = 4_294_967_295;

/**
 * When a row is deleted. The sum is 64 bits wide and capped at the last second that a DateTime has, so that no
 * retention, however long, becomes a time in the past.
 */
function deletedAt(days: number): string {
  return `toDateTime(least(intDiv(toUnixTimestamp64Milli(inserted_at), 1000) + ${days * DAY_SECONDS}, ${LAST_SECOND}))`;
}

/** The days of a table's TTL; 0: it has none; null: a TTL that this version doesn't write. */
function daysOf(engine: string): number | null {
  const [, ttl] = / TTL (.*?)(?: SETTINGS |$)/.exec(engine) ?? [];
  if (ttl === undefined) return 0;
  const seconds =
    /^toDateTime\(least\(intDiv\(toUnixTimestamp64Milli\(inserted_at\), 1000\) \+ (\d+), 4294967295\)\)$/.exec(
      ttl,
    )?.[1];
  if (seconds !== undefined) return Number(seconds) / DAY_SECONDS;
  // As earlier versions wrote it: the same where it can't wrap, and not worth rewriting the table's parts for.
  const days = /^toDateTime\(inserted_at\) \+ toIntervalDay\((\d+)\)$/.exec(ttl)?.[1];
  return days !== undefined && Number(days) <= LONGEST_UNSAFE_DAYS ? Number(days) : null;
}

/** Ten years, added to a 32-bit time, do not wrap before 2096. */
const LONGEST_UNSAFE_DAYS = 3_650;

/**
 * Gives each table its time to live. A table that has it already is left alone, since a change makes the server go
 * through all of the table's parts.
 */
export async function applyRetention(
  clickhouse: ClickHouse,
  log: Logger,
  retention: Partial<Retention> = {},
): Promise<void> {
  const rows = await clickhouse.query<{ name: string; engine_full: string }>(
    "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()",
  );
  const engines = new Map(rows.map((row) => [row.name, row.engine_full]));
  const tables = (Object.keys(DEFAULT_RETENTION) as (keyof Retention)[]).map((table) => [table, table] as const);
  for (const [table, as] of [...tables, ...Object.entries(DERIVED_TABLES)]) {
    const days = retention[as] ?? DEFAULT_RETENTION[as];
    if (daysOf(engines.get(table) ?? "") === days) continue;
    await clickhouse.command(
      `ALTER TABLE ${quoteName(table)} ${days === 0 ? "REMOVE TTL" : `MODIFY TTL ${deletedAt(days)}`}`,
    );
    log.info({ table, days }, days === 0 ? "rows are kept forever" : "rows are kept for this many days");
  }
}
