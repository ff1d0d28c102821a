import { expect, test } from "vitest";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { sliceDataset, splitByTime, splitDataset, type Split } from "../../../../models/datasets/split.js";
import { fileWith, paysimCsv } from "./csv-files.js";

const hour = 3_600_000;
const labels = (length: number, frauds: number[]): { length: number; label: Uint8Array; eventTime: Float64Array } => ({
  length,
  label: Uint8Array.from({ length }, (_, row) => Number(frauds.includes(row))),
  eventTime: Float64Array.from({ length }, (_, row) => row * hour),
});
const all = ({ train, validation, test }: Split): number[] => [...train, ...validation, ...test].sort((a, b) => a - b);

test("the latest 30 % are the test part, the latest 20 % of the rest the validation part", () => {
  const split = splitDataset(labels(100, [5, 50, 60, 80, 99]));
  expect([split.train.length, split.validation.length, split.test.length]).toEqual([56, 14, 30]);
  expect(all(split)).toEqual(Array.from({ length: 100 }, (_, row) => row));
  expect(split.test[0]).toBe(70);
  expect(split.validation[0]).toBe(56);
  expect(split.notes).toEqual([
    "test part: the latest 30 % by time",
    "validation part: the latest 20 % of the rest by time",
  ]);
});

test("stratified, and said so, where a cut by time leaves the test part without frauds", () => {
  const set = labels(100, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  const split = splitDataset(set, { seed: 7 });
  const frauds = (rows: Uint32Array): number => rows.filter((row) => set.label[row] === 1).length;
  expect([frauds(split.train), frauds(split.validation), frauds(split.test)]).toEqual([6, 1, 3]);
  expect([split.train.length, split.validation.length, split.test.length]).toEqual([56, 14, 30]);
  expect(all(split)).toEqual(Array.from({ length: 100 }, (_, row) => row));
  expect([...split.train]).toEqual([...split.train].sort((a, b) => a - b));
  expect(split.notes[0]).toMatch(/^test part: 30 % of each class drawn at random \(seed 7\)/);
  expect(splitDataset(set, { seed: 7 })).toEqual(split);
  expect(splitDataset(set, { seed: 8 }).test).not.toEqual(split.test);
});

test("the test part stays the latest where only the validation part lacks a class", () => {
  const split = splitDataset(labels(100, [1, 2, 80]));
  expect(split.test[0]).toBe(70);
  expect(split.notes[0]).toBe("test part: the latest 30 % by time");
  expect(split.notes[1]).toMatch(/^validation part: 20 % of each class drawn at random/);
});

test("three frauds are one for each part; two are refused, unless there is no test part", () => {
  const set = labels(50, [0, 1, 2]);
  const split = splitDataset(set);
  for (const rows of [split.train, split.validation, split.test])
    expect(rows.filter((row) => set.label[row] === 1).length).toBe(1);
  expect(() => splitDataset(labels(50, [0, 49]))).toThrow(
    expect.objectContaining({ name: "RequestError", code: "too_few_rows" }) as Error,
  );
  const two = splitDataset(labels(50, [0, 49]), { testFraction: 0 });
  expect([two.train.length, two.validation.length, two.test.length]).toEqual([40, 10, 0]);
});

test("a test range by time: what comes before it trains, what comes after is left out", () => {
  const set = labels(100, [5, 20, 45, 60, 72, 99]);
  const split = splitDataset(set, { test: { from: 70 * hour, to: 90 * hour } });
  expect([split.train.length, split.validation.length, split.test.length]).toEqual([56, 14, 20]);
  expect([split.test[0], split.test.at(-1)]).toEqual([70, 89]);
  expect(split.notes[0]).toBe(
    "test part: 1970-01-03T22:00:00.000Z to 1970-01-04T18:00:00.000Z; 10 later rows are left out",
  );
  for (const range of [
    { from: 73 * hour, to: 90 * hour },
    { from: 10 * hour, to: 90 * hour },
    { from: 200 * hour, to: 300 * hour },
  ]) {
    expect(() => splitDataset(set, { test: range })).toThrow(
      expect.objectContaining({ code: "bad_test_range" }) as Error,
    );
  }
});

test("splitByTime covers every row once; a slice holds the rows of its range", async () => {
  const dataset = await readCsv(fileWith(paysimCsv(101)));
  const { before, after } = splitByTime(dataset, 0.7);
  expect([before, after]).toEqual([
    { start: 0, end: 71 },
    { start: 71, end: 101 },
  ]);
  const rest = sliceDataset(dataset, after);
  expect(rest.length).toBe(30);
  expect(rest.transactionId[0]).toBe("tx-72");
  expect(rest.eventTime[0]).toBeGreaterThanOrEqual(dataset.eventTime[70]);
  for (const [name, column] of rest.attributes) {
    const whole = dataset.attributes.get(name);
    const values = (of: typeof whole): ArrayLike<number> => (of?.type === "text" ? of.codes : (of?.values ?? []));
    expect(Array.from(values(column))).toEqual(Array.from(values(whole)).slice(71));
  }
});
