import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../../schemas/errors.js";
import type { Logger } from "../logging.js";
import type { ClickHouseReader } from "./client.js";
import { clickHouseErrorType } from "./errors.js";

const LOOK_EVERY_MS = 100;

const RUNNING = `
  SELECT query_id AS id FROM system.processes
  WHERE query_kind = 'Insert' AND (current_database = currentDatabase() OR position(query, currentDatabase()) > 0)`;

/**
 * Waits until every insert that is running in the database now has ended. A running insert keeps the table that it
 * began with, whatever the table is called by now, so its rows may appear in a table that was renamed meanwhile.
 * Inserts that begin later are not waited for.
 */
export async function waitForRunningInserts(
  clickhouse: ClickHouseReader,
  log: Logger,
  signal?: AbortSignal,
): Promise<void> {
  const running = async (): Promise<string[]> => (await clickhouse.query<{ id: string }>(RUNNING)).map(({ id }) => id);
  try {
    const before = new Set(await running());
    if (before.size > 0)
      log.info({ inserts: before.size }, "waiting for inserts that were running when tables were renamed");
    while (before.size > 0) {
      await sleep(LOOK_EVERY_MS, undefined, signal && { signal });
      const now = new Set(await running());
      for (const id of before) if (!now.has(id)) before.delete(id);
    }
  } catch (error) {
    if (clickHouseErrorType(error) !== "ACCESS_DENIED") throw error;
    log.warn(
      "cannot see whether inserts are still running (system.processes): stop the sinks of earlier versions " +
        `first: ${messageOf(error)}`,
    );
  }
}
