import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../../infra/package-root.js";
import { readCsv } from "../../../models/datasets/read-csv.js";

const folder = join(packageRoot(), "../shared/data");
const present = existsSync(folder);
if (!present) process.stdout.write("skipped: ../shared/data is absent\n");

test.skipIf(!present)("card-transactions.csv.gz: every row and fraud", async () => {
  const dataset = await readCsv(join(folder, "card-transactions.csv.gz"));
  expect(dataset.length).toBe(555_712);
  expect(dataset.label.reduce((sum, label) => sum + label, 0)).toBe(4_960);
  expect(new Set(dataset.transactionId).size).toBe(555_712);
  expect(new Date(dataset.eventTime[0]).toISOString()).toBe("2018-06-18T00:00:15.000Z");
  expect(new Date(dataset.eventTime[555_711]).toISOString()).toMatch(/^2018-08-14T23:5/);
  expect([...dataset.attributes.keys()]).toEqual([]);
});

test.skipIf(!present)("ulb-creditcard-sample.csv.gz: every row and fraud, in the order of time", async () => {
  const dataset = await readCsv(join(folder, "ulb-creditcard-sample.csv.gz"));
  expect([dataset.length, dataset.label.reduce((sum, label) => sum + label, 0)]).toEqual([1_722, 492]);
  expect(dataset.attributes.size).toBe(28);
  expect(dataset.eventTime.every((time, row) => row === 0 || time >= dataset.eventTime[row - 1])).toBe(true);
});
