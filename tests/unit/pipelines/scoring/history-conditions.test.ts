import { expect, onTestFinished, test } from "vitest";
import { Conditions } from "../../../../infra/health/conditions.js";
import { createLogger } from "../../../../infra/logging.js";
import { HistoryConditions } from "../../../../pipelines/scoring/history-conditions.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 5, 1);
const NONE = { stale: 0, beyondReach: 0, lacking: 0 };

function opened(): {
  conditions: Conditions;
  history: HistoryConditions;
  batch: (
    first: number,
    times: { before: number; clock: number },
    counts: { transactions: number; late: number; newestLate: number },
    partition?: number,
  ) => void;
} {
  const conditions = new Conditions(createLogger({ logLevel: "silent" }, "test"));
  const history = new HistoryConditions(conditions);
  onTestFinished(() => history.stop());
  return {
    conditions,
    history,
    batch: (first, { before, clock }, counts, partition = 3) => {
      const offset = Float64Array.of(first);
      history.committed(
        { topic: "t", partition, offset, nextOffset: first + 10 },
        { clockBefore: before, clock, lostUntil: Number.NEGATIVE_INFINITY },
        { ...NONE, ...counts },
      );
    },
  };
}

test(
  "a stream that is late says how far its partition's clock is ahead, from where it leapt, and with " + "which offsets",
  () => {
    const { conditions, history, batch } = opened();
    const inTime = { transactions: 10, late: 0, newestLate: Number.NEGATIVE_INFINITY };
    batch(0, { before: Number.NEGATIVE_INFINITY, clock: START }, inTime);
    batch(10, { before: START, clock: START + 19 * DAY }, inTime);
    batch(20, { before: START + 19 * DAY, clock: START + 19 * DAY + HOUR }, inTime);
    expect(history.problems).toEqual([]);
    batch(
      30,
      { before: START + 19 * DAY + HOUR, clock: START + 19 * DAY + HOUR },
      { transactions: 10, late: 9, newestLate: START + DAY + HOUR },
    );
    const [{ code, message, blocking }] = conditions.list();
    expect([code, blocking, history.problems]).toEqual(["late_transactions", false, [message]]);
    expect(message).toMatch(
      new RegExp(
        "^t\\[3\\]: 9 of the last 40 transactions are late: .* stands at 2026-06-20T01:00:00.000Z, 18.0 days ahead " +
          "of the newest of them\\. It leapt there from 2026-06-01T00:00:00.000Z at 20.*, with transactions at " +
          "offsets 10 to 19\\. .*TOPIC_PREFIX",
      ),
    );
    history.forget("t", 3);
    expect([conditions.list(), history.problems]).toEqual([[], []]);
  },
);

test("a few late ones among many raise no condition, and a clock whose jump was not seen is reported as such", () => {
  const { conditions, history, batch } = opened();
  const times = { before: START + 9 * DAY, clock: START + 9 * DAY };
  batch(0, times, { transactions: 100, late: 9, newestLate: START });
  expect(conditions.list()).toEqual([]);
  batch(100, times, { transactions: 10, late: 10, newestLate: START }, 4);
  expect(conditions.list().map(({ message }) => message)).toEqual([
    expect.stringMatching(
      new RegExp(
        "^t\\[4\\]: 10 of the last 10 .* 9.0 days ahead of the newest of them\\. It stood there when this worker " +
          "took the partition over",
      ),
    ),
  ]);
  for (let partition = 5; partition < 25; partition++)
    batch(0, times, { transactions: 1, late: 1, newestLate: START }, partition);
  expect([conditions.list().length, history.problems.length, history.problems.at(-1)]).toEqual([
    21,
    9,
    "13 further reasons why predictions are stale, in the worker's log",
  ]);
});
