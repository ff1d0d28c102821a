import { describe, expect, test } from "vitest";
import { HistoryPlan } from "../../../../models/features/history-plan.js";
import { BUCKET_MS, LABEL_DELAY_MS } from "../../../../models/features/history-terms.js";
import { MerchantWindows } from "../../../../models/features/merchant-windows.js";
import { RandomSource } from "../../../support/random-source.js";
import { rowsOf } from "./bucket-rows.js";

const B = 424_000;
const source = (aggregate: "count" | "fraud_share", window: string) =>
  ({ kind: "merchant", aggregate, window, delay: "P7D", bucket: "PT1H" }) as const;
const plan = new HistoryPlan([
  source("fraud_share", "PT2H"),
  source("count", "PT2H"),
  source("count", "PT1H"),
  source("count", "P30D"),
  source("fraud_share", "P30D"),
]);
/** A time whose E is this bucket. */
const timeOf = (needed: number): number => (needed + 1) * BUCKET_MS + LABEL_DELAY_MS;

function add(
  windows: MerchantWindows,
  kind: "merchant" | "card",
  id: string,
  partition: number,
  bucket: number,
  count: number,
  frauds: number,
): void {
  const bytes = Buffer.from(`..${id}.`);
  windows.add(kind, bytes, 2, bytes.length - 3, partition, bucket, count, frauds);
}
function lookup(windows: MerchantWindows, merchant: string, time: number): number[] {
  const out = new Float64Array(plan.size + 2).fill(-1);
  windows.lookup(rowsOf({ id: "t", card: "c", merchant, time }), 0, plan, out, 1);
  expect([out[0], out[plan.size + 1]]).toEqual([-1, -1]);
  return [...out.subarray(1, plan.size + 1)];
}
const cardFrauds = (windows: MerchantWindows, card: string, from: number, to: number): number =>
  windows.cardFrauds(Buffer.from(`.${card}`), 1, Buffer.byteLength(card), from, to);

describe("windows of merchants", () => {
  test("the bucket that a transaction needs lies one further back than the delay", () => {
    expect(MerchantWindows.needed(timeOf(B))).toBe(B);
    expect(MerchantWindows.needed(timeOf(B) + BUCKET_MS - 1)).toBe(B);
    expect(MerchantWindows.needed(timeOf(B) - 1)).toBe(B - 1);
    expect(MerchantWindows.needed((B + 5) * BUCKET_MS)).toBe(B + 5 - 7 * 24 - 1);
  });

  test("hold whole buckets E − w ≤ b < E, added over partitions, once all of them are complete", () => {
    const windows = new MerchantWindows(2);
    expect(windows.complete).toBe(-Infinity);
    for (let bucket = B - 4; bucket < B + 2; bucket++)
      add(windows, "merchant", "m1", 0, bucket, 10 ** (bucket - B + 4), 1);
    windows.watermark(0, B + 2);
    expect(lookup(windows, "m1", timeOf(B))).toEqual([0, 0, 0, 0, 0]);
    add(windows, "merchant", "m1", 1, B - 1, 5, 2);
    windows.watermark(1, B);
    expect(windows.complete).toBe(B);
    expect(lookup(windows, "m1", timeOf(B))).toEqual([4 / 1105, 1105, 1005, 1116, 6 / 1116]);
    expect(lookup(windows, "m1", timeOf(B) - 1)).toEqual([2 / 110, 110, 100, 111, 3 / 111]);
    // What isn't complete doesn't count yet, though partition 0 has it.
    expect(lookup(windows, "m1", timeOf(B + 1))).toEqual([3 / 1005, 1005, 0, 1116, 6 / 1116]);
    windows.watermark(1, B + 1);
    expect(lookup(windows, "m1", timeOf(B + 1))).toEqual([4 / 11_005, 11_005, 10_000, 11_116, 7 / 11_116]);
    expect(lookup(windows, "nobody", timeOf(B))).toEqual([0, 0, 0, 0, 0]);
  });

  test("thirty days end exactly", () => {
    const windows = new MerchantWindows(1);
    add(windows, "merchant", "m1", 0, B - 721, 1, 0);
    add(windows, "merchant", "m1", 0, B - 720, 1, 1);
    windows.watermark(0, B + 5);
    expect(lookup(windows, "m1", timeOf(B))).toEqual([0, 0, 0, 1, 1]);
    expect(lookup(windows, "m1", timeOf(B - 1))).toEqual([0, 0, 0, 2, 0.5]);
    expect(lookup(windows, "m1", timeOf(B + 1))).toEqual([0, 0, 0, 0, 0]);
  });

  test("the first published bucket stands, and none comes after its watermark", () => {
    const windows = new MerchantWindows(1);
    add(windows, "merchant", "m1", 0, B, 3, 1);
    add(windows, "merchant", "m1", 0, B, 7, 0);
    windows.watermark(0, B + 1);
    add(windows, "merchant", "m1", 0, B, 9, 0);
    windows.watermark(0, B + 2);
    windows.watermark(0, B);
    expect(windows.complete).toBe(B + 2);
    expect(lookup(windows, "m1", timeOf(B + 1))).toEqual([1 / 3, 3, 3, 3, 1 / 3]);
  });

  test("frauds of cards stand apart from merchants of the same id", () => {
    const windows = new MerchantWindows(2);
    add(windows, "merchant", "same", 0, B, 9, 9);
    add(windows, "card", "same", 0, B, 2, 2);
    add(windows, "card", "same", 1, B + 1, 1, 1);
    windows.watermark(0, B + 3);
    windows.watermark(1, B + 3);
    expect([
      cardFrauds(windows, "same", B, B + 1),
      cardFrauds(windows, "same", B, B + 2),
      cardFrauds(windows, "same", B + 1, B + 9),
      cardFrauds(windows, "same", B, B),
      cardFrauds(windows, "other", 0, B + 9),
    ]).toEqual([2, 3, 1, 0, 0]);
  });

  test("lack what the latest gap of any partition ends with, and a partition's later word counts", () => {
    const windows = new MerchantWindows(2);
    expect(windows.lackingBelow).toBe(-Infinity);
    windows.gap(0, B + 9);
    windows.gap(1, B + 3);
    expect(windows.lackingBelow).toBe(B + 9);
    windows.gap(0, B + 1);
    expect(windows.lackingBelow).toBe(B + 3);
  });
});

interface Bucket {
  kind: "merchant" | "card";
  id: string;
  partition: number;
  bucket: number;
  count: number;
  frauds: number;
}

test("random streams in any interleaving of their partitions agree with a naive sum, also after eviction", () => {
  const ids = Array.from({ length: 30 }, (_, i) => `id-${i}`);
  for (let seed = 0; seed < 6; seed++) {
    const random = new RandomSource(seed);
    const partitions = 1 + random.int(4);
    const windows = new MerchantWindows(partitions);
    const all: Bucket[] = [];
    const watermarks = new Array<number>(partitions).fill(-Infinity);
    let evicted = -Infinity;
    for (let step = 0; step < 250; step++) {
      const partition = random.int(partitions);
      const from = watermarks[partition] === -Infinity ? B : watermarks[partition];
      const to = from + random.int(random.int(20) === 0 ? 200 : 8);
      for (let bucket = from; bucket < to; bucket++) {
        for (const kind of ["merchant", "card"] as const) {
          // One of them is busy, one comes and goes.
          const named = ids
            .filter((_, i) => i === 0 || random.int(10) === 0)
            .filter((_, i) => i !== 1 || bucket % 300 < 20);
          for (const id of named) {
            const entry = { kind, id, partition, bucket, count: 1 + random.int(50), frauds: random.int(3) };
            all.push(entry);
            add(windows, kind, id, partition, bucket, entry.count, entry.frauds);
          }
        }
      }
      windows.watermark(partition, to);
      watermarks[partition] = to;
      const complete = Math.min(...watermarks);
      expect(windows.complete).toBe(complete);
      if (complete === -Infinity) continue;
      if (random.int(5) === 0) windows.evict((evicted = Math.max(evicted, complete - 720 - random.int(50))));
      const end = complete - random.int(20) + 5;
      const id = random.pick(ids);
      const sum = (kind: string, start: number): [number, number] => {
        let count = 0,
          frauds = 0;
        for (const entry of all) {
          if (
            entry.kind !== kind ||
            entry.id !== id ||
            entry.bucket < Math.max(start, evicted) ||
            entry.bucket >= Math.min(end, complete)
          )
            continue;
          count += entry.count;
          frauds += entry.frauds;
        }
        return [count, frauds];
      };
      const [two, one, month] = [sum("merchant", end - 2), sum("merchant", end - 1), sum("merchant", end - 720)];
      const share = ([count, frauds]: [number, number]): number => (count === 0 ? 0 : frauds / count);
      expect(lookup(windows, id, timeOf(end)), `seed ${seed}, step ${step}`).toEqual([
        share(two),
        two[0],
        one[0],
        month[0],
        share(month),
      ]);
      const start = end - random.int(400);
      expect(cardFrauds(windows, id, start, end), `seed ${seed}, step ${step}`).toBe(sum("card", start)[1]);
    }
  }
});
