import { describe, expect, it } from "vitest";
import { driftOf, worstVerdict } from "../../../../models/evaluation/drift.js";
import { binEdges, binOf, driftReference } from "../../../../models/evaluation/drift-reference.js";

/** Each value so many times. */
function repeated(...groups: [value: number, times: number][]): Float32Array {
  return Float32Array.from(groups.flatMap(([value, times]) => Array.from({ length: times }, () => value)));
}

describe("the edges of bins", () => {
  it("are deciles if values hardly tie", () => {
    const values = Float32Array.from({ length: 1_000 }, (_, i) => (i * 617) % 1_000);
    expect(binEdges(values)).toEqual([99, 199, 299, 399, 499, 599, 699, 799, 899]);
  });

  it("give a frequent value its own bin, and the rest to the others", () => {
    const zeros = repeated([0, 600], ...Array.from({ length: 400 }, (_, i): [number, number] => [i + 1, 1]));
    // 400 values on nine bins: 44, since 44.4 are wanted; then 44 of 44.5, 45 of 44.6, and so on.
    expect(binEdges(zeros)).toEqual([0, 44, 88, 133, 177, 222, 266, 311, 355]);
    const inTheMiddle = repeated(
      ...Array.from({ length: 100 }, (_, i): [number, number] => [i < 20 ? i : i + 30, 1]),
      [33, 500],
    );
    const edges = binEdges(inTheMiddle);
    expect(edges).toContain(33);
    expect(edges[edges.indexOf(33) - 1]).toBe(19);
  });

  it("give each of a few values a bin, booleans too, and separate a constant from its neighbours", () => {
    expect(binEdges(repeated([0, 5], [1, 2]))).toEqual([0]);
    expect(binEdges(repeated([3, 1], [5, 99], [NaN, 7]))).toEqual([3]);
    expect(
      binEdges(repeated(...Array.from({ length: 10 }, (_, i): [number, number] => [i, 1 + 50 * (i % 2)]))),
    ).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(binEdges(repeated([NaN, 3]))).toEqual([]);
    for (const constant of [0, 1, -2.5, Math.fround(1e-40)]) {
      const [below, at, ...more] = binEdges(repeated([constant, 4]));
      expect([at, more]).toEqual([constant, []]);
      expect(below).toBeLessThan(constant);
      expect(Math.fround((below + constant) / 2) === below || Math.fround((below + constant) / 2) === constant).toBe(
        true,
      );
    }
    expect(binEdges(repeated([-0, 2], [0, 2]))).toEqual(binEdges(repeated([0, 1])));
  });

  it("a bin includes its upper edge, not its lower one; missing values have the last bin", () => {
    expect([-1, 2, 2.5, 4, 9, Infinity, NaN].map((value) => binOf([2, 4], value))).toEqual([0, 0, 1, 1, 2, 2, 3]);
    expect([0, NaN].map((value) => binOf([], value))).toEqual([0, 1]);
  });

  it("every row of the reference is counted, also if the edges come from a sample", () => {
    const rows = 450_001;
    const values = Float32Array.from({ length: rows * 2 }, (_, i) => (i % 2 === 0 ? i / 2 : i % 5 === 0 ? NaN : 1));
    const {
      features: [first, second],
      score,
    } = driftReference({ rows, features: 2, values }, new Float32Array(rows).fill(0.25));
    expect(first.edges).toHaveLength(9);
    for (const count of first.counts.slice(0, 10)) expect(Math.abs(count - rows / 10)).toBeLessThan(10);
    expect(first.counts[10]).toBe(0);
    expect(second.counts).toEqual([0, 360_001, 0, 90_000]);
    expect(score.counts).toEqual([0, rows, 0, 0]);
  });
});

describe("the population stability index", () => {
  it("is the sum of share differences times the logarithms of their ratios", () => {
    // (0.3 − 0.5)·ln(0.3/0.5) + (0.5 − 0.3)·ln(0.5/0.3) + 0 = 0.4·ln(5/3) = 0.204330...
    const drift = driftOf([5_000, 3_000, 2_000], [300, 500, 200]);
    expect(drift.psi).toBeCloseTo(0.20433024950639632, 12);
    expect(drift.verdict).toBe("watch");
    // (0.1 − 0.2)·ln(0.5) + (0.3 − 0.2)·ln(1.5) = 0.0693147 + 0.0405465
    expect(driftOf([200, 200, 600], [1_000, 3_000, 6_000]).psi).toBeCloseTo(0.109861228866811, 12);
    expect(driftOf([70, 30], [700, 300])).toMatchObject({ psi: 0 });
  });

  it("counts a bin that is empty on one side as half a row, and leaves out bins that are empty on both", () => {
    // (0.0005 − 0.1)·ln(0.0005/0.1) + (1 − 0.9)·ln(1/0.9)
    const psi = -0.0995 * Math.log(0.005) + 0.1 * Math.log(1 / 0.9);
    expect(driftOf([100, 900, 0], [0, 1_000, 0]).psi).toBeCloseTo(psi, 12);
    expect(psi).toBeCloseTo(0.5377186295, 9);
    expect(driftOf([1_000, 0, 0, 0], [900, 0, 0, 100]).psi).toBeCloseTo(
      (0.9 - 1) * Math.log(0.9) + (0.1 - 0.0005) * Math.log(200),
      12,
    );
  });

  it("is stable below 0.1, watched up to 0.25, drifted above", () => {
    const verdict = (share: number) => driftOf([50_000, 50_000], [100_000 * share, 100_000 * (1 - share)]);
    // PSI of 50 % against s: (2s − 1)/2 · ln(s / (1 − s))
    for (const [share, psi, is] of [
      [0.6, 0.0405465, "stable"],
      [0.655, 0.0993691, "stable"],
      [0.657, 0.1020427, "watch"],
      [0.743, 0.2579737, "drifted"],
      [0.738, 0.2464726, "watch"],
    ] as const) {
      const drift = verdict(share);
      expect(drift.psi).toBeCloseTo(psi, 6);
      expect([share, drift.verdict]).toEqual([share, is]);
    }
    expect(worstVerdict(["stable", null, "watch"])).toBe("watch");
    expect(worstVerdict(["stable", "drifted", "watch"])).toBe("drifted");
    expect(worstVerdict([null])).toBeNull();
  });

  it("has no verdict if chance alone could explain it", () => {
    const reference = Array.from({ length: 10 }, () => 100_000);
    const live = (rows: number): number[] => reference.map(() => rows / 10);
    // Nine degrees of freedom: (9 + 2.326·√18)·(1/n + 1/1,000,000)
    expect(driftOf(reference, live(1_000)).by_chance).toBeCloseTo(18.8683822 * (1 / 1_000 + 1e-6), 7);
    expect(driftOf(reference, live(180))).toMatchObject({ psi: 0, verdict: null });
    expect(driftOf(reference, live(190))).toMatchObject({ psi: 0, verdict: "stable" });
    expect(driftOf([10, 10], [5_000, 5_000]).verdict).toBeNull();
    expect(driftOf([1_000], [20]).verdict).toBeNull();
    expect(driftOf(reference, live(0))).toEqual({ psi: null, verdict: null, by_chance: null });
  });

  it("exceeds its by_chance value about once in a hundred windows without drift", () => {
    let state = 1;
    const random = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
    const reference = Array.from({ length: 10 }, () => 5_000);
    let passed = 0;
    for (let run = 0; run < 1_000; run++) {
      const live = new Array<number>(10).fill(0);
      for (let row = 0; row < 500; row++) live[Math.floor(random() * 10)] += 1;
      const { psi, by_chance } = driftOf(reference, live);
      if ((psi ?? 0) > (by_chance ?? 0)) passed += 1;
    }
    expect(passed).toBeGreaterThan(2);
    expect(passed).toBeLessThan(40);
  });
});
