import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { Dataset } from "../../../../../models/datasets/dataset.js";
import { readCsv, type CsvOptions } from "../../../../../models/datasets/read-csv.js";
import { RequestError } from "../../../../../schemas/errors.js";
import { fileWith, numbers, temporaryFolder } from "../csv-files.js";
import { doubles, i32, levels, list, parquetOf, run, struct, text, texts, type MadeColumn } from "./parquet-files.js";

const FOLDER = "tests/fixtures/parquet";
const FILES = [
  ["snappy.parquet", "Snappy, dictionaries, three row groups"],
  ["delta-v2-zstd.parquet", "zstd, pages of the second version, differences, streams of bytes, times in UTC"],
  ["old-int96-gzip.parquet", "gzip, INT96, plain values, many pages"],
  ["brotli.parquet", "Brotli, nanoseconds, decimals as integers"],
  ["lz4.parquet", "LZ4, a zone"],
  ["plain.parquet", "not packed"],
  ["duckdb-zstd.parquet", "DuckDB"],
] as const;
const fixture = (name: string): string => join(FOLDER, name);
const limits = { bytes: 1_000_000_000, rows: 1_000_000 };

async function refused(content: Uint8Array, options: CsvOptions = {}): Promise<{ code: string; message: string }> {
  const file = fileWith(content, "x.parquet");
  const error = await readCsv(file, options).then(
    () => new Error("it was read"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(RequestError);
  const { code, message } = error as RequestError;
  return { code, message: message.replaceAll(file, "FILE") };
}

/** All of a data set but what says which file it was, and in which zone its times are. */
function told({ notes, source: _source, columns = [], ...dataset }: Dataset): unknown {
  return {
    ...dataset,
    notes: notes
      .filter((note) => !note.startsWith("file: "))
      .map((note) => note.replace(", UTC where they name no zone", "")),
    columns: columns.map(({ examples, ...column }) => ({
      ...column,
      examples: examples.map((example) => example.replace(/Z$/, "")),
    })),
  };
}

describe("a Parquet file is read as the CSV file of its table, whatever wrote it", () => {
  test.each(FILES)("%s: %s", async (name) => {
    const csv = await readCsv(fixture("payments.csv"));
    const parquet = await readCsv(fixture(name));
    expect(told(parquet)).toEqual(told(csv));
    expect(parquet.notes[0]).toBe("file: Parquet");
  });

  test("whatever its name; a packed one, or a table that only begins so, is another thing", async () => {
    const copy = join(temporaryFolder(), "payments.csv.gz");
    copyFileSync(fixture("snappy.parquet"), copy);
    expect((await readCsv(copy)).length).toBe(240);
    expect(await refused(gzipSync(readFileSync(fixture("plain.parquet"))))).toEqual({
      code: "not_csv",
      message: expect.stringContaining("it is a Parquet file that was packed once more: unpack it") as unknown,
    });
    const csv = readFileSync(fixture("payments.csv"), "utf8").replace("transaction_id,", "PAR1,");
    expect((await readCsv(fileWith(csv))).length).toBe(240);
  });

  test("times that name no zone have the note that they have in a CSV file; others are in UTC", async () => {
    const noteOf = async (name: string): Promise<string | undefined> =>
      (await readCsv(fixture(name))).notes.find((note) => note.startsWith("event_time:"));
    for (const name of ["snappy.parquet", "old-int96-gzip.parquet", "payments.csv"])
      expect(await noteOf(name)).toBe('event_time: column "event_time", dates, UTC where they name no zone');
    for (const name of ["delta-v2-zstd.parquet", "lz4.parquet"])
      expect(await noteOf(name)).toBe('event_time: column "event_time", dates');
  });

  test("all kinds of single values; nested columns are left out with a note", async () => {
    const dataset = await readCsv(fixture("kinds.parquet"), { keep: ["huge", "clock", "raw"] });
    const { columns = [] } = dataset;
    const told = Object.fromEntries(columns.map(({ name, examples, taken_for }) => [name, [taken_for, ...examples]]));
    expect(dataset.transactionId[1]).toMatch(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
    expect(told["amount"]).toEqual(["amount", "88.7900", "564.4000", "22.8100"]);
    expect(told["half"]).toEqual(["attribute (number)", "5.0", "0.0", "-2.0"]);
    expect(told["huge"]).toEqual(["attribute (number)", ...[4, 3, 5].map((digit) => `1844674407370955161${digit}`)]);
    expect(told["clock"].slice(1)).toEqual(["00:05:09", "01:05:09.250", "02:05:09"]);
    expect(told["raw"].slice(1)).toEqual(["ok", "\\xff00"]);
    expect(told["kind"].slice(1)).toEqual(["k0", "k1", "k2"]);
    expect(told["nothing"]).toEqual(["left out"]);
    for (const name of ["cart", "shop", "tags"]) {
      expect(told[name]).toEqual(["left out"]);
      expect(dataset.notes).toContain(`left out: column "${name}", it is nested (a struct, list or map)`);
    }
  });

  test("a bad cell is named by its row", async () => {
    await expect(readCsv(fixture("snappy.parquet"), { columns: { amount: "risk" } })).rejects.toMatchObject({
      code: "csv_bad_value",
      message: `${fixture("snappy.parquet")} row 4, column "risk": "" is not a finite number`,
    });
    await expect(readCsv(fixture("snappy.parquet"), { columns: { amount: "none" } })).rejects.toMatchObject({
      message: expect.stringContaining('snappy.parquet: no column "none" for') as unknown,
    });
  });

  test("an abort ends the reading; progress ends with all rows", async () => {
    const abort = AbortSignal.abort(new Error("enough"));
    await expect(readCsv(fixture("snappy.parquet"), { signal: abort })).rejects.toThrow("enough");
    const seen: [number, number][] = [];
    await readCsv(fixture("snappy.parquet"), { onProgress: (percent, rows) => seen.push([percent, rows]) });
    expect(seen.at(-1)).toEqual([100, 240]);
  });
});

/** Columns that train: three amounts and labels, a thousand times. */
const ROWS = 3_000;
const AMOUNT: MadeColumn = {
  name: "amount",
  type: 5,
  pages: [{ values: ROWS, body: doubles(Array.from({ length: ROWS }, (_, row) => 1 + (row % 7))) }],
};
const LABEL: MadeColumn = {
  name: "label",
  type: 5,
  pages: [{ values: ROWS, body: doubles(Array.from({ length: ROWS }, (_, row) => Number(row % 9 === 0))) }],
};

describe("limits and bombs", () => {
  test("rows and bytes up to the limit are read, one more is refused", async () => {
    const file = fixture("snappy.parquet");
    expect((await readCsv(file, { limits: { rows: 240, bytes: 60_000 } })).length).toBe(240);
    await expect(readCsv(file, { limits: { ...limits, rows: 239 } })).rejects.toMatchObject({
      code: "csv_too_many_rows",
    });
    await expect(readCsv(file, { limits: { ...limits, bytes: 20_000 } })).rejects.toMatchObject({
      code: "csv_too_large",
    });
  });

  test("what a row group declares is refused before it is unpacked", async () => {
    const file = parquetOf(ROWS, [AMOUNT, LABEL], { unpacked: 2e9 });
    expect((await refused(file, { limits })).code).toBe("csv_too_large");
    expect((await refused(parquetOf(2 ** 31, [AMOUNT, LABEL]), { limits })).code).toBe("csv_too_many_rows");
  });

  test("a page that unpacks to more than it says", async () => {
    const body = gzipSync(Buffer.alloc(50_000_000));
    const bomb: MadeColumn = { ...AMOUNT, codec: 2, pages: [{ values: ROWS, body, unpacked: 8 * ROWS }] };
    expect(await refused(parquetOf(ROWS, [bomb, LABEL]), { limits })).toEqual({
      code: "bad_parquet",
      message: expect.stringMatching(
        /^FILE: the Parquet file can't be read: row group 1, column "amount": its packed data is damaged/,
      ) as unknown,
    });
  });

  test("a page that says how much it is, and it is too much", async () => {
    const body = gzipSync(Buffer.alloc(200_000_000), { level: 9 });
    const bomb = (unpacked: number): MadeColumn => ({ ...AMOUNT, codec: 2, pages: [{ values: ROWS, body, unpacked }] });
    expect((await refused(parquetOf(ROWS, [bomb(200_000_000), LABEL]), { limits })).code).toBe("csv_bomb");
    expect((await refused(parquetOf(ROWS, [bomb(2_000_000_000), LABEL]))).code).toBe("csv_too_large");
  });

  test("one long text in the dictionary, a million times", async () => {
    const note: MadeColumn = {
      name: "note",
      type: 6,
      pages: [
        { kind: 2, values: 1, body: texts(["x".repeat(100_000)]) },
        { values: ROWS, encoding: 8, body: Buffer.concat([Buffer.from([1]), run(ROWS, 0)]) },
      ],
    };
    expect((await refused(parquetOf(ROWS, [AMOUNT, LABEL, note]), { limits })).code).toBe("csv_bomb");
  });

  test("a few bytes that stand for a billion nulls, or for a run of a billion", async () => {
    const nulls: MadeColumn = {
      name: "x",
      type: 1,
      optional: true,
      pages: [{ values: 2 ** 30, body: levels(run(2 ** 30, 0)) }],
    };
    expect((await refused(parquetOf(ROWS, [AMOUNT, LABEL, nulls]))).message).toMatch(
      /column "x": a page has 1073741824 values, where 3000 rows are left$/,
    );
    const longRun = { ...nulls, pages: [{ values: ROWS, body: levels(run(2 ** 30, 0)) }] };
    expect((await readCsv(fileWith(parquetOf(ROWS, [AMOUNT, LABEL, longRun])))).length).toBe(ROWS);
  });
});

describe("damaged files are refused with what is wrong, and where", () => {
  test.each([
    ["cut off", (good: Buffer) => good.subarray(0, 2_000), /it was cut off: its footer is not there$/],
    ["hardly begun", (good: Buffer) => good.subarray(0, 9), /it was cut off/],
    ["encrypted", (good: Buffer) => Buffer.concat([good.subarray(0, -4), Buffer.from("PARE")]), /it is encrypted$/],
    [
      "a footer longer than the file",
      (good: Buffer) => Buffer.concat([good.subarray(0, -8), Buffer.from([255, 255, 255, 0]), Buffer.from("PAR1")]),
      /its footer is said to have 16777215 bytes$/,
    ],
    ["a footer of zeros", (good: Buffer) => withFooter(Buffer.alloc(good.length)), /its footer has no schema$/],
    [
      "a number without end",
      () => withFooter(Buffer.concat([Buffer.from([0x15]), Buffer.alloc(100_000, 0xff)])),
      /64 bits/,
    ],
    ["structs without end", () => withFooter(Buffer.alloc(100_000, 0x1c)), /nested too deep/],
    ["a list of billions", () => withFooter(struct({ 2: list([struct({})], 2 ** 31) }).bytes), /ends too early/],
    [
      "a schema that counts wrongly",
      () => withFooter(struct({ 2: list([struct({ 5: i32(1) }), struct({ 4: text("a"), 5: i32(9) })]) }).bytes),
      /its schema/,
    ],
  ] satisfies [string, (good: Buffer) => Buffer, RegExp][])("%s", async (_what, damage, message) => {
    const result = await refused(damage(readFileSync(fixture("snappy.parquet"))));
    expect(result.code).toBe("bad_parquet");
    expect(result.message).toMatch(message);
  });

  test("pages that lack values, or name what their dictionary lacks", async () => {
    const of = async (pages: MadeColumn["pages"], type = 5): Promise<string> =>
      (await refused(parquetOf(ROWS, [AMOUNT, LABEL, { name: "x", type, pages }]))).message;
    expect(await of([{ values: 10, body: doubles([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) }])).toMatch(
      /row group 1, column "x": its pages lack 2990 rows$/,
    );
    expect(await of([{ values: ROWS, body: doubles([1]) }])).toMatch(/has 8 bytes of values, where 24000 are needed$/);
    expect(await of([{ values: ROWS, encoding: 8, body: Buffer.from([1, 0]) }])).toMatch(/needs a dictionary/);
    expect(
      await of([
        { kind: 2, values: 1, body: doubles([1]) },
        { values: ROWS, encoding: 8, body: Buffer.concat([Buffer.from([8]), run(ROWS, 7)]) },
      ]),
    ).toMatch(/a value is not in its dictionary$/);
    expect(await of([{ values: ROWS, encoding: 77, body: doubles([1]) }])).toMatch(/not read \(encoding 77\)$/);
  });

  test("bytes changed anywhere: a table, or an error of ours, soon", { timeout: 60_000 }, async () => {
    const random = numbers(11);
    for (const [name] of FILES) {
      const good = readFileSync(fixture(name));
      for (let n = 0; n < 25; n++) {
        const bytes = Buffer.from(good);
        const footer = bytes.length - 8 - bytes.readUInt32LE(bytes.length - 8);
        for (let i = 0; i <= n % 4; i++) {
          const at = Math.floor(n % 2 === 0 ? random() * footer : footer + random() * (bytes.length - footer));
          bytes[at] = Math.floor(random() * 256);
        }
        const started = performance.now();
        const error = await readCsv(fileWith(bytes), { limits }).catch((reason: unknown) => reason);
        if (error instanceof Error) expect(error, `${name} ${n}: ${error.stack}`).toBeInstanceOf(RequestError);
        expect(performance.now() - started, `${name} ${n}`).toBeLessThan(5_000);
      }
    }
  });
});

function withFooter(footer: Buffer): Buffer {
  return parquetOf(ROWS, [AMOUNT, LABEL], { footer });
}
