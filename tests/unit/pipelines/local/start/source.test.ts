import { join } from "node:path";
import { expect, test } from "vitest";
import { checkDataDir } from "../../../../../infra/local/data-dir.js";
import { readCsv } from "../../../../../models/datasets/read-csv.js";
import { simulate, simulateDataset } from "../../../../../pipelines/local/simulator/simulate.js";
import type { StartOptions } from "../../../../../pipelines/local/start/options.js";
import { prepareSource } from "../../../../../pipelines/local/start/source.js";
import type { Rows } from "../../../../../pipelines/local/replay/label-schedule.js";
import { writeCsv } from "../../../../../pipelines/local/start/write-csv.js";
import { fileWith, temporaryFolder } from "../../../models/datasets/csv-files.js";

const never = new AbortController().signal;
const options: StartOptions = {
  dataset: null,
  reading: {},
  rate: null,
  forMs: null,
  yes: false,
  once: true,
  seed: null,
  customers: null,
  thresholds: {},
  features: null,
};

/** A file with ten transactions at these hours, prepared: what it is trained before, and which rows are streamed. */
async function cutOf(
  hours: readonly number[],
): Promise<{ before: string | undefined; history: string[]; streamed: string[] }> {
  const rows = hours.map((hour, i) => `t${i},2025-01-01T${String(hour).padStart(2, "0")}:00:00Z,${i},${i % 2}`);
  const dataset = fileWith(["transaction_id,event_time,amount,is_fraud", ...rows].join("\n"));
  const source = await prepareSource(
    { ...options, dataset },
    { dataDir: temporaryFolder(), cardIdKey: null },
    () => {},
    never,
  );
  const idsOf = async (all: AsyncIterable<Rows>): Promise<string[]> => {
    const ids: string[] = [];
    for await (const { dataset: data, start, end } of all) ids.push(...data.transactionId.slice(start, end));
    return ids;
  };
  return {
    before: (await source.trainingFile()).request.before,
    history: await idsOf(source.history(never)),
    streamed: await idsOf(source.rows(never)),
  };
}

test("what is trained on is earlier than all that is streamed, also where times repeat at the cut", async () => {
  const ids = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"];
  expect(await cutOf([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])).toEqual({
    before: "2025-01-01T07:00:00.000Z",
    history: ids.slice(0, 7),
    streamed: ids.slice(7),
  });
  expect(await cutOf([0, 1, 2, 3, 4, 5, 6, 6, 6, 9])).toEqual({
    before: "2025-01-01T09:00:00.000Z",
    history: ids.slice(0, 9),
    streamed: ids.slice(9),
  });
  expect(await cutOf([0, 1, 2, 3, 4, 5, 6, 6, 6, 6])).toEqual({
    before: "2025-01-01T06:00:00.000Z",
    history: ids.slice(0, 6),
    streamed: ids.slice(6),
  });
  await expect(cutOf([3, 3, 3, 3, 3, 3, 3, 3, 3, 3])).rejects.toMatchObject({ code: "dataset_one_moment" });
});

test("a DATA_DIR holds one world, under one key; one that can't be written is named in a line", async () => {
  const dataDir = temporaryFolder();
  const town = await prepareSource({ ...options, customers: 5 }, { dataDir, cardIdKey: null }, () => {}, never);
  await town.finish(Date.now());
  const dataset = fileWith(
    "transaction_id,event_time,amount,is_fraud\na,2025-01-01T00:00:00Z,1,0\nb,2025-01-02T00:00:00Z,1,1",
  );
  await expect(
    prepareSource({ ...options, dataset }, { dataDir, cardIdKey: null }, () => {}, never),
  ).rejects.toMatchObject({ code: "another_world" });
  await expect(prepareSource(options, { dataDir, cardIdKey: "k".repeat(32) }, () => {}, never)).rejects.toMatchObject({
    code: "another_key",
  });
  await prepareSource(options, { dataDir, cardIdKey: null }, () => {}, never);

  const other = temporaryFolder();
  const file = await prepareSource({ ...options, dataset }, { dataDir: other, cardIdKey: null }, () => {}, never);
  for await (const rows of file.history(never)) expect(rows.end).toBe(1);
  await expect(prepareSource(options, { dataDir: other, cardIdKey: null }, () => {}, never)).rejects.toMatchObject({
    code: "another_world",
  });

  expect(() => checkDataDir(other)).not.toThrow();
  for (const bad of [dataset, join(dataset, "below")])
    expect(() => checkDataDir(bad)).toThrow(
      expect.objectContaining({
        code: "data_dir",
        message: expect.stringMatching(/^DATA_DIR is .*it is a file/) as string,
      }),
    );
});

test("the simulator's file holds what the simulator made, every value of it", async () => {
  const range = { seed: 3, customers: 120, terminals: 24, from: Date.UTC(2025, 0, 1), to: Date.UTC(2025, 0, 15) };
  const file = join(temporaryFolder(), "a", "simulated.csv");
  await writeCsv(file, simulate(range));
  const [read, made] = [await readCsv(file), simulateDataset(range)];
  expect(made.length).toBeGreaterThan(1_000);
  for (const column of [
    "length",
    "transactionId",
    "eventTime",
    "cardId",
    "merchantId",
    "amount",
    "currency",
    "label",
  ] as const)
    expect(read[column]).toEqual(made[column]);
  expect([...read.attributes.keys()]).toEqual([...made.attributes.keys()]);
  for (const [name, column] of made.attributes) {
    const other = read.attributes.get(name);
    if (column.type !== "text" || other?.type !== "text") expect(other).toEqual(column);
    else
      expect(Array.from(other.codes, (code) => other.categories[code])).toEqual(
        Array.from(column.codes, (code) => column.categories[code]),
      );
  }
});
