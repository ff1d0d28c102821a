import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { readMigrations } from "../../infra/clickhouse/migrate.js";
import { splitStatements } from "../../infra/clickhouse/sql.js";
import { packageRoot } from "../../infra/package-root.js";
import { clickhouseConfig } from "../support/engines.js";

const folder = join(packageRoot(), "infra/clickhouse/users");
const ROLES = ["sink", "scoring", "merchants", "training", "api"];

test("the grants are valid ClickHouse statements, for existing tables and for users that are created", async () => {
  const statements = splitStatements(readFileSync(join(folder, "grants.sql"), "utf8"));
  const tables = new Set(
    readMigrations().flatMap(({ statements: made }) =>
      made.flatMap((text) => /CREATE TABLE IF NOT EXISTS (\w+)/.exec(text)?.[1] ?? []),
    ),
  );
  const clickhouse = createClickHouse(clickhouseConfig("default"));
  const granted = new Set<string>();
  for (const statement of statements) {
    // It is parsed as a server would, and written anew.
    const [{ text }] = await clickhouse.query<{ text: string }>("SELECT formatQuery({statement: String}) AS text", {
      statement,
    });
    const [, table = "", users = ""] = /^GRANT [\w ,]+ ON fraud\.(\w+|\*) TO ([\w, ]+)$/.exec(text) ?? [];
    expect(table === "*" || tables.has(table), text).toBe(true);
    for (const user of users.split(", ")) granted.add(user);
  }
  await clickhouse.close();
  expect([...granted].sort()).toEqual([...ROLES].sort());
  expect(/for role in ([\w ]+);/.exec(readFileSync(join(folder, "create-users.sh"), "utf8"))?.[1]).toBe(
    ROLES.join(" "),
  );
});
