import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it, onTestFinished, vi } from "vitest";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { partitionOf } from "../../infra/kafka/batch-producer.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { BUCKET_MS, LABEL_DELAY_MS } from "../../models/features/history-terms.js";
import { HistoryPlan } from "../../models/features/history-plan.js";
import { MerchantWindows } from "../../models/features/merchant-windows.js";
import { MerchantBoard } from "../../pipelines/scoring/merchant-board.js";
import { Watermarks } from "../../pipelines/merchants/watermarks.js";
import { BucketRecordReader } from "../../pipelines/runtime/bucket-records.js";
import { FORWARDED_FROM } from "../../pipelines/transactions/placement.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "../support/engines.js";
import { silent } from "../support/kafka-cluster.js";
import { labelRecord, publishedBuckets } from "../support/merchants.js";
import { RandomSource } from "../support/random-source.js";
import { cardIn, transaction, transactionRecord } from "../support/transactions.js";
import { eventually } from "../support/eventually.js";
import { RoleProcess } from "../support/workers.js";
import { kafkaJs } from "../support/workers-kafkajs.js";
import { TestSystem } from "../support/workers-system.js";
import {
  naiveBuckets,
  rowsOf,
  type TestEvent,
  type TestLabel,
  type TestTransaction,
} from "../unit/models/features/bucket-rows.js";

// Processes of their own start slowly on a busy machine.
vi.setConfig({ testTimeout: 180_000 });

const HOUR = BUCKET_MS;
const DAY = 24 * HOUR;
/** An hour in 2018. */
const B = 424_000;
const T = B * HOUR;

interface MerchantsSystem {
  system: TestSystem;
  dataDir: string;
  start: (settings?: Record<string, string>, name?: "merchants" | "sink") => RoleProcess;
}

async function openSystem(partitions: number): Promise<MerchantsSystem> {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions });
  const dataDir = await mkdtemp(join(tmpdir(), "fraudstream-merchants-"));
  const roles: RoleProcess[] = [];
  onTestFinished(async () => {
    for (const role of roles) await role.kill();
    await system.close();
    await rm(dataDir, { recursive: true, force: true });
  });
  const start = (settings: Record<string, string> = {}, name: "merchants" | "sink" = "merchants"): RoleProcess => {
    const role = new RoleProcess(name, { ...system.settings, DATA_DIR: dataDir, SNAPSHOT_EVERY: "PT1S", ...settings });
    roles.push(role);
    return role;
  };
  return { system, dataDir, start };
}

const recordOf = ({ id, card, merchant, time }: TestTransaction) =>
  transactionRecord(transaction(1, { transaction_id: id, card_id: card, merchant_id: merchant, event_time: time }));
const label = ({ id, card, fraud, time }: TestLabel) =>
  labelRecord({ transaction_id: id, card_id: card, is_fraud: fraud, label_time: time });

/** Waits until every partition's watermark has come this far. */
async function sealedTo(system: TestSystem, bucket: number): Promise<void> {
  const { name, partitions } = system.topics.merchantBuckets;
  const watermarks = new Watermarks(system.cluster, name, partitions, new BucketRecordReader(1_000_007));
  const sealed = (partition: number): Promise<boolean> =>
    watermarks.of(partition).then((watermark) => watermark >= bucket);
  for (let partition = 0; partition < partitions; partition++)
    await eventually(`partition ${partition} is sealed to ${bucket}`, () => sealed(partition));
  await watermarks.close();
}

/**
 * Publishes like the replay: each label before the first transaction at or after its label_time, and notes what every
 * partition gets.
 */
class Stream {
  readonly random = new RandomSource(5);
  readonly events: TestEvent[][];
  readonly #system: TestSystem;
  readonly #due: TestLabel[] = [];
  #number = 0;

  constructor(system: TestSystem) {
    this.#system = system;
    this.events = Array.from({ length: system.partitions }, () => []);
  }

  /** Publishes transactions of the hours from ≤ h < to behind T. */
  async publish(from: number, to: number): Promise<void> {
    const { random } = this;
    for (let hour = from; hour < to; hour += 2) {
      const batch = Array.from({ length: 15 }, () => this.#transaction(T + hour * HOUR + random.int(2 * HOUR)));
      const last = Math.max(...batch.map(({ time }) => time));
      await this.labels(this.#due.filter(({ time }) => time <= last));
      this.#due.splice(0, this.#due.length, ...this.#due.filter(({ time }) => time > last));
      const records = batch.flatMap((one) => {
        this.#note(one.card, { transaction: one });
        return this.#records(one);
      });
      await this.#system.publish(records);
    }
  }

  /** Publishes labels at once. */
  async labels(labels: readonly TestLabel[]): Promise<void> {
    for (const one of labels) this.#note(one.card, { label: one });
    if (labels.length > 0) await this.#system.producer.publish(this.#system.topics.labels.name, labels.map(label));
  }

  #note(card: string, event: TestEvent): void {
    this.events[partitionOf(Buffer.from(card), this.#system.partitions)].push(event);
  }

  #transaction(now: number): TestTransaction {
    const { random } = this;
    const one = {
      id: `t${this.#number++}`,
      card: `card-${random.int(40)}`,
      merchant: `merchant-${random.int(25)}`,
      time: now - (random.int(8) === 0 ? random.int(3 * DAY) : 0),
    };
    const label = (fraud: boolean, time: number): void =>
      void this.#due.push({ id: one.id, card: one.card, fraud, time });
    const kind = random.int(10);
    // Known after two days, after a week, twice, or too late; one of them before the transaction is published.
    if (kind < 2) label(true, one.time + 2 * DAY);
    else if (kind < 5) label(kind === 2, one.time + LABEL_DELAY_MS);
    else if (kind === 5) {
      label(true, one.time + DAY);
      label(false, one.time + 5 * DAY);
      label(true, one.time + LABEL_DELAY_MS + 3 * HOUR);
    } else if (kind === 6) label(true, one.time);
    return one;
  }

  /**
   * A transaction as its records: now and then with a repeat, with bytes that are none, or by way of a wrong partition.
   */
  #records(one: TestTransaction): Parameters<TestSystem["publish"]>[0] {
    const { random } = this;
    const record = recordOf(one);
    const kind = random.int(40);
    if (kind === 0) return [record, { key: record.key, value: Buffer.from("{}") }];
    if (kind === 1) {
      const again = { ...one, merchant: "another merchant", time: one.time + random.int(DAY) - DAY / 2 };
      this.#note(one.card, { transaction: again });
      return [record, recordOf(again)];
    }
    return [record];
  }
}

it("publishes each bucket of a naive computation once, although copies are killed with -9 and restarted", async () => {
  const { system, dataDir, start } = await openSystem(3);
  const stream = new Stream(system);
  const first = start();
  const second = start();
  await Promise.all([first, second].map((role) => role.logged("sealing merchants' buckets")));
  await stream.publish(0, 12 * 24);
  await sealedTo(system, B + 4 * 24);
  // Labels that come after their bucket was sealed change nothing, nor do transactions.
  await stream.labels(
    Array.from({ length: 30 }, (_, i) => ({ id: `t${i}`, card: `card-${i % 40}`, fraud: true, time: T + i })),
  );
  const late = Array.from({ length: 20 }, (_, i) => ({
    id: `late${i}`,
    card: `card-${i}`,
    merchant: "merchant-1",
    time: T + i * HOUR,
  }));
  await system.publish(late.map(recordOf));

  // A record in a wrong partition counts where scoring sends it on to.
  const misplaced: TestTransaction = {
    id: "misplaced",
    card: cardIn(0, 3, 1),
    merchant: "merchant-1",
    time: T + 11 * DAY,
  };
  await system.publishTo(1, [recordOf(misplaced)]);
  await system.publishTo(0, [
    {
      ...recordOf(misplaced),
      ...transactionRecord(
        transaction(1, {
          transaction_id: misplaced.id,
          card_id: misplaced.card,
          merchant_id: misplaced.merchant,
          event_time: misplaced.time,
        }),
        [[FORWARDED_FROM, `${system.topics.transactions.name}/1/1`]],
      ),
    },
  ]);
  stream.events[0].push({ transaction: misplaced });

  const publishing = stream.publish(12 * 24, 24 * 24);
  for (let kill = 0, victim = first; kill < 2; kill++) {
    await sleep(500);
    await victim.kill();
    victim = start();
    await victim.logged("sealing merchants' buckets");
  }
  await publishing;
  expect(await readdir(join(dataDir, "state"))).not.toEqual([]);
  const last = T + 60 * DAY;
  const end = Math.floor((last - LABEL_DELAY_MS) / HOUR);
  for (let partition = 0; partition < 3; partition++) {
    // Two: one alone that is so far ahead isn't believed.
    for (const id of ["closing", "closing, too"]) {
      const closing: TestTransaction = { id, card: cardIn(partition, 3, 7), merchant: "m", time: last };
      stream.events[partition].push({ transaction: closing });
      await system.publish([recordOf(closing)]);
    }
  }
  await sealedTo(system, end);

  const published = await publishedBuckets(system);
  expect(published.filter(({ partition, value }) => value.source_partition !== partition)).toEqual([]);
  for (let partition = 0; partition < 3; partition++) {
    const mine = published.filter((bucket) => bucket.partition === partition);
    const buckets = mine.filter(({ value }) => value.entity !== "watermark");
    expect(new Set(buckets.map(({ key }) => key)).size).toBe(buckets.length);
    const found = Object.fromEntries(
      buckets.map(({ value: { entity, id, bucket, count, frauds } }) => [
        `${entity} ${id} ${bucket / HOUR}`,
        [count, frauds],
      ]),
    );
    expect(found, `partition ${partition}`).toEqual(Object.fromEntries(naiveBuckets(stream.events[partition])));
    expect(buckets.filter(({ value }) => value.frauds > 0).length).toBeGreaterThan(50);
    // Nothing comes behind its watermark, and watermarks only rise.
    let watermark = -Infinity;
    for (const { value } of mine) {
      if (value.entity === "watermark") expect(value.bucket).toBeGreaterThan(watermark);
      else expect(value.bucket).toBeGreaterThanOrEqual(watermark);
      if (value.entity === "watermark") watermark = value.bucket;
    }
  }
  await checkBoard(system, stream.events, end);
});

/** What a worker's board says equals the naive buckets of all partitions. */
async function checkBoard(system: TestSystem, events: readonly TestEvent[][], end: number): Promise<void> {
  const failures: unknown[] = [];
  const board = new MerchantBoard({
    cluster: system.cluster,
    topics: system.topics,
    schemas: new Schemas({ schemaRegistryUrl: null, schemasDir: null }),
    log: silent,
    onFailure: (error) => failures.push(error),
  });
  await board.start();
  expect(board.windows.complete).toBe(end);
  const naive = events.flatMap((mine) => [...naiveBuckets(mine)]);
  const plan = new HistoryPlan(
    ["count", "fraud_share"].map((aggregate) => ({
      kind: "merchant",
      aggregate: aggregate as "count",
      window: "P3D",
      delay: "P7D",
      bucket: "PT1H",
    })),
  );
  const out = new Float64Array(2);
  for (const needed of [B + 80, B + 200, B + 500]) {
    const sums = [0, 0];
    for (const [key, [count, frauds]] of naive) {
      const [kind, merchant, bucket] = key.split(" ");
      if (kind !== "merchant" || merchant !== "merchant-3" || Number(bucket) < needed - 72 || Number(bucket) >= needed)
        continue;
      sums[0] += count;
      sums[1] += frauds;
    }
    board.windows.lookup(
      rowsOf({ id: "", card: "", merchant: "merchant-3", time: (needed + 1) * HOUR + LABEL_DELAY_MS }),
      0,
      plan,
      out,
      0,
    );
    expect([...out]).toEqual([sums[0], sums[1] / sums[0]]);
    expect(sums[1]).toBeGreaterThan(0);
  }
  expect(await board.waitFor(end, 0, new AbortController().signal)).toBe(true);
  expect(await board.waitFor(end + 1, 20, new AbortController().signal)).toBe(false);
  await board.stop();
  expect(failures).toEqual([]);
}

/** The keys of the committed records of a partition. */
async function keysOf({ cluster }: TestSystem, topic: string, partition: number): Promise<string[]> {
  const reader = new PartitionReader(cluster, topic, partition);
  const keys: string[] = [];
  const end = await reader.endOffset();
  for (let next = await reader.firstOffset(); next < end;) {
    const records = await reader.fetch(next);
    for (let i = 0; i < records.count; i++)
      keys.push(records.bytes.toString("utf8", records.keyAt[i], records.keyAt[i] + Math.max(0, records.keyLength[i])));
    next = records.nextOffset;
  }
  await reader.close();
  return keys;
}

it(
  "a partition that is empty or quiet takes the others' watermark, and what then comes too late is " +
    "counted nowhere",
  async () => {
    const { system, start } = await openSystem(3);
    const board = new MerchantBoard({
      cluster: system.cluster,
      topics: system.topics,
      schemas: new Schemas({ schemaRegistryUrl: null, schemasDir: null }),
      log: silent,
      onFailure: () => {},
    });
    await board.start();
    onTestFinished(() => board.stop());
    const role = start();
    await role.logged("sealing merchants' buckets");
    const in0 = (id: string, time: number, merchant = "m"): TestTransaction => ({
      id,
      card: cardIn(0, 3, 1),
      merchant,
      time,
    });
    const in1 = (id: string, time: number, merchant = "m"): TestTransaction => ({
      id,
      card: cardIn(1, 3, 1),
      merchant,
      time,
    });
    await system.publish([recordOf(in0("a", T))]);
    // With the first transaction, all that lies a delay behind it is complete: nobody waits for what can't come.
    expect(await board.waitFor(MerchantWindows.needed(T), 60_000, new AbortController().signal)).toBe(true);
    expect(board.windows.complete).toBe(MerchantWindows.needed(T) + 1);
    await system.publish([recordOf(in1("b", T + 2 * HOUR)), recordOf(in1("c", T + 3 * HOUR))]);
    await system.producer.publish(system.topics.labels.name, [
      label({ id: "b", card: cardIn(1, 3, 1), fraud: true, time: T + DAY }),
    ]);
    await system.publish(["d", "and another"].map((id) => recordOf(in0(id, T + 3 * HOUR + LABEL_DELAY_MS))));
    await sealedTo(system, B + 3);
    await system.publish([
      recordOf(in1("late", T + 2 * HOUR + 5)),
      recordOf(in1("in time", T + 3 * HOUR + 5)),
      recordOf(in0("e", T + 4 * HOUR + LABEL_DELAY_MS)),
    ]);
    await sealedTo(system, B + 4);
    const buckets = async (): Promise<unknown[]> =>
      (await publishedBuckets(system))
        .filter(({ value }) => value.entity !== "watermark")
        .map(({ partition, value: { entity, bucket, count, frauds } }) => [
          partition,
          entity,
          bucket / HOUR - B,
          count,
          frauds,
        ])
        .sort();
    const sealed = [
      [0, "merchant", 0, 1, 0],
      [1, "card", 2, 1, 1],
      [1, "merchant", 2, 1, 1],
      [1, "merchant", 3, 2, 0],
    ];
    expect(await buckets()).toEqual(sealed);

    // A feed without keys, or with another partitioner: each of its labels is forwarded once, and a correction outlasts
    // what it corrects.
    const { name: labels } = system.topics.labels;
    await system.publish([recordOf(in1("f", T + 5 * HOUR)), recordOf(in1("g", T + 5 * HOUR))]);
    const fraud = (id: string) => ({
      ...label({ id, card: cardIn(1, 3, 1), fraud: true, time: T + 2 * DAY }),
      key: null,
    });
    await system.producer.publishTo(labels, 2, [fraud("f"), fraud("g")], Date.now() - 5_000);
    await system.producer.publish(labels, [label({ id: "g", card: cardIn(1, 3, 1), fraud: false, time: T + DAY })]);
    await system.publish([recordOf(in0("h", T + 5 * HOUR + LABEL_DELAY_MS))]);
    await eventually("the labels were sent on", async () => (await keysOf(system, labels, 1)).length === 4);
    await system.publish([recordOf(in0("i", T + 6 * HOUR + LABEL_DELAY_MS))]);
    await sealedTo(system, B + 6);
    expect(await buckets()).toEqual([...sealed, [1, "card", 5, 1, 1], [1, "merchant", 5, 2, 1]].sort());
    expect((await keysOf(system, labels, 1)).slice(2)).toEqual([cardIn(1, 3, 1), cardIn(1, 3, 1)]);
    expect([await keysOf(system, labels, 0), (await keysOf(system, labels, 2)).length]).toEqual([[], 2]);

    // Labels in a partition that is added while the role runs reach the partition of their card, too.
    const admin = kafkaJs(system.kafka).admin();
    await admin.connect();
    onTestFinished(() => admin.disconnect());
    await admin.createPartitions({ topicPartitions: [{ topic: labels, count: 4 }] });
    await system.publish([recordOf(in1("j", T + 7 * HOUR))]);
    await system.producer.publishTo(labels, 3, [fraud("j")]);
    await eventually("the label was sent on", async () => (await keysOf(system, labels, 1)).length === 5);
    await system.publish([recordOf(in0("k", T + 8 * HOUR + LABEL_DELAY_MS))]);
    await sealedTo(system, B + 8);
    const more = [
      [1, "card", 5, 1, 1],
      [1, "merchant", 5, 2, 1],
      [1, "card", 7, 1, 1],
      [1, "merchant", 7, 1, 1],
    ];
    expect(await buckets()).toEqual([...sealed, ...more].sort());
    expect(await role.stop()).toEqual({ code: 0, signal: null });

    // The transactions end before the offset that is committed: what was published stays as it is, and what comes is
    // counted.
    const { name: transactions } = system.topics.transactions;
    const ends = await admin.fetchTopicOffsets(transactions);
    await admin.setOffsets({
      groupId: `${system.prefix}merchants`,
      topic: transactions,
      partitions: ends.map(({ partition, high }) => ({ partition, offset: String(Number(high) + 400) })),
    });
    const again = start();
    await eventually(
      "it says so",
      () => again.log.filter(({ msg }) => msg.includes("the log ends at offset")).length >= 3,
    );
    await system.publish([recordOf(in1("l", T + 9 * HOUR)), recordOf(in0("m", T + 10 * HOUR + LABEL_DELAY_MS))]);
    await sealedTo(system, B + 10);
    expect(await buckets()).toEqual([...sealed, ...more, [1, "merchant", 9, 1, 0]].sort());
    expect((await keysOf(system, labels, 1)).length).toBe(5);
    expect(await again.stop()).toEqual({ code: 0, signal: null });
  },
);

it(
  "without a snapshot it folds the log again; what Kafka has deleted of the unsealed week comes from " +
    "ClickHouse, or nothing is sealed",
  async () => {
    const { system, dataDir, start } = await openSystem(1);
    const config = clickhouseConfig(uniquePrefix("_").slice(0, -1));
    const settings = {
      CLICKHOUSE_URL: config.url,
      CLICKHOUSE_USER: config.username,
      CLICKHOUSE_PASSWORD: config.password,
      CLICKHOUSE_DATABASE: config.database,
    };
    const clickhouse = createClickHouse(config);
    onTestFinished(() => clickhouse.close());
    const publish = (id: string, days: number): Promise<void> =>
      system.publish([recordOf({ id, card: "c", merchant: "m", time: T + days * DAY })]);
    const buckets = async (): Promise<unknown[]> =>
      (await publishedBuckets(system))
        .filter(({ value }) => value.entity === "merchant")
        .map(({ value: { bucket, count, frauds } }) => [bucket / HOUR - B, count, frauds]);
    const sink = start(settings, "sink");
    await sink.logged("storing in ClickHouse");

    const first = start();
    for (const [id, days] of [
      ["a", 0],
      ["b", 3],
      ["b", 3.5],
      ["c", 9],
      ["c2", 9],
    ] as const)
      await publish(id, days);
    await sealedTo(system, B + 2 * 24);
    expect(await first.stop()).toEqual({ code: 0, signal: null });
    await eventually(
      "the sink has stored them",
      async () => (await clickhouse.query<{ rows: number }>("SELECT count() AS rows FROM transactions"))[0].rows === 5,
    );
    await rm(join(dataDir, "state"), { recursive: true });

    const second = start();
    expect(await second.logged("unsealed buckets at hand")).toMatchObject({ from: "log", offset: 5 });
    await second.stop();
    await rm(join(dataDir, "state"), { recursive: true });

    const admin = kafkaJs(system.kafka).admin();
    await admin.connect();
    // kafkajs deletes in topics that it has heard of.
    await admin.fetchTopicOffsets(system.topics.transactions.name);
    await admin.deleteTopicRecords({
      topic: system.topics.transactions.name,
      partitions: [{ partition: 0, offset: "3" }],
    });
    await admin.disconnect();
    const lost = start();
    expect((await lost.ended).code).toBe(1);
    expect(lost.tail()).toMatch(
      /the fold of unsealed buckets needs the records from offset 0 to 2, which Kafka has deleted: set CLICKHOUSE_URL/,
    );

    const third = start(settings);
    await third.logged("unsealed buckets at hand");
    await system.producer.publish(system.topics.labels.name, [
      label({ id: "b", card: "c", fraud: true, time: T + 4 * DAY }),
    ]);
    for (const id of ["d", "d2"]) await publish(id, 20);
    await sealedTo(system, B + 13 * 24);
    expect(await buckets()).toEqual([
      [0, 1, 0],
      [3 * 24, 1, 1],
      [9 * 24, 2, 0],
    ]);
    expect(await third.stop()).toEqual({ code: 0, signal: null });

    const last = start();
    expect(await last.logged("unsealed buckets at hand")).toMatchObject({ from: "snapshot", offset: 7, folded: 0 });
    await last.stop();
    await sink.stop();
  },
);
