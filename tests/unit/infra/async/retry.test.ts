import { describe, expect, test } from "vitest";
import { pauseBefore, retry } from "../../../../infra/async/retry.js";
import { FraudstreamError } from "../../../../schemas/errors.js";

const passing = (): FraudstreamError => new FraudstreamError("kafka_network", "gone", { retriable: true });

/** Fails with each of these, then succeeds. */
function failing(...errors: Error[]): () => Promise<string> {
  return () => {
    const error = errors.shift();
    return error === undefined ? Promise.resolve("done") : Promise.reject(error);
  };
}

describe("retry", () => {
  test("a transient error is retried, and each failure is reported with its pause", async () => {
    const told: [number, number][] = [];
    const policy = { firstMs: 1, mostMs: 2 };
    const onRetry = (_error: unknown, attempt: number, pause: number): void => void told.push([attempt, pause]);
    expect(await retry(failing(passing(), passing(), passing()), policy, { onRetry })).toBe("done");
    expect(told).toEqual([
      [1, 1],
      [2, 2],
      [3, 2],
    ]);
  });

  test("any other error is thrown at once", async () => {
    const error = new FraudstreamError("conflict", "no");
    await expect(retry(failing(error), { firstMs: 1, mostMs: 1 })).rejects.toBe(error);
    const other = new TypeError("a mistake");
    await expect(retry(failing(other), { firstMs: 1, mostMs: 1 })).rejects.toBe(other);
    expect(await retry(failing(other), { firstMs: 1, mostMs: 1 }, { again: () => true })).toBe("done");
  });

  test("no pause goes beyond the policy's time: the last error is thrown instead", async () => {
    const error = passing();
    await expect(retry(failing(error), { firstMs: 60_000, mostMs: 60_000, forMs: 1_000 })).rejects.toBe(error);
  });

  test("an abort ends a pause, and no attempt follows a failure after it", async () => {
    const stop = new AbortController();
    const waiting = retry(failing(passing()), { firstMs: 60_000, mostMs: 60_000 }, { signal: stop.signal });
    setTimeout(() => stop.abort(), 5);
    await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
    const error = passing();
    await expect(retry(failing(error), { firstMs: 1, mostMs: 1 }, { signal: stop.signal })).rejects.toBe(error);
  });
});

test("pauses double up to the longest, and a random part of them is at least half", () => {
  const policy = { firstMs: 100, mostMs: 1_000 };
  expect([1, 2, 3, 4, 5, 6].map((failures) => pauseBefore(policy, failures))).toEqual([
    100, 200, 400, 800, 1_000, 1_000,
  ]);
  for (let i = 0; i < 100; i++) {
    const pause = pauseBefore({ ...policy, jitter: true }, 3);
    expect(pause).toBeGreaterThanOrEqual(200);
    expect(pause).toBeLessThanOrEqual(400);
  }
});
