import { expect, test } from "vitest";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { havePublicFiles, publicFile } from "../../../support/public-data.js";

test.skipIf(!havePublicFiles("card-transactions.csv.gz"))("card-transactions.csv.gz: every row and fraud", async () => {
  const dataset = await readCsv(publicFile("card-transactions.csv.gz"));
  expect(dataset.length).toBe(555_712);
  expect(dataset.label.reduce((sum, label) => sum + label, 0)).toBe(4_960);
  expect(new Set(dataset.transactionId).size).toBe(555_712);
  expect(new Date(dataset.eventTime[0]).toISOString()).toBe("2018-06-18T00:00:15.000Z");
  expect(new Date(dataset.eventTime[555_711]).toISOString()).toMatch(/^2018-08-14T23:5/);
  expect([...dataset.attributes.keys()]).toEqual([]);
});

test.skipIf(!havePublicFiles("ulb-creditcard-sample.csv.gz"))(
  "ulb-creditcard-sample.csv.gz: every row and fraud, in the order of time",
  async () => {
    const dataset = await readCsv(publicFile("ulb-creditcard-sample.csv.gz"));
    expect([dataset.length, dataset.label.reduce((sum, label) => sum + label, 0)]).toEqual([1_722, 492]);
    expect(dataset.attributes.size).toBe(28);
    expect(dataset.eventTime.every((time, row) => row === 0 || time >= dataset.eventTime[row - 1])).toBe(true);
  },
);
