import { describe, expect, test } from "vitest";
import { buildModel } from "../../../../models/build-model.js";
import type { Dataset } from "../../../../models/datasets/dataset.js";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { LabelSchedule } from "../../../../pipelines/local/replay/label-schedule.js";
import { Pace } from "../../../../pipelines/local/replay/pace.js";
import { replayTransactions } from "../../../../pipelines/local/replay/replay-transactions.js";
import { TransactionFields, TransactionReader } from "../../../../schemas/transaction-reader.js";
import { TransactionBatch } from "../../../../pipelines/transactions/transaction-batch.js";
import { fileWith } from "./csv-files.js";
import { PUBLIC_SHAPES } from "./public-shapes.js";

/** What the stream says of the records that a replay publishes. */
async function rejectedBy(dataset: Dataset): Promise<string[]> {
  const reader = new TransactionReader(new TransactionBatch([]));
  const rejected: string[] = [];
  let read = 0;
  const encode = (value: object): Buffer => Buffer.from(JSON.stringify(value));
  await replayTransactions({
    rows: [{ dataset, start: 0, end: dataset.length }],
    schedule: new LabelSchedule(),
    publisher: {
      publish: (topic, records) => {
        for (const { value } of topic === "t" ? records : []) {
          read += 1;
          try {
            reader.read(value as Buffer, 0, (value as Buffer).length, Date.now(), new TransactionFields());
          } catch (error) {
            rejected.push(String(error));
          }
        }
        return Promise.resolve();
      },
    },
    topics: { transactions: "t", labels: "l" },
    encode: { transaction: encode, label: encode },
    pace: new Pace(null),
    signal: new AbortController().signal,
  });
  expect(read).toBe(dataset.length);
  return rejected;
}

describe("files made after public data sets", () => {
  test.each(PUBLIC_SHAPES)("$name trains with no option, and no row is a dead letter", async (shape) => {
    const dataset = await readCsv(fileWith(shape.text));
    expect([dataset.length, dataset.hasCards, dataset.hasMerchants]).toEqual([
      1_500,
      shape.cards !== null,
      shape.merchants !== null,
    ]);
    if (shape.cards !== null) expect(new Set(dataset.cardId).size).toBe(shape.cards);
    if (shape.merchants !== null) expect(new Set(dataset.merchantId).size).toBe(shape.merchants);
    for (const name of shape.attributes) expect([...dataset.attributes.keys()]).toContain(name);
    for (const name of shape.leftOut) expect([...dataset.attributes.keys()]).not.toContain(name);

    expect(await rejectedBy(dataset)).toEqual([]);
    const { manifest, warnings } = await buildModel(dataset, { model: "x@1", params: { num_iterations: 5 } });
    expect([manifest.training.rows > 900, warnings]).toEqual([true, []]);
  });
});
