import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Value } from "@sinclair/typebox/value";
import { describe, expect, it, onTestFinished } from "vitest";
import { ModelMetrics } from "../../api/queries/metrics-schema.js";
import { deploy, registerModel } from "../../models/registry/decisions.js";
import { startTestApi, type TestApi } from "../support/api.js";
import { logistic, manifestOf, writeArtifact } from "../support/models.js";
import { type StoredPrediction, storeLabels, storePredictions } from "../support/stored-predictions.js";

const DAY = 86_400_000;
const HOUR = 3_600_000;
/** The last eight o'clock: windows end now, some hours later. */
const NEWEST = Math.floor((Date.now() - 8 * HOUR) / DAY) * DAY + 8 * HOUR;
const thresholds = { review: 0.5, decline: 0.9 };
const url = "/api/v1/models/metrics";

async function api(settings: Record<string, string> = {}): Promise<TestApi> {
  const artifacts = await mkdtemp(join(tmpdir(), "fraudstream-metrics-"));
  onTestFinished(() => rm(artifacts, { recursive: true, force: true }));
  return startTestApi({ migrated: true, settings: { ARTIFACTS: artifacts, ...settings } });
}

async function deployed({ context, config }: TestApi): Promise<void> {
  const champion = manifestOf("cards@2", logistic());
  const manifestSha256 = await writeArtifact(config.artifacts, { ...champion, training: { ...champion.training, seconds: 12.5 } }, logistic().onnx);
  await context.produce(async (producer) => {
    const author = { who: "system:test", producer };
    await registerModel(context.control, author, { model: "cards@2", manifestSha256 });
    // The artifact of this one is gone.
    await registerModel(context.control, author, { model: "rivals@1", manifestSha256: "0".repeat(64) });
    await deploy(context.control, author, { champion: { model: "cards@2", ...thresholds }, shadows: [{ model: "rivals@1", ...thresholds }] });
  });
}

const row = (offset: number, daysAgo: number, score: number, more: Partial<StoredPrediction> = {}): StoredPrediction => ({
  offset, transaction_id: `t${offset}`, card_id: "c", event_time: NEWEST - daysAgo * DAY, amount: 10, currency: "EUR", scoring_ms: 2, score,
  decision: score >= 0.9 ? "decline" : score >= 0.5 ? "review" : "approve", model: "cards@2", ...more,
});

describe(`GET ${url}`, () => {
  it("has the metrics of every enabled model, in the window, with what its manifest says", async () => {
    const test = await api({ LABEL_MATURITY_DAYS: "7" });
    await deployed(test);
    const { clickhouse } = test.context;
    const rows = [row(0, 0, 0.6), row(1, 3, 0.95), row(2, 5, 0.2), row(3, 7.5, 0.7), row(4, 20, 0.9), row(5, 20, 0.1), row(6, 40, 0.8)];
    await storePredictions(clickhouse, rows);
    await storePredictions(clickhouse, rows.map((each) => ({ ...each, model: "rivals@1", score: 1 - each.score, decision: "approve" as const })), "shadow_predictions");
    await storeLabels(clickhouse, [1, 4, 6].map((offset) => ({ offset, transaction_id: `t${offset}`, card_id: "c", is_fraud: offset !== 6 })));

    const answer = await test.inject("analyst", { url });
    expect(answer.statusCode).toBe(200);
    const { models, ...window } = answer.json<{ models: ModelMetrics[]; from: string; to: string }>();
    expect(window).toMatchObject({ newest_event: new Date(NEWEST).toISOString(), labels: "matured" });
    expect(Math.abs(Date.parse(window.to) - Date.now())).toBeLessThan(60_000);
    expect(Date.parse(window.to) - Date.parse(window.from)).toBe(30 * DAY);
    for (const model of models) expect([...Value.Errors(ModelMetrics, model)]).toEqual([]);
    expect(models).toMatchObject([
      { model: "cards@2", role: "champion", training_seconds: 12.5, rows: 6, evaluated: 4, labelled: 2, precision: 2 / 3, recall: 1, accuracy: 0.75, f1: 0.8, roc_auc: 1, time_ms: 2, recall_by_value: 1, exact: true },
      { model: "rivals@1", role: "shadow", training_seconds: null, rows: 6, evaluated: 4, labelled: 2, precision: null, recall: 0, accuracy: 0.5, f1: 0, roc_auc: 0, time_ms: 2 },
    ]);
    expect(models[0]).not.toHaveProperty("series");

    const of = async (query: string): Promise<{ from: string; to: string; labels: string; models: ModelMetrics[] }> => (await test.inject("operator", { url: `${url}?${query}` })).json();
    expect(await of("window=P7D")).toMatchObject({ models: [{ rows: 3 }, { rows: 3 }] });
    // A payment by itself, however far away, moves nobody's window.
    await storePredictions(clickhouse, [row(7, -200, 0.1)]);
    expect(await of("window=P7D")).toMatchObject({ newest_event: new Date(NEWEST + 200 * DAY).toISOString(), models: [{ rows: 3 }, { rows: 3 }] });
    expect(await of("window=P3M&labels=explicit")).toMatchObject({ labels: "explicit", models: [{ rows: 7, evaluated: 3, labelled: 3 }, {}] });
    const [from, to] = [NEWEST - 20 * DAY, NEWEST - 7 * DAY].map((time) => new Date(time).toISOString());
    expect(await of(`from=${from}&to=${to}`)).toMatchObject({ from, to, models: [{ rows: 3, evaluated: 3 }, {}] });
    expect(await of(`from=${from}`)).toMatchObject({ from, models: [{ rows: 6 }, {}] });
    const sliced = await of("by=day&group=decision");
    expect(sliced.models[0].series).toMatchObject([{ at: `${new Date(NEWEST - 20 * DAY).toISOString().slice(0, 10)}T00:00:00.000Z`, rows: 2, recall: 1 }, { rows: 1 }, { rows: 1 }, { rows: 1 }, { at: `${new Date(NEWEST).toISOString().slice(0, 10)}T00:00:00.000Z`, rows: 1, evaluated: 0, precision: null }]);
    expect(sliced.models[0].groups?.map(({ decision, rows: n, series = [] }) => [decision, n, series.length])).toEqual([["approve", 2, 2], ["review", 2, 2], ["decline", 2, 2]]);
  });

  it("is for those who may read metrics", async () => {
    const test = await api();
    expect((await test.inject(null, { url })).statusCode).toBe(401);
    expect((await test.inject("service", { url })).json()).toMatchObject({ status: 403, code: "forbidden" });
    for (const role of ["analyst", "operator", "admin"] as const) {
      const answer = await test.inject(role, { url });
      expect([role, answer.statusCode, answer.json()]).toMatchObject([role, 200, { newest_event: null, labels: "matured", models: [] }]);
    }
    // Enabled, and nothing scored yet.
    await deployed(test);
    expect((await test.inject("analyst", { url: `${url}?by=hour` })).json()).toMatchObject({ newest_event: null, models: [{ rows: 0, precision: null, roc_auc: null, time_ms: null, series: [] }, { rows: 0 }] });
  });

  it("names what is wrong with a query", async () => {
    const test = await api();
    await storePredictions(test.context.clickhouse, [row(0, 0, 0.5)]);
    const wrong = async (query: Record<string, string>): Promise<unknown> => {
      const answer = await test.inject("analyst", { url, query });
      expect(answer.headers["content-type"]).toMatch("application/problem+json");
      const { status, code, errors } = answer.json<{ status: number; code: string; errors: { field: string }[] }>();
      return [status, code, ...errors.map(({ field }) => field)];
    };
    for (const window of ["30 days", "P0D", "", "P1D' OR 1=1 --", "P1H"]) expect([window, await wrong({ window })]).toEqual([window, [400, "invalid_request", "window"]]);
    expect(await wrong({ window: "P1D", from: "2026-01-01T00:00:00Z" })).toEqual([400, "invalid_request", "window"]);
    expect(await wrong({ from: "2026-02-30T00:00:00Z" })).toEqual([400, "invalid_request", "from"]);
    expect(await wrong({ from: "2026-01-01", to: "now()" })).toEqual([400, "invalid_request", "from", "to"]);
    expect(await wrong({ to: "2026-01-01T00:00:00Z" })).toEqual([400, "invalid_request", "from"]);
    expect(await wrong({ from: "2026-01-02T00:00:00Z", to: "2026-01-01T00:00:00Z" })).toEqual([400, "invalid_request", "to"]);
    expect(await wrong({ labels: "all", by: "week", group: "card_id" })).toEqual([400, "invalid_request", "labels", "by", "group"]);
    expect(await wrong({ by: "hour", window: "P1Y" })).toEqual([400, "invalid_request", "by"]);
    expect(await wrong({ model: "cards@2" })).toEqual([400, "invalid_request", "model"]);
    expect((await test.inject("analyst", { url: `${url}?window=P1D&window=P2D` })).statusCode).toBe(400);
  });
});
