import { describe, expect, test } from "vitest";
import {
  FeaturePlan,
  featureHash,
  slotsOf,
  type FeatureSpec,
  type TransactionColumns,
} from "../../../../models/features/plan.js";

const spec = (name: string, source: FeatureSpec["source"], more: Partial<FeatureSpec> = {}): FeatureSpec => ({
  name,
  type: "number",
  source,
  default: null,
  ...more,
});
const CALENDAR = [
  spec("hour", { kind: "hour" }),
  spec("weekend", { kind: "weekend" }, { type: "boolean" }),
  spec("night", { kind: "night" }, { type: "boolean" }),
];

function columns(rows: { eventTime?: number; amount?: number; slots?: number[] }[]): TransactionColumns {
  const slotCount = rows[0]?.slots?.length ?? 0;
  return {
    length: rows.length,
    slotCount,
    history: new Float64Array(0),
    historyCount: 0,
    eventTime: Float64Array.from(rows, ({ eventTime = 0 }) => eventTime),
    amount: Float64Array.from(rows, ({ amount = 0 }) => amount),
    slots: Float64Array.from(rows.flatMap(({ slots = [] }) => slots)),
  };
}

function vectors(plan: FeaturePlan, of: TransactionColumns): number[][] {
  const out = new Float32Array(of.length * plan.size + 1).fill(-7);
  plan.compute(of, out);
  expect(out.at(-1)).toBe(-7);
  return Array.from({ length: of.length }, (_, row) => [...out.subarray(row * plan.size, (row + 1) * plan.size)]);
}

describe("hour, weekend and night, in UTC", () => {
  test.each<[string, number[]]>([
    ["2026-06-05T23:59:59.999Z", [23, 0, 0]],
    ["2026-06-06T00:00:00.000Z", [0, 1, 1]],
    ["2026-06-06T06:59:59.999Z", [6, 1, 1]],
    ["2026-06-06T07:00:00.000Z", [7, 1, 0]],
    ["2026-06-07T23:59:59.999Z", [23, 1, 0]],
    ["2026-06-08T00:00:00.000Z", [0, 0, 1]],
    ["2000-01-01T00:00:00.000Z", [0, 1, 1]],
    ["2024-02-29T12:30:00.000Z", [12, 0, 0]],
    ["1970-01-01T00:00:00.000Z", [0, 0, 1]],
    ["1969-12-31T23:59:59.999Z", [23, 0, 0]],
    ["1969-12-28T00:00:00.000Z", [0, 1, 1]],
    ["+030000-01-01T12:00:00.000Z", [12, 1, 0]],
  ])("%s", (time, expected) => {
    const date = new Date(time);
    const weekend = [0, 6].includes(date.getUTCDay()) ? 1 : 0;
    expect(expected).toEqual([date.getUTCHours(), weekend, date.getUTCHours() <= 6 ? 1 : 0]);
    expect(vectors(new FeaturePlan(CALENDAR, []), columns([{ eventTime: date.getTime() }]))).toEqual([expected]);
  });

  test("agree with Date for every hour of ten years", () => {
    const rows = Array.from({ length: 10 * 366 * 24 }, (_, i) => ({
      eventTime: Date.UTC(2020, 0, 1) + i * 3_600_000 + (i % 3_600_000),
    }));
    const wrong = vectors(new FeaturePlan(CALENDAR, []), columns(rows)).filter(([hour, weekend, night], i) => {
      const date = new Date(rows[i].eventTime);
      return (
        hour !== date.getUTCHours() ||
        weekend !== Number([0, 6].includes(date.getUTCDay())) ||
        night !== Number(date.getUTCHours() <= 6)
      );
    });
    expect(wrong).toEqual([]);
  });
});

describe("attributes", () => {
  const specs = [
    spec("x", { kind: "attribute", attribute: "x" }, { default: 4 }),
    spec("amount", { kind: "amount" }),
    spec("x or nothing", { kind: "attribute", attribute: "x" }),
    spec("known", { kind: "attribute", attribute: "known" }, { type: "boolean", default: 0 }),
    spec("kind=a", { kind: "attribute", attribute: "kind", equals: "a" }, { type: "boolean", default: 0 }),
    spec("kind=b", { kind: "attribute", attribute: "kind", equals: "b" }, { type: "boolean", default: 1 }),
  ];

  test("are read from the slots that hold them; what is absent takes each feature's default", () => {
    const slots = slotsOf([specs]);
    expect(slots).toEqual([
      { attribute: "x", type: "number" },
      { attribute: "known", type: "boolean" },
      { attribute: "kind", type: "boolean", equals: "a" },
      { attribute: "kind", type: "boolean", equals: "b" },
    ]);
    const rows = columns([
      { amount: 12.5, slots: [1.5, 1, 0, 1] },
      { amount: -3, slots: [Number.NaN, Number.NaN, Number.NaN, Number.NaN] },
      { amount: 0, slots: [0, 0, 0, 0] },
    ]);
    expect(vectors(new FeaturePlan(specs, slots), rows)).toEqual([
      [1.5, 12.5, 1.5, 1, 0, 1],
      [4, -3, Number.NaN, 0, 0, 1],
      [0, 0, 0, 0, 0, 0],
    ]);
  });

  test("of several models share their slots, in any order of these", () => {
    const other = [
      spec("kind=b", { kind: "attribute", attribute: "kind", equals: "b" }, { type: "boolean" }),
      spec("y", { kind: "attribute", attribute: "y" }),
    ];
    const slots = slotsOf([other, specs]);
    expect(slots).toHaveLength(5);
    const plan = new FeaturePlan(specs, slots.toReversed());
    const values = { "x/": 1, "y/": 2, "known/": 1, "kind/a": 0, "kind/b": 1 };
    const row = slots
      .toReversed()
      .map(({ attribute, equals = "" }) => values[`${attribute}/${equals}` as keyof typeof values]);
    expect(vectors(plan, columns([{ slots: row }]))).toEqual([[1, 0, 1, 1, 0, 1]]);
  });

  test("of one name as a number and as a boolean are two slots", () => {
    expect(
      slotsOf([
        [
          spec("a", { kind: "attribute", attribute: "a" }),
          spec("b", { kind: "attribute", attribute: "a" }, { type: "boolean" }),
        ],
      ]),
    ).toHaveLength(2);
  });

  test("without a slot refuse the plan", () => {
    expect(() => new FeaturePlan(specs, [])).toThrow(expect.objectContaining({ code: "unknown_feature" }) as Error);
    expect(
      () => new FeaturePlan([spec("x", { kind: "attribute", attribute: "x" })], [{ attribute: "x", type: "boolean" }]),
    ).toThrow("x");
  });
});

test("no rows, no features", () => {
  expect(vectors(new FeaturePlan(CALENDAR, []), columns([]))).toEqual([]);
  expect(vectors(new FeaturePlan([], []), columns([{ amount: 1 }]))).toEqual([[]]);
});

test("amounts beyond a float32 become infinite, not something else", () => {
  expect(
    vectors(new FeaturePlan([spec("amount", { kind: "amount" })], []), columns([{ amount: 1e300 }, { amount: 0.1 }])),
  ).toEqual([[Number.POSITIVE_INFINITY], [Math.fround(0.1)]]);
});

describe("featureHash", () => {
  const base = [spec("a", { kind: "attribute", attribute: "a" }), spec("amount", { kind: "amount" })];

  test("is the same for the same features, written in any way", () => {
    const rewritten: FeatureSpec[] = [
      { default: null, source: { attribute: "a", kind: "attribute" }, type: "number", name: "a" },
      { source: { kind: "amount" }, name: "amount", default: null, type: "number" },
    ];
    expect(featureHash(rewritten)).toBe(featureHash(base));
  });

  test("keeps what models of earlier versions have in their manifests", () => {
    const specs: FeatureSpec[] = [
      spec("amount", { kind: "amount" }),
      spec("hour", { kind: "hour" }),
      spec("x", { kind: "attribute", attribute: "x" }),
      spec("c=a", { kind: "attribute", attribute: "c", equals: "a" }, { type: "boolean", default: 0 }),
      spec("card_mean_7d", { kind: "card", aggregate: "mean", window: "P7D" }),
      spec("m", { kind: "merchant", aggregate: "count", window: "P1D", delay: "P7D", bucket: "PT1H" }),
    ];
    expect(featureHash(specs)).toBe("496e08ccd9e87ebb3312d29349205a8de1cda50e256ebfa52e11c04b9a72f2b1");
  });

  test("is another one when anything differs", () => {
    const others: FeatureSpec[][] = [
      [],
      base.toReversed(),
      base.slice(1),
      [spec("b", { kind: "attribute", attribute: "a" }), base[1]],
      [spec("a", { kind: "attribute", attribute: "b" }), base[1]],
      [spec("a", { kind: "attribute", attribute: "a" }, { type: "boolean" }), base[1]],
      [spec("a", { kind: "attribute", attribute: "a" }, { default: 0 }), base[1]],
      [spec("a", { kind: "attribute", attribute: "a", equals: "" }), base[1]],
      [base[0], spec("amount", { kind: "hour" })],
    ];
    expect(new Set([base, ...others].map((specs) => featureHash(specs))).size).toBe(others.length + 1);
  });
});
