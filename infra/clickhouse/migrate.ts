import { createHash, randomUUID } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClickHouseConfig } from "../config/config.js";
import type { Logger } from "../logging.js";
import { packageRoot } from "../package-root.js";
import { FraudstreamError, messageOf, UsageError } from "../../schemas/errors.js";
import { type ClickHouse, createClickHouse, quoteName } from "./client.js";
import { clickHouseErrorType } from "./errors.js";
import { claimDatabase, type DatabaseOwner, isOwnedBy } from "./owner.js";
import { waitForRunningInserts } from "./running-inserts.js";
import { splitStatements } from "./sql.js";

export interface Migration {
  version: number;
  name: string;
  statements: string[];
  /** Hash of the statements, without comments. */
  sha256: string;
}

export interface MigrateOptions {
  /** @default the files in infra/clickhouse/migrations */
  migrations?: Migration[];
  signal?: AbortSignal;
  /** The owner of the rows in the database. Without it, the owner is not checked: for tests and tools. */
  owner?: DatabaseOwner;
  /** Name of the owner that `owner` replaces. */
  takeOver?: string | null;
  /** If the lock's holder does not renew it for this long, it counts as dead, milliseconds. @default 20_000 */
  lockPatienceMs?: number;
}

/** The numbered migrations of a folder, in order. */
export function readMigrations(folder = join(packageRoot(), "infra/clickhouse/migrations")): Migration[] {
  const files = readdirSync(folder)
    .filter((name) => name.endsWith(".sql"))
    .sort();
  return files.map((name, index) => {
    const version = Number(/^(\d{4})-[a-z0-9-]+\.sql$/.exec(name)?.[1] ?? NaN);
    if (version !== index + 1)
      throw new FraudstreamError(
        "bad_migration",
        `${join(folder, name)}: expected a name that begins with ${String(index + 1).padStart(4, "0")}-`,
      );
    const statements = splitStatements(readFileSync(join(folder, name), "utf8"));
    return {
      version,
      name,
      statements,
      sha256: createHash("sha256")
        .update(JSON.stringify(statements.map((text) => text.replace(/\s+/g, " "))))
        .digest("hex"),
    };
  });
}

/**
 * Brings the database to the newest migration, creating it if need be, and returns the names of the migrations it ran.
 * Safe to call from several processes at once: one works, the others wait for it. Statements are idempotent, so a
 * process that died half-way, or lost its lock by being stopped for long, does no harm.
 *
 * @throws FraudstreamError `migration_changed` if the statements of an applied migration have changed
 * @throws UsageError `clickhouse_database` when the database has another owner, `clickhouse_refused` when the server
 *   does not take the user
 */
export async function migrate(config: ClickHouseConfig, log: Logger, options: MigrateOptions = {}): Promise<string[]> {
  const migrations = options.migrations ?? readMigrations();
  await createDatabase(config);
  const clickhouse = createClickHouse(config);
  try {
    await clickhouse.command(
      "CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, name String, sha256 String, applied_at " +
        "DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = ReplacingMergeTree ORDER BY version",
    );
    const { owner, takeOver = null } = options;
    if ((await pending(clickhouse, migrations)).length === 0) {
      if (owner === undefined || (await isOwnedBy(clickhouse, owner))) return [];
    }
    return await withLock(clickhouse, log, options, async () => {
      const todo = await pending(clickhouse, migrations);
      for (const migration of todo) {
        await run(clickhouse, migration, log, options.signal);
        const { version, name, sha256 } = migration;
        await clickhouse.command(
          "INSERT INTO schema_migrations (version, name, sha256) SELECT {version: UInt32}, {name: String}, " +
            "{sha256: String}",
          { version, name, sha256 },
        );
        log.info({ migration: name, database: config.database }, "migrated");
      }
      if (owner !== undefined) await claimDatabase(clickhouse, owner, takeOver, log);
      return todo.map((migration) => migration.name);
    });
  } finally {
    await clickhouse.close();
  }
}

/**
 * Runs a migration's statements. Rows that a running insert writes to a table being renamed are there when the next
 * statement reads it.
 */
async function run(
  clickhouse: ClickHouse,
  { statements }: Migration,
  log: Logger,
  signal?: AbortSignal,
): Promise<void> {
  const renames = (statement: string): boolean => /^RENAME\s/i.test(statement);
  // The previous process may have died right after its RENAME.
  if (statements.some(renames)) await waitForRunningInserts(clickhouse, log, signal);
  for (const statement of statements) {
    await clickhouse.command(statement);
    if (renames(statement)) await waitForRunningInserts(clickhouse, log, signal);
  }
}

/** Waits until some process has brought the database to the newest migration; for roles that only read. */
export async function waitForMigrations(
  clickhouse: ClickHouse,
  log: Logger,
  {
    migrations = readMigrations(),
    signal,
    pollMs = 500,
  }: { migrations?: Migration[]; signal?: AbortSignal; pollMs?: number } = {},
): Promise<void> {
  for (let told = false; ; told = true) {
    if (await isMigrated(clickhouse, migrations)) return;
    if (!told) log.info({ database: clickhouse.database }, "waiting for the sink to migrate ClickHouse");
    await sleep(pollMs, undefined, signal && { signal });
  }
}

async function isMigrated(clickhouse: ClickHouse, migrations: Migration[]): Promise<boolean> {
  try {
    return (await pending(clickhouse, migrations)).length === 0;
  } catch (error) {
    const notYet = clickHouseErrorType(error) === "UNKNOWN_TABLE" || clickHouseErrorType(error) === "UNKNOWN_DATABASE";
    if (notYet || (error instanceof FraudstreamError && error.retriable)) return false;
    throw error;
  }
}

async function pending(clickhouse: ClickHouse, migrations: Migration[]): Promise<Migration[]> {
  const rows = await clickhouse.query<{ version: number; sha256: string }>(
    "SELECT version, sha256 FROM schema_migrations FINAL",
  );
  const applied = new Map(rows.map((row) => [row.version, row.sha256]));
  for (const { version, name, sha256 } of migrations) {
    if ((applied.get(version) ?? sha256) === sha256) continue;
    throw new FraudstreamError(
      "migration_changed",
      `${name} was applied to the database ${clickhouse.database} with other statements: add a new migration ` +
        "instead of changing one",
    );
  }
  return migrations.filter(({ version }) => !applied.has(version));
}

/** ClickHouse's names for a user or a password that it rejects. */
const USER_REFUSED = new Set(["AUTHENTICATION_FAILED", "UNKNOWN_USER", "REQUIRED_PASSWORD", "WRONG_PASSWORD"]);

async function createDatabase(config: ClickHouseConfig): Promise<void> {
  const server = createClickHouse({ ...config, database: "default" });
  try {
    await server.command(`CREATE DATABASE IF NOT EXISTS ${quoteName(config.database)}`);
  } catch (error) {
    if (!USER_REFUSED.has(clickHouseErrorType(error) ?? "")) throw error;
    throw new UsageError(
      "clickhouse_refused",
      `CLICKHOUSE_USER, CLICKHOUSE_PASSWORD: ClickHouse does not take this user: ${messageOf(error)}`,
      { cause: error },
    );
  } finally {
    await server.close();
  }
}

const LOCK = "schema_migrations_lock";

/**
 * The lock is a table, since creating one either succeeds or finds that it exists. The holder keeps renewing its
 * comment; a waiter that has seen the same comment for too long takes the holder for dead and removes the table.
 */
async function withLock<T>(
  clickhouse: ClickHouse,
  log: Logger,
  { signal, lockPatienceMs = 20_000 }: MigrateOptions,
  work: () => Promise<T>,
): Promise<T> {
  const me = randomUUID();
  await acquire(clickhouse, me, log, lockPatienceMs, signal);
  let beats = 0;
  const beat = setInterval(() => {
    beats += 1;
    // At worst a failed renewal costs the lock, and migrations tolerate that.
    clickhouse
      .command(`ALTER TABLE ${LOCK} MODIFY COMMENT '${me} ${beats}'`)
      .catch((error: unknown) => log.debug({ err: error }, "could not renew the migration lock"));
  }, lockPatienceMs / 5);
  try {
    return await work();
  } finally {
    clearInterval(beat);
    await clickhouse.command(`DROP TABLE IF EXISTS ${LOCK} SYNC`);
  }
}

async function acquire(
  clickhouse: ClickHouse,
  me: string,
  log: Logger,
  patienceMs: number,
  signal?: AbortSignal,
): Promise<void> {
  let seen = { comment: "", since: Date.now() };
  for (;;) {
    try {
      return await clickhouse.command(
        `CREATE TABLE ${LOCK} (holder String) ENGINE = MergeTree ORDER BY holder COMMENT '${me} 0'`,
      );
    } catch (error) {
      if (clickHouseErrorType(error) !== "TABLE_ALREADY_EXISTS") throw error;
    }
    const [row] = await clickhouse.query<{ comment: string }>(
      `SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = '${LOCK}'`,
    );
    if (row !== undefined && row.comment !== seen.comment) seen = { comment: row.comment, since: Date.now() };
    else if (Date.now() - seen.since > patienceMs) {
      log.warn({ lock: seen.comment }, "the holder of the migration lock has stopped renewing it: removing the lock");
      await clickhouse.command(`DROP TABLE IF EXISTS ${LOCK} SYNC`);
    }
    await sleep(Math.min(250, patienceMs / 4), undefined, signal && { signal });
  }
}
