import { describe, expect, test } from "vitest";
import { ACCEPTED, BEYOND_REACH, CardHistory, TOO_LATE } from "../../../../models/features/card-history.js";
import type { Section } from "../../../../infra/snapshots.js";
import { CARD_AGGREGATE_NAMES } from "../../../../models/features/card-aggregates.js";
import { LATENESS_MS, MAX_CARD_EVENTS, RETENTION_MS } from "../../../../models/features/history-terms.js";
import { seededRandom } from "../../../../models/training/random.js";
import { Folder, NaiveHistory, type CardEvent } from "./card-rows.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 5, 1);

describe("a card's windows, by hand", () => {
  test("an event exactly w old is out, one a millisecond younger is in; the current one counts", () => {
    const folder = new Folder(["card_count_30m", "card_sum_30m", "card_count_1h"]);
    expect(folder.values({ id: "a", time: START, amount: 5 })).toEqual([1, 5, 1]);
    expect(folder.values({ id: "b", time: START + 1, amount: 7 })).toEqual([2, 12, 2]);
    expect(folder.values({ id: "c", time: START + 30 * MINUTE, amount: 100 })).toEqual([2, 107, 3]);
    expect(folder.values({ id: "d", time: START + HOUR, amount: 1000 })).toEqual([1, 1000, 3]);
  });

  test("events of the same millisecond count for those that come after them in the log", () => {
    const folder = new Folder(["card_count_1d", "card_seconds_since_last"]);
    expect(folder.values({ id: "a", time: START })).toEqual([1, Number.NaN]);
    expect(folder.values({ id: "b", time: START })).toEqual([2, 0]);
    expect(folder.values({ id: "c", time: START })).toEqual([3, 0]);
  });

  test("each aggregate", () => {
    const folder = new Folder(CARD_AGGREGATE_NAMES.map((name) => `card_${name}_7d`));
    folder.values({ id: "a", time: START, amount: 2, merchant: "x" });
    folder.values({ id: "b", time: START + DAY, amount: 4, merchant: "y" });
    // Mean 4, squared distances 4 + 0 + 4 over 3.
    expect(folder.values({ id: "c", time: START + 2 * DAY, amount: 6, merchant: "x" })).toEqual([
      3,
      12,
      4,
      6,
      Math.sqrt(8 / 3),
      2,
      1.5,
    ]);
    expect(folder.values({ id: "d", time: START + 30 * DAY, amount: 9 })).toEqual([1, 9, 9, 9, 0, 1, 1]);
  });

  test("refunds are negative; without a mean above zero there is nothing to be over", () => {
    const folder = new Folder(["card_sum_1d", "card_max_1d", "card_amount_over_mean_1d"]);
    expect(folder.values({ id: "a", time: START, amount: -5 })).toEqual([-5, -5, Number.NaN]);
    expect(folder.values({ id: "b", time: START, amount: 5 })).toEqual([0, 5, Number.NaN]);
    expect(folder.values({ id: "c", time: START, amount: 0 })).toEqual([0, 5, Number.NaN]);
    expect(folder.values({ id: "d", time: START, amount: 4 })).toEqual([4, 5, 4]);
  });

  test("the time since the last one is told for 30 days", () => {
    const folder = new Folder(["card_seconds_since_last"]);
    folder.values({ id: "a", time: START });
    expect(folder.values({ id: "b", time: START + 30 * DAY })).toEqual([30 * 86_400]);
    expect(folder.values({ id: "c", time: START + 60 * DAY + 1 })).toEqual([Number.NaN]);
  });

  test("a late event sees only what is older, and counts for what is newer from then on", () => {
    const folder = new Folder(["card_count_1d", "card_mean_1d", "card_seconds_since_last"]);
    folder.values({ id: "a", time: START, amount: 10 });
    folder.values({ id: "b", time: START + 2 * HOUR, amount: 30 });
    expect(folder.values({ id: "late", time: START + HOUR, amount: 20 })).toEqual([2, 15, 3600]);
    expect(folder.values({ id: "c", time: START + 3 * HOUR, amount: 0 })).toEqual([4, 15, 3600]);
  });

  test("cards are apart, whatever bytes their ids have", () => {
    const folder = new Folder(["card_count_1d"]);
    for (const card of ["c", "cc", "", "ç", "c".repeat(3_000_000)]) {
      expect(folder.values({ id: "a", card, time: START })).toEqual([1]);
      expect(folder.values({ id: "b", card, time: START })).toEqual([2]);
    }
    expect(folder.history.cards).toBe(5);
  });

  test("no windows asked for: repeats are found all the same", () => {
    const folder = new Folder([]);
    expect(folder.fold({ id: "a", time: START })).toEqual({ answer: ACCEPTED, values: [] });
    expect(folder.fold({ id: "a", time: START }).answer).toBe(0);
  });
});

describe("late and repeated", () => {
  test("more than 24 hours behind the clock is too late, and counts like any other", () => {
    const folder = new Folder(["card_count_7d"]);
    folder.values({ id: "a", time: START });
    expect(folder.fold({ id: "b", time: START - LATENESS_MS }).answer).toBe(ACCEPTED);
    expect(folder.fold({ id: "c", card: "other", time: START - LATENESS_MS - 1 })).toEqual({
      answer: TOO_LATE,
      values: [1],
    });
    expect(folder.values({ id: "d", card: "other", time: START })).toEqual([2]);
  });

  test("the same id of a card within 24 hours either way is a repeat and changes nothing; beyond, it is new", () => {
    const folder = new Folder(["card_count_7d"]);
    folder.values({ id: "x", time: START });
    for (const time of [START + DAY, START, START - DAY]) expect(folder.fold({ id: "x", time }).answer).toBe(0);
    expect(folder.history.clock).toBe(START);
    expect(folder.values({ id: "x", card: "other", time: START })).toEqual([1]);
    expect(folder.values({ id: "x", time: START + DAY + 1 })).toEqual([2]);
    // Both are within reach now: the newer one is met first.
    expect(folder.fold({ id: "x", time: START + HOUR }).answer).toBe(5);
    expect(folder.fold({ id: "x", time: START - DAY - 1 })).toEqual({ answer: TOO_LATE, values: [1] });
  });

  test("what is out of retention counts for itself only", () => {
    const folder = new Folder(["card_count_30d"]);
    folder.values({ id: "a", time: START });
    expect(folder.fold({ id: "b", time: START - RETENTION_MS })).toEqual({ answer: TOO_LATE, values: [1] });
    expect(folder.history.events).toBe(1);
    expect(folder.fold({ id: "c", time: START - RETENTION_MS + 1 })).toEqual({ answer: TOO_LATE, values: [1] });
    expect(folder.fold({ id: "d", time: START - RETENTION_MS + 2 })).toEqual({ answer: TOO_LATE, values: [2] });
  });
});

describe("a card with more events than are walked through", () => {
  const WINDOWS = ["card_count_1h", "card_count_30d", "card_fraud_share_30d", "card_seconds_since_last"];
  /** One event a minute: 4,096 are 68 hours. */
  function busyCard(events: number): Folder {
    const folder = new Folder(WINDOWS);
    for (let i = 0; i < events; i++) {
      folder.fold({ id: `t${i}`, time: START + i * MINUTE });
      if (i % 500 === 499) folder.history.commit();
    }
    return folder;
  }

  test("a window that holds at most 4,096 events is right, one that holds more has no value and says so", () => {
    const folder = busyCard(MAX_CARD_EVENTS - 1);
    expect(folder.fold({ id: "last", time: START + (MAX_CARD_EVENTS - 1) * MINUTE })).toEqual({
      answer: ACCEPTED,
      values: [60, MAX_CARD_EVENTS, Number.NaN, 60],
    });
    expect(folder.fold({ id: "over", time: START + MAX_CARD_EVENTS * MINUTE })).toEqual({
      answer: BEYOND_REACH,
      values: [60, Number.NaN, Number.NaN, 60],
    });
    folder.history.commit();
    expect(folder.fold({ id: "over 2", time: START + (MAX_CARD_EVENTS + 1) * MINUTE })).toEqual({
      answer: BEYOND_REACH,
      values: [60, Number.NaN, Number.NaN, 60],
    });
    // Older than all that are walked through: nothing is known of it.
    expect(folder.fold({ id: "old", time: START - 1 }).values).toEqual([
      Number.NaN,
      Number.NaN,
      Number.NaN,
      Number.NaN,
    ]);
    // Two months later the card is like any other.
    expect(folder.fold({ id: "new", time: START + 60 * DAY }).values.slice(0, 2)).toEqual([1, 1]);
  });

  test.each([1, 7, 4_000])(
    "a repeat is found within 24 hours, however many came since; what an abort took back is none (batches of %i)",
    (batch) => {
      const folder = new Folder([]);
      const at = (i: number): number => START + i * 1_000;
      for (let i = 0; i < 20_000; i++) {
        folder.fold({ id: `t${i}`, time: at(i) });
        if (i % batch === batch - 1) folder.history.commit();
      }
      folder.history.commit();
      for (const i of [0, 1, 5_000, 15_000, 19_999])
        expect(folder.fold({ id: `t${i}`, time: at(20_000) }).answer).toBe(i);
      folder.fold({ id: "taken back", time: at(20_001) });
      // Late for so busy a card: found again all the same.
      folder.fold({ id: "taken back, too", time: at(3) + 1 });
      expect(folder.fold({ id: "taken back, too", time: at(20_001) }).answer).toBeGreaterThanOrEqual(0);
      folder.history.undo();
      for (const id of ["taken back", "taken back, too"])
        expect(folder.fold({ id, time: at(20_002) }).answer).toBeLessThan(0);
      folder.history.commit();
      folder.history = CardHistory.restore(copied(folder.history.sections()));
      expect(folder.fold({ id: "t100", time: at(20_003) }).answer).toBe(100);
      expect(folder.fold({ id: "t100", time: at(100) + DAY + 1 }).answer).toBeLessThan(0);
    },
  );
});

describe("over random streams", () => {
  const WINDOWS = { "30m": 30 * MINUTE, "1d": DAY, "30d": 30 * DAY };
  const NAMES = [
    ...Object.keys(WINDOWS).flatMap((window) => CARD_AGGREGATE_NAMES.map((name) => `card_${name}_${window}`)),
    "card_seconds_since_last",
  ];

  function* stream(seed: number, length: number): Generator<CardEvent> {
    const random = seededRandom(seed);
    let time = START;
    for (let i = 0; i < length; i++) {
      time += random() < 0.01 ? random() * 10 * DAY : random() * 2 * HOUR;
      const late = random() < 0.1 ? random() * (random() < 0.1 ? 50 * DAY : 2 * DAY) : 0;
      const id = random() < 0.1 ? `t${Math.max(0, i - Math.floor(random() * 10))}` : `t${i}`;
      yield {
        id,
        card: `card ${Math.floor(random() ** 2 * 20)}`,
        merchant: `m${Math.floor(random() * 7)}`,
        time: Math.floor(time - late),
        amount: Math.round(random() * 1000 - 50) / 100,
      };
    }
  }

  test.each([1, 2, 3])(
    "features are those of a naive computation that forgets nothing: batches, aborts, snapshots, sweeps (seed %i)",
    (seed) => {
      const random = seededRandom(seed + 100);
      const folder = new Folder(NAMES);
      let naive = new NaiveHistory();
      const events = [...stream(seed, 4000)];
      let wrong = 0;
      let aborts = 0;
      for (let at = 0; at < events.length;) {
        const batch = events.slice(at, at + 1 + Math.floor(random() * 40));
        const before = naive.copy();
        const firstOffset = folder.offset;
        for (const event of batch) {
          const [found, expected] = [folder.fold(event), naive.fold(event, Object.values(WINDOWS))];
          if (found.answer !== expected.answer) wrong += 1;
          else if (found.answer < 0)
            expected.values.forEach(
              (value, i) =>
                (Math.abs(found.values[i] - value) > 1e-9 * Math.max(1, Math.abs(value)) ||
                  Number.isNaN(found.values[i]) !== Number.isNaN(value)) &&
                (wrong += 1),
            );
        }
        if (random() < 0.2) {
          // Aborted: the batch comes again.
          aborts += 1;
          folder.history.undo();
          folder.offset = firstOffset;
          naive = before;
          continue;
        }
        folder.history.commit();
        at += batch.length;
        if (random() < 0.05) folder.history = CardHistory.restore(copied(folder.history.sections()));
      }
      expect(wrong).toBe(0);
      expect(aborts).toBeGreaterThan(10);
      const kept = [...naive.cards.values()].flat().filter(({ time }) => time > naive.clock - RETENTION_MS).length;
      expect(folder.history.clock).toBe(naive.clock);
      expect(folder.history.events).toBeGreaterThanOrEqual(kept);
      expect(folder.history.events).toBeLessThan(kept + 250);
    },
  );

  test("idle cards are swept, and what they took is used again", () => {
    const folder = new Folder(["card_count_1d"]);
    for (let i = 0; i < 2000; i++) folder.values({ id: "t", card: `early ${i}`, merchant: `early ${i}`, time: START });
    folder.history.commit();
    const { bytes } = folder.history;
    for (let i = 0; i < 3000; i++) {
      folder.values({ id: "t", card: `card ${i}`, time: START + RETENTION_MS + i });
      if (i % 100 === 0) folder.history.commit();
    }
    folder.history.commit();
    expect(folder.history).toMatchObject({ cards: 3000, events: 3000 });
    expect(folder.history.bytes).toBeLessThan(1.7 * bytes);
  });

  test("an undone batch leaves nothing", () => {
    const folder = new Folder(["card_count_30d"]);
    folder.values({ id: "a", time: START });
    folder.history.commit();
    folder.values({ id: "b", card: "new", merchant: "new", time: START + DAY });
    folder.values({ id: "c", time: START + DAY });
    folder.history.undo();
    expect(folder.history).toMatchObject({ cards: 1, events: 1, clock: START });
    expect(folder.values({ id: "c", time: START + 1 })).toEqual([2]);
    expect(folder.values({ id: "b", card: "new", time: START + 1 })).toEqual([1]);
  });
});

/** As they come back from a file: bytes at any address. */
function copied(sections: readonly Section[]): Section[] {
  return sections.map(({ name, data }) => {
    const bytes = new Uint8Array(data.byteLength + 3);
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 3);
    return { name, data: bytes.subarray(3) };
  });
}
