import { describe, expect, test } from "vitest";
import { BucketBuilder } from "../../../../models/features/bucket-builder.js";
import { ACCEPTED } from "../../../../models/features/card-history.js";
import { BLOCK_ROWS, PartitionClock } from "../../../../models/features/partition-clock.js";
import { seededRandom } from "../../../../models/training/random.js";
import { rowsOf } from "./bucket-rows.js";
import { Folder } from "./card-rows.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 5, 1);

/** A stream of one payment a minute, with strangers at the present, some weeks later. */
function* streamWithStrangers(
  rows: number,
  strangersAfter: readonly number[],
  ahead: number,
): Generator<{ time: number; stranger: boolean }> {
  for (let i = 0; i < rows; i++) {
    yield { time: START + i * MINUTE, stranger: false };
    for (const after of strangersAfter) if (after === i) yield { time: START + i * MINUTE + ahead, stranger: true };
  }
}

describe("in a busy partition", () => {
  test.each([
    ["sixty, one after the other", Array.from({ length: 60 }, (_, i) => 1_000 + i * 20)],
    ["sixty at once", Array.from({ length: 60 }, () => 1_500)],
    ["two in a row, again and again", Array.from({ length: 60 }, (_, i) => 1_000 + Math.floor(i / 2) * 30)],
  ])("strangers three weeks ahead don't move the clock: %s", (_, strangers) => {
    for (const ahead of [25 * HOUR, 19 * DAY, 365 * DAY]) {
      const folder = new Folder([]);
      let late = 0;
      let offset = 0;
      for (const { time, stranger } of streamWithStrangers(4_000, strangers, ahead)) {
        const { answer } = folder.fold({ id: `t${offset++}`, card: `c${offset % 50}`, time });
        if (!stranger && answer !== ACCEPTED) late += 1;
      }
      expect(late).toBe(0);
      expect(folder.history.clock).toBeLessThan(START + 4_000 * MINUTE + DAY);
    }
  });

  test("strangers don't seal merchants' buckets either", () => {
    const builder = new BucketBuilder();
    let offset = 0;
    for (const { time } of streamWithStrangers(
      20 * 1_440,
      Array.from({ length: 60 }, (_, i) => 10_000 + i),
      30 * DAY,
    )) {
      builder.sealAndAdd(rowsOf({ id: `t${offset++}`, card: "c", merchant: "m", time }), 0, () => {});
    }
    expect(builder.counts.lateTransactions).toBe(0);
    expect(builder.sealed).toBe(builder.sealable(START + (20 * 1_440 - 1) * MINUTE));
  });

  test("a gap of days is believed once half a block has come from behind it", () => {
    const clock = new PartitionClock();
    for (let i = 0; i < 4 * BLOCK_ROWS; i++) clock.advance(START + i * MINUTE);
    const back = START + 30 * DAY;
    for (let i = 0; i < BLOCK_ROWS; i++) clock.advance(back + i * MINUTE);
    expect(clock.time).toBeGreaterThanOrEqual(back);
    for (let i = 0; i < 4; i++) clock.advance(back + (BLOCK_ROWS + i) * MINUTE);
    expect(clock.time).toBe(back + (BLOCK_ROWS + 3) * MINUTE);
  });

  test("a replay of old payments doesn't hold the clock up, and strangers a day ahead don't push it on", () => {
    const clock = new PartitionClock();
    for (let i = 0; i < 20_000; i++) {
      clock.advance(START + i * MINUTE);
      for (let old = 0; old < 5; old++) clock.advance(START - 900 * DAY + i * MINUTE);
      if (i > 2_000 && i % 100 === 0) clock.advance(START + i * MINUTE + (i / 100) * 20 * HOUR);
    }
    expect(clock.time).toBeGreaterThanOrEqual(START + 19_999 * MINUTE);
    expect(clock.time).toBeLessThanOrEqual(START + 20_000 * MINUTE + DAY);
  });
});

test("in a quiet partition a leap is believed once two in a row have made it", () => {
  const clock = new PartitionClock();
  clock.advance(START);
  clock.advance(START + 3 * DAY);
  expect(clock.time).toBe(START);
  clock.advance(START + HOUR);
  clock.advance(START + 3 * DAY);
  expect(clock.time).toBe(START + HOUR);
  clock.advance(START + 4 * DAY);
  expect(clock.time).toBe(START + 3 * DAY);
});

test("the clock is the same after an abort, a copy and a snapshot", () => {
  const random = seededRandom(4);
  const times = Array.from({ length: 3_000 }, (_, i) =>
    Math.floor(START + i * 3 * MINUTE + (random() < 0.05 ? random() * 40 * DAY : 0) - random() * HOUR),
  );
  const whole = new PartitionClock();
  let pieces = new PartitionClock();
  const committed = new PartitionClock();
  for (let at = 0; at < times.length;) {
    const batch = times.slice(at, at + 1 + Math.floor(random() * 700));
    for (const time of batch) pieces.advance(time);
    if (random() < 0.3) {
      pieces.copyFrom(committed);
      continue;
    }
    committed.copyFrom(pieces);
    for (const time of batch) whole.advance(time);
    if (random() < 0.3) {
      const { data } = pieces.section("clock");
      pieces = PartitionClock.restore(new Map([["clock", data]]), "clock", pieces.time);
    }
    at += batch.length;
    expect(pieces.time).toBe(whole.time);
  }
});
