import { rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, afterAll, expect, onTestFinished, test, vi } from "vitest";
import type { Admin } from "kafkajs";
import { partitionOf } from "../../infra/kafka/batch-producer.js";
import { createKafka } from "../../infra/kafka/client.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { eventually } from "../support/eventually.js";
import { silent } from "../support/kafka-cluster.js";
import { amountFeature, logistic } from "../support/models.js";
import { transaction, transactionRecord } from "../support/transactions.js";
import { RoleProcess } from "../support/workers.js";
import { TestSystem } from "../support/workers-system.js";

// Processes of their own start slowly on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

const PARTITIONS = 2;
const START = Date.UTC(2026, 0, 1);

let system: TestSystem;
let admin: Admin;
let worker: RoleProcess;
let published = 0;

beforeAll(async () => {
  system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: PARTITIONS });
  admin = createKafka(kafkaConfig(), `${system.prefix}admin`, silent).admin();
  await admin.connect();
  const count = {
    name: "count",
    type: "number" as const,
    source: { kind: "card" as const, aggregate: "count" as const, window: "P1D" },
    default: null,
  };
  await system.register("m@1", logistic([amountFeature, count]));
  await system.deploy("m@1");
  worker = system.startWorker();
}, 120_000);

afterAll(async () => {
  await admin.disconnect();
  await system.close();
});

/** Payments of twenty cards; every tenth is cut off by a byte, every seventh stands in the other card's partition. */
async function publish(count: number): Promise<void> {
  const records = Array.from({ length: count }, (_, i) => {
    const n = published + i;
    const card = `card-${n % 20}`;
    const { value } = transactionRecord(
      transaction(n, { transaction_id: `t${n}`, card_id: card, event_time: START + n * 1_000 }),
    );
    const home = partitionOf(Buffer.from(card), PARTITIONS);
    return {
      partition: n % 7 === 3 ? 1 - home : home,
      key: Buffer.from(card),
      value: n % 10 === 9 ? (value as Buffer).subarray(0, -1) : value,
    };
  });
  for (let partition = 0; partition < PARTITIONS; partition++)
    await system.publishTo(
      partition,
      records.filter((record) => record.partition === partition),
    );
  published += count;
}

const isCutOff = (n: number): boolean => n % 10 === 9;

/** Each payment from `from` on has one prediction, and each that is cut off one dead letter. */
async function expectOnce(from: number): Promise<void> {
  const expected = Array.from({ length: published - from }, (_, i) => from + i)
    .filter((n) => !isCutOff(n))
    .map((n) => `t${n}`);
  await eventually(`${expected.length} payments have a prediction`, async () => {
    const ids = (await system.predictions())
      .map(({ prediction }) => prediction.transaction_id)
      .filter((id) => Number(id.slice(1)) >= from);
    return ids.length >= expected.length ? true : undefined;
  });
  await system.consumed();
  const ids = (await system.predictions())
    .map(({ prediction }) => prediction.transaction_id)
    .filter((id) => Number(id.slice(1)) >= from);
  expect(ids.sort()).toEqual(expected.sort());
}

const letters = async (): Promise<number> => (await system.deadLetters()).length;

test("scoring whose committed offsets Kafka has forgotten resumes after its own outputs", async () => {
  await publish(300);
  await expectOnce(0);
  const refused = await letters();
  expect(refused).toBe(30);
  expect(await worker.stop()).toMatchObject({ code: 0 });
  // A worker on another machine: it has no snapshot either.
  await rm(join(system.dataDir, "state"), { recursive: true });
  await admin.deleteGroups([system.group]);
  await publish(100);
  worker = system.startWorker();
  await expectOnce(0);
  expect(await letters()).toBe(refused + 10);
  expect(worker.log.some(({ msg }) => msg.includes("Kafka has forgotten where"))).toBe(true);
  // The windows are those of the whole log: all twenty payments of its card but t318, which is sent on and so comes
  // behind it.
  const last = (await system.predictions()).find(({ prediction }) => prediction.transaction_id === "t398");
  expect(last?.prediction.features[1]).toBe(19);
});

test(
  "payments whose windows may miss some that retention deleted unread are stale, in later workers too, and " +
    "others are not",
  async () => {
    const { name } = system.topics.transactions;
    expect(await worker.stop()).toMatchObject({ code: 0 });
    await publish(100);
    const ends = await admin.fetchTopicOffsets(name);
    await admin.deleteTopicRecords({
      topic: name,
      partitions: ends.map(({ partition, high }) => ({ partition, offset: high })),
    });
    let from = published;
    worker = system.startWorker();
    // More than a few hundred in each partition: they show when, in the stream's own time, the gap was.
    await publish(900);
    await expectOnce(from);
    // What they showed is committed with the next ones.
    await publish(20);
    await expectOnce(from);
    const staleness = async (): Promise<boolean[]> =>
      (await system.predictions()).flatMap(({ prediction: { transaction_id: id, stale } }) =>
        Number(id.slice(1)) >= from ? [stale] : [],
      );
    expect(new Set(await staleness())).toEqual(new Set([true]));
    expect(
      worker.log.some(
        ({ code, msg }) => code === "history_incomplete" && msg.includes("records were lost before they were scored"),
      ),
    ).toBe(true);
    // Its last snapshot is from before the gap: what is known to be lost is looked for nowhere.
    await worker.kill();
    worker = system.startWorker();
    from = published;
    await publish(20);
    await expectOnce(from);
    expect(new Set(await staleness())).toEqual(new Set([true]));
    // Three days later: the gap lies a day before their windows.
    const later = Array.from({ length: 20 }, (_, i) => ({ n: published + i, card: `card-${i}` }));
    from = published;
    await system.publish(
      later.map(({ n, card }) =>
        transactionRecord(
          transaction(n, { transaction_id: `t${n}`, card_id: card, event_time: START + 3 * 86_400_000 + n * 1_000 }),
        ),
      ),
    );
    await system.consumed();
    published += later.length;
    expect(await staleness()).toEqual(later.map(() => false));
  },
);

test("scoring whose committed offset is beyond the log's end scores new records, and reports it", async () => {
  const from = published;
  expect(await worker.stop()).toMatchObject({ code: 0 });
  const ends = await admin.fetchTopicOffsets(system.topics.transactions.name);
  await admin.setOffsets({
    groupId: system.group,
    topic: system.topics.transactions.name,
    partitions: ends.map(({ partition, high }) => ({ partition, offset: String(Number(high) + 400) })),
  });
  worker = system.startWorker();
  await eventually(
    "the worker says that the log has lost its end",
    () => worker.log.filter(({ msg }) => msg.includes("the log ends at offset")).length >= PARTITIONS,
  );
  await publish(200);
  await expectOnce(from);
});

test("a topic that is deleted and created again while everything runs is read from its beginning", async () => {
  const { name } = system.topics.transactions;
  const merchants = new RoleProcess("merchants", system.settings);
  onTestFinished(() => merchants.kill());
  await merchants.logged("sealing merchants' buckets");
  let firstOfLog = 0;
  for (let round = 0; round < 2; round++) {
    const from = published;
    firstOfLog = from;
    await admin.deleteTopics({ topics: [name] });
    // Whether this call or one before it, whose answer came too late, created it.
    await eventually("the topic is created", async () =>
      admin.createTopics({ topics: [{ topic: name, numPartitions: PARTITIONS }] }).then(
        () => true,
        () => false,
      ),
    );
    await eventually("its leaders know of it", async () => {
      const readers = Array.from(
        { length: PARTITIONS },
        (_, partition) => new PartitionReader(system.cluster, name, partition),
      );
      return Promise.all(readers.map((reader) => reader.endOffset()))
        .then(
          () => true,
          () => false,
        )
        .finally(() => Promise.all(readers.map((reader) => reader.close())));
    });
    // More than the former topic had: its offsets are all there again at once.
    await publish(1_000);
    await expectOnce(from);
  }
  expect(worker.log.some(({ msg }) => msg.includes("was deleted and created again"))).toBe(true);
  // A worker that reads the history again doesn't take the dead letters of the former topics for this one's.
  await worker.kill();
  await rm(join(system.dataDir, "state"), { recursive: true, force: true });
  worker = system.startWorker();
  const last = published;
  await publish(20);
  await expectOnce(last);
  // Each card has one of these, so its window has all of its payments in this topic.
  const ofCardOf = (n: number): number =>
    Array.from({ length: published - firstOfLog }, (_, i) => firstOfLog + i).filter((each) => each % 20 === n % 20)
      .length;
  const counts = (await system.predictions())
    .filter(({ prediction }) => Number(prediction.transaction_id.slice(1)) >= last)
    .map(({ prediction }) => [prediction.transaction_id, prediction.features[1]]);
  expect(counts).toEqual(counts.map(([id]) => [id, ofCardOf(Number(String(id).slice(1)))]));
  await eventually("merchants says so, too", () => merchants.log.some(({ code }) => code === "log_recreated"));
  expect(merchants.exit).toBeNull();
});

test("payments behind a foreign open transaction are reported, with its producer and how to end it", async () => {
  const from = published;
  const { name } = system.topics.transactions;
  const foreign = createKafka(kafkaConfig(), `${system.prefix}foreign`, silent).producer({
    transactionalId: `${system.prefix}foreign`,
    transactionTimeout: 600_000,
    maxInFlightRequests: 1,
    idempotent: true,
  });
  await foreign.connect();
  onTestFinished(() => foreign.disconnect());
  const transactionOpen = await foreign.transaction();
  await transactionOpen.send({ topic: name, messages: [{ partition: 0, key: "x", value: "never committed" }] });
  await publish(100);
  const line = await eventually(
    "the worker reports it",
    () => worker.log.find(({ code }) => code === "open_transaction"),
    30_000,
  );
  expect(line).toMatchObject({ blocking: true });
  expect(line.msg).toMatch(
    new RegExp(
      "behind a transaction of producer id \\d+ \\(epoch \\d+\\).* abort --topic .*transactions --partition 0 " +
        "--start-offset \\d+",
    ),
  );
  await transactionOpen.abort();
  await expectOnce(from);
  await eventually("the condition is over", () =>
    worker.log.some(({ msg }) => msg.startsWith("over: ") && msg.includes("behind a transaction")),
  );
});

test("payments in a partition added at run time are forwarded to their card's, as every role reports", async () => {
  const { name } = system.topics.transactions;
  const merchants = new RoleProcess("merchants", system.settings);
  onTestFinished(() => merchants.kill());
  await merchants.logged("sealing merchants' buckets");
  const from = published;
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: PARTITIONS + 1 }] });
  const records = Array.from({ length: 60 }, (_, i) =>
    transactionRecord(
      transaction(published + i, {
        transaction_id: `t${published + i}`,
        card_id: `card-${(published + i) % 20}`,
        event_time: START + (published + i) * 1_000,
      }),
    ),
  );
  await system.publishTo(PARTITIONS, records);
  published += records.length;
  await publish(60);
  const ids = async (): Promise<string[]> =>
    (await system.predictions())
      .map(({ prediction }) => prediction.transaction_id)
      .filter((id) => Number(id.slice(1)) >= from);
  const expected = Array.from({ length: published - from }, (_, i) => from + i)
    .filter((n) => n < from + 60 || !isCutOff(n))
    .map((n) => `t${n}`)
    .sort();
  await eventually("all payments are scored", async () => (await ids()).length >= expected.length);
  expect((await ids()).sort()).toEqual(expected);
  for (const role of [worker, merchants]) {
    const line = await eventually(
      `${role.role} says that partitions were added`,
      () => role.log.find(({ code }) => code === "partitions_added"),
      20_000,
    );
    expect(line.msg).toMatch(/has 3 partitions, 2 are configured: leave TOPIC_PARTITIONS as it is/);
  }
  // What is advised is followed: everything starts again as it was.
  expect(await worker.stop()).toMatchObject({ code: 0 });
  expect(await merchants.stop()).toMatchObject({ code: 0 });
  worker = system.startWorker();
  const again = new RoleProcess("merchants", system.settings);
  onTestFinished(() => again.kill());
  await again.logged("sealing merchants' buckets");
  await publish(10);
  await eventually("payments are scored again", async () => (await ids()).length >= expected.length + 9);
  expect([worker.exit, again.exit]).toEqual([null, null]);
});
