import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { fileWith, ulbCsv } from "./csv-files.js";

const limits = { bytes: 1_000_000_000, rows: 1_000_000 };
const code = (wanted: string): unknown => expect.objectContaining({ name: "RequestError", code: wanted });

test("rows and bytes up to the limit are read, one more is refused", async () => {
  const text = ulbCsv(500);
  const file = fileWith(gzipSync(text), "x.csv.gz");
  expect((await readCsv(file, { limits: { rows: 500, bytes: text.length } })).length).toBe(500);
  await expect(readCsv(file, { limits: { ...limits, rows: 499 } })).rejects.toEqual(code("csv_too_many_rows"));
  await expect(readCsv(file, { limits: { ...limits, bytes: text.length - 1 } })).rejects.toEqual(code("csv_too_large"));
});

test("a header of thousands of columns is refused before memory is taken for each", async () => {
  const file = fileWith(`${Array.from({ length: 100_000 }, (_, i) => `c${i}`).join(",")},amount,label\n`);
  await expect(readCsv(file, { limits })).rejects.toEqual(code("csv_too_many_columns"));
});

test("a compression bomb is refused long before it is unpacked: empty lines, rows, and one endless row", async () => {
  const zeros = (line: string): Buffer =>
    gzipSync(Buffer.concat([Buffer.from("amount,label\n"), Buffer.from(line.repeat(200_000_000 / line.length))]), {
      level: 9,
    });
  await expect(readCsv(fileWith(zeros("\n")), { limits })).rejects.toEqual(code("csv_bomb"));
  await expect(readCsv(fileWith(zeros("0,0\n")), { limits: { ...limits, rows: 1_000 } })).rejects.toEqual(
    code("csv_too_many_rows"),
  );
  await expect(readCsv(fileWith(zeros("0")), { limits })).rejects.toEqual(code("csv_bad_quote"));
});

test("packed data within packed data that holds nothing", async () => {
  // Deflate's empty blocks, in one member of gzip.
  const empty = Buffer.from([0, 0, 0, 0xff, 0xff]);
  const member = Buffer.concat([
    gzipSync("").subarray(0, 10),
    Buffer.alloc(80_000_000, empty),
    Buffer.from([1, 0, 0, 0xff, 0xff]),
    Buffer.alloc(8),
  ]);
  const started = performance.now();
  await expect(readCsv(fileWith(gzipSync(member)), { limits })).rejects.toEqual(code("csv_bomb"));
  expect(performance.now() - started).toBeLessThan(20_000);
});

test("progress tells percent and records", async () => {
  const seen: [number, number][] = [];
  await readCsv(fileWith(ulbCsv(3_000)), { onProgress: (percent, records) => seen.push([percent, records]) });
  expect(seen.at(-1)?.[0]).toBe(100);
  expect(seen.at(-1)?.[1]).toBeGreaterThan(0);
});
