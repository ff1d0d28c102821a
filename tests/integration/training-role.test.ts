import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { describe, expect, test, vi } from "vitest";
import type { OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { loadArtifact } from "../../models/artifacts.js";
import type { TrainingJob } from "../../models/control/state.js";
import { parseJobMetrics, type JobMetrics } from "../../models/control/training-request.js";
import type { Dataset } from "../../models/datasets/dataset.js";
import { readCsv } from "../../models/datasets/read-csv.js";
import { featureMatrix } from "../../models/features/feature-matrix.js";
import { LabelSchedule } from "../../pipelines/local/replay/label-schedule.js";
import { Pace } from "../../pipelines/local/replay/pace.js";
import { replayTransactions } from "../../pipelines/local/replay/replay-transactions.js";
import { havePublicFiles, publicFile } from "../support/public-data.js";
import { heldPage, redirect, staticServer } from "../support/static-server.js";
import { TrainingSystem } from "../support/training-system.js";
import { eventually } from "../support/eventually.js";
import { wireValue } from "../support/transactions.js";
import { fileWith, paysimCsv, ulbCsv } from "../unit/models/datasets/csv-files.js";

vi.setConfig({ testTimeout: 150_000 });

const trees = { algorithm: "gradient-boosted-trees", params: { num_iterations: 10, max_depth: 3 } } as const;
const publicFiles = ["ulb-creditcard-sample.csv.gz", "card-transactions.csv.gz"] as const;

function metricsOf({ metrics }: TrainingJob): JobMetrics {
  return parseJobMetrics(metrics) as JobMetrics;
}

/** The records that a replay of a data set publishes. */
async function replayed(dataset: Dataset): Promise<OutgoingRecord[]> {
  const records: OutgoingRecord[] = [];
  await replayTransactions({
    rows: [{ dataset, start: 0, end: dataset.length }],
    schedule: new LabelSchedule(),
    publisher: {
      publish: (topic, batch) => {
        if (topic === "t") records.push(...batch);
        return Promise.resolve();
      },
    },
    topics: { transactions: "t", labels: "l" },
    encode: { transaction: wireValue, label: () => Buffer.alloc(0) },
    pace: new Pace(null),
    signal: new AbortController().signal,
  });
  return records;
}

describe("a job becomes a registered model", () => {
  test("from a link: claimed, reported, finished; its download is removed", async () => {
    const system = await TrainingSystem.open();
    const { page, release } = heldPage(paysimCsv(4_000));
    const { origin } = await staticServer({ "/files/Pay_Sim.csv?token=1": page });
    const trainer = system.startTrainer();
    const id = await system.request({
      ...trees,
      dataset: `${origin}/files/Pay_Sim.csv?token=1`,
      seed: 3,
      features: ["amount", "type", "hour"],
    });
    expect(await system.inPhase(id, "downloading")).toBe(trainer);
    expect(await system.job(id)).toMatchObject({
      status: "processing",
      attempt: 1,
      requestedBy: "user:test",
      worker: expect.stringContaining(`-${trainer.pid}-`) as string,
    });
    release();

    const job = await system.ended(id);
    expect(job).toMatchObject({ status: "processed", model: "pay-sim@1", code: null, reason: null, attempt: 1 });
    const { manifest, manifestSha256 } = await loadArtifact(system.system.artifacts, "pay-sim@1");
    expect(await system.registered(id)).toMatchObject({
      model: "pay-sim@1",
      manifestSha256,
      registeredBy: "system:train",
    });
    expect(manifest.features.map(({ name }) => name).sort()).toEqual([
      "amount",
      "hour",
      "type=CASH_IN",
      "type=CASH_OUT",
      "type=DEBIT",
      "type=PAYMENT",
      "type=TRANSFER",
    ]);
    expect(manifest.training).toMatchObject({
      source: "Pay_Sim.csv",
      params: { num_iterations: 10, max_depth: 3, seed: 3 },
    });
    expect(metricsOf(job)).toMatchObject({
      rows: 4_000,
      features: 7,
      manifest_sha256: manifestSha256,
      comparison: null,
      test: manifest.test,
      validation: manifest.validation,
    });
    expect(metricsOf(job).notes).toContain('card_id: column "nameOrig"');

    await eventually(
      "the trainer reports that it is free",
      async () => (await system.system.heartbeats()).beats.at(-1)?.job === null,
    );
    const told = (await system.system.heartbeats()).beats.flatMap(({ job: progress }) =>
      progress?.id === id ? [progress] : [],
    );
    expect(told.map(({ percent }) => percent)).toEqual(told.map(({ percent }) => percent).sort((a, b) => a - b));
    expect(told.at(-1)).toMatchObject({ phase: "registering", rows: 4_000 });
    expect(await system.leftovers()).toEqual([]);
    expect(await trainer.stop()).toEqual({ code: 0, signal: null });
  });

  test(
    "gzipped, with columns named and a test range; the next one of a name is its next version; better ones " +
      "are deployed",
    async () => {
      const system = await TrainingSystem.open();
      const text = ulbCsv(2_000).replace('"Class"', '"Marked"');
      const { origin, asked } = await staticServer({ "/ulb": gzipSync(text), "/to": redirect("/ulb") });
      system.startTrainer();
      const request = {
        ...trees,
        dataset: `${origin}/to`,
        columns: { label: "Marked" },
        name: "card",
        enable: "if_better",
      } as const;
      const weak = await system.request({ ...request, features: ["V2"] });
      const strong = await system.request(request);
      const same = await system.request(request);
      const ranged = await system.request({
        ...request,
        algorithm: "logistic-regression",
        params: {},
        enable: "never",
        test: { from: "2013-09-02T00:00:00Z", to: "2013-09-02T06:00:00Z" },
      });

      // There was no champion, so the first is better than none; the second beats it, the third is no better.
      expect(metricsOf(await system.ended(weak)).comparison).toMatchObject({ champion: null, epoch: -1, better: true });
      const { comparison } = metricsOf(await system.ended(strong));
      expect(comparison).toMatchObject({ metric: "average_precision", champion: "card@1", rows: 600, better: true });
      expect(comparison?.candidate_value).toBeGreaterThan(comparison?.champion_value ?? 1);
      const third = metricsOf(await system.ended(same)).comparison;
      expect(third).toMatchObject({ champion: "card@2", better: false });
      expect(third?.candidate_value).toBe(third?.champion_value);
      const last = await system.ended(ranged);
      // Rows are a minute apart from 2013-09-01T00:00Z: those of 24:00 to 30:00.
      expect(metricsOf(last).test?.rows).toBe(360);

      const { state } = system.system.control;
      await system.registered(ranged);
      const { thresholds } = (await loadArtifact(system.system.artifacts, "card@2")).manifest;
      expect(state.deployments.map(({ champion }) => champion?.model)).toEqual(["card@1", "card@2"]);
      expect(state.deployment).toMatchObject({
        epoch: expect.any(Number) as number,
        champion: { model: "card@2", ...thresholds },
        shadows: [],
      });
      expect([...state.models.keys()]).toEqual(["card@1", "card@2", "card@3", "card@4"]);
      expect((await loadArtifact(system.system.artifacts, "card@4")).manifest.algorithm).toBe("logistic-regression");
      expect(asked.length).toBe(8);
    },
  );

  test("from columns: a replay of the file is scored with the features that the model was trained with", async () => {
    const system = await TrainingSystem.open();
    const [header, ...lines] = paysimCsv(1_500).trimEnd().split("\n");
    const born = (row: number): string => new Date(Date.UTC(1950 + (row % 50), row % 12, 1 + (row % 28))).toISOString();
    const text = [`${header},dob`, ...lines.map((line, row) => `${line},${born(row).slice(0, 10)}`)].join("\n");
    const { origin } = await staticServer({ "/pay.csv": text });
    system.startTrainer();
    const defaults = await system.ended(await system.request({ ...trees, dataset: `${origin}/pay.csv` }));
    const offered = (await loadArtifact(system.system.artifacts, "pay@1")).manifest.features.map(({ name }) => name);
    const made = ["balance_error_orig", "balance_error_dest", "age_years"];
    expect(offered).toEqual(expect.arrayContaining(made));
    expect(metricsOf(defaults).notes.join("\n")).toContain("features from columns, by default: balance_error_orig (");

    const features = [
      "amount",
      ...made,
      { name: "drained", kind: "ratio", of: ["attributes.newbalanceOrig", "attributes.oldbalanceOrg"], default: -1 },
      { name: "shop", kind: "text_part", of: "attributes.type", part: "email_domain", equals: "x.org", default: null },
    ];
    const id = await system.request({ ...trees, dataset: `${origin}/pay.csv`, features });
    const job = await system.ended(id);
    expect(job).toMatchObject({ status: "processed", model: "pay@2" });
    const { manifest } = await loadArtifact(system.system.artifacts, "pay@2");
    await system.registered(id);
    await system.system.deploy("pay@2");
    system.system.startWorker();

    const dataset = await readCsv(fileWith(text));
    await system.system.publish(await replayed(dataset));
    await system.system.consumed();
    expect(await system.system.deadLetters()).toEqual([]);
    const rows = Uint32Array.from({ length: dataset.length }, (_, row) => row);
    const { values } = featureMatrix(dataset, manifest.features, rows);
    const scored = new Map(
      (await system.system.predictions()).map(({ prediction }) => [prediction.transaction_id, prediction.features]),
    );
    const trained = dataset.transactionId.map((id, row): [string, number[]] => [
      id,
      [...values.subarray(row * features.length, (row + 1) * features.length)],
    ]);
    expect(scored).toEqual(new Map(trained));
    expect(new Set(trained.map(([, [, error]]) => error)).size).toBeGreaterThan(50);

    const unknown = [{ name: "x", kind: "age", since: "attributes.dbo" }];
    const refused = await system.ended(
      await system.request({ ...trees, dataset: `${origin}/pay.csv`, features: unknown }),
    );
    expect(refused).toMatchObject({
      code: "unknown_feature",
      reason: expect.stringMatching(/^features\[0\]\.since: .*did you mean "dob"\?$/) as string,
    });
  });

  test.skipIf(!havePublicFiles(...publicFiles))("from both public data sets", async () => {
    const system = await TrainingSystem.open();
    const { origin } = await staticServer(
      Object.fromEntries(
        await Promise.all(publicFiles.map(async (file) => [`/${file}`, await readFile(publicFile(file))] as const)),
      ),
    );
    system.startTrainer();
    const ids = [];
    for (const file of publicFiles) ids.push(await system.request({ ...trees, dataset: `${origin}/${file}` }));
    const [ulb, card] = await Promise.all(ids.map((id) => system.ended(id)));
    expect(ulb).toMatchObject({ status: "processed", model: "ulb-creditcard-sample@1" });
    expect(metricsOf(ulb)).toMatchObject({ rows: 1_722, frauds: 492 });
    expect(card).toMatchObject({ status: "processed", model: "card-transactions@1" });
    expect(metricsOf(card)).toMatchObject({ rows: 555_712, frauds: 4_960 });
  });
});

describe("a job that can't be done ends with a code", () => {
  test("from the download, the file or the request; the trainer continues", async () => {
    const system = await TrainingSystem.open();
    const { origin, port } = await staticServer({
      "/good.csv": ulbCsv(300),
      "/page": "<html></html>",
      "/metadata": redirect("http://169.254.169.254/latest/meta-data/iam"),
      "/silent": () => {},
      "/bad.csv": "amount,label\n1,0\n4111-1111-1111-1111,1\n",
      "/large.csv": ulbCsv(900),
      "/bomb.csv.gz": gzipSync(Buffer.concat([Buffer.from("amount,label\n"), Buffer.alloc(100_000_000, "\n")])),
    });
    system.startTrainer({ DATASETS_STALL_SECONDS: "1", DATASETS_MAX_ROWS: "500" });
    const expected: [string, string, object?][] = [
      ["download_private_address", `${origin}/metadata`],
      ["download_private_address", `http://[::1]:${port}/good.csv`],
      ["download_not_csv", `${origin}/page`],
      ["download_stalled", `${origin}/silent`],
      ["csv_bad_value", `${origin}/bad.csv`],
      ["csv_too_many_rows", `${origin}/large.csv`],
      ["csv_bomb", `${origin}/bomb.csv.gz`],
      ["unknown_feature", `${origin}/good.csv`, { features: ["V99"] }],
    ];
    const ids: string[] = [];
    for (const [, dataset, more] of expected) ids.push(await system.request({ ...trees, dataset, ...more }));
    const stored = await system.request({
      ...trees,
      dataset: { from: "2026-01-01T00:00:00Z", to: "2026-02-01T00:00:00Z" },
    });
    const good = await system.request({ ...trees, dataset: `${origin}/good.csv` });
    const jobs = await Promise.all([...ids, stored].map((id) => system.ended(id)));
    expect(jobs.map(({ code }) => code)).toEqual([...expected.map(([code]) => code), "no_clickhouse"]);
    for (const job of jobs) expect(job).toMatchObject({ status: "error", model: null, attempt: 1, metrics: null });
    const reasons = jobs.map(({ reason }) => reason ?? "");
    expect(reasons[4]).toBe('bad.csv line 3, column "amount": "[card number]" is not a finite number');
    expect(reasons.join()).not.toContain(system.dataDir);
    expect(await system.ended(good)).toMatchObject({ status: "processed", model: "good@1" });
    await eventually("nothing is left of the downloads", async () => (await system.leftovers()).length === 0);
  });

  test("links to this machine are refused unless a setting allows them, by address and by name", async () => {
    const system = await TrainingSystem.open();
    const { port, asked } = await staticServer({ "/x.csv": ulbCsv(300) });
    system.startTrainer({ DATASETS_ALLOW_PRIVATE: "" });
    for (const host of ["127.0.0.1", "localhost"]) {
      const id = await system.request({ ...trees, dataset: `http://${host}:${port}/x.csv` });
      expect(await system.ended(id)).toMatchObject({ status: "error", code: "download_private_address" });
    }
    expect(asked).toEqual([]);
  });
});

describe("cancelling", () => {
  test("while it waits, downloads and trains: the trainer continues with the next job", async () => {
    const system = await TrainingSystem.open();
    let hungUp: () => void = () => {};
    const closed = new Promise<void>((resolve) => (hungUp = resolve));
    const { origin, asked } = await staticServer({
      "/held.csv": (_request, response) => {
        response.on("close", hungUp);
        response.write(ulbCsv(100));
      },
      "/x.csv": ulbCsv(4_000),
    });
    const downloading = await system.request({ ...trees, dataset: `${origin}/held.csv` });
    // It would train for far longer than this test may take.
    const training = await system.request({
      ...trees,
      dataset: `${origin}/x.csv`,
      params: { num_iterations: 10_000, max_bin: 4_096, max_depth: 12 },
    });
    const waiting = await system.request({ ...trees, dataset: `${origin}/x.csv`, name: "cancelled" });
    const last = await system.request({ ...trees, dataset: `${origin}/x.csv` });
    system.startTrainer();
    await eventually("the download has begun", () => asked.length === 1);
    await system.cancel(waiting);
    await system.cancel(downloading);
    await closed;
    await system.inPhase(training, "boosting");
    await system.cancel(training);
    expect(await system.ended(last)).toMatchObject({ status: "processed", model: "x@1" });
    for (const id of [downloading, training, waiting]) {
      expect(await system.job(id)).toMatchObject({ status: "cancelled", model: null });
      expect(await system.modelsOf(id)).toEqual([]);
    }
    await expect(system.cancel(last)).rejects.toMatchObject({ code: "conflict" });
    await expect(system.cancel("nothing")).rejects.toMatchObject({ code: "unknown_job" });
    await eventually("nothing is left of the downloads", async () => (await system.leftovers()).length === 0);
  });
});
