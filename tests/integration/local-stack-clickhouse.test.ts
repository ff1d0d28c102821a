import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import {
  ClickHouseError,
  ClickHouseLogLevel,
  createClient,
  type ClickHouseClient,
  type ClickHouseSettings,
} from "@clickhouse/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { clickhouseConfig, uniquePrefix } from "../support/engines.js";

/** What the project asks of a ClickHouse server; it holds for a real one as for the local one. */
describe("ClickHouse over HTTP", () => {
  const { url, username, password, database } = clickhouseConfig(`${uniquePrefix("_")}http`);
  const connect = (more: object = {}): ClickHouseClient =>
    createClient({ url, username, password, log: { level: ClickHouseLogLevel.OFF }, ...more });
  const server = connect();
  const client = connect({ database });
  const packed = connect({ database, compression: { request: true, response: true } });
  const rows = async (query: string, query_params: Record<string, unknown> = {}, from = client): Promise<unknown[]> =>
    (await from.query({ query, query_params, format: "JSONEachRow" })).json();
  const table = async (columns: string, tail: string): Promise<string> => {
    const name = `t${randomUUID().slice(0, 8)}`;
    await client.command({ query: `CREATE TABLE ${name} (${columns}) ${tail}` });
    return name;
  };

  beforeAll(async () => {
    await server.command({ query: `CREATE DATABASE ${database}` });
  });
  afterAll(async () => {
    await server.command({ query: `DROP DATABASE ${database}` });
    for (const each of [server, client, packed]) await each.close();
  });

  it("answers pings", async () => {
    expect(await server.ping()).toEqual({ success: true });
    expect(await server.ping({ select: true })).toEqual({ success: true });
  });

  it("binds parameters of any content by value", async () => {
    const text = "tab\t newline\n quote' back\\slash ü {x:String} ; DROP TABLE t --";
    const query =
      "SELECT {text:String} AS text, {list:Array(String)} AS list, {none:Nullable(UInt8)} AS none, " +
      "{number:Float64} AS number";
    const query_params = { text, list: ["a'b", "c\td", ""], none: null, number: -1.5e-7 };
    const expected = [{ text, list: ["a'b", "c\td", ""], none: null, number: -1.5e-7 }];
    expect(await rows(query, query_params)).toEqual(expected);
    expect(await rows(query, query_params, packed)).toEqual(expected);
    const inForm = await client.query({ query, query_params, format: "JSONEachRow", use_multipart_params: true });
    expect(await inForm.json()).toEqual(expected);
  });

  it("fills defaults and honours the column list of an insert", async () => {
    const name = await table(
      "a UInt32, b String DEFAULT concat('default of ', toString(a)), c UInt8 DEFAULT 7",
      "ENGINE = MergeTree ORDER BY a",
    );
    await client.insert({ table: name, values: [{ a: 1 }, { a: 2, b: "it's" }], format: "JSONEachRow" });
    await packed.insert({ table: name, values: [["three", 3]], columns: ["b", "a"], format: "JSONCompactEachRow" });
    await client.insert({
      table: name,
      values: [{ a: 4, b: "four" }],
      columns: { except: ["c"] },
      format: "JSONEachRow",
    });
    expect(await rows(`SELECT * FROM ${name} ORDER BY a`)).toEqual([
      { a: 1, b: "default of 1", c: 7 },
      { a: 2, b: "it's", c: 7 },
      { a: 3, b: "three", c: 7 },
      { a: 4, b: "four", c: 7 },
    ]);
  });

  it("takes rows in binary, reports how many, and returns them in binary", async () => {
    const name = await table("id UInt64, text String, vector Array(Float32)", "ENGINE = MergeTree ORDER BY id");
    const count = 20_000;
    const pieces = Array.from({ length: count }, (_, index) => {
      const row = Buffer.alloc(8 + 1 + 4 + 1 + 8);
      row.writeBigUInt64LE(BigInt(index), 0);
      row.write("\x04\n'\\\0", 8, "latin1");
      row[13] = 2;
      row.writeFloatLE(index / 2, 14);
      row.writeFloatLE(-1, 18);
      return row;
    });
    const { summary, stream } = await client.exec({
      query: `INSERT INTO ${name} (id, text, vector) FORMAT RowBinary`,
      values: Readable.from(pieces, { objectMode: false }),
    });
    stream.resume();
    expect(summary?.written_rows).toBe(String(count));
    const answer = await client.exec({ query: `SELECT * FROM ${name} ORDER BY id FORMAT RowBinary` });
    expect(Buffer.concat(await answer.stream.toArray())).toEqual(Buffer.concat(pieces));
  });

  it("inserts rows that are part of the statement", async () => {
    const name = await table("a UInt32, b String", "ENGINE = MergeTree ORDER BY a");
    await client.command({ query: `INSERT INTO ${name} VALUES (1, 'FORMAT x'), (2, 'a;b')` });
    await client.command({ query: `INSERT INTO ${name} SELECT a + 10, b FROM ${name}` });
    expect(await rows(`SELECT a FROM ${name} ORDER BY a`)).toEqual([{ a: 1 }, { a: 2 }, { a: 11 }, { a: 12 }]);
  });

  it("stores a repeated block once, by its token", async () => {
    const name = await table(
      "k UInt32, v UInt32",
      "ENGINE = MergeTree ORDER BY k SETTINGS non_replicated_deduplication_window = 100",
    );
    for (const token of ["one", "one", "two"]) {
      await client.insert({
        table: name,
        values: [{ k: 1, v: 1 }],
        format: "JSONEachRow",
        clickhouse_settings: { insert_deduplication_token: token },
      });
    }
    expect(await rows(`SELECT toUInt32(count()) AS n FROM ${name}`)).toEqual([{ n: 2 }]);
  });

  it("replaces rows by version, across months in one block", async () => {
    const name = await table(
      "id UInt32, at DateTime, version UInt32",
      "ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(at) ORDER BY id",
    );
    const values = Array.from({ length: 150 }, (_, index) => ({
      id: index,
      at: `${2000 + Math.floor(index / 12)}-${String((index % 12) + 1).padStart(2, "0")}-01 00:00:00`,
      version: 1,
    }));
    const insert = (clickhouse_settings: ClickHouseSettings): Promise<unknown> =>
      client.insert({ table: name, values, format: "JSONEachRow", clickhouse_settings });
    await expect(insert({})).rejects.toMatchObject({ type: "TOO_MANY_PARTS" });
    await insert({ max_partitions_per_insert_block: "0" });
    await client.insert({
      table: name,
      values: values.map((row) => ({ ...row, version: 2 })),
      format: "JSONEachRow",
      clickhouse_settings: { max_partitions_per_insert_block: "0" },
    });
    expect(await rows(`SELECT toUInt32(count()) AS n, min(version) AS version FROM ${name} FINAL`)).toEqual([
      { n: 150, version: 2 },
    ]);
  });

  it("feeds materialized views and knows the metric functions", async () => {
    const name = await table("day Date, score Float64, fraud UInt8", "ENGINE = MergeTree ORDER BY day");
    await client.command({
      query:
        `CREATE MATERIALIZED VIEW ${name}_mv ENGINE = SummingMergeTree ORDER BY day AS SELECT day, count() AS ` +
        `n FROM ${name} GROUP BY day`,
    });
    await client.insert({
      table: name,
      values: [0.1, 0.4, 0.35, 0.8].map((score, index) => ({ day: "2026-01-01", score, fraud: index >= 2 ? 1 : 0 })),
      format: "JSONEachRow",
    });
    expect(await rows(`SELECT toUInt32(sum(n)) AS n FROM ${name}_mv`)).toEqual([{ n: 4 }]);
    expect(await rows(`SELECT arrayROCAUC(groupArray(score), groupArray(fraud)) AS auc FROM ${name}`)).toEqual([
      { auc: 0.75 },
    ]);
  });

  it("returns a whole JSON document, and an empty result", async () => {
    const document = await (
      await packed.query({ query: "SELECT number AS n FROM numbers(100000)", format: "JSON" })
    ).json<{ n: string }>();
    expect([document.rows, document.data.at(-1), document.meta]).toEqual([
      100_000,
      { n: expect.anything() as unknown },
      [{ name: "n", type: "UInt64" }],
    ]);
    expect(await rows("SELECT 1 WHERE 0")).toEqual([]);
  });

  it("streams a long result row by row", async () => {
    for (const each of [client, packed]) {
      const result = await each.query({
        query: "SELECT number FROM numbers(400000)",
        format: "JSONEachRow",
        clickhouse_settings: { output_format_json_quote_64bit_integers: 0 },
      });
      let sum = 0;
      for await (const batch of result.stream<{ number: number }>()) for (const row of batch) sum += row.json().number;
      expect(sum).toBe((399_999 * 400_000) / 2);
    }
  });

  it("keeps settings, parameters and databases of concurrent requests apart", async () => {
    const answers = await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const each = index % 2 === 0 ? client : server;
        const result = await each.query({
          query: "SELECT {x:UInt32} AS x, getSetting('max_threads') AS threads, currentDatabase() AS db",
          query_params: { x: index },
          clickhouse_settings: { max_threads: 1 + (index % 5) },
          format: "JSONEachRow",
        });
        return (await result.json<{ x: number; threads: string; db: string }>())[0];
      }),
    );
    expect(answers.map(({ x, threads, db }) => [x, Number(threads), db])).toEqual(
      answers.map((_, index) => [index, 1 + (index % 5), index % 2 === 0 ? database : "default"]),
    );
  });

  const mistakes: [name: string, query: string, code: string, type: string][] = [
    ["an unknown table", "SELECT * FROM nowhere", "60", "UNKNOWN_TABLE"],
    ["an unknown column", "SELECT nothing", "47", "UNKNOWN_IDENTIFIER"],
    ["a syntax error", "SELEC 1", "62", "SYNTAX_ERROR"],
    ["two statements", "SELECT 1; SELECT 2", "62", "SYNTAX_ERROR"],
    ["a parameter that is missing", "SELECT {x:UInt8}", "456", "UNKNOWN_QUERY_PARAMETER"],
    [
      "a failure in the middle",
      "SELECT throwIf(number = 3) FROM numbers(10)",
      "395",
      "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
    ],
  ];
  it.each(mistakes)("reports %s with code and type", async (_, query, code, type) => {
    const error: unknown = await client.command({ query }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ClickHouseError);
    expect(error).toMatchObject({ code, type });
  });

  it("reports an unknown setting, an unknown database, and rows that don't parse", async () => {
    await expect(
      client.command({ query: "SELECT 1", clickhouse_settings: { no_such_setting: 1 } }),
    ).rejects.toMatchObject({ type: "UNKNOWN_SETTING" });
    const lost = connect({ database: "no_such_database" });
    await expect(lost.command({ query: "SELECT 1" })).rejects.toMatchObject({ type: "UNKNOWN_DATABASE" });
    await lost.close();
    const name = await table("a UInt32", "ENGINE = MergeTree ORDER BY a");
    await expect(client.insert({ table: name, values: [{ a: "many" }], format: "JSONEachRow" })).rejects.toMatchObject({
      code: "27",
    });
    const half = client.exec({
      query: `INSERT INTO ${name} FORMAT RowBinary`,
      values: Readable.from([Buffer.from([1, 0, 0, 0, 2])], { objectMode: false }),
    });
    await expect(half).rejects.toMatchObject({ type: "CANNOT_READ_ALL_DATA" });
    expect(await rows(`SELECT a FROM ${name}`)).toEqual([]);
  });

  it("stores nothing of an insert that its client cancels", async () => {
    const name = await table("a UInt32", "ENGINE = MergeTree ORDER BY a");
    for (let round = 0; round < 10; round += 1) {
      const half = Readable.from(
        (async function* () {
          yield Buffer.alloc(400_000, 1);
          await new Promise((_, reject) => setTimeout(() => reject(new Error("called off")), 50));
        })(),
        { objectMode: false },
      );
      await expect(client.exec({ query: `INSERT INTO ${name} FORMAT RowBinary`, values: half })).rejects.toThrow();
      await client.insert({ table: name, values: [{ a: round }], format: "JSONEachRow" });
    }
    expect(await rows(`SELECT a FROM ${name} ORDER BY a`)).toEqual(Array.from({ length: 10 }, (_, a) => ({ a })));
  });

  it("fails a streamed result whose query fails midway", async () => {
    const result = await client.query({
      query: "SELECT throwIf(number = 2000000) FROM numbers(3000000)",
      format: "JSONEachRow",
    });
    await expect(result.json()).rejects.toThrow();
  });

  it("gives the next request of a connection its own answer after an error", async () => {
    const one = connect({ database, max_open_connections: 1 });
    for (let round = 0; round < 5; round += 1) {
      await expect(one.insert({ table: "nowhere", values: [{ a: 1 }], format: "JSONEachRow" })).rejects.toMatchObject({
        type: "UNKNOWN_TABLE",
      });
      expect(await rows("SELECT {round:UInt8} AS round", { round }, one)).toEqual([{ round }]);
    }
    await one.close();
  });
});
