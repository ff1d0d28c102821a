import { expect, test } from "vitest";
import { warningsOf } from "../../../../../pipelines/local/replay/before-replay.js";

const DAY = 86_400_000;
const NOW = Date.UTC(2026, 10, 30);
const file = (...days: number[]) => ({
  eventTime: Float64Array.from(days, (day) => NOW + day * DAY),
  length: days.length,
});

test("who replays old payments into a running system is told which of them will be stale", () => {
  const [all] = warningsOf(file(-3000, -2999, -2998), [NOW - DAY, NOW], NOW);
  expect(all).toContain("payments have come to 2026-11-30; all of the file's 3");
  expect(warningsOf(file(-3, -2, -0.5), [NOW], NOW)[0]).toContain("2 of the file's 3");
  expect(warningsOf(file(-0.9, 0), [NOW], NOW)).toEqual([]);
  expect(warningsOf(file(-3000), [], NOW)).toEqual([]);
  expect(warningsOf(file(-2000), [NOW - 2900 * DAY], NOW)).toEqual([]);
});
