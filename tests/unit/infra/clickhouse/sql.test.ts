import { describe, expect, it } from "vitest";
import { readMigrations } from "../../../../infra/clickhouse/migrate.js";
import { splitStatements } from "../../../../infra/clickhouse/sql.js";

describe("splitStatements", () => {
  it("splits at semicolons, but not inside texts, names, comments and here-documents", () => {
    const file = `
      -- first; not a statement
      SELECT 'a;b', 'it''s; \\'so;', "c;\\"d", \`e;f\` /* ; */ FROM t; ;
      # also; a comment
      SELECT $x$ ; 'open $x$, -1 - -2 --end;
      ;
      SELECT 3`;
    expect(splitStatements(file).map((text) => text.replace(/\s+/g, " "))).toEqual([
      `SELECT 'a;b', 'it''s; \\'so;', "c;\\"d", \`e;f\` FROM t`,
      "SELECT $x$ ; 'open $x$, -1 - -2",
      "SELECT 3",
    ]);
  });

  it("returns nothing for an empty file", () => {
    expect(splitStatements(" \n-- only this\n;;")).toEqual([]);
  });
});

describe("readMigrations", () => {
  it("reads our migrations in order, each statement safe to run again", () => {
    const migrations = readMigrations();
    expect(migrations.map(({ version }) => version)).toEqual(migrations.map((_, i) => i + 1));
    // 0005 copies a table: that it may be run again from the top wherever it ended is tested in clickhouse.test.ts.
    const others = migrations.filter(({ version }) => version !== 5);
    for (const statement of others.flatMap(({ statements }) => statements))
      expect(statement).toMatch(/IF (NOT )?EXISTS/);
  });
});
