import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it, onTestFinished } from "vitest";
import { type ClickHouse, createClickHouse } from "../../infra/clickhouse/client.js";
import { clickHouseErrorType } from "../../infra/clickhouse/errors.js";
import { type Migration, migrate, readMigrations, waitForMigrations } from "../../infra/clickhouse/migrate.js";
import { applyRetention } from "../../infra/clickhouse/retention.js";
import { DEFAULT_RETENTION, DERIVED_TABLES, SINK_COLUMNS } from "../../infra/clickhouse/tables.js";
import type { ClickHouseConfig } from "../../infra/config/config.js";
import { createLogger } from "../../infra/logging.js";
import { checkDatabase, nameOfOwner, ownedSince } from "../../infra/clickhouse/owner.js";
import { labelVersion } from "../../infra/kafka/label-order.js";
import { FraudstreamError, UsageError } from "../../schemas/errors.js";
import { clickhouseConfig, uniquePrefix } from "../support/engines.js";

const log = createLogger({ logLevel: "silent" }, "test");
const opened: ClickHouse[] = [];

function database(): { config: ClickHouseConfig; clickhouse: ClickHouse } {
  const config = clickhouseConfig(`${uniquePrefix("_")}db`);
  const clickhouse = createClickHouse(config);
  opened.push(clickhouse);
  return { config, clickhouse };
}

afterEach(async () => {
  for (const clickhouse of opened.splice(0)) {
    const server = createClickHouse({ ...clickhouseConfig("default") });
    await server.command(`DROP DATABASE IF EXISTS ${clickhouse.database}`);
    await server.close();
    await clickhouse.close();
  }
});

/** A migration that counts how often it ran. */
function counting(version: number, table: string): Migration {
  const statements = [
    `CREATE TABLE IF NOT EXISTS ${table} (at DateTime) ENGINE = MergeTree ORDER BY at`,
    `INSERT INTO ${table} SELECT now()`,
  ];
  return { version, name: `${version}-${table}.sql`, statements, sha256: `sha of ${table}` };
}

async function failure(work: Promise<unknown>): Promise<FraudstreamError> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(FraudstreamError);
  return error as FraudstreamError;
}

describe("migrate", () => {
  it("creates every table with the columns that the sink writes, and then has nothing to do", async () => {
    const { config, clickhouse } = database();
    expect(await migrate(config, log)).toEqual(readMigrations().map(({ name }) => name));
    expect(await migrate(config, log)).toEqual([]);
    const columns = await clickhouse.query<{ table: string; name: string }>(
      "SELECT table, name FROM system.columns WHERE database = currentDatabase() ORDER BY table, position",
    );
    for (const [table, expected] of Object.entries(SINK_COLUMNS)) {
      expect(
        columns.filter((column) => column.table === table).map(({ name }) => name),
        table,
      ).toEqual([...expected, "inserted_at"]);
    }
  });

  it("migrates a database that holds data, and leaves the data unchanged when all of it runs again", async () => {
    const { config, clickhouse } = database();
    const all = readMigrations();
    await migrate(config, log, { migrations: all.slice(0, 1) });
    const inserted =
      "INSERT INTO predictions (topic, partition, offset, transaction_id, card_id, event_time, scored_at, " +
      "model, features) SELECT 'p', 0, number, toString(number), 'c', toDateTime64('2026-01-31 23:59:59', 3, " +
      "'UTC') + number, now64(3), 'm@1', [number] FROM numbers(1000)";
    await clickhouse.command(inserted);
    await clickhouse.command(
      "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time) SELECT " +
        "'l', 0, number, toString(number), 'c', number % 2, now64(3) FROM numbers(10)",
    );
    // What comes twice is stored once, before and after.
    await clickhouse.command(inserted);
    const data = (): Promise<unknown> =>
      clickhouse.query(
        "SELECT count() AS count, sum(cityHash64(transaction_id, card_id, event_time, model, features, " +
          "offset)) AS hash, (SELECT sum(cityHash64(transaction_id, is_fraud)) FROM labels FINAL) AS labels " +
          "FROM predictions FINAL",
      );
    const before = await data();
    expect(before).toMatchObject([{ count: 1_000 }]);
    expect(await migrate(config, log)).toEqual(all.slice(1).map(({ name }) => name));
    expect(await data()).toEqual(before);
    await clickhouse.command("TRUNCATE TABLE schema_migrations");
    expect(await migrate(config, log)).toEqual(all.map(({ name }) => name));
    expect(await data()).toEqual(before);
    expect(await migrate(config, log)).toEqual([]);
  });

  it("runs each migration once when several processes start at once, and later ones after it", async () => {
    const { config, clickhouse } = database();
    const first = counting(1, "one");
    const ran = await Promise.all(Array.from({ length: 4 }, () => migrate(config, log, { migrations: [first] })));
    expect(ran.flat()).toEqual([first.name]);
    expect(await migrate(config, log, { migrations: [first, counting(2, "two")] })).toEqual(["2-two.sql"]);
    // A process of an older version starts beside it.
    expect(await migrate(config, log, { migrations: [first] })).toEqual([]);
    expect(await clickhouse.query("SELECT (SELECT count() FROM one) AS one, (SELECT count() FROM two) AS two")).toEqual(
      [{ one: 1, two: 1 }],
    );
  });

  it("takes over the lock of a process that died", async () => {
    const { config, clickhouse } = database();
    await migrate(config, log, { migrations: [] });
    await clickhouse.command(
      "CREATE TABLE schema_migrations_lock (holder String) ENGINE = MergeTree ORDER BY holder COMMENT 'a dead process'",
    );
    expect(await migrate(config, log, { migrations: [counting(1, "one")], lockPatienceMs: 400 })).toEqual([
      "1-one.sql",
    ]);
    expect(
      await clickhouse.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%lock%'",
      ),
    ).toEqual([]);
  });

  it("does not take the lock of a process that is slow but alive", async () => {
    const { config, clickhouse } = database();
    const slow = { ...counting(1, "one"), statements: [...counting(1, "one").statements, "SELECT sleep(2)"] };
    const slowly = migrate(config, log, { migrations: [slow], lockPatienceMs: 1_000 });
    await sleep(200);
    const waiting = migrate(config, log, { migrations: [slow], lockPatienceMs: 1_000 });
    expect([await slowly, await waiting]).toEqual([[slow.name], []]);
    expect(await clickhouse.query("SELECT count() AS count FROM one")).toEqual([{ count: 1 }]);
  });

  it("refuses a migration that was changed after it was applied", async () => {
    const { config } = database();
    await migrate(config, log, { migrations: [counting(1, "one")] });
    const error = await failure(migrate(config, log, { migrations: [{ ...counting(1, "one"), sha256: "other" }] }));
    expect([error.code, error.retriable]).toEqual(["migration_changed", false]);
  });

  it("resumes where a migration broke off", async () => {
    const { config } = database();
    const broken = {
      ...counting(1, "one"),
      statements: ["CREATE TABLE IF NOT EXISTS kept (at DateTime) ENGINE = MergeTree ORDER BY at", "SELEC 1"],
    };
    expect((await failure(migrate(config, log, { migrations: [broken] }))).code).toBe("clickhouse_refused");
    const mended = { ...broken, statements: [broken.statements[0], "SELECT 1"] };
    expect(await migrate(config, log, { migrations: [mended], lockPatienceMs: 60_000 })).toEqual([mended.name]);
  });
});

describe("the owner of a database", () => {
  const ours = { clusterId: "one", topicPrefix: "fraud." };
  const theirs = { clusterId: "one", topicPrefix: "staging." };

  it("is whoever migrates it first; others are refused and told what to do, until one takes it over", async () => {
    const { config, clickhouse } = database();
    const both = await Promise.allSettled([
      migrate(config, log, { owner: ours }),
      migrate(config, log, { owner: theirs }),
    ]);
    expect(both.filter(({ status }) => status === "rejected")).toHaveLength(1);
    const [first, second] = both[0].status === "fulfilled" ? [ours, theirs] : [theirs, ours];
    expect(await migrate(config, log, { owner: first })).toEqual([]);
    await checkDatabase(clickhouse, first);
    const error = await failure(migrate(config, log, { owner: second }));
    expect([error.code, error instanceof UsageError]).toEqual(["clickhouse_database", true]);
    expect(error.message).toContain(`CLICKHOUSE_TAKE_OVER=one/${first.topicPrefix}`);
    expect((await failure(checkDatabase(clickhouse, second))).code).toBe("clickhouse_database");
    expect((await failure(migrate(config, log, { owner: second, takeOver: "one/other." }))).code).toBe(
      "clickhouse_database",
    );
    expect(await ownedSince(clickhouse)).toBe(0);
    await migrate(config, log, { owner: second, takeOver: nameOfOwner(first) });
    // The setting may stay: it names the former owner.
    await migrate(config, log, { owner: second, takeOver: nameOfOwner(first) });
    await checkDatabase(clickhouse, second);
    expect((await failure(migrate(config, log, { owner: first }))).message).toContain(
      `CLICKHOUSE_TAKE_OVER=${nameOfOwner(second)}`,
    );
    expect(await ownedSince(clickhouse)).toBeGreaterThan(Date.now() - 60_000);
  });

  it("of a database filled by an earlier version is whoever has rows there", async () => {
    const { config, clickhouse } = database();
    await migrate(config, log);
    await clickhouse.command(
      "INSERT INTO control_events (topic, key, at) SELECT 'fraud.control', 'deployment', now64(3)",
    );
    expect((await failure(migrate(config, log, { owner: theirs }))).message).toContain("has rows of fraud.control");
    await migrate(config, log, { owner: ours });
    await checkDatabase(clickhouse, ours);
  });
});

describe("migration 0005", () => {
  it(
    "keeps the labels that are stored, the last inserted one of each transaction, whatever their offsets; any " +
      "later one counts against them",
    async () => {
      const { config, clickhouse } = database();
      const all = readMigrations();
      await migrate(config, log, { migrations: all.slice(0, 4) });
      const insert = (id: string, partition: number, offset: number, fraud: boolean, at: string): Promise<void> =>
        clickhouse.command(
          "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time, " +
            "inserted_at) SELECT 'l', {partition: UInt32}, {offset: UInt64}, {id: String}, 'c', {fraud: Bool}, " +
            "now64(3), toDateTime64({at: String}, 3, 'UTC')",
          { id, partition, offset, fraud, at },
        );
      await clickhouse.command("SYSTEM STOP MERGES labels");
      // A correction by way of another partition, or of a topic that was made anew.
      await insert("a", 1, 90_000, true, "2026-05-01 00:00:00");
      await insert("a", 0, 7, false, "2026-06-01 00:00:00");
      await insert("b", 0, 8, true, "2026-06-01 00:00:00");
      await migrate(config, log);
      const labels = (): Promise<unknown> =>
        clickhouse.query("SELECT transaction_id AS id, is_fraud AS fraud, offset FROM labels FINAL ORDER BY id");
      expect(await labels()).toEqual([
        { id: "a", fraud: false, offset: 7 },
        { id: "b", fraud: true, offset: 8 },
      ]);
      const tables = await clickhouse.query<{ name: string }>(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%0005'",
      );
      expect(tables).toEqual([]);
      // Published in 2026; and one that a sink of the former version writes meanwhile, which gives no version.
      const { low, high } = labelVersion(Date.UTC(2026, 0, 1), 3, true);
      await clickhouse.command(
        "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time, version) " +
          "SELECT 'l', 0, 3, 'b', 'c', false, now64(3), {version: UInt64}",
        { version: String(BigInt(high) * 2n ** 32n + BigInt(low)) },
      );
      await clickhouse.command(
        "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time) SELECT " +
          "'l', 0, 2, 'a', 'c', true, now64(3)",
      );
      expect(await labels()).toEqual([
        { id: "a", fraud: true, offset: 2 },
        { id: "b", fraud: false, offset: 3 },
      ]);
    },
  );

  it("may stop anywhere and be run again from the top", async () => {
    const all = readMigrations();
    const { statements } = all[4];
    const renames = statements.findIndex((text) => text.startsWith("RENAME"));
    // Between its two renames a server may die, too.
    const half = [...statements.slice(0, renames), "RENAME TABLE labels TO labels_before_0005"];
    for (const done of [
      statements.slice(0, 3),
      statements.slice(0, renames),
      half,
      statements.slice(0, renames + 1),
      statements.slice(0, renames + 3),
    ]) {
      const { config, clickhouse } = database();
      await migrate(config, log, { migrations: all.slice(0, 4) });
      await clickhouse.command(
        "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time) SELECT " +
          "'l', 0, number, toString(number), 'c', number % 2, now64(3) FROM numbers(10)",
      );
      for (const statement of done) await clickhouse.command(statement);
      await migrate(config, log);
      expect(
        await clickhouse.query("SELECT count() AS rows, countIf(is_fraud) AS frauds FROM labels FINAL"),
        `after ${done.length}`,
      ).toEqual([{ rows: 10, frauds: 5 }]);
    }
  });

  it(
    "keeps what an earlier sink is inserting while the tables change places, also when it is run again " +
      "behind that",
    async () => {
      const all = readMigrations();
      const { statements } = all[4];
      const renames = statements.findIndex((text) => text.startsWith("RENAME"));
      for (const isRunAgain of [false, true]) {
        const { config, clickhouse } = database();
        await migrate(config, log, { migrations: all.slice(0, 4) });
        // It has its table from the beginning, and stores its rows at its end.
        const inserting = clickhouse.command(
          "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time) SELECT " +
            "'l', 0, number, toString(number), 'c', sleepEachRow(0.5), now64(3) FROM numbers(6) SETTINGS " +
            "max_block_size = 1",
        );
        const running =
          "SELECT count() AS n FROM system.processes WHERE query_kind = 'Insert' AND current_database = " +
          "currentDatabase()";
        while ((await clickhouse.query<{ n: number }>(running))[0].n === 0) await sleep(20);
        if (isRunAgain) for (const statement of statements.slice(0, renames + 1)) await clickhouse.command(statement);
        await migrate(config, log);
        await inserting;
        expect(await clickhouse.query("SELECT count() AS rows FROM labels FINAL"), `run again: ${isRunAgain}`).toEqual([
          { rows: 6 },
        ]);
      }
    },
  );
});

describe("waitForMigrations", () => {
  it("returns once another process has migrated, also if the database does not exist yet", async () => {
    const { config, clickhouse } = database();
    const migrations = [counting(1, "one")];
    let done = false;
    const waiting = waitForMigrations(clickhouse, log, { migrations, pollMs: 20 }).then(() => (done = true));
    await sleep(100);
    expect(done).toBe(false);
    await migrate(config, log, { migrations });
    await waiting;
    expect(done).toBe(true);
  });

  it("ends when its signal aborts", async () => {
    const { clickhouse } = database();
    const abort = new AbortController();
    const waiting = waitForMigrations(clickhouse, log, { signal: abort.signal, pollMs: 10_000 });
    setTimeout(() => abort.abort(), 50);
    await expect(waiting).rejects.toThrow(/abort/i);
  });
});

describe("applyRetention", () => {
  const ttls = async (clickhouse: ClickHouse): Promise<Record<string, number>> => {
    const rows = await clickhouse.query<{ name: string; engine_full: string }>(
      "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()",
    );
    return Object.fromEntries(
      rows
        .filter(({ name }) => name in DEFAULT_RETENTION || name in DERIVED_TABLES)
        .map(({ name, engine_full: engine }) => [
          name,
          Number(/ TTL .*\+ (\d+), 4294967295/.exec(engine)?.[1] ?? 0) / 86_400,
        ]),
    );
  };

  it("gives every table its time to live, changes it and removes it", async () => {
    const { config, clickhouse } = database();
    await migrate(config, log);
    await applyRetention(clickhouse, log);
    expect(await ttls(clickhouse)).toEqual({ ...DEFAULT_RETENTION, labels_by_event: DEFAULT_RETENTION.labels });
    await applyRetention(clickhouse, log, { transactions: 30, control_events: 7, labels: 0 });
    expect(await ttls(clickhouse)).toEqual({
      ...DEFAULT_RETENTION,
      transactions: 30,
      control_events: 7,
      labels: 0,
      labels_by_event: 0,
    });
  });

  it("never deletes because a number wrapped, whatever the retention; a TTL that could wrap is replaced", async () => {
    const { config, clickhouse } = database();
    await migrate(config, log);
    const insert = (): Promise<void> =>
      clickhouse.command(
        "INSERT INTO labels (topic, transaction_id, card_id, label_time) SELECT 't', 'x', 'c', now64(3)",
      );
    await clickhouse.command("ALTER TABLE labels MODIFY TTL toDateTime(inserted_at) + toIntervalDay(3000)");
    await applyRetention(clickhouse, log, { labels: 3_000 });
    const [{ engine }] = await clickhouse.query<{ engine: string }>(
      "SELECT engine_full AS engine FROM system.tables WHERE database = currentDatabase() AND name = 'labels'",
    );
    expect(engine).toContain("toIntervalDay(3000)");
    for (const days of [25_000, 28_900, 36_500, 50_000, 99_999, 1e9]) {
      await applyRetention(clickhouse, log, { labels: days });
      await insert();
      await clickhouse.command("OPTIMIZE TABLE labels FINAL");
      expect([days, await clickhouse.query("SELECT count() AS n FROM labels FINAL")]).toEqual([days, [{ n: 1 }]]);
    }
    await applyRetention(clickhouse, log, { labels: 0 });
    expect((await ttls(clickhouse)).labels).toBe(0);
  });

  it("drops rows inserted too long ago, whatever their event time", async () => {
    const { config, clickhouse } = database();
    await migrate(config, log);
    await applyRetention(clickhouse, log, { labels: 30 });
    const insert = (id: string, labelTime: string, days: number): Promise<void> =>
      clickhouse.command(
        "INSERT INTO labels (topic, transaction_id, card_id, label_time, inserted_at) SELECT 't', {id: " +
          "String}, 'c', toDateTime64({time: String}, 3, 'UTC'), now64(3) - toIntervalDay({days: UInt32})",
        { id, time: labelTime, days },
      );
    await insert("old", "2030-01-01 00:00:00", 31);
    await insert("new", "2001-01-01 00:00:00", 29);
    await clickhouse.command("OPTIMIZE TABLE labels FINAL");
    expect(await clickhouse.query("SELECT transaction_id FROM labels FINAL")).toEqual([{ transaction_id: "new" }]);
  });
});

describe("errors", () => {
  it("are retriable or not, by the server's code", async () => {
    const { clickhouse, config } = database();
    await migrate(config, log, { migrations: [] });
    const syntax = await failure(clickhouse.query("SELEC 1"));
    expect([syntax.code, syntax.retriable, clickHouseErrorType(syntax)]).toEqual([
      "clickhouse_refused",
      false,
      "SYNTAX_ERROR",
    ]);
    const missing = await failure(clickhouse.command("DROP TABLE nowhere"));
    expect([missing.retriable, clickHouseErrorType(missing)]).toEqual([false, "UNKNOWN_TABLE"]);
    const slow = await failure(
      clickhouse.query("SELECT sleep(1) FROM numbers(3) SETTINGS max_execution_time = 0.5, max_block_size = 1"),
    );
    expect([slow.code, slow.retriable, clickHouseErrorType(slow)]).toEqual([
      "clickhouse_refused",
      true,
      "TIMEOUT_EXCEEDED",
    ]);
    const cut = await failure(
      clickhouse.insertRows({
        table: "schema_migrations",
        columns: ["version", "name"],
        rows: Buffer.from([1, 2]),
        token: "x",
      }),
    );
    expect([cut.code, cut.retriable]).toEqual(["clickhouse_refused", false]);
  });

  it("are retriable if nobody answers", async () => {
    const nobody = createClickHouse({ ...clickhouseConfig("default"), url: "http://127.0.0.1:1" });
    onTestFinished(() => nobody.close());
    const refused = await failure(nobody.query("SELECT 1"));
    expect([refused.code, refused.retriable]).toEqual(["clickhouse_unreachable", true]);
    expect(await nobody.ping()).toBe(false);
    const hurried = createClickHouse(clickhouseConfig("default"), { requestTimeoutMs: 100 });
    onTestFinished(() => hurried.close());
    const late = await failure(hurried.query("SELECT sleep(2)"));
    expect([late.code, late.retriable]).toEqual(["clickhouse_unreachable", true]);
  });
});
