import { expect, test } from "vitest";
import { BUCKET_MS, LABEL_DELAY_MS, LONGEST_WINDOW_MS } from "../../../../models/features/history-terms.js";
import { planOf } from "./card-rows.js";

const HOUR = 3_600_000;
const TIME = Date.UTC(2026, 5, 10, 12, 30);
const looksBackTo = (names: string[], time: number, values: number[] = names.map(() => 1)): boolean =>
  planOf(names).looksBackTo(time, TIME, Float64Array.of(-1, ...values), 1);

test("a transaction depends on what happened since the start of its longest window", () => {
  expect(looksBackTo(["card_count_1h", "card_mean_7d"], TIME - 7 * 24 * HOUR)).toBe(false);
  expect(looksBackTo(["card_count_1h", "card_mean_7d"], TIME - 7 * 24 * HOUR + 1)).toBe(true);
  expect(looksBackTo(["card_count_1h"], TIME - HOUR)).toBe(false);
  expect(looksBackTo([], TIME)).toBe(false);
  expect(looksBackTo(["merchant_count_30d"], TIME)).toBe(false);
});

test("a fraud share depends on what happened since its first bucket began", () => {
  const first = Math.floor((TIME - LABEL_DELAY_MS) / BUCKET_MS) * BUCKET_MS - 25 * HOUR;
  expect(looksBackTo(["card_fraud_share_1d"], first - 1)).toBe(false);
  expect(looksBackTo(["card_fraud_share_1d"], first)).toBe(true);
});

test("the time since the last transaction depends on what happened since that one", () => {
  const name = ["card_seconds_since_last"];
  expect(looksBackTo(name, TIME - 61_000, [60])).toBe(false);
  expect(looksBackTo(name, TIME - 60_000, [60])).toBe(true);
  expect(looksBackTo(name, TIME - 61_000, [Number.NaN])).toBe(true);
  expect(looksBackTo(name, TIME - LONGEST_WINDOW_MS, [Number.NaN])).toBe(false);
});
