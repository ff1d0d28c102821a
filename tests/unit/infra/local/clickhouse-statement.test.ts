import { describe, expect, it } from "vitest";
import { dataInsert, shapeOf } from "../../../../infra/local/clickhouse-statement.js";

describe("dataInsert", () => {
  const cases: [statement: string, into: string, settings: string, format: string, inlineData: string][] = [
    ["INSERT INTO t FORMAT RowBinary", "INSERT INTO t", "", "RowBinary", ""],
    ["insert into db.t (a, `b)`) format JSONEachRow\n", "insert into db.t (a, `b)`)", "", "JSONEachRow", ""],
    ["INSERT INTO t (* EXCEPT(format)) FORMAT CSV", "INSERT INTO t (* EXCEPT(format))", "", "CSV", ""],
    ["INSERT INTO format.settings FORMAT TSV", "INSERT INTO format.settings", "", "TSV", ""],
    ["INSERT INTO `a``FORMAT x` FORMAT TSV", "INSERT INTO `a``FORMAT x`", "", "TSV", ""],
    [
      "INSERT INTO TABLE t SETTINGS async_insert=0, x='FORMAT' FORMAT Native",
      "INSERT INTO TABLE t",
      "SETTINGS async_insert=0, x='FORMAT'",
      "Native",
      "",
    ],
    [
      "-- first\nINSERT /* VALUES */ INTO t # FORMAT CSV\n VALUES (1), (2)",
      "-- first\nINSERT /* VALUES */ INTO t # FORMAT CSV",
      "",
      "Values",
      "(1), (2)",
    ],
    ['INSERT INTO t FORMAT JSONEachRow {"a": "\'FORMAT"}', "INSERT INTO t", "", "JSONEachRow", '{"a": "\'FORMAT"}'],
    ["INSERT INTO t FORMAT CSV\r\n 1,2\n", "INSERT INTO t", "", "CSV", " 1,2\n"],
    ["INSERT INTO FUNCTION null('a UInt8') FORMAT CSV", "INSERT INTO FUNCTION null('a UInt8')", "", "CSV", ""],
  ];
  it.each(cases)("parses %j", (statement, into, settings, format, inlineData) => {
    expect(dataInsert(statement)).toEqual({ into, settings, format, inlineData });
  });

  it.each([
    "",
    "SELECT 1 FORMAT CSV",
    "INSERT INTO t SELECT * FROM u FORMAT CSV",
    "INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
    "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
    "INSERT INTO t",
    "'INSERT INTO t FORMAT CSV'",
  ])("leaves %j unchanged", (statement) => {
    expect(dataInsert(statement)).toBeNull();
  });
});

describe("shapeOf", () => {
  const cases: [statement: string, shape: Partial<ReturnType<typeof shapeOf>>][] = [
    ["SELECT 1", { verb: "SELECT", format: null, multiple: false, writesFile: false }],
    ["  /* x */ (select 1) union all (select 2) format JSON", { verb: "SELECT", format: "JSON" }],
    [
      "SELECT 'FORMAT CSV', \"FORMAT TSV\" FROM (SELECT 1 FORMAT) FORMAT JSONEachRow SETTINGS max_threads = 1;",
      { format: "JSONEachRow", multiple: false },
    ],
    ["SELECT 1; -- that was all\n", { multiple: false }],
    ["SELECT 1; SELECT 2", { multiple: true }],
    ["SELECT ';' AS `;`, {a:String}", { multiple: false }],
    ["SELECT 1 INTO OUTFILE '/tmp/x' FORMAT CSV", { writesFile: true }],
    ["SELECT into, outfile FROM t", { writesFile: false }],
    ["INSERT INTO t VALUES (1); SELECT 2", { verb: "INSERT", format: null, multiple: false }],
    ["SELECT 'it''s; FORMAT x' AS a, 'back\\'; slash'", { format: null, multiple: false }],
    ["", { verb: "" }],
  ];
  it.each(cases)("of %j", (statement, shape) => {
    expect(shapeOf(statement)).toMatchObject(shape);
  });
});
