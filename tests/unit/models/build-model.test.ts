import { describe, expect, test } from "vitest";
import { loadArtifact, saveArtifact } from "../../../models/artifacts.js";
import { buildModel, refuseDifference } from "../../../models/build-model.js";
import type { Dataset } from "../../../models/datasets/dataset.js";
import { readCsv } from "../../../models/datasets/read-csv.js";
import { sliceDataset, splitByTime, splitDataset } from "../../../models/datasets/split.js";
import { evaluate } from "../../../models/evaluation/metrics.js";
import { NEVER } from "../../../models/evaluation/thresholds.js";
import { featureMatrix } from "../../../models/features/feature-matrix.js";
import { simulateDataset } from "../../../pipelines/local/simulator/simulate.js";
import { ModelSession } from "../../../models/onnx/session.js";
import { fileWith, paysimCsv, temporaryFolder, ulbCsv } from "./datasets/csv-files.js";

const params = { num_iterations: 20, max_depth: 4 };

async function paysim(): Promise<Dataset> {
  return readCsv(fileWith(paysimCsv(4000), "paysim.csv"));
}

describe("a PaySim-shaped file", () => {
  test("becomes an artifact whose stored metrics are those of its ONNX file", async () => {
    const dataset = await paysim();
    const progress: number[] = [];
    const { manifest, onnx, notes, atDecline } = await buildModel(
      dataset,
      { model: "paysim@1", params, reviewCapacity: 0.05 },
      { onProgress: ({ percent }) => progress.push(percent) },
    );
    const folder = temporaryFolder();
    const saved = await saveArtifact(folder, manifest, onnx);
    const loaded = await loadArtifact(folder, "paysim@1", saved.manifestSha256);

    const split = splitDataset(dataset);
    expect(manifest.training).toMatchObject({
      source: "paysim.csv",
      rows: split.train.length + split.validation.length,
      from: dataset.eventTime[0],
      to: dataset.eventTime[split.test[0] - 1],
    });
    expect(manifest.training.params).toMatchObject(params);
    expect(notes[0]).toBe("test part: the latest 30 % by time");
    expect(progress[0]).toBe(0);
    expect(progress.at(-1)).toBe(100);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));

    // Nothing but the artifact is used here, as in a worker.
    const { input, output, features } = loaded.manifest;
    const session = await ModelSession.load(loaded.onnx, { input, output, features: features.length });
    const matrix = featureMatrix(dataset, features, split.test);
    const scores = await session.run(matrix.values, matrix.rows);
    await session.release();
    const labels = Uint8Array.from(split.test, (row) => dataset.label[row]);
    const measured = evaluate(labels, scores, manifest.thresholds.review);
    for (const [name, value] of Object.entries(manifest.test ?? {}))
      expect(measured[name as keyof typeof measured]).toBeCloseTo(Number(value), 3);
    expect(manifest.test?.roc_auc).toBeGreaterThan(0.95);
    expect((manifest.validation?.alert_rate ?? 1) - (atDecline.validation.alert_rate ?? 0)).toBeLessThanOrEqual(0.05);
    expect(manifest.thresholds.decline).toBeGreaterThan(manifest.thresholds.review);
    expect(manifest.features.map(({ name }) => name)).toContain("type=TRANSFER");
  });

  test("the same data gives the same model", async () => {
    const dataset = await paysim();
    const [first, second] = [
      await buildModel(dataset, { model: "a@1", params }),
      await buildModel(dataset, { model: "a@1", params }),
    ];
    expect(first.manifest.sha256).toBe(second.manifest.sha256);
    expect(first.manifest.thresholds).toEqual(second.manifest.thresholds);
  });

  test("is trained on the first part by time alone, without a test part, as a replay needs it", async () => {
    const dataset = await paysim();
    const { before } = splitByTime(dataset, 0.7);
    const { manifest } = await buildModel(sliceDataset(dataset, before), { model: "a@1", params, testFraction: 0 });
    expect(manifest.test).toBeNull();
    expect(manifest.training.rows).toBe(before.end);
  });
});

test("drift compares with rows from when their windows were full, and with at least a whole week", async () => {
  const day = 86_400_000;
  const town = simulateDataset({ seed: 3, customers: 80, terminals: 20, from: 20_000 * day, to: 20_042 * day });
  const first = town.eventTime[0];
  const last = town.eventTime[town.length - 1];
  for (const [feature, from] of [
    ["card_mean_7d", first + 7 * day],
    ["merchant_count_30d", last - 7 * day],
  ] as const) {
    const { manifest } = await buildModel(town, {
      model: "a@1",
      params: { num_iterations: 2 },
      features: ["amount", feature],
      testFraction: 0,
    });
    expect([feature, manifest.drift?.rows]).toEqual([feature, town.eventTime.filter((time) => time >= from).length]);
    expect(manifest.drift?.features.map(({ counts }) => counts.reduce((sum, count) => sum + count))).toEqual(
      manifest.features.map(() => manifest.drift?.rows),
    );
    expect(manifest.training.rows).toBe(town.length);
  }
});

test("a ULB-shaped file, with logistic regression", async () => {
  const dataset = await readCsv(fileWith(ulbCsv(3000)));
  const { manifest } = await buildModel(dataset, { model: "ulb@1", algorithm: "logistic-regression" });
  expect(manifest.algorithm).toBe("logistic-regression");
  expect(manifest.features).toHaveLength(32);
  expect(manifest.test?.roc_auc).toBeGreaterThan(0.85);
});

test("unpredictable labels give a model that declines nothing", async () => {
  const rows = Array.from({ length: 600 }, (_, row) => `1,${Number(row % 10 === 3)}`);
  const { manifest, atDecline } = await buildModel(await readCsv(fileWith(`amount,label\n${rows.join("\n")}\n`)), {
    model: "noise@1",
    params,
  });
  expect(manifest.thresholds.decline).toBe(NEVER);
  expect(atDecline.test).toMatchObject({ alert_rate: 0, precision: null, recall: 0 });
});

test("scores that differ between trainer and ONNX are refused", () => {
  expect(() => refuseDifference(9e-6)).not.toThrow();
  for (const difference of [1e-5, 0.5, Number.NaN])
    expect(() => refuseDifference(difference)).toThrow(expect.objectContaining({ code: "onnx_differs" }) as Error);
});

test("data that can't be trained on is refused with a code", async () => {
  const dataset = await paysim();
  await expect(buildModel(dataset, { model: "a@1", params: { num_leafs: 3 } })).rejects.toMatchObject({
    name: "RequestError",
    code: "training_params",
  });
  await expect(buildModel(dataset, { model: "a@1", reviewCapacity: 2 })).rejects.toMatchObject({
    name: "RequestError",
    code: "bad_threshold",
  });
  const abort = new AbortController();
  const building = buildModel(
    dataset,
    { model: "a@1", params: { num_iterations: 10_000 } },
    { signal: abort.signal, onProgress: ({ percent }) => percent > 5 && abort.abort() },
  );
  await expect(building).rejects.toMatchObject({ code: "training_aborted" });
});
