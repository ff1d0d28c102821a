import { describe, expect, it } from "vitest";
import { modelMetrics, type MetricsRequest } from "../../api/queries/metrics.js";
import type { CardPrecision } from "../../api/queries/metrics-schema.js";
import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { lastPlacement, placeLabels } from "../../infra/clickhouse/label-placement.js";
import { cardPrecision } from "../../models/evaluation/card-precision.js";
import { Random } from "../../pipelines/local/simulator/random.js";
import { startTestApi } from "../support/api.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import { type StoredPrediction, storeLabels, storePredictions } from "../support/stored-predictions.js";

const DAY = 86_400_000;
const START = Date.UTC(2026, 5, 1);

/** Day, card, score, and whether it was a fraud; null: no label. */
type Sketch = [day: number, card: string, score: number, fraud: boolean | null];

async function store(
  clickhouse: ClickHouse,
  sketches: readonly Sketch[],
  table: "predictions" | "shadow_predictions" = "predictions",
): Promise<void> {
  const rows = sketches.map(([day, card_id, score], offset): StoredPrediction => ({
    offset,
    transaction_id: `t${offset}`,
    card_id,
    event_time: START + Math.round(day * DAY),
    amount: 1,
    currency: "EUR",
    scoring_ms: 1,
    score,
    decision: "approve",
    model: "cards@2",
  }));
  await storePredictions(clickhouse, rows, table);
  await storeLabels(
    clickhouse,
    sketches.flatMap(([, card_id, , is_fraud], offset) =>
      is_fraud === null ? [] : [{ offset, transaction_id: `t${offset}`, card_id, is_fraud }],
    ),
  );
}

const request: MetricsRequest = {
  model: "cards@2",
  role: "champion",
  from: START,
  to: START + 4 * DAY,
  maturedBefore: null,
  slices: {},
  cardsADay: 2,
};
const figures = (precision: CardPrecision | undefined) =>
  precision?.days.map(({ at, cards, caught }) => [at.slice(8, 10), cards, caught]);

describe("card precision@k", () => {
  const sketches: Sketch[] = [
    // First day: a (0.9) and b (0.8) are looked at. a's fraud is in its lower score; c's fraud is not seen.
    [0, "a", 0.9, false],
    [0.1, "a", 0.2, true],
    [0.2, "b", 0.8, false],
    [0.3, "c", 0.7, true],
    [0.4, "d", 0.1, false],
    // Second day: a was caught, so b and c are; b's and c's frauds count.
    [1, "a", 0.99, true],
    [1.1, "b", 0.6, true],
    [1.2, "c", 0.5, true],
    [1.3, "d", 0.4, false],
    // Third day: only d is left, and e without a label, which counts for nothing.
    [2, "a", 0.9, true],
    [2.1, "b", 0.9, true],
    [2.2, "c", 0.9, true],
    [2.3, "d", 0.1, true],
    [2.999, "e", 0.95, null],
  ];

  it("looks at k cards a day, without those that were already caught", async () => {
    const clickhouse = await clickhouseDatabase();
    await store(clickhouse, sketches);
    const { card_precision, rows } = await modelMetrics(clickhouse, request);
    expect(rows).toBe(14);
    expect(card_precision).toEqual({
      k: 2,
      mean: (0.5 + 1 + 0.5) / 3,
      days: [
        { at: "2026-06-01T00:00:00.000Z", cards: 2, caught: 1, precision: 0.5 },
        { at: "2026-06-02T00:00:00.000Z", cards: 2, caught: 2, precision: 1 },
        { at: "2026-06-03T00:00:00.000Z", cards: 1, caught: 1, precision: 0.5 },
      ],
    });
    // Once e counts as genuine, it is looked at.
    expect(
      figures((await modelMetrics(clickhouse, { ...request, maturedBefore: START + 3 * DAY })).card_precision),
    ).toEqual([
      ["01", 2, 1],
      ["02", 2, 2],
      ["03", 2, 1],
    ]);
    expect(figures((await modelMetrics(clickhouse, { ...request, cardsADay: 100 })).card_precision)).toEqual([
      ["01", 4, 2],
      ["02", 2, 1],
      ["03", 1, 1],
    ]);
    // A window that begins and ends within days.
    expect(
      figures(
        (await modelMetrics(clickhouse, { ...request, from: START + 1.05 * DAY, to: START + 2.25 * DAY }))
          .card_precision,
      ),
    ).toEqual([
      ["02", 2, 2],
      ["03", 1, 1],
    ]);
    expect(await modelMetrics(clickhouse, { ...request, cardsADay: undefined })).not.toHaveProperty("card_precision");
    expect((await modelMetrics(clickhouse, { ...request, model: "cards@3" })).card_precision).toEqual({
      k: 2,
      mean: null,
      days: [],
    });
    expect((await modelMetrics(clickhouse, { ...request, role: "shadow" })).card_precision).toEqual({
      k: 2,
      mean: null,
      days: [],
    });
  });

  it("leaves out the cards listed in a table, day by day", async () => {
    const clickhouse = await clickhouseDatabase();
    await store(clickhouse, sketches);
    await clickhouse.command(
      "CREATE TABLE left_out (day Date, card_id String) ENGINE = MergeTree ORDER BY (day, card_id)",
    );
    await clickhouse.command(
      "INSERT INTO left_out VALUES ('2026-06-01', 'a'), ('2026-06-02', 'c'), ('2026-06-02', 'a')",
    );
    const days = await cardPrecision(
      clickhouse,
      { table: "predictions", from: START, to: START + 4 * DAY, without: "left_out" },
      2,
      { placement: await lastPlacement(clickhouse), rows: 14, maturedBefore: null },
    );
    // b and c; b and d; a and d, since b and c were caught.
    expect(days.map(({ cards, caught }) => [cards, caught])).toEqual([
      [2, 1],
      [2, 1],
      [2, 2],
    ]);
  });

  it("equals the value counted in memory, whether written twice or placed", async () => {
    const clickhouse = await clickhouseDatabase();
    const random = new Random(3);
    const many = Array.from({ length: 900 }, (_, i): Sketch => {
      const score = Math.round(random.uniform() * 40) / 40;
      return [
        (i * 12) / 900,
        `c${Math.floor(random.uniform() * 60)}`,
        score,
        random.chance(0.1) ? null : random.chance(score / 3),
      ];
    });
    await store(clickhouse, many);
    const expected = byHand(many, 7);
    const ask = async () =>
      figures((await modelMetrics(clickhouse, { ...request, to: START + 12 * DAY, cardsADay: 7 })).card_precision)?.map(
        ([, , caught]) => caught,
      );
    expect(await ask()).toEqual(expected);
    expect(expected.filter((caught) => caught > 0).length).toBeGreaterThan(8);
    await store(clickhouse, many.slice(0, 500));
    await placeLabels(clickhouse, await lastPlacement(clickhouse), { settleMs: 0 });
    expect(await ask()).toEqual(expected);
  });
});

/** Caught cards by day. */
function byHand(sketches: readonly Sketch[], k: number): number[] {
  const caught = new Set<string>();
  return Array.from({ length: 12 }, (_, day) => {
    const cards = new Map<string, { top: number; fraud: boolean }>();
    for (const [at, card, score, fraud] of sketches) {
      if (Math.floor(at) !== day || fraud === null || caught.has(card)) continue;
      const known = cards.get(card) ?? { top: 0, fraud: false };
      cards.set(card, { top: Math.max(known.top, score), fraud: known.fraud || fraud });
    }
    const order = [...cards].sort(([a, one], [b, other]) => other.top - one.top || (a < b ? -1 : 1));
    const found = order.slice(0, k).filter(([, { fraud }]) => fraud);
    for (const [card] of found) caught.add(card);
    return found.length;
  });
}

describe("GET /api/v1/models/metrics", () => {
  it("refuses an invalid k, and too many days", async () => {
    const test = await startTestApi({ migrated: true });
    await store(test.context.clickhouse, [[0, "a", 0.5, true]]);
    const fields = async (query: string): Promise<unknown> => {
      const answer = await test.inject("analyst", { url: `/api/v1/models/metrics?${query}` });
      return answer.statusCode === 200
        ? 200
        : answer.json<{ errors: { field: string }[] }>().errors.map(({ field }) => field);
    };
    expect(await fields("card_precision=true&k=50&window=P30D")).toBe(200);
    expect(await fields("k=50")).toEqual(["k"]);
    expect(await fields("card_precision=true&k=0")).toEqual(["k"]);
    expect(await fields("card_precision=true&window=P1Y")).toEqual(["card_precision"]);
  });
});
