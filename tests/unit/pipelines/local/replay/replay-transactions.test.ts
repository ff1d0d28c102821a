import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { OutgoingRecord } from "../../../../../infra/kafka/batch-producer.js";
import { LABEL_DELAY_MS, simulateDataset } from "../../../../../pipelines/local/simulator/simulate.js";
import { LabelSchedule } from "../../../../../pipelines/local/replay/label-schedule.js";
import { Pace } from "../../../../../pipelines/local/replay/pace.js";
import { replayTransactions, type ReplayOptions } from "../../../../../pipelines/local/replay/replay-transactions.js";
import type { Label, Transaction } from "../../../../../schemas/generated.js";

const DAY_MS = 86_400_000;
const from = Date.UTC(2026, 2, 2);
const dataset = simulateDataset({ seed: 4, customers: 60, terminals: 20, from, to: from + 20 * DAY_MS });
const topics = { transactions: "t", labels: "l" };
const encode = {
  transaction: (value: Transaction) => Buffer.from(JSON.stringify(value)),
  label: (value: Label) => Buffer.from(JSON.stringify(value)),
};

/** Writes down what is published and when it is acknowledged, which takes a moment, the longer the earlier. */
class Recorder {
  readonly transactions: Transaction[] = [];
  readonly labels: Label[] = [];
  readonly records: OutgoingRecord[] = [];
  /** For each transaction, the labels that had been acknowledged when it was sent. */
  readonly labelsBefore: number[] = [];
  acknowledgedLabels = 0;
  underWay = 0;
  mostUnderWay = 0;
  failAfter = Number.POSITIVE_INFINITY;

  async publish(topic: string, records: readonly OutgoingRecord[]): Promise<void> {
    if (this.transactions.length >= this.failAfter) throw new Error("Kafka is gone");
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
    for (const record of records) {
      this.records.push(record);
      if (topic === topics.labels) this.labels.push(JSON.parse(String(record.value)) as Label);
      else {
        this.transactions.push(JSON.parse(String(record.value)) as Transaction);
        this.labelsBefore.push(this.acknowledgedLabels);
      }
    }
    await sleep(Math.max(0, 3 - this.transactions.length / 500));
    if (topic === topics.labels) this.acknowledgedLabels += records.length;
    this.underWay -= 1;
  }
}

function run(publisher: Recorder, options: Partial<ReplayOptions> = {}): ReturnType<typeof replayTransactions> {
  return replayTransactions({
    rows: [{ dataset, start: 0, end: dataset.length }],
    publisher,
    topics,
    encode,
    pace: new Pace(null),
    schedule: new LabelSchedule(),
    signal: new AbortController().signal,
    ...options,
  });
}

describe("replayTransactions", () => {
  it("publishes every transaction and every label once, in order, keyed by card", async () => {
    const publisher = new Recorder();
    const replayed = await run(publisher);
    expect(publisher.transactions.map((each) => each.transaction_id)).toEqual(dataset.transactionId);
    expect(publisher.labels.map((each) => each.transaction_id)).toEqual(dataset.transactionId);
    expect(replayed).toEqual({
      transactions: dataset.length,
      labels: dataset.length,
      until: dataset.eventTime[dataset.length - 1] + 1,
    });
    for (const record of publisher.records) {
      expect(record.key?.toString()).toBe((JSON.parse(String(record.value)) as { card_id: string }).card_id);
    }
    expect(publisher.mostUnderWay).toBeGreaterThan(1);
    expect(publisher.mostUnderWay).toBeLessThanOrEqual(5);
  });

  it(
    "has each label acknowledged before the first transaction at or after its label_time, and no more than " +
      "an hour early",
    async () => {
      const publisher = new Recorder();
      await run(publisher);
      const labelTimes = publisher.labels.map((each) => each.label_time);
      expect(labelTimes[0]).toBe(dataset.eventTime[0] + LABEL_DELAY_MS);
      publisher.transactions.forEach((transaction, i) => {
        const known = labelTimes.filter((time) => time <= transaction.event_time).length;
        expect(publisher.labelsBefore[i]).toBeGreaterThanOrEqual(known);
        const early = labelTimes[publisher.labelsBefore[i] - 1] ?? 0;
        expect(early).toBeLessThan(transaction.event_time + DAY_MS / 24);
      });
      // The test would show nothing if the replay ended before the first label is due.
      expect(publisher.labelsBefore.at(-1)).toBeGreaterThan(dataset.length / 3);
    },
  );

  it("never lets a label travel in a transaction", async () => {
    const publisher = new Recorder();
    await run(publisher);
    for (const transaction of publisher.transactions) {
      expect(Object.keys(transaction).sort()).toEqual([
        "amount",
        "attributes",
        "card_id",
        "currency",
        "event_time",
        "merchant_id",
        "transaction_id",
      ]);
      expect(
        Object.keys(transaction.attributes).filter(
          (name) => !["channel", "category", "card_present", "distance_km", "known_device"].includes(name),
        ),
      ).toEqual([]);
    }
  });

  it("stops when told to, at a row that a later run can begin with, with the labels of what it published", async () => {
    const publisher = new Recorder();
    const stop = new AbortController();
    const replayed = await run(publisher, { signal: stop.signal, onSend: ({ end }) => end > 500 && stop.abort() });
    expect(replayed.transactions).toBe(publisher.transactions.length);
    expect(replayed.transactions).toBeGreaterThan(500);
    expect(replayed.transactions).toBeLessThan(dataset.length);
    expect(publisher.labels.length).toBe(replayed.transactions);
    const published = dataset.eventTime.filter((time) => time < (replayed.until ?? 0)).length;
    expect(published).toBe(replayed.transactions);
  });

  it("publishes labels that an earlier run left", async () => {
    const publisher = new Recorder();
    const schedule = new LabelSchedule();
    schedule.add({ dataset, start: 100, end: 300 });
    const replayed = await run(publisher, { schedule, rows: [{ dataset, start: 300, end: 500 }] });
    expect(replayed).toMatchObject({ transactions: 200, labels: 400 });
    expect(publisher.labels.map((each) => each.transaction_id)).toEqual(dataset.transactionId.slice(100, 500));
  });

  it("fails when its records can't be published", async () => {
    const publisher = new Recorder();
    publisher.failAfter = 300;
    await expect(run(publisher)).rejects.toThrow("Kafka is gone");
  });
});

describe("Pace", () => {
  it("deals out what is due since the start, however late it is asked", async () => {
    let now = 1_000;
    const pace = new Pace(200, { now: () => now, sleep: (ms) => Promise.resolve(void (now += ms * 1.7)) });
    const { signal } = new AbortController();
    let rows = 0;
    while (now < 11_000) {
      const due = await pace.take(1_000, signal);
      pace.sent(due);
      rows += due;
      expect(rows).toBeLessThanOrEqual(((now - 1_000) / 1000) * 200);
      // Publishing takes time, once very long.
      now += rows === 700 ? 900 : 3;
    }
    expect(rows).toBeGreaterThan(1_990);
  });

  it("gives as many as are wanted without a rate, and none once aborted", async () => {
    const stop = new AbortController();
    const pace = new Pace(null);
    expect(await pace.take(123, stop.signal)).toBe(123);
    stop.abort();
    expect(await pace.take(123, stop.signal)).toBe(0);
  });
});
