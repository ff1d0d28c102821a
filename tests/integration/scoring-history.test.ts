import { readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { createClickHouse, type ClickHouse } from "../../infra/clickhouse/client.js";
import { partitionOf, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import type { ClickHouseConfig } from "../../infra/config/config.js";
import type { FeatureSpec } from "../../models/features/plan.js";
import { seededRandom } from "../../models/training/random.js";
import { killWorkers, stopWorkers } from "../faults/faults.js";
import { TransactionStream } from "../faults/stream.js";
import { HISTORY_FEATURES, outcomesOf } from "../support/card-histories.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "../support/engines.js";
import { amountFeature, logistic, nanForRefunds } from "../support/models.js";
import { transaction, transactionRecord, wireValue } from "../support/transactions.js";
import { eventually } from "../support/eventually.js";
import { RoleProcess } from "../support/workers.js";
import { kafkaJs } from "../support/workers-kafkajs.js";
import { TestSystem, type ReadRecord } from "../support/workers-system.js";

// Processes of their own start slowly on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

const PARTITIONS = 2;
const START = Date.UTC(2026, 0, 1);
const STEP_MS = 60_000;

/** The transaction with a number: with repeats, refunds, late ones, cut off ones, and some with another card's key. */
function recordOf(n: number): OutgoingRecord {
  // Every 13th is one of before once more: a repeat, or, a day and an hour later, none.
  const again = n > 60 && n % 13 === 5;
  const of = again ? n - 40 : n;
  const late = of % 17 === 3 ? 5 * 3_600_000 : of % 101 === 7 ? 30 * 3_600_000 : 0;
  const card = `card-${(of * 7) % 41}`;
  const value = wireValue(
    transaction(of, {
      card_id: card,
      merchant_id: `m${(of * of) % 23}`,
      event_time: START + of * STEP_MS - late + (again && n % 2 === 0 ? 25 * 3_600_000 : 0),
      // Sums of quarters are exact.
      amount: of % 53 === 11 ? -1 : ((of * 31) % 400) / 4,
    }),
  );
  const key = n % 37 === 20 ? otherKey(card) : card;
  // A proxy's header of this name says nothing about where the record belongs.
  const headers = n % 2 === 0 ? null : encodeHeaders([["forwarded", "for=192.0.2.60;proto=http"]]);
  return { key: Buffer.from(key), value: n % 97 === 50 ? value.subarray(0, -1) : value, headers };
}

/** A key of another partition than a card's. */
function otherKey(card: string): string {
  for (let i = 0; ; i++)
    if (partitionOf(Buffer.from(`k${i}`), PARTITIONS) !== partitionOf(Buffer.from(card), PARTITIONS)) return `k${i}`;
}

let system: TestSystem;
let published = 0;
/** All that was ever in fraud.transactions, by partition: Kafka won't keep it. */
const log: ReadRecord[][] = Array.from({ length: PARTITIONS }, () => []);

async function stream<T>(during: () => Promise<T>): Promise<T> {
  const from = published;
  const transactions = new TransactionStream(system, 250, (n) => recordOf(from + n));
  try {
    return await during();
  } finally {
    await transactions.stop();
    published += transactions.acknowledged;
  }
}

async function publish(count: number): Promise<void> {
  await system.publish(Array.from({ length: count }, (_, i) => recordOf(published + i)));
  published += count;
}

/** Every record has the one outcome that its partition's log up to it determines, to the last bit of each feature. */
async function check(): Promise<{ predictions: number; repeated: number; forwarded: number; stale: number }> {
  await system.consumed();
  for (const record of await system.read(system.topics.transactions))
    if (record.offset > (log[record.partition].at(-1)?.offset ?? -1)) log[record.partition].push(record);
  const predictions = await system.predictions();
  const letters = await system.deadLetters();
  const counts = { predictions: 0, repeated: 0, forwarded: 0, stale: 0 };
  const forwarded = log.flat().flatMap(({ headers }) => headers["fraudstream-forwarded-from"] ?? []);
  expect(new Set(forwarded).size).toBe(forwarded.length);
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const scored = new Map(
      predictions
        .filter((found) => found.partition === partition)
        .map(({ prediction }) => [prediction.source_offset, prediction]),
    );
    const dead = new Map(
      letters
        .filter((found) => found.partition === partition)
        .map(({ headers }) => [Number(headers["offset"]), headers]),
    );
    expect(scored.size + dead.size).toBe(
      [...predictions, ...letters].filter((found) => found.partition === partition).length,
    );
    const outcomes = outcomesOf(log[partition], PARTITIONS);
    for (const [offset, outcome] of outcomes) {
      const where = `partition ${partition}, offset ${offset}`;
      if (outcome.kind === "prediction") {
        expect({ features: scored.get(offset)?.features, stale: scored.get(offset)?.stale }, where).toEqual({
          features: outcome.features,
          stale: outcome.stale,
        });
        scored.delete(offset);
        counts.predictions += 1;
        counts.stale += Number(outcome.stale);
      } else if (outcome.kind === "dead letter") {
        expect(dead.get(offset)?.["code"], where).toBe(outcome.code);
        if (outcome.code === "repeated") {
          expect(
            outcome.firsts.map(
              (first) =>
                "the card has had this transaction_id already, at " +
                `${system.topics.transactions.name}/${partition}/${first}`,
            ),
            where,
          ).toContain(dead.get(offset)?.["reason"]);
          expect(dead.get(offset)?.["step"]).toBe("history");
          counts.repeated += 1;
        }
        dead.delete(offset);
      } else {
        const copy = log[outcome.to].find(
          ({ headers }) =>
            headers["fraudstream-forwarded-from"] === `${system.topics.transactions.name}/${partition}/${offset}`,
        );
        const source = log[partition].find((record) => record.offset === offset);
        expect(copy?.value, where).toEqual(source?.value);
        counts.forwarded += 1;
      }
    }
    expect([scored.size, dead.size]).toEqual([0, 0]);
  }
  expect(counts.forwarded).toBe(forwarded.length);
  return counts;
}

const stateDir = (): string => join(system.dataDir, "state");
const snapshots = async (partition: number): Promise<string[]> =>
  (await readdir(stateDir())).filter((name) => name.includes(`-${partition}-`)).map((name) => join(stateDir(), name));

beforeAll(async () => {
  system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: PARTITIONS });
  Object.assign(system.further, { SNAPSHOT_EVERY: "PT1S" });
  await system.register("champion@1", nanForRefunds(HISTORY_FEATURES));
  await system.register("shadow@1", nanForRefunds());
  await system.deploy("champion@1", ["shadow@1"]);
});

// What a failed test leaves running would keep partitions from the next one's workers.
afterEach(() => system.stopWorkers());
afterAll(() => system.close());

describe("the history of cards", () => {
  it("equals the log's when workers are killed with -9 within a transaction and resume from snapshots", async () => {
    await stream(() => killWorkers(system, { kills: 2, random: seededRandom(3), afterSnapshot: true }));
    await system.consumed();
    const restored = system.workers
      .flatMap((worker) => worker.log)
      .filter(({ msg, from }) => msg === "history of cards at hand" && from !== "memory");
    expect(restored.length).toBeGreaterThan(0);
    expect((await system.stopWorkers()).filter(({ code }) => code !== 0)).toEqual([]);
    const counts = await check();
    expect(Math.min(counts.repeated, counts.forwarded, counts.stale), JSON.stringify(counts)).toBeGreaterThan(5);
  });

  it(
    "is that of the log after a corrupt snapshot, without one, and when a worker was fenced in the " +
      "middle of a batch",
    async () => {
      for (const file of await snapshots(0)) {
        const bytes = await readFile(file);
        bytes[bytes.length - 100] ^= 1;
        await writeFile(file, bytes);
      }
      for (const file of await snapshots(1)) await rm(file);
      const before = system.workers.length;
      await stream(() => stopWorkers(system, { stops: 1, random: seededRandom(4) }));
      await check();
      const lines = system.workers.slice(before).flatMap((worker) => worker.log);
      expect(lines.filter(({ msg }) => /passed over.*checksum/.test(msg)).length).toBeGreaterThan(0);
      const fromLog = lines
        .filter(({ msg, from }) => msg === "history of cards at hand" && from === "log")
        .map(({ partition }) => partition);
      expect(new Set(fromLog)).toEqual(new Set([0, 1]));
      expect((await system.stopWorkers()).filter(({ code }) => code !== 0)).toEqual([]);
    },
  );

  it("is rebuilt from ClickHouse if Kafka has deleted the log, unless a transaction is missing there", async () => {
    const config: ClickHouseConfig = clickhouseConfig(`${uniquePrefix("_")}db`);
    const settings = {
      CLICKHOUSE_URL: config.url,
      CLICKHOUSE_USER: config.username,
      CLICKHOUSE_PASSWORD: config.password,
      CLICKHOUSE_DATABASE: config.database,
    };
    const sink = new RoleProcess("sink", { ...system.settings, ...settings });
    const clickhouse = createClickHouse(config);
    try {
      await stored(clickhouse, sink);
      await deleteLog();
      await rm(stateDir(), { recursive: true });

      const lost = system.startWorker();
      expect(await lost.ended).toEqual({ code: 1, signal: null });
      expect(lost.tail()).toMatch(
        new RegExp(
          "\\[\\d\\]: the history of cards needs the records from offset 0 to \\d+, which Kafka has deleted: " +
            "set CLICKHOUSE_URL",
        ),
      );

      // It ended as expected, so the test must not wait for it.
      system.workers.splice(system.workers.indexOf(lost), 1);

      const rebuilt = system.startWorker(settings);
      await publish(400);
      await check();
      expect(rebuilt.log.filter(({ msg, from }) => msg === "history of cards at hand" && from === "log").length).toBe(
        PARTITIONS,
      );
      expect(await rebuilt.stop()).toEqual({ code: 0, signal: null });

      // One that was scored lately is gone from the table.
      const scored = [...outcomesOf(log[0], PARTITIONS)].flatMap(([offset, { kind }]) =>
        kind === "prediction" ? [offset] : [],
      );
      const missing = scored[Math.floor(scored.length / 2)];
      await clickhouse.command(
        "DELETE FROM transactions WHERE topic = {topic: String} AND partition = 0 AND offset = {offset: UInt64}",
        { topic: system.topics.transactions.name, offset: missing },
      );
      await stored(clickhouse, sink, 1);
      await deleteLog();
      await rm(stateDir(), { recursive: true });
      const refused = system.startWorker(settings);
      expect(await refused.ended).toEqual({ code: 1, signal: null });
      expect(refused.tail()).toContain(
        `of offsets ${missing} to ${missing}, which Kafka has deleted, 1 have a prediction in ClickHouse but ` +
          "no row in the table transactions",
      );
    } finally {
      await sink.kill();
      await clickhouse.command(`DROP DATABASE IF EXISTS ${config.database}`);
      await clickhouse.close();
    }
  });
});

it("is stale without the merchants' buckets that it needs, and waits for those that are on their way", async () => {
  const own = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: 1 });
  onTestFinished(() => own.close());
  const delayed = { window: "P1D", delay: "P7D", bucket: "PT1H" };
  const count: FeatureSpec = {
    name: "count",
    type: "number",
    source: { kind: "merchant", aggregate: "count", ...delayed },
    default: null,
  };
  const share: FeatureSpec = {
    name: "share",
    type: "number",
    source: { kind: "card", aggregate: "fraud_share", ...delayed },
    default: null,
  };
  await own.register("merchants@1", logistic([amountFeature, count, share]));
  await own.deploy("merchants@1");
  const hour = 3_600_000;
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  const sealed = (
    entity: "merchant" | "card" | "watermark",
    id: string,
    bucket: number,
    counted = 0,
    frauds = 0,
  ): OutgoingRecord => ({
    key: Buffer.from(`${entity} ${id} ${bucket}`),
    value: schemas.encode("merchantBuckets", { entity, id, bucket, source_partition: 0, count: counted, frauds }),
  });
  const ids = { card_id: "card", merchant_id: "merchant" };
  const at = (n: number, event_time: number): OutgoingRecord =>
    transactionRecord(transaction(n, { ...ids, amount: 1, event_time }));
  const scored = async (): Promise<[number[], boolean][]> => {
    await own.consumed();
    return (await own.predictions()).map(({ prediction }) => [prediction.features, prediction.stale]);
  };
  const delay = 7 * 24 * hour;

  const worker = own.startWorker({ MERCHANT_WAIT_MS: "30000" });
  await worker.logged("scoring");
  // Each needs every bucket that lies two hours or more behind the delay.
  await own.publish([at(1, START), at(2, START + 30 * 60_000)]);
  await own.producer.publishTo(own.topics.merchantBuckets.name, 0, [
    sealed("merchant", "merchant", START - delay - 5 * hour, 7),
    sealed("watermark", "", START - delay - hour),
  ]);
  expect(await scored()).toEqual([
    [[1, 7, 0], false],
    [[1, 7, 0], false],
  ]);
  await own.producer.publishTo(own.topics.merchantBuckets.name, 0, [
    sealed("card", "card", START, 1, 1),
    sealed("merchant", "merchant", START, 2, 1),
    sealed("watermark", "", START + 2 * hour),
  ]);
  await own.publish([at(3, START + delay + 3 * hour)]);
  expect((await scored()).slice(2)).toEqual([[[1, 2, 0.5], false]]);
  expect(await worker.stop()).toEqual({ code: 0, signal: null });

  const later = own.startWorker({ MERCHANT_WAIT_MS: "10" });
  await own.publish([at(4, START + delay + 4 * hour), at(5, START + delay + 3 * hour)]);
  expect((await scored()).slice(3)).toEqual([
    [[1, 2, 0.5], true],
    [[1, 2, 0.5], false],
  ]);

  // Two strangers a month ahead make the rest late, and the worker says so.
  await own.publish([at(6, START + delay + 30 * 24 * hour), at(7, START + delay + 30 * 24 * hour)]);
  await own.publish([at(8, START + delay + 4 * hour)]);
  expect((await scored()).slice(7).map(([, stale]) => stale)).toEqual([true]);
  const line = await eventually("the worker says so", () => later.log.find(({ code }) => code === "late_transactions"));
  expect(line).toMatchObject({
    blocking: false,
    msg: expect.stringMatching(
      /, 29\.8 days ahead of the newest of them\. It leapt there from .*, with transactions at offsets \d+ to \d+\./,
    ) as string,
  });
  await own.heartbeat("so, too", ({ problems }) => problems.includes(line.msg), later);
});

it(
  "of a card with more transactions than are looked at, has no wrong window, says so, and still finds what " +
    "is sent again",
  async () => {
    const own = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: 1 });
    onTestFinished(() => own.close());
    const count = (window: string): FeatureSpec => ({
      name: window,
      type: "number",
      source: { kind: "card", aggregate: "count", window },
      default: -1,
    });
    await own.register("busy@1", logistic([amountFeature, count("PT1H"), count("P7D")]));
    await own.deploy("busy@1");
    // One every 15 seconds: 241 within an hour, 4,200 within 18.
    const sent = Array.from({ length: 4_200 }, (_, n) =>
      transactionRecord(transaction(n, { card_id: "shared", amount: 1, event_time: START + n * 15_000 })),
    );
    for (let from = 0; from < sent.length; from += 700) await own.publish(sent.slice(from, from + 700));
    await own.publish([sent[0], sent[50], sent[4_199]]);
    const worker = own.startWorker();
    await own.consumed();
    const scored = (await own.predictions()).map(({ prediction: { features, stale } }) => [features, stale]);
    expect(scored).toHaveLength(4_200);
    expect([scored[4_095], scored[4_096], scored[4_199]]).toEqual([
      [[1, 240, 4_096], false],
      [[1, 240, -1], true],
      [[1, 240, -1], true],
    ]);
    expect((await own.deadLetters()).map(({ headers }) => headers["code"])).toEqual([
      "repeated",
      "repeated",
      "repeated",
    ]);
    await worker.logged(
      `${own.topics.transactions.name}[0]: a card has more than 4096 transactions in a window: windows that ` +
        "hold more have no value, and its predictions are stale. Is it a card, or a number that many share?",
    );
  },
);

/** Waits until the sink has stored everything, but for rows that were deleted. */
async function stored(clickhouse: ClickHouse, sink: RoleProcess, deleted = 0): Promise<void> {
  const transactions = log
    .flatMap((records) => [...outcomesOf(records, PARTITIONS).values()])
    .filter(({ kind }) => kind !== "dead letter").length;
  const predictions = (await system.predictions()).length;
  const letters = (await system.deadLetters()).length;
  await eventually("the sink has stored everything", async () => {
    if (sink.exit !== null) throw new Error(sink.tail());
    const [row] = await clickhouse
      .query<{ transactions: number; predictions: number; letters: number }>(
        "SELECT (SELECT count() FROM transactions FINAL) AS transactions, (SELECT count() FROM predictions " +
          "FINAL) AS predictions, (SELECT count() FROM dead_letters FINAL) AS letters",
      )
      .catch(() => [null]);
    return (
      row !== null &&
      row.transactions + deleted >= transactions &&
      row.letters === letters &&
      row.predictions === predictions
    );
  });
}

/** What retention does, at once. */
async function deleteLog(): Promise<void> {
  const admin = kafkaJs(system.kafka).admin();
  const topic = system.topics.transactions.name;
  await admin.connect();
  // Loads what kafkajs wants to know of the topic first.
  await admin.fetchTopicOffsets(topic);
  await admin.deleteTopicRecords({
    topic,
    partitions: log.map((records, partition) => ({ partition, offset: String((records.at(-1)?.offset ?? 0) - 100) })),
  });
  await admin.disconnect();
}
