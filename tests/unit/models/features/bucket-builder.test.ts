import { describe, expect, test } from "vitest";
import { BucketBuilder } from "../../../../models/features/bucket-builder.js";
import {
  BUCKET_MS,
  LABEL_DELAY_MS,
  REPEAT_HORIZON_MS,
  RETENTION_MS,
} from "../../../../models/features/history-terms.js";
import { RandomSource } from "../../../support/random-source.js";
import { build, naiveBuckets, rowsOf, type Buckets, type TestEvent, type TestTransaction } from "./bucket-rows.js";

const HOUR = BUCKET_MS;
/** An hour in 2018. */
const B = 424_000;
const T = B * HOUR;
const transaction = (id: string, time: number, merchant = "m1", card = "c1"): TestEvent => ({
  transaction: { id, card, merchant, time },
});
const label = (id: string, fraud: boolean, time: number, card = "c1"): TestEvent => ({
  label: { id, card, fraud, time },
});
/** A leap of more than a day is believed once two have made it. */
const leap = (time: number): TestEvent[] => ["leap 1", "leap 2"].map((id) => transaction(id, time, "m2"));
const entries = (buckets: Buckets): Record<string, [number, number]> => Object.fromEntries(buckets);

describe("a bucket of a source partition", () => {
  test("is an hour, half-open, and is sealed by the first transaction a delay behind its end", () => {
    const events = [
      transaction("a", T),
      transaction("b", T + HOUR - 1),
      transaction("c", T + HOUR),
      ...leap(T + HOUR + LABEL_DELAY_MS - 1),
    ];
    expect(entries(build(events))).toEqual({});
    expect(entries(build([...events, transaction("y", T + HOUR + LABEL_DELAY_MS, "m2")]))).toEqual({
      [`merchant m1 ${B}`]: [2, 0],
    });
  });

  test("has no transaction that comes after its seal", () => {
    const builder = new BucketBuilder();
    const events = [
      transaction("a", T),
      ...leap(T + HOUR + LABEL_DELAY_MS),
      transaction("late", T + 5),
      transaction("in time", T + HOUR),
      transaction("z", T + 2 * HOUR + LABEL_DELAY_MS),
    ];
    expect(entries(build(events, builder))).toEqual({ [`merchant m1 ${B}`]: [1, 0], [`merchant m1 ${B + 1}`]: [1, 0] });
    expect(builder.counts).toMatchObject({ transactions: 5, lateTransactions: 1 });
    expect(builder.sealed).toBe(B + 2);
  });

  test("counts a repeat within the horizon once, either way, also when the first one is sealed already", () => {
    const end = LABEL_DELAY_MS + 30 * HOUR;
    const within = [
      transaction("a", T),
      transaction("a", T + REPEAT_HORIZON_MS),
      transaction("a", T - REPEAT_HORIZON_MS),
      transaction("a", T, "m1", "c2"),
    ];
    expect(entries(build([...within, ...leap(T + end)]))).toEqual({ [`merchant m1 ${B}`]: [2, 0] });
    const beyond = [
      transaction("a", T),
      transaction("a", T + REPEAT_HORIZON_MS + 1),
      transaction("a", T - REPEAT_HORIZON_MS - 1),
    ];
    expect(entries(build([...beyond, ...leap(T + end)]))).toEqual({
      [`merchant m1 ${B - 25}`]: [1, 0],
      [`merchant m1 ${B}`]: [1, 0],
      [`merchant m1 ${B + 24}`]: [1, 0],
    });
    const sealed = [
      transaction("a", T + HOUR - 1),
      { seal: B + 24 },
      transaction("a", T + 24 * HOUR),
      transaction("b", T + 1),
      transaction("b", T + 24 * HOUR + 1),
      transaction("c", T + 24 * HOUR),
    ];
    expect(entries(build([...sealed, { seal: B + 25 }]))).toEqual({
      [`merchant m1 ${B}`]: [1, 0],
      [`merchant m1 ${B + 24}`]: [1, 0],
    });
  });

  test("takes the last label that was read among those known by its end and the delay", () => {
    const inTime = T + HOUR + LABEL_DELAY_MS;
    const events = [
      label("early", true, T + 1),
      label("corrected", true, T + 5),
      label("too late", true, inTime + 1),
      label("just", true, inTime),
      ...["early", "corrected", "too late", "just", "none", "reverted"].map((id, i) => transaction(id, T + i)),
      label("corrected", false, T + 4),
      label("reverted", false, T + 9),
      label("reverted", true, T + 8),
      label("just", false, inTime + 1),
      label("early", false, T + 9, "another card"),
    ];
    const builder = new BucketBuilder();
    expect(entries(build([...events, { seal: B + 1 }, label("none", true, T + 9)], builder))).toEqual({
      [`merchant m1 ${B}`]: [6, 3],
      [`card c1 ${B}`]: [3, 3],
    });
    expect(builder.counts).toMatchObject({ labels: 10, lateLabels: 2 });
  });

  test("of labels that came before their transaction, the last one in time for its bucket counts", () => {
    const inTime = T + HOUR + LABEL_DELAY_MS;
    const cases = [
      [label("a", true, inTime), label("a", false, inTime + 1)],
      [
        label("b", false, inTime - 1),
        label("b", true, inTime),
        label("b", false, inTime + 1),
        label("b", true, inTime + 2),
      ],
      [label("c", true, inTime - 1), label("c", false, inTime)],
      [label("d", true, inTime + 1)],
    ];
    for (const [i, labels] of cases.entries()) {
      const [id] = "abcd"[i];
      expect(entries(build([...labels, transaction(id, T), { seal: B + 1 }]))[`merchant m1 ${B}`], id).toEqual([
        1,
        i < 2 ? 1 : 0,
      ]);
    }
  });

  test("nothing is held for ever: neither labels without a transaction nor transactions", () => {
    const builder = new BucketBuilder();
    const days = 62;
    let bytes = 0;
    for (let hour = 0; hour < days * 24; hour++) {
      const time = T + hour * HOUR;
      const events: TestEvent[] = [];
      for (let i = 0; i < 20; i++) {
        const name = `${String(hour).padStart(5, "0")}-${i + 10}`;
        events.push(
          transaction(`t${name}`, time + i, `m${name}`, `c${name}`),
          label(`lost${name}`, true, time + (hour < 20 ? 1e12 : 0)),
        );
      }
      build(events, builder);
      if (hour === 45 * 24) bytes = builder.bytes;
    }
    expect(builder.bytes).toBe(bytes);
    // Those of the unsealed week, and not yet looked through.
    expect(builder.held).toBeGreaterThan(20 * 24 * 6);
    expect(builder.held).toBeLessThan(20 * 24 * 7 * 2 + 5_000);
    expect(builder.sealed * HOUR).toBeGreaterThan(T + RETENTION_MS);
  });
});

/** Transactions of 20 days that come out of order, some twice, some too late; labels before, after, corrected. */
function randomEvents(random: RandomSource, count: number): TestEvent[] {
  const events: { at: number; event: TestEvent }[] = [];
  let seal = 0;
  for (let i = 0; i < count; i++) {
    const time = T + random.int(20 * 24 * HOUR);
    const arrival = time + (random.int(10) === 0 ? random.int(9 * 24 * HOUR) : random.int(2 * HOUR));
    const one: TestTransaction = {
      id: `t${i}`,
      card: `card-${random.int(15)}`,
      merchant: `merchant-${random.int(12)}`,
      time,
    };
    events.push({ at: arrival, event: { transaction: one } });
    for (let more = random.int(6); more > 3; more--) {
      const repeated = {
        ...one,
        merchant: `merchant-${random.int(12)}`,
        time: time + random.int(2 * REPEAT_HORIZON_MS) - REPEAT_HORIZON_MS,
      };
      // Two that are further apart from each other would be two transactions of one id, of which a label tells nothing.
      events.push({ at: arrival + 1, event: { transaction: repeated } });
      if (Math.abs(repeated.time - time) > REPEAT_HORIZON_MS / 2) break;
    }
    for (let more = random.int(3); more > 0; more--) {
      const known = time + random.int(8 * 24 * HOUR);
      events.push({
        at: time + random.int(9 * 24 * HOUR) - 24 * HOUR,
        event: { label: { id: one.id, card: one.card, fraud: random.int(2) === 0, time: known } },
      });
    }
  }
  for (let i = 0; i < 4; i++)
    events.push({ at: T + random.int(30 * 24 * HOUR), event: { seal: (seal += random.int(150)) + B } });
  return events
    .sort((a, b) => a.at - b.at)
    .map(({ event }) => event)
    .concat({ seal: B + 30 * 24 });
}

describe("random streams", () => {
  test("give the buckets of a naive computation, also with a snapshot in the middle", () => {
    for (let seed = 0; seed < 12; seed++) {
      const random = new RandomSource(seed);
      const events = randomEvents(random, 300);
      const expected = entries(naiveBuckets(events));
      const whole = new BucketBuilder();
      expect(entries(build(events, whole)), `seed ${seed}`).toEqual(expected);
      expect(
        whole.counts.lateTransactions * whole.counts.repeats * whole.counts.lateLabels,
        `seed ${seed}`,
      ).toBeGreaterThan(0);
      const cut = random.int(events.length);
      const first = new BucketBuilder();
      const found = build(events.slice(0, cut), first);
      const sections = new Map(
        first
          .sections()
          .map(({ name, data }) => [
            name,
            Buffer.from(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)),
          ]),
      );
      const restored = BucketBuilder.restore(sections);
      expect(restored.sealed).toBe(first.sealed);
      expect(entries(build(events.slice(cut), restored, found)), `seed ${seed}, cut at ${cut}`).toEqual(expected);
    }
  });

  test("ids that share bytes, are empty or long are told apart", () => {
    const ids = ["a", "ab", "abc", "b", "bc", "c", "é", "x".repeat(256), "x".repeat(255), "0", "00", "\0", "\0\0"];
    const events = ids.flatMap((id) => ids.map((card) => transaction(id, T, "m1", card)));
    expect(entries(build([...events, { seal: B + 1 }]))).toEqual({ [`merchant m1 ${B}`]: [ids.length ** 2, 0] });
    const builder = new BucketBuilder();
    for (const event of [...events, ...events])
      if ("transaction" in event) builder.sealAndAdd(rowsOf(event.transaction), 0, () => {});
    expect(builder.counts).toMatchObject({ transactions: ids.length ** 2, repeats: ids.length ** 2 });
  });
});
