import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { modelDrift } from "../../api/queries/drift.js";
import type { ModelDrift } from "../../api/queries/drift-schema.js";
import { saveArtifact } from "../../models/artifacts.js";
import { buildModel, type BuiltModel } from "../../models/build-model.js";
import type { Dataset } from "../../models/datasets/dataset.js";
import { sliceDataset } from "../../models/datasets/split.js";
import type { DriftReference } from "../../models/evaluation/drift-reference.js";
import { featureMatrix } from "../../models/features/feature-matrix.js";
import { ModelSession } from "../../models/onnx/session.js";
import { registerModel } from "../../models/control/decisions.js";
import { simulateDataset } from "../../pipelines/local/simulator/simulate.js";
import { startTestApi, type TestApi } from "../support/api.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import { amountFeature, logistic, manifestOf, numberFeature, writeArtifact } from "../support/models.js";
import { type StoredPrediction, storePredictions } from "../support/stored-predictions.js";

const DAY = 86_400_000;
const START = Date.UTC(2026, 2, 2);

function row(offset: number, features: number[], more: Partial<StoredPrediction> = {}): StoredPrediction {
  return {
    offset,
    transaction_id: `t${offset}`,
    card_id: "c",
    event_time: START + offset,
    amount: 1,
    currency: "EUR",
    scoring_ms: 1,
    score: 0.5,
    decision: "approve",
    model: "cards@2",
    features,
    ...more,
  };
}

describe("the drift of a model's stored predictions", () => {
  const reference: DriftReference = {
    rows: 10_000,
    features: [
      { edges: [0, Math.fround(0.1), 2], counts: [5_000, 3_000, 1_500, 500, 0] },
      { edges: [0], counts: [6_000, 4_000, 0] },
    ],
    score: { edges: [0.25], counts: [9_000, 1_000, 0] },
  };
  const request = {
    model: "cards@2",
    features: ["amount", "night"],
    reference,
    from: START,
    to: START + DAY,
    bins: true,
  };

  it("equals the index worked out by hand from the rows by bin: each row once, as champion and as shadow", async () => {
    const clickhouse = await clickhouseDatabase();
    // By bin: 600, 500, 300, 300, 300 missing; 1,000 and 1,000; 1,900 and 100.
    const values = [
      [-3, 0],
      [0, 0],
      [Math.fround(0.1), 1],
      [0.11, 1],
      [2.5, 0],
      [NaN, 1],
    ];
    const amounts = [
      ...Array<number>(300).fill(0),
      ...Array<number>(300).fill(1),
      ...Array<number>(500).fill(2),
      ...Array<number>(300).fill(3),
      ...Array<number>(300).fill(4),
      ...Array<number>(300).fill(5),
    ];
    const rows = amounts.map((which, i) => row(i, [values[which][0], i % 2], { score: i < 100 ? 0.7 : 0.25 }));
    await storePredictions(clickhouse, rows.slice(0, 1_500));
    await storePredictions(clickhouse, rows.slice(1_000, 1_500));
    await storePredictions(clickhouse, rows.slice(1_500), "shadow_predictions");
    // Another model's, and others before and after the window.
    await storePredictions(clickhouse, [
      row(5_000, [1, 1], { model: "cards@1" }),
      row(5_001, [1, 1], { event_time: START - 1 }),
      row(5_002, [1, 1], { event_time: START + DAY }),
    ]);

    const {
      rows: counted,
      verdict,
      cause,
      score,
      features: [amount, night],
    } = await modelDrift(clickhouse, request);
    expect([counted, verdict, cause]).toEqual([2_000, "drifted", null]);
    const part = (live: number, expected: number): number => (live - expected) * Math.log(live / expected);
    expect(amount.psi).toBeCloseTo(
      part(0.3, 0.5) + part(0.25, 0.3) + part(0.15, 0.15) + part(0.15, 0.05) + part(0.15, 0.00005),
      6,
    );
    expect(amount.verdict).toBe("drifted");
    expect(amount.bins).toEqual([
      { above: null, up_to: 0, missing: false, reference: 0.5, live: 0.3 },
      { above: 0, up_to: Math.fround(0.1), missing: false, reference: 0.3, live: 0.25 },
      { above: Math.fround(0.1), up_to: 2, missing: false, reference: 0.15, live: 0.15 },
      { above: 2, up_to: null, missing: false, reference: 0.05, live: 0.15 },
      { above: null, up_to: null, missing: true, reference: 0, live: 0.15 },
    ]);
    expect(night).toMatchObject({ name: "night", verdict: "stable" });
    expect(night.psi).toBeCloseTo(part(0.5, 0.6) + part(0.5, 0.4), 9);
    expect(score?.psi).toBeCloseTo(part(0.95, 0.9) + part(0.05, 0.1), 9);
    expect((await modelDrift(clickhouse, { ...request, bins: false })).score).not.toHaveProperty("bins");
    expect(await modelDrift(clickhouse, { ...request, to: START + 40 })).toMatchObject({
      rows: 40,
      verdict: null,
      cause: "too_few_rows",
      features: [{ verdict: null }, { psi: expect.any(Number) as number }],
    });
    expect(await modelDrift(clickhouse, { ...request, from: START + 2 * DAY, to: START + 3 * DAY })).toMatchObject({
      rows: 0,
      verdict: null,
      cause: "no_rows",
      score: { psi: null },
    });
  });

  it("works for a model with more features than one query counts", async () => {
    const clickhouse = await clickhouseDatabase();
    const width = 230;
    const wide: DriftReference = {
      rows: 1_000,
      features: Array.from({ length: width }, (_, i) => ({ edges: [i], counts: [500, 500, 0] })),
      score: { edges: [], counts: [1_000, 0] },
    };
    const rows = Array.from({ length: 400 }, (_, n) =>
      row(
        n,
        Array.from({ length: width }, (_each, i) => (n < i ? i : i + 1)),
      ),
    );
    await storePredictions(clickhouse, rows);
    const { features, rows: counted } = await modelDrift(clickhouse, {
      ...request,
      features: wide.features.map((_, i) => `f${i}`),
      reference: wide,
    });
    expect(counted).toBe(400);
    for (const [i, { bins = [] }] of features.entries()) expect([i, bins[0].live]).toEqual([i, i / 400]);
  });

  it("is stable in a held-out week, and is not when amounts are doubled", async () => {
    const clickhouse = await clickhouseDatabase();
    const town = simulateDataset({ seed: 7, customers: 600, terminals: 120, from: START, to: START + 28 * DAY });
    const until = (day: number): number => town.eventTime.findIndex((time) => time >= START + day * DAY);
    const built = await buildModel(sliceDataset(town, { start: 0, end: until(21) }), {
      model: "town@1",
      testFraction: 0,
      params: { num_iterations: 30 },
      // Windows of 30 days still fill up in the weeks before.
      features: [
        "amount",
        "hour",
        "weekend",
        "night",
        "channel",
        "category",
        "card_present",
        "distance_km",
        "known_device",
      ],
    });
    const heldOut = sliceDataset(town, { start: until(21), end: town.length });
    const doubled: Dataset = {
      ...heldOut,
      amount: heldOut.amount.map((amount) => amount * 2),
      eventTime: heldOut.eventTime.map((time) => time + 7 * DAY),
    };
    await storePredictions(clickhouse, await predictionsOf(built, heldOut, 0));
    await storePredictions(clickhouse, await predictionsOf(built, doubled, heldOut.length));

    const { features, drift: reference } = built.manifest;
    if (reference === undefined) throw new Error("the manifest has no reference");
    expect(reference.score.counts.reduce((sum, count) => sum + count)).toBe(built.manifest.training.rows);
    const ofWeek = (week: number) =>
      modelDrift(clickhouse, {
        model: "town@1",
        features: features.map(({ name }) => name),
        reference,
        from: START + week * 7 * DAY,
        to: START + (week + 1) * 7 * DAY,
        bins: false,
      });
    const stable = await ofWeek(3);
    expect(stable).toMatchObject({ rows: heldOut.length, verdict: "stable", score: { verdict: "stable" } });
    for (const feature of stable.features) expect(feature).toMatchObject({ verdict: "stable" });
    const drifted = await ofWeek(4);
    expect(drifted.verdict).toBe("drifted");
    for (const { name, verdict } of drifted.features)
      expect([name, verdict]).toEqual([name, name === "amount" ? "drifted" : "stable"]);
  });
});

/** What a worker would have stored of transactions: features and scores of the ONNX file. */
async function predictionsOf(
  { manifest: { input, output, features, model }, onnx }: BuiltModel,
  dataset: Dataset,
  firstOffset: number,
): Promise<StoredPrediction[]> {
  const session = await ModelSession.load(onnx, { input, output, features: features.length });
  const { values, rows } = featureMatrix(
    dataset,
    features,
    Uint32Array.from({ length: dataset.length }, (_, i) => i),
  );
  const scores = await session.run(values, rows);
  await session.release();
  return Array.from({ length: rows }, (_, i) =>
    row(firstOffset + i, [...values.subarray(i * features.length, (i + 1) * features.length)], {
      event_time: dataset.eventTime[i],
      score: scores[i],
      model,
    }),
  );
}

describe("GET /api/v1/models/{id}/drift", () => {
  async function api(): Promise<TestApi> {
    const artifacts = await mkdtemp(join(tmpdir(), "fraudstream-drift-"));
    onTestFinished(() => rm(artifacts, { recursive: true, force: true }));
    return startTestApi({ migrated: true, settings: { ARTIFACTS: artifacts } });
  }

  it("says how far a model's window is from its reference, or why it can't tell", async () => {
    const served = await api();
    const { context, config } = served;
    const { clickhouse, control } = context;
    const test = logistic([amountFeature, numberFeature("age")]);
    const drift: DriftReference = {
      rows: 5_000,
      features: [
        { edges: [10], counts: [2_500, 2_500, 0] },
        { edges: [30], counts: [2_500, 1_500, 1_000] },
      ],
      score: { edges: [0.5], counts: [4_000, 1_000, 0] },
    };
    const { manifestSha256 } = await saveArtifact(
      config.artifacts,
      { ...manifestOf("cards@2", test), drift },
      test.onnx,
    );
    const uploaded = await writeArtifact(config.artifacts, manifestOf("brought@1", test), test.onnx);
    await context.produce(async (producer) => {
      const author = { who: "system:test", producer };
      await registerModel(control, author, { model: "cards@2", manifestSha256 });
      await registerModel(control, author, { model: "brought@1", manifestSha256: uploaded });
      await registerModel(control, author, { model: "gone@1", manifestSha256: "0".repeat(64) });
    });
    const of = async (path: string): Promise<ModelDrift> => {
      const answer = await served.inject("analyst", { url: `/api/v1/models/${path}` });
      expect(answer.statusCode).toBe(200);
      return answer.json<ModelDrift>();
    };
    expect(await of("cards@2/drift")).toMatchObject({ newest_event: null, rows: 0, verdict: null, cause: "no_rows" });

    const newest = Date.now() - 60_000;
    const rows = Array.from({ length: 1_000 }, (_, i) =>
      row(i, [i % 2 === 0 ? 10 : 11, i % 10 < 5 ? 30 : i % 10 < 8 ? 31 : NaN], {
        score: i % 5 === 0 ? 0.75 : 0.5,
        event_time: newest - i * 60_000,
      }),
    );
    await storePredictions(clickhouse, [...rows, row(2_000, [1, 1], { event_time: newest - 2 * DAY })]);
    expect(await of("cards@2/drift?window=P1D&bins=true")).toEqual({
      model: "cards@2",
      from: expect.any(String) as string,
      to: expect.any(String) as string,
      newest_event: new Date(newest).toISOString(),
      rows: 1_000,
      reference_rows: 5_000,
      verdict: "stable",
      cause: null,
      thresholds: { watch: 0.1, drifted: 0.25 },
      score: {
        psi: 0,
        verdict: "stable",
        by_chance: expect.any(Number) as number,
        bins: expect.any(Array) as unknown[],
      },
      features: [
        {
          name: "amount",
          psi: 0,
          verdict: "stable",
          by_chance: expect.any(Number) as number,
          bins: [
            { above: null, up_to: 10, missing: false, reference: 0.5, live: 0.5 },
            { above: 10, up_to: null, missing: false, reference: 0.5, live: 0.5 },
            { above: null, up_to: null, missing: true, reference: 0, live: 0 },
          ],
        },
        {
          name: "age",
          psi: 0,
          verdict: "stable",
          by_chance: expect.any(Number) as number,
          bins: expect.any(Array) as unknown[],
        },
      ],
    });
    expect(await of("cards@2/drift")).toMatchObject({ rows: 1_001 });
    expect(await of("brought@1/drift")).toMatchObject({
      rows: null,
      verdict: null,
      cause: "no_reference",
      score: null,
      features: [],
    });
    expect(await of("gone@1/drift")).toMatchObject({ verdict: null, cause: "artifact_missing" });
  });

  it("is for those who may read metrics, and for existing models", async () => {
    const served = await api();
    const asked = async (role: "analyst" | "service" | null, path: string): Promise<unknown> => {
      const answer = await served.inject(role, { url: `/api/v1/models/${path}` });
      return [answer.statusCode, answer.json<{ code: string }>().code];
    };
    expect(await asked(null, "cards@2/drift")).toEqual([401, "no_token"]);
    expect(await asked("service", "cards@2/drift")).toEqual([403, "forbidden"]);
    expect(await asked("analyst", "cards@2/drift")).toEqual([404, "unknown_model"]);
    expect(await asked("analyst", "cards@2/drift?labels=explicit")).toEqual([400, "invalid_request"]);
    expect(await asked("analyst", "cards@2/drift?bins=perhaps")).toEqual([400, "invalid_request"]);
  });
});
