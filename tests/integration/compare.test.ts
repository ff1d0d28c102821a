import { describe, expect, it } from "vitest";
import { compareModels, type ComparisonRequest } from "../../api/queries/compare.js";
import type { ModelComparison } from "../../api/queries/compare-schema.js";
import { modelMetrics } from "../../api/queries/metrics.js";
import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { lastPlacement, placeLabels } from "../../infra/clickhouse/label-placement.js";
import { registerModel } from "../../models/control/decisions.js";
import { Random } from "../../pipelines/local/simulator/random.js";
import { startTestApi } from "../support/api.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import { type StoredPrediction, storeLabels, storePredictions } from "../support/stored-predictions.js";

const HOUR = 3_600_000;
const START = Date.UTC(2026, 5, 1);
const request: ComparisonRequest = {
  a: "cards@2",
  b: "rival@1",
  from: START,
  to: START + 100 * HOUR,
  maturedBefore: null,
};

type Decision = StoredPrediction["decision"];
/** Score and decision of a and of b (null: it didn't score this), amount, currency, fraud (null: no label). */
type Sketch = [
  a: [number, Decision] | null,
  b: [number, Decision] | null,
  amount: number,
  currency: string,
  fraud: boolean | null,
];

const SKETCHES: Sketch[] = [
  [[0.9, "decline"], [0.2, "approve"], 100, "EUR", true],
  [[0.8, "review"], [0.1, "approve"], 40, "EUR", false],
  [[0.7, "review"], [0.3, "approve"], 7, "USD", null],
  [[0.1, "approve"], [0.95, "decline"], 60, "USD", true],
  [[0.2, "approve"], [0.9, "review"], -30, "USD", false],
  [[0.3, "approve"], [0.4, "approve"], 11, "EUR", true],
  [[0.6, "review"], [0.97, "decline"], 500, "EUR", true],
  [[0.05, "approve"], [0.05, "approve"], 3, "CHF", false],
  [null, [0.99, "decline"], 2_000, "EUR", true],
  [[0.99, "decline"], null, 1_000, "EUR", true],
  [[0.01, "approve"], null, 1_000, "EUR", false],
];

async function store(clickhouse: ClickHouse, sketches: readonly Sketch[], swapFrom = sketches.length): Promise<void> {
  const rows = (side: 0 | 1, from: number, to: number): StoredPrediction[] =>
    sketches.flatMap((sketch, offset) => {
      const scored = sketch[side];
      if (scored === null || offset < from || offset >= to) return [];
      const [score, decision] = scored;
      return [
        {
          offset,
          transaction_id: `t${offset}`,
          card_id: "c",
          event_time: START + offset * HOUR,
          amount: sketch[2],
          currency: sketch[3],
          scoring_ms: side === 0 ? 1 : offset,
          score,
          decision,
          model: side === 0 ? "cards@2" : "rival@1",
        },
      ];
    });
  await storePredictions(clickhouse, [...rows(0, 0, swapFrom), ...rows(1, swapFrom, sketches.length)]);
  await storePredictions(
    clickhouse,
    [...rows(1, 0, swapFrom), ...rows(0, swapFrom, sketches.length)],
    "shadow_predictions",
  );
  await storeLabels(
    clickhouse,
    sketches.flatMap(([, , , , is_fraud], offset) =>
      is_fraud === null ? [] : [{ offset, transaction_id: `t${offset}`, card_id: "c", is_fraud }],
    ),
  );
}

const near = (value: number): unknown => expect.closeTo(value, 12);
const nothing = { rows: 0, value: 0 };
const EXPECTED = {
  rows: 8,
  exact: true,
  differing: 6,
  // frauds .9 .1 .3 .6, genuine .8 .2 .05: 3 + 1 + 2 + 2 of 12 pairs
  a: {
    model: "cards@2",
    only: 2,
    rows: 8,
    evaluated: 7,
    labelled: 7,
    roc_auc: near(8 / 12),
    precision: 2 / 3,
    recall: 2 / 4,
    alert_rate: 4 / 8,
    time_ms: 1,
    confusion: { true_positives: 2, false_positives: 1, false_negatives: 2, true_negatives: 2 },
    declined: { rows: 1, labelled: 1, frauds: 1 },
    value: [
      { currency: "EUR", detected: 600, missed: 11 },
      { currency: "USD", detected: 0, missed: 60 },
    ],
  },
  // frauds .2 .95 .4 .97, genuine .1 .9 .05: 2 + 3 + 2 + 3 of 12 pairs
  b: {
    model: "rival@1",
    only: 1,
    rows: 8,
    evaluated: 7,
    labelled: 7,
    roc_auc: near(10 / 12),
    precision: 2 / 3,
    recall: 2 / 4,
    alert_rate: 3 / 8,
    time_ms: 28 / 8,
    declined: { rows: 2, labelled: 2, frauds: 2 },
    value: [
      { currency: "EUR", detected: 500, missed: 111 },
      { currency: "USD", detected: 60, missed: 0 },
    ],
  },
  decisions: {
    approve: { approve: 2, review: 1, decline: 1 },
    review: { approve: 2, review: 0, decline: 1 },
    decline: { approve: 1, review: 0, decline: 0 },
  },
  moved: [
    {
      currency: "CHF",
      alerted_by_a_only: { frauds: nothing, genuine: nothing, unknown: nothing },
      alerted_by_b_only: { frauds: nothing, genuine: nothing, unknown: nothing },
    },
    {
      currency: "EUR",
      alerted_by_a_only: { frauds: { rows: 1, value: 100 }, genuine: { rows: 1, value: 40 }, unknown: nothing },
      alerted_by_b_only: { frauds: nothing, genuine: nothing, unknown: nothing },
    },
    {
      currency: "USD",
      alerted_by_a_only: { frauds: nothing, genuine: nothing, unknown: { rows: 1, value: 7 } },
      alerted_by_b_only: { frauds: { rows: 1, value: 60 }, genuine: { rows: 1, value: 0 }, unknown: nothing },
    },
  ],
};

describe("two models on the same transactions", () => {
  it("are compared on rows that both have scored, matching results worked out by hand", async () => {
    const clickhouse = await clickhouseDatabase();
    await store(clickhouse, SKETCHES);
    expect(await compareModels(clickhouse, request)).toMatchObject(EXPECTED);
    // Written twice, and with labels placed.
    await store(clickhouse, SKETCHES);
    await placeLabels(clickhouse, await lastPlacement(clickhouse), { settleMs: 0 });
    expect(await compareModels(clickhouse, request)).toMatchObject(EXPECTED);
    const matured = await compareModels(clickhouse, { ...request, maturedBefore: START + 3 * HOUR });
    expect(matured).toMatchObject({
      a: { evaluated: 8, labelled: 7, precision: 2 / 4 },
      moved: [{}, {}, { alerted_by_a_only: { genuine: { rows: 1, value: 7 }, unknown: nothing } }],
    });
    expect(await compareModels(clickhouse, { ...request, from: START + 3 * HOUR, to: START + 5 * HOUR })).toMatchObject(
      { rows: 2, differing: 2, a: { only: 0, roc_auc: 0 }, b: { only: 0, roc_auc: 1 } },
    );
    expect(await compareModels(clickhouse, request, 7)).toMatchObject({
      rows: 8,
      exact: false,
      a: { roc_auc: near(8 / 12) },
    });
  });

  it("also if they changed roles within the window", async () => {
    const clickhouse = await clickhouseDatabase();
    await store(clickhouse, SKETCHES, 4);
    expect(await compareModels(clickhouse, request)).toMatchObject(EXPECTED);
    const { a, b } = await compareModels(clickhouse, { ...request, a: "rival@1", b: "cards@2" });
    expect({ a, b }).toMatchObject({ a: EXPECTED.b, b: EXPECTED.a });
  });

  it("have nothing in common if one of them didn't score", async () => {
    const clickhouse = await clickhouseDatabase();
    await store(clickhouse, SKETCHES);
    const none = { approve: 0, review: 0, decline: 0 };
    expect(await compareModels(clickhouse, { ...request, b: "rival@2" })).toMatchObject({
      rows: 0,
      differing: 0,
      a: { only: 10, rows: 0, roc_auc: null, time_ms: null },
      b: { only: 0 },
      decisions: { approve: none, review: none, decline: none },
      moved: [],
    });
    expect(
      await compareModels(clickhouse, { ...request, from: START + 8 * HOUR, to: START + 11 * HOUR }),
    ).toMatchObject({ rows: 0, a: { only: 2, precision: null }, b: { only: 1 }, moved: [] });
  });

  it("have the same metrics as each has alone if both scored everything", async () => {
    const clickhouse = await clickhouseDatabase();
    const random = new Random(11);
    const decided = (): [number, Decision] => {
      const score = Math.round(random.uniform() * 50) / 50;
      return [score, score > 0.9 ? "decline" : score > 0.6 ? "review" : "approve"];
    };
    const sketches = Array.from({ length: 1_500 }, (): Sketch => [
      decided(),
      decided(),
      Math.round(random.uniform() * 1_000) / 4 - 10,
      random.chance(0.5) ? "EUR" : "USD",
      random.chance(0.2) ? null : random.chance(0.3),
    ]);
    await store(clickhouse, sketches);
    const whole = { from: START, to: START + 2_000 * HOUR, maturedBefore: START + 700 * HOUR };
    const { a, b, decisions, differing } = await compareModels(clickhouse, { ...request, ...whole });
    const alone = await modelMetrics(clickhouse, { model: "cards@2", role: "champion", ...whole, slices: {} });
    const shadow = await modelMetrics(clickhouse, { model: "rival@1", role: "shadow", ...whole, slices: {} });
    expect(rounded({ exact: true, ...a })).toEqual(rounded({ model: "cards@2", only: 0, ...alone }));
    expect(rounded({ exact: true, ...b })).toEqual(rounded({ model: "rival@1", only: 0, ...shadow }));
    for (const one of ["approve", "review", "decline"] as const) {
      for (const other of ["approve", "review", "decline"] as const)
        expect(decisions[one][other]).toBe(
          sketches.filter(([ofA, ofB]) => ofA?.[1] === one && ofB?.[1] === other).length,
        );
    }
    expect(differing).toBe(sketches.filter(([ofA, ofB]) => ofA?.[1] !== ofB?.[1]).length);
  });
});

/** Numbers to twelve digits: sums of fractions depend on their order. */
function rounded(metrics: unknown): unknown {
  return JSON.parse(JSON.stringify(metrics), (_, value: unknown) =>
    typeof value === "number" ? Number(value.toPrecision(12)) : value,
  );
}

describe("GET /api/v1/models/compare", () => {
  it("answers analysts, for two existing models", async () => {
    const test = await startTestApi({ migrated: true, settings: { LABEL_MATURITY_DAYS: "1" } });
    const { context } = test;
    await context.produce(async (producer) => {
      for (const model of ["cards@2", "rival@1"])
        await registerModel(
          context.control,
          { who: "system:test", producer },
          { model, manifestSha256: "0".repeat(64) },
        );
    });
    await store(context.clickhouse, SKETCHES);
    const ask = async (query: string, role: "analyst" | "service" | null = "analyst") => {
      const answer = await test.inject(role, { url: `/api/v1/models/compare?${query}` });
      return {
        status: answer.statusCode,
        body: answer.json<ModelComparison & { code: string; errors: { field: string }[] }>(),
      };
    };
    const both = "a=cards@2&b=rival@1";
    expect(await ask(`${both}&labels=explicit&from=2026-05-02T10:00:00Z&to=2026-06-01T10:00:00.001Z`)).toMatchObject({
      status: 200,
      body: {
        from: "2026-05-02T10:00:00.000Z",
        to: "2026-06-01T10:00:00.001Z",
        newest_event: "2026-06-01T10:00:00.000Z",
        labels: "explicit",
        ...EXPECTED,
      },
    });
    expect((await ask(`${both}&from=2026-06-01T04:00:00.001Z`)).body).toMatchObject({
      from: "2026-06-01T04:00:00.001Z",
      labels: "matured",
      rows: 3,
      a: { only: 2 },
    });
    expect(await ask(both, null)).toMatchObject({ status: 401 });
    expect(await ask(both, "service")).toMatchObject({ status: 403, body: { code: "forbidden" } });
    expect(await ask("a=cards@2&b=rival@9")).toMatchObject({ status: 404, body: { code: "unknown_model" } });
    for (const [query, field] of [
      ["a=cards@2", "b"],
      ["a=cards@2&b=cards@2", "b"],
      [`${both}&window=P0D`, "window"],
      [`${both}&labels=all`, "labels"],
      [`${both}&by=day`, "by"],
    ]) {
      expect([query, await ask(query)]).toMatchObject([query, { status: 400, body: { errors: [{ field }] } }]);
    }
  });
});
