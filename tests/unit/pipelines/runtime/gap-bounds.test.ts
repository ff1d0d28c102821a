import { describe, expect, test } from "vitest";
import { decodeMark, encodeMark, type Gap, type OffsetMark } from "../../../../infra/kafka/offset-mark.js";
import { LATENESS_MS, RETENTION_MS } from "../../../../models/features/history-terms.js";
import {
  addGapNumbers,
  GapBounds,
  gapNumbers,
  STAMP_DISORDER_MS,
  withoutGaps,
} from "../../../../pipelines/runtime/gap-bounds.js";
import { CLOCK_SKEW_MS } from "../../../../schemas/transaction-reader.js";

const NOW = Date.UTC(2026, 10, 30);
const HOUR = 3_600_000;
const markOf = (...gaps: Gap[]): OffsetMark => ({ topicId: "t", cluster: "c", gaps });
const stamped = (timestamp: number): { timestamp: Float64Array } => ({ timestamp: Float64Array.of(timestamp) });
const batchOf = (times: number[]): { eventTime: Float64Array; length: number } => ({
  eventTime: Float64Array.from(times),
  length: times.length,
});

describe("the bound on when lost transactions can have happened", () => {
  test("is shortly after the first record that is left, for a stream of current data", () => {
    const bounds = new GapBounds(markOf({ from: 10, to: 20, until: null }));
    expect(bounds.until).toBe(Infinity);
    bounds.meet(stamped(NOW - HOUR), NOW - 14 * 24 * HOUR, NOW);
    expect(bounds.until).toBe(NOW - HOUR + CLOCK_SKEW_MS + STAMP_DISORDER_MS);
    // Known once: what is read later doesn't count.
    bounds.meet(stamped(NOW), NOW, NOW);
    expect(bounds.until).toBe(NOW - HOUR + CLOCK_SKEW_MS + STAMP_DISORDER_MS);
  });

  test("is at most the present, and at least the partition's own clock, whatever a producer's clock says", () => {
    const ahead = new GapBounds(markOf({ from: 0, to: 1, until: null }));
    ahead.meet(stamped(NOW + 365 * 24 * HOUR), -Infinity, NOW);
    expect(ahead.until).toBe(NOW + CLOCK_SKEW_MS + STAMP_DISORDER_MS);
    const behind = new GapBounds(markOf({ from: 0, to: 1, until: null }));
    behind.meet(stamped(0), NOW, NOW);
    expect(behind.until).toBe(NOW + LATENESS_MS);
  });

  test("is a day after what a stream of old data continues with, whatever strays are among it", () => {
    const bounds = new GapBounds(markOf({ from: 10, to: 20, until: null }));
    const old = Date.UTC(2026, 0, 1);
    bounds.meet(stamped(NOW), old - HOUR, NOW);
    bounds.committed(batchOf(Array.from({ length: 200 }, (_, i) => (i % 20 === 7 ? NOW : old + i))), old + 200);
    expect(bounds.until).toBe(NOW + CLOCK_SKEW_MS + STAMP_DISORDER_MS);
    // Late ones tell nothing.
    bounds.committed(batchOf(Array.from({ length: 200 }, () => old - 2 * LATENESS_MS)), old + 200);
    expect(bounds.until).toBe(NOW + CLOCK_SKEW_MS + STAMP_DISORDER_MS);
    bounds.committed(batchOf(Array.from({ length: 100 }, (_, i) => old + 200 + i)), old + 300);
    expect(bounds.until).toBeGreaterThan(old + 200 + LATENESS_MS);
    expect(bounds.until).toBeLessThan(old + 300 + LATENESS_MS);
  });

  test("is forgotten once no window reaches back to it", () => {
    const mark = markOf({ from: 0, to: 5, until: NOW }, { from: 10, to: 20, until: NOW + HOUR });
    const bounds = new GapBounds(mark);
    bounds.committed(batchOf([]), NOW + RETENTION_MS);
    expect(mark.gaps).toEqual([{ from: 10, to: 20, until: NOW + HOUR }]);
    bounds.committed(batchOf([]), NOW + RETENTION_MS + HOUR);
    expect([mark.gaps, bounds.until]).toEqual([[], -Infinity]);
  });

  test("is kept with the committed offset and in snapshots, and a bound once found stays", () => {
    const gaps = [
      { from: 0, to: 5, until: NOW },
      { from: 10, to: 20, until: null },
    ];
    expect(decodeMark(encodeMark(markOf(...gaps))).gaps).toEqual(gaps);
    expect(decodeMark(JSON.stringify({ topic_id: "t", gap: gaps[1] })).gaps).toEqual([gaps[1]]);
    expect(decodeMark(JSON.stringify({ topic_id: "t", gaps: [{ from: "0" }, 7, null] })).gaps).toEqual([]);
    const restored = markOf({ from: 10, to: 20, until: NOW - HOUR });
    addGapNumbers(restored, gapNumbers(gaps));
    expect(restored.gaps).toEqual([{ from: 10, to: 20, until: NOW - HOUR }, gaps[0]]);
    for (let i = 0; i < 300; i++) addGapNumbers(restored, [i * 100, i * 100 + 50, NOW]);
    expect(encodeMark(restored).length).toBeLessThan(1_000);
  });

  test("transactions known to be lost are not looked for when a history is rebuilt", () => {
    const gaps = [
      { from: 100, to: 200, until: NOW },
      { from: 300, to: 300, until: NOW },
      { from: 350, to: 400, until: null },
    ];
    expect(withoutGaps(0, 500, gaps)).toEqual([
      { from: 0, to: 100 },
      { from: 200, to: 350 },
      { from: 400, to: 500 },
    ]);
    expect(withoutGaps(100, 200, gaps)).toEqual([]);
    expect(withoutGaps(150, 360, gaps)).toEqual([{ from: 200, to: 350 }]);
    expect(withoutGaps(0, 100, [])).toEqual([{ from: 0, to: 100 }]);
    expect(withoutGaps(5, 5, gaps)).toEqual([]);
  });
});
