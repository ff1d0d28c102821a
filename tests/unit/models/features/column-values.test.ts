import { describe, expect, test } from "vitest";
import type { ColumnSource } from "../../../../models/features/column-sources.js";
import { FeaturePlan, featureHash, slotsOf, type FeatureSpec } from "../../../../models/features/plan.js";

const spec = (source: ColumnSource, missing: number | null = null): FeatureSpec => ({
  name: "x",
  type: source.kind === "text_part" ? "boolean" : "number",
  source,
  default: missing,
});

/** A feature's value for one transaction with these slots, in the order of `slotsOf`. */
function valueOf(
  source: ColumnSource,
  slots: number[],
  { amount = 0, eventTime = 0, missing = null }: { amount?: number; eventTime?: number; missing?: number | null } = {},
): number {
  const specs = [spec(source, missing)];
  const plan = new FeaturePlan(specs, slotsOf([specs]));
  const out = new Float32Array(3).fill(-7);
  plan.compute(
    {
      length: 2,
      eventTime: Float64Array.of(0, eventTime),
      amount: Float64Array.of(0, amount),
      slots: Float64Array.from([...slots.map(() => 0), ...slots]),
      slotCount: slots.length,
      history: new Float64Array(0),
      historyCount: 0,
    },
    out,
  );
  expect(out[2]).toBe(-7);
  return out[1];
}

describe("difference", () => {
  const source: ColumnSource = { kind: "difference", of: ["attributes.limit", "amount"] };

  test("a cent between balances of ten millions is a cent", () => {
    expect(valueOf(source, [10_000_000.01], { amount: 10_000_000 })).toBe(Math.fround(10_000_000.01 - 10_000_000));
    expect(valueOf(source, [10_000_000.01], { amount: 10_000_000 })).toBeCloseTo(0.01, 6);
  });

  test("of the amount twice is 0", () => {
    expect(valueOf({ kind: "difference", of: ["amount", "amount"] }, [], { amount: 5 })).toBe(0);
  });

  test("is missing where an operand is, or where float32 can't hold it", () => {
    expect(valueOf(source, [Number.NaN], { amount: 1 })).toBeNaN();
    expect(valueOf(source, [Number.NaN], { amount: 1, missing: -1 })).toBe(-1);
    expect(valueOf(source, [3e38], { amount: -3e38, missing: -1 })).toBe(-1);
  });
});

describe("ratio", () => {
  const source: ColumnSource = { kind: "ratio", of: ["amount", "attributes.limit"] };
  test.each([
    [200, 50, 0.25],
    [3, 1, Math.fround(1 / 3)],
    [-4, 2, -0.5],
    [5, 0, 0],
  ])("limit %d, amount %d: %d", (limit, amount, expected) => {
    expect(valueOf(source, [limit], { amount })).toBe(expected);
  });

  test("is missing where the second is 0, and where float32 can't hold it", () => {
    expect(valueOf(source, [0], { amount: 5 })).toBeNaN();
    expect(valueOf(source, [-0], { amount: 0 })).toBeNaN();
    expect(valueOf(source, [1e-300], { amount: 1e10, missing: 9 })).toBe(9);
  });
});

describe("sum_error", () => {
  test("PaySim's balance of the sender", () => {
    const source: ColumnSource = {
      kind: "sum_error",
      total: "attributes.oldbalanceOrg",
      plus: ["attributes.newbalanceOrig", "amount"],
    };
    expect(valueOf(source, [160_296.36, 170_136], { amount: 9_839.64 })).toBe(0);
    expect(valueOf(source, [0, 181], { amount: 181 })).toBe(0);
    expect(valueOf(source, [0, 0], { amount: 215_310.3 })).toBe(Math.fround(215_310.3));
  });

  test("what is within the rounding error of its operands is 0, and a cent is not", () => {
    const source: ColumnSource = { kind: "sum_error", total: "attributes.t", plus: ["attributes.a", "attributes.b"] };
    expect(0.1 + 0.2 - 0.3).not.toBe(0);
    expect(valueOf(source, [0.1, 0.2, 0.3])).toBe(0);
    expect(valueOf(source, [12_345_678.1, 0.2, 12_345_678.31])).toBeCloseTo(-0.01, 6);
  });

  test("what is taken away is named by minus", () => {
    const source: ColumnSource = {
      kind: "sum_error",
      total: "attributes.t",
      plus: ["amount"],
      minus: ["attributes.fee", "attributes.tax"],
    };
    expect(valueOf(source, [1, 2, 90], { amount: 100 })).toBe(7);
    expect(valueOf(source, [1, Number.NaN, 90], { amount: 100 })).toBeNaN();
  });
});

describe("distance", () => {
  const source: ColumnSource = {
    kind: "distance",
    from: ["attributes.lat", "attributes.lon"],
    to: ["attributes.lat2", "attributes.lon2"],
  };

  test("a degree of the equator, a quarter of a meridian, and half way round", () => {
    const degree = (Math.PI / 180) * 6371.0088;
    expect(valueOf(source, [0, 0, 0, 1])).toBe(Math.fround(degree));
    expect(valueOf(source, [0, 10, 90, 10])).toBeCloseTo(90 * degree, 2);
    expect(valueOf(source, [0, -90, 0, 90])).toBeCloseTo(180 * degree, 2);
    expect(valueOf(source, [0, 179.5, 0, -179.5])).toBeCloseTo(degree, 4);
  });

  test("Berlin to Paris, and nowhere", () => {
    expect(valueOf(source, [52.52, 13.405, 48.8566, 2.3522])).toBeCloseTo(877.46, 1);
    expect(valueOf(source, [52.52, 13.405, 52.52, 13.405])).toBe(0);
  });

  test.each([[[91, 0, 0, 0]], [[0, 180.1, 0, 0]], [[0, 0, -90.5, 0]], [[0, 0, 0, Number.NaN]]])(
    "%j is missing",
    (positions) => {
      expect(valueOf(source, positions)).toBeNaN();
    },
  );
});

test("age in years and days since a date, at the event time", () => {
  const [born, eventTime] = [Date.UTC(1988, 2, 9), Date.UTC(2024, 2, 9, 12)];
  const days = (eventTime - born) / 86_400_000;
  expect(valueOf({ kind: "days_since", since: "attributes.d" }, [born], { eventTime })).toBe(days);
  expect(valueOf({ kind: "age", since: "attributes.d" }, [born], { eventTime })).toBe(Math.fround(days / 365.25));
  expect(valueOf({ kind: "days_since", since: "attributes.d" }, [eventTime], { eventTime: born })).toBe(-days);
  expect(valueOf({ kind: "age", since: "attributes.d" }, [Number.NaN], { eventTime, missing: 40 })).toBe(40);
});

test("a text's part is 1, 0, or missing", () => {
  const source: ColumnSource = { kind: "text_part", of: "attributes.m", part: "email_domain", equals: "x.org" };
  expect([1, 0, Number.NaN].map((slot) => valueOf(source, [slot], { missing: 0.5 }))).toEqual([1, 0, 0.5]);
});

test("a feature whose operand has no slot is refused", () => {
  const specs = [spec({ kind: "ratio", of: ["amount", "attributes.a"] })];
  expect(() => new FeaturePlan(specs, [])).toThrow(expect.objectContaining({ code: "unknown_feature" }) as Error);
});

test("the hash covers all that a source says", () => {
  const sources: ColumnSource[] = [
    { kind: "difference", of: ["amount", "attributes.a"] },
    { kind: "difference", of: ["attributes.a", "amount"] },
    { kind: "ratio", of: ["amount", "attributes.a"] },
    { kind: "sum_error", total: "amount", plus: ["attributes.a"] },
    { kind: "sum_error", total: "attributes.a", plus: ["amount"] },
    { kind: "sum_error", total: "amount", plus: ["attributes.a", "attributes.b"] },
    { kind: "sum_error", total: "amount", plus: ["attributes.a"], minus: ["attributes.b"] },
    { kind: "distance", from: ["attributes.a", "attributes.b"], to: ["attributes.c", "attributes.d"] },
    { kind: "distance", from: ["attributes.b", "attributes.a"], to: ["attributes.c", "attributes.d"] },
    { kind: "age", since: "attributes.a" },
    { kind: "days_since", since: "attributes.a" },
    { kind: "text_part", of: "card_id", part: "bin", equals: "411111" },
    { kind: "text_part", of: "merchant_id", part: "bin", equals: "411111" },
    { kind: "text_part", of: "attributes.card_id", part: "bin", equals: "411111" },
    { kind: "text_part", of: "card_id", part: "bin", equals: "411112" },
  ];
  expect(new Set(sources.map((source) => featureHash([spec(source)]))).size).toBe(sources.length);
});
