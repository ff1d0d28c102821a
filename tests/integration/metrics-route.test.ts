import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Value } from "@sinclair/typebox/value";
import { describe, expect, it, onTestFinished } from "vitest";
import { ModelMetrics } from "../../api/queries/metrics-schema.js";
import { deploy, registerModel } from "../../models/control/decisions.js";
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
  const manifestSha256 = await writeArtifact(
    config.artifacts,
    { ...champion, training: { ...champion.training, seconds: 12.5 } },
    logistic().onnx,
  );
  await context.produce(async (producer) => {
    const author = { who: "system:test", producer };
    await registerModel(context.control, author, { model: "cards@2", manifestSha256 });
    // The artifact of this one is gone.
    await registerModel(context.control, author, { model: "rivals@1", manifestSha256: "0".repeat(64) });
    await deploy(context.control, author, {
      champion: { model: "cards@2", ...thresholds },
      shadows: [{ model: "rivals@1", ...thresholds }],
    });
  });
}

const row = (
  offset: number,
  daysAgo: number,
  score: number,
  more: Partial<StoredPrediction> = {},
): StoredPrediction => ({
  offset,
  transaction_id: `t${offset}`,
  card_id: "c",
  event_time: NEWEST - daysAgo * DAY,
  amount: 10,
  currency: "EUR",
  scoring_ms: 2,
  score,
  decision: score >= 0.9 ? "decline" : score >= 0.5 ? "review" : "approve",
  model: "cards@2",
  ...more,
});

describe(`GET ${url}`, () => {
  it("returns the metrics of every enabled model, in the window, with data from its manifest", async () => {
    const test = await api({ LABEL_MATURITY_DAYS: "7" });
    await deployed(test);
    const { clickhouse } = test.context;
    const rows = [
      row(0, 0, 0.6),
      row(1, 3, 0.95),
      row(2, 5, 0.2),
      row(3, 7.5, 0.7),
      row(4, 20, 0.9),
      row(5, 20, 0.1),
      row(6, 40, 0.8),
    ];
    await storePredictions(clickhouse, rows);
    await storePredictions(
      clickhouse,
      rows.map((each) => ({ ...each, model: "rivals@1", score: 1 - each.score, decision: "approve" as const })),
      "shadow_predictions",
    );
    await storeLabels(
      clickhouse,
      [1, 4, 6].map((offset) => ({ offset, transaction_id: `t${offset}`, card_id: "c", is_fraud: offset !== 6 })),
    );

    const answer = await test.inject("analyst", { url });
    expect(answer.statusCode).toBe(200);
    const { models, ...window } = answer.json<{ models: ModelMetrics[]; from: string; to: string }>();
    expect(window).toMatchObject({ newest_event: new Date(NEWEST).toISOString(), labels: "matured" });
    expect(Math.abs(Date.parse(window.to) - Date.now())).toBeLessThan(60_000);
    expect(Date.parse(window.to) - Date.parse(window.from)).toBe(30 * DAY);
    for (const model of models) expect([...Value.Errors(ModelMetrics, model)]).toEqual([]);
    expect(models).toMatchObject([
      {
        model: "cards@2",
        role: "champion",
        training_seconds: 12.5,
        rows: 6,
        evaluated: 4,
        labelled: 2,
        precision: 2 / 3,
        recall: 1,
        accuracy: 0.75,
        f1: 0.8,
        roc_auc: 1,
        time_ms: 2,
        recall_by_value: 1,
        exact: true,
      },
      {
        model: "rivals@1",
        role: "shadow",
        training_seconds: null,
        rows: 6,
        evaluated: 4,
        labelled: 2,
        precision: null,
        recall: 0,
        accuracy: 0.5,
        f1: 0,
        roc_auc: 0,
        time_ms: 2,
      },
    ]);
    expect(models[0]).not.toHaveProperty("series");

    const of = async (query: string): Promise<{ from: string; to: string; labels: string; models: ModelMetrics[] }> =>
      (await test.inject("operator", { url: `${url}?${query}` })).json();
    expect(await of("window=P7D")).toMatchObject({ models: [{ rows: 3 }, { rows: 3 }] });
    // A payment by itself, however far away, moves nobody's window.
    await storePredictions(clickhouse, [row(7, -200, 0.1)]);
    expect(await of("window=P7D")).toMatchObject({
      newest_event: new Date(NEWEST + 200 * DAY).toISOString(),
      models: [{ rows: 3 }, { rows: 3 }],
    });
    expect(await of("window=P3M&labels=explicit")).toMatchObject({
      labels: "explicit",
      models: [{ rows: 7, evaluated: 3, labelled: 3 }, {}],
    });
    const [from, to] = [NEWEST - 20 * DAY, NEWEST - 7 * DAY].map((time) => new Date(time).toISOString());
    expect(await of(`from=${from}&to=${to}`)).toMatchObject({ from, to, models: [{ rows: 3, evaluated: 3 }, {}] });
    expect(await of(`from=${from}`)).toMatchObject({ from, models: [{ rows: 6 }, {}] });
    const sliced = await of("by=day&group=decision");
    expect(sliced.models[0].series).toMatchObject([
      { at: `${new Date(NEWEST - 20 * DAY).toISOString().slice(0, 10)}T00:00:00.000Z`, rows: 2, recall: 1 },
      { rows: 1 },
      { rows: 1 },
      { rows: 1 },
      { at: `${new Date(NEWEST).toISOString().slice(0, 10)}T00:00:00.000Z`, rows: 1, evaluated: 0, precision: null },
    ]);
    expect(sliced.models[0].groups?.map(({ decision, rows: n, series = [] }) => [decision, n, series.length])).toEqual([
      ["approve", 2, 2],
      ["review", 2, 2],
      ["decline", 2, 2],
    ]);
  });

  it("is for those who may read metrics", async () => {
    const test = await api();
    expect((await test.inject(null, { url })).statusCode).toBe(401);
    expect((await test.inject("service", { url })).json()).toMatchObject({ status: 403, code: "forbidden" });
    for (const role of ["analyst", "operator", "admin"] as const) {
      const answer = await test.inject(role, { url });
      expect([role, answer.statusCode, answer.json()]).toMatchObject([
        role,
        200,
        { newest_event: null, labels: "matured", models: [] },
      ]);
    }
    // Enabled, and nothing scored yet.
    await deployed(test);
    expect((await test.inject("analyst", { url: `${url}?by=hour` })).json()).toMatchObject({
      newest_event: null,
      models: [{ rows: 0, precision: null, roc_auc: null, time_ms: null, series: [] }, { rows: 0 }],
    });
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
    for (const window of ["30 days", "P0D", "", "P1D' OR 1=1 --", "P1H"])
      expect([window, await wrong({ window })]).toEqual([window, [400, "invalid_request", "window"]]);
    expect(await wrong({ window: "P1D", from: "2026-01-01T00:00:00Z" })).toEqual([400, "invalid_request", "window"]);
    expect(await wrong({ from: "2026-02-30T00:00:00Z" })).toEqual([400, "invalid_request", "from"]);
    expect(await wrong({ from: "2026-01-01", to: "now()" })).toEqual([400, "invalid_request", "from", "to"]);
    expect(await wrong({ to: "2026-01-01T00:00:00Z" })).toEqual([400, "invalid_request", "from"]);
    expect(await wrong({ from: "2026-01-02T00:00:00Z", to: "2026-01-01T00:00:00Z" })).toEqual([
      400,
      "invalid_request",
      "to",
    ]);
    expect(await wrong({ labels: "all", by: "week", group: "card_id" })).toEqual([
      400,
      "invalid_request",
      "labels",
      "by",
      "group",
    ]);
    expect(await wrong({ by: "hour", window: "P1Y" })).toEqual([400, "invalid_request", "by"]);
    expect(await wrong({ model: "cards@2" })).toEqual([400, "invalid_request", "model"]);
    expect((await test.inject("analyst", { url: `${url}?window=P1D&window=P2D` })).statusCode).toBe(400);
  });
});

describe("GET /api/v1/models/{id}/thresholds/curve", () => {
  interface Curve {
    days: number;
    rows: number;
    evaluated: number;
    frauds: number;
    thresholds: object;
    points: { threshold: number; present: string[]; value: { currency: string; caught: number; missed: number }[] }[];
  }
  const curve = "/api/v1/models/cards@2/thresholds/curve";

  it("counts what each threshold would have meant, and marks the present ones", async () => {
    const test = await api({ LABEL_MATURITY_DAYS: "7" });
    await deployed(test);
    const { clickhouse } = test.context;
    // Scores on a threshold, as float32 has them: 0.9 lies just below its decimal, 0.3 just above.
    const rows = [
      row(0, 0, 0.3),
      row(1, 2, 0.9, { amount: 100 }),
      row(2, 4, 0.95, { amount: 40, currency: "USD" }),
      row(3, 8, 0.7),
      row(4, 10, 0.1, { amount: 25 }),
      row(5, 10, 0.5, { amount: -5 }),
    ];
    await storePredictions(clickhouse, rows);
    // Rows that were stored twice, and those of the time when it was a shadow.
    await storePredictions(clickhouse, rows.slice(0, 2));
    await storePredictions(
      clickhouse,
      [row(6, 6, 0.6, { amount: 70 }), row(7, 6, 0.99, { model: "rivals@1" })],
      "shadow_predictions",
    );
    await storeLabels(
      clickhouse,
      [1, 2, 4, 5, 6].map((offset) => ({ offset, transaction_id: `t${offset}`, card_id: "c", is_fraud: true })),
    );

    const of = async (query: string): Promise<Curve> => {
      const answer = await test.inject("analyst", { url: `${curve}?${query}` });
      expect(answer.statusCode, answer.body).toBe(200);
      return answer.json();
    };
    const all = await of("points=9&threshold=0.305");
    expect(all).toMatchObject({
      model: "cards@2",
      labels: "matured",
      days: 10,
      rows: 7,
      evaluated: 6,
      frauds: 5,
      thresholds,
    });
    expect(all.points.map(({ threshold }) => threshold)).toEqual([0.1, 0.2, 0.3, 0.305, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]);
    expect(
      all.points.filter(({ present }) => present.length > 0).map(({ threshold, present }) => [threshold, present]),
    ).toEqual([
      [0.5, ["review"]],
      [0.9, ["decline"]],
    ]);
    const at = Object.fromEntries(all.points.map((point) => [point.threshold, point]));
    expect(at[0.3]).toMatchObject({
      alerts: 6,
      alerts_per_day: 0.6,
      alert_rate: 6 / 7,
      true_positives: 4,
      false_positives: 1,
      precision: 0.8,
      recall: 0.8,
    });
    expect(at[0.305]).toMatchObject({ alerts: 5, alerts_per_day: 0.5, true_positives: 4, false_positives: 1 });
    expect(at[0.6]).toMatchObject({
      alerts: 4,
      true_positives: 3,
      false_positives: 1,
      precision: 0.75,
      recall: 0.6,
      value: [
        { currency: "EUR", caught: 170, missed: 25 },
        { currency: "USD", caught: 40, missed: 0 },
      ],
    });
    expect(at[0.9]).toMatchObject({
      alerts: 1,
      true_positives: 1,
      false_positives: 0,
      precision: 1,
      recall: 0.2,
      value: [
        { currency: "EUR", caught: 0, missed: 195 },
        { currency: "USD", caught: 40, missed: 0 },
      ],
    });

    // Explicit labels, a shorter window, and without any: as metrics have them.
    expect(await of("labels=explicit&points=1")).toMatchObject({
      labels: "explicit",
      rows: 7,
      evaluated: 5,
      frauds: 5,
    });
    expect(await of("window=P5D&points=1")).toMatchObject({
      days: 4,
      rows: 3,
      evaluated: 2,
      frauds: 2,
      points: [
        { threshold: 0.5, alerts: 2 },
        { threshold: 0.9, alerts: 1 },
      ],
    });
    expect((await of("")).points).toHaveLength(99);
    expect((await test.inject("analyst", { url: curve.replace("cards@2", "rivals@1") })).json()).toMatchObject({
      rows: 1,
      frauds: 0,
      thresholds,
      points: expect.arrayContaining([
        expect.objectContaining({ threshold: 0.5, alerts: 1, precision: null, recall: null, value: [] }),
      ]) as unknown,
    });
    const metrics = (await test.inject("analyst", { url: `${url}?window=P30D` })).json<{ models: ModelMetrics[] }>()
      .models[0];
    expect([metrics.rows, metrics.alert_rate]).toEqual([6, 4 / 6]);
    for (const query of ["points=0", "points=201", "threshold=1.5", "window=x"])
      expect((await test.inject("analyst", { url: `${curve}?${query}` })).statusCode, query).toBe(400);
    expect((await test.inject("analyst", { url: curve.replace("cards@2", "none@1") })).json()).toMatchObject({
      status: 404,
      code: "unknown_model",
    });
    expect((await test.inject("service", { url: curve })).statusCode).toBe(403);
  });

  it("returns no figures if nothing was scored", async () => {
    const test = await api();
    await deployed(test);
    const { points, ...none } = (await test.inject("operator", { url: `${curve}?points=1` })).json<Curve>();
    expect(none).toMatchObject({ days: null, rows: 0, evaluated: 0, frauds: 0, thresholds });
    expect(points[0]).toEqual({
      threshold: 0.5,
      present: ["review"],
      alerts: 0,
      alerts_per_day: null,
      alert_rate: null,
      true_positives: 0,
      false_positives: 0,
      precision: null,
      recall: null,
      value: [],
    });
  });
});

describe("GET /api/v1/predictions", () => {
  interface List {
    predictions: {
      prediction: { transaction_id: string; event_time: string; named_features: object | null };
      label: { is_fraud: boolean } | null;
    }[];
    total: number | null;
    next_cursor: string | null;
  }
  const list = "/api/v1/predictions";

  it("lists what was stored, newest first, by every filter, page by page, and as CSV", async () => {
    const test = await api();
    const { clickhouse } = test.context;
    const rows = [
      row(0, 9, 0.95, { card_id: "=cmd|'x',1", amount: 12.5 }),
      row(1, 8, 0.2),
      row(2, 7, 0.6, { currency: "USD" }),
      row(3, 6, 0.1),
      row(4, 6, 0.99, { model: "cards@3" }),
      row(5, 5, 0.3),
      row(6, 4, 0.4),
      row(7, 3, 0.91),
      row(8, 2, 0.5),
      row(9, 1, 0.05),
    ];
    await storePredictions(
      clickhouse,
      rows.map((each) => ({ ...each, card_id: each.card_id.replaceAll("'", "\\'") })),
    );
    await storePredictions(clickhouse, rows.slice(3, 7));
    await storeLabels(
      clickhouse,
      [1, 4, 7].map((offset) => ({ offset, transaction_id: `t${offset}`, card_id: "c", is_fraud: offset !== 7 })),
    );
    // The label that was given last counts.
    await storeLabels(clickhouse, [
      { offset: 20, transaction_id: "t6", card_id: "c", is_fraud: false },
      { offset: 21, transaction_id: "t6", card_id: "c", is_fraud: true },
    ]);

    const of = async (query: string): Promise<List> => {
      const answer = await test.inject("analyst", { url: `${list}?${query}` });
      expect(answer.statusCode, answer.body).toBe(200);
      return answer.json();
    };
    const ids = async (query: string): Promise<string[]> =>
      (await of(query)).predictions.map(({ prediction }) => prediction.transaction_id);
    const all = await of("");
    expect(all).toMatchObject({ total: 10, next_cursor: null });
    // At one moment the greater partition comes first: offsets 3 and 4 stand in 0 and 1.
    const order = ["t9", "t8", "t7", "t6", "t5", "t4", "t3", "t2", "t1", "t0"];
    expect(all.predictions.map(({ prediction }) => prediction.transaction_id)).toEqual(order);
    expect(all.predictions[2]).toMatchObject({
      prediction: { decision: "decline", merchant_id: "m", event_time: new Date(NEWEST - 3 * DAY).toISOString() },
      label: { is_fraud: false },
    });
    expect(all.predictions[0].label).toBeNull();

    expect(await ids("decision=decline")).toEqual(["t7", "t4", "t0"]);
    expect(await ids("min_score=0.4")).toEqual(["t8", "t7", "t6", "t4", "t2", "t0"]);
    expect(await ids("labelled=true")).toEqual(["t7", "t6", "t4", "t1"]);
    expect(await ids("labelled=false&decision=approve")).toEqual(["t9", "t5", "t3"]);
    expect(await ids("labelled=fraud&decision=approve")).toEqual(["t6", "t1"]);
    expect(await ids("labelled=genuine")).toEqual(["t7"]);
    expect(await ids("model=cards@3")).toEqual(["t4"]);
    expect(await ids(`card_id=${encodeURIComponent("=cmd|'x',1")}`)).toEqual(["t0"]);
    expect(await ids("card_id=c&labelled=fraud")).toEqual(["t6", "t4", "t1"]);
    expect(await ids("merchant_id=other")).toEqual([]);
    const [from, to] = [new Date(NEWEST - 6 * DAY).toISOString(), new Date(NEWEST - 3 * DAY).toISOString()];
    expect(await ids(`from=${from}&to=${to}`)).toEqual(["t6", "t5", "t4", "t3"]);

    for (const size of [1, 3, 4, 10]) {
      const paged: string[] = [];
      for (let cursor: string | null = ""; cursor !== null;) {
        const page: List = await of(`limit=${size}${cursor === "" ? "" : `&cursor=${cursor}`}`);
        expect(page.total).toBe(10);
        paged.push(...page.predictions.map(({ prediction }) => prediction.transaction_id));
        cursor = page.next_cursor;
      }
      expect([size, paged]).toEqual([size, order]);
    }

    const csv = async (query: string) => test.inject("operator", { url: `${list}?format=csv&${query}` });
    const file = await csv("");
    expect([file.statusCode, file.headers["content-type"], file.headers["x-next-cursor"]]).toEqual([
      200,
      "text/csv; charset=utf-8",
      undefined,
    ]);
    const lines = file.body.split("\r\n");
    expect(lines[0]).toBe(
      "transaction_id,event_time,card_id,merchant_id,amount,currency,score,decision,model,epoch,scored_at,scoring_ms," +
        "stale,is_fraud,label_time,reasons",
    );
    expect(lines.slice(1, -1).map((line) => line.split(",")[0])).toEqual(order);
    // A spreadsheet must not run it.
    expect(lines[10]).toContain(`,"'=cmd|'x',1",m,12.5,EUR,0.95,decline,`);
    const first = await csv("limit=4");
    expect(first.body.split("\r\n").slice(1, -1)).toHaveLength(4);
    const rest = await csv(`cursor=${String(first.headers["x-next-cursor"])}`);
    expect([...first.body.split("\r\n").slice(1, -1), ...rest.body.split("\r\n").slice(1, -1)]).toEqual(
      lines.slice(1, -1),
    );
    expect((await csv("limit=10")).headers["x-next-cursor"]).toBeUndefined();

    for (const query of [
      "cursor=nonsense",
      "limit=0",
      "limit=501",
      "format=csv&limit=100001",
      "min_score=2",
      "decision=maybe",
      "labelled=perhaps",
      "from=2026-02-30T00:00:00Z",
      `from=${to}&to=${from}`,
      "sort=score",
    ]) {
      expect((await test.inject("analyst", { url: `${list}?${query}` })).statusCode, query).toBe(400);
    }
    expect((await test.inject("service", { url: list })).statusCode).toBe(403);
  });

  it("replaces card ids with their pseudonyms, and streams more rows than one page of a query", async () => {
    const test = await api({ CARD_ID_KEY: "0123456789abcdef0123456789abcdef" });
    const { clickhouse, cards } = test.context;
    await storePredictions(clickhouse, [row(0, 1, 0.5, { card_id: cards?.ofText("4111111111111111") ?? "" })]);
    expect((await test.inject("analyst", { url: `${list}?card_id=4111111111111111` })).json()).toMatchObject({
      total: 1,
      predictions: [{ prediction: { transaction_id: "t0" } }],
    });
    const columns =
      "topic, partition, offset, transaction_id, card_id, merchant_id, amount, currency, event_time, " +
      "scored_at, scoring_ms, score, decision, model, epoch, features, source_topic, source_partition, " +
      "source_offset";
    await clickhouse.command(
      `INSERT INTO predictions (${columns}) SELECT 'p', number % 3, number, 'b' || toString(number), 'c', ` +
        "'m', 1, 'EUR', now64(3) - toIntervalSecond(intDiv(number, 7)), now64(3), 1, 0.5, 'review', 'm@1', 1, " +
        "[], 't', 0, number FROM numbers(12000)",
    );
    const { body, headers } = await test.inject("analyst", { url: `${list}?format=csv` });
    const found = body
      .split("\r\n")
      .slice(1, -1)
      .map((line) => line.slice(0, line.indexOf(",")));
    expect([found.length, new Set(found).size, headers["x-next-cursor"]]).toEqual([12_001, 12_001, undefined]);
    expect((await test.inject("analyst", { url: list })).json()).toMatchObject({
      total: null,
      predictions: { length: 50 },
    });
  });
});
