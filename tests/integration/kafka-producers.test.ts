import { offsetFetchV8 } from "@platformatic/kafka";
import { describe, expect, onTestFinished, test } from "vitest";
import { BatchProducer, partitionOf, type BatchProducerOptions } from "../../infra/kafka/batch-producer.js";
import { call, type KafkaCluster } from "../../infra/kafka/cluster.js";
import { KafkaError } from "../../infra/kafka/errors.js";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { TransactionalProducer, type TransactionalProducerOptions } from "../../infra/kafka/transactional-producer.js";
import { until } from "../support/eventually.js";
import { testKafka } from "../support/kafka-cluster.js";

async function transactional(
  cluster: KafkaCluster,
  id: string,
  options?: TransactionalProducerOptions,
): Promise<TransactionalProducer> {
  const producer = await TransactionalProducer.open(cluster, id, options);
  onTestFinished(() => producer.close());
  return producer;
}

async function batching(cluster: KafkaCluster, options?: BatchProducerOptions): Promise<BatchProducer> {
  const producer = await BatchProducer.open(cluster, options);
  onTestFinished(() => producer.close());
  return producer;
}

function output(topic: string, partition: number, values: (string | Buffer)[]): PartitionOutput {
  const made = new PartitionOutput(topic, partition);
  for (const value of values) made.append(Buffer.from("k"), Buffer.from(value as string));
  return made;
}

const plain = (value: string | Buffer): { key: null; value: Buffer } => ({
  key: null,
  value: Buffer.from(value as string),
});
const failed = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "no error",
    (error: unknown) => error,
  );

/** Waits until a transaction of this group's offsets is under way: a stable offset is then refused. */
async function offsetPending(cluster: KafkaCluster, group: string, topic: string): Promise<void> {
  const connection = await cluster.open(await cluster.coordinatorOf("group", group));
  const groups = [{ groupId: group, memberEpoch: -1, topics: [{ name: topic, partitionIndexes: [0] }] }];
  await until(async () => {
    const answer = await failed(call(connection, offsetFetchV8.api, [groups, true], "looking"));
    return answer instanceof KafkaError && answer.code === "kafka_unstable_offset_commit";
  });
  await connection.close();
}

describe("TransactionalProducer", () => {
  test("shows output and offsets together, once committed, and nothing of an aborted transaction", async () => {
    const { cluster, topic, values, visible, prefix } = testKafka();
    const [input, out] = [await topic("in"), await topic("out", 2)];
    const group = `${prefix}group`;
    const at = { topic: input, partition: 0 };
    const producer = await transactional(cluster, `${prefix}id`);
    expect(await committedOffset(cluster, group, at)).toBeNull();

    producer.begin([{ topic: out, partition: 0 }], { group, ...at, offset: 5 });
    await offsetPending(cluster, group, input);
    let settled = false;
    const asked = committedOffset(cluster, group, at).finally(() => (settled = true));
    expect(await visible(out)).toEqual([]);
    expect(settled).toBe(false);
    // Partition 1 was not announced.
    await producer.commit([output(out, 0, ["a", "b"]), output(out, 1, ["c"])], Date.now());
    expect(await asked).toBe(5);
    expect([await values(out, 0), await values(out, 1)]).toEqual([["a", "b"], ["c"]]);

    producer.begin([{ topic: out, partition: 0 }], { group, ...at, offset: 6 });
    await offsetPending(cluster, group, input);
    await producer.abort();
    expect([await committedOffset(cluster, group, at), await values(out, 0)]).toEqual([5, ["a", "b"]]);
  });

  test("continues over many transactions, empty ones and aborted ones, in order", async () => {
    const { cluster, topic, values, prefix } = testKafka();
    const [input, out] = [await topic("in"), await topic("out", 2)];
    const group = `${prefix}group`;
    const producer = await transactional(cluster, `${prefix}id`);
    const expected: string[][] = [[], []];
    const outputs = [new PartitionOutput(out, 0), new PartitionOutput(out, 1)];
    for (let round = 0; round < 60; round++) {
      producer.begin([{ topic: out, partition: 0 }], { group, topic: input, partition: 0, offset: round + 1 });
      if (round % 7 === 3) {
        await producer.abort();
        continue;
      }
      for (const [partition, made] of outputs.entries()) {
        for (let i = 0; i < (round * (partition + 1)) % 4; i++) {
          made.append(null, Buffer.from(`${round}/${i}`));
          expected[partition]?.push(`${round}/${i}`);
        }
      }
      await producer.commit(
        outputs.filter(({ count }) => count > 0),
        Date.now(),
      );
      for (const made of outputs) made.reset();
    }
    expect([await values(out, 0), await values(out, 1)]).toEqual(expected);
    // The last round was given up.
    expect(await committedOffset(cluster, group, { topic: input, partition: 0 })).toBe(59);
  });

  test("writes what is larger than a batch may be as several batches, in order", async () => {
    const { cluster, topic, prefix } = testKafka();
    const out = await topic("out", 2);
    const producer = await transactional(cluster, `${prefix}id`);
    const sizes = [3, 950_000, 600_000, 600_000, 10, 700_000, 980_000, 500_000, 500_000, 600_000, 1];
    const [large, small] = [
      output(
        out,
        0,
        sizes.map((size, i) => Buffer.alloc(size, 65 + i)),
      ),
      output(out, 1, ["x"]),
    ];
    expect(large.batches.length).toBeGreaterThan(5);
    producer.begin([large, small], null);
    await producer.commit([large, small], Date.now());
    const reader = new PartitionReader(cluster, out, 0);
    onTestFinished(() => reader.close());
    const read: [number, number][] = [];
    for (let next = 0; read.length < sizes.length;) {
      const records = await reader.fetch(next);
      for (let i = 0; i < records.count; i++) read.push([records.valueLength[i], records.bytes[records.valueAt[i]]]);
      next = records.nextOffset;
    }
    expect(read).toEqual(sizes.map((size, i) => [size, 65 + i]));
  });

  test("is fenced by another producer with its id, whether idle or in a transaction; the other continues", async () => {
    const { cluster, topic, values, prefix } = testKafka();
    const [input, out] = [await topic("in"), await topic("out")];
    const group = `${prefix}group`;
    const offset = (value: number): { group: string; topic: string; partition: number; offset: number } => ({
      group,
      topic: input,
      partition: 0,
      offset: value,
    });
    const announced = [{ topic: out, partition: 0 }];

    const first = await transactional(cluster, `${prefix}id`);
    first.begin(announced, offset(1));
    await first.commit([output(out, 0, ["first"])], Date.now());
    const second = await transactional(cluster, `${prefix}id`);
    first.begin(announced, offset(2));
    expect(await failed(first.commit([output(out, 0, ["zombie"])], Date.now()))).toMatchObject({
      fenced: true,
      retriable: false,
    });

    second.begin(announced, offset(3));
    await offsetPending(cluster, group, input);
    const third = await transactional(cluster, `${prefix}id`);
    // What the second had pending is given up by the time that the third is open.
    expect(await committedOffset(cluster, group, offset(0))).toBe(1);
    expect(await failed(second.commit([output(out, 0, ["zombie"])], Date.now()))).toMatchObject({ fenced: true });
    third.begin(announced, offset(4));
    await third.commit([output(out, 0, ["third"])], Date.now());
    expect([await values(out), await committedOffset(cluster, group, offset(0))]).toEqual([["first", "third"], 4]);
  });

  test("refuses a second transaction at once, and a commit without one", async () => {
    const { cluster, topic, prefix } = testKafka();
    const out = await topic("out");
    const producer = await transactional(cluster, `${prefix}id`);
    expect(await failed(producer.commit([], 0))).toMatchObject({ code: "kafka_no_transaction", retriable: false });
    await producer.abort();
    producer.begin([{ topic: out, partition: 0 }], null);
    expect(() => producer.begin([], null)).toThrow(
      expect.objectContaining({ code: "kafka_transaction_open" }) as Error,
    );
  });

  test("reports a failed announcement when it commits", async () => {
    const { cluster, prefix } = testKafka();
    const producer = await transactional(cluster, `${prefix}id`, { patienceMs: 200 });
    producer.begin([], { group: `${prefix}group`, topic: `${prefix}nowhere`, partition: 0, offset: 1 });
    expect(await failed(producer.commit([], Date.now()))).toMatchObject({ code: "kafka_unknown_topic_or_partition" });
  });

  test("a lost connection is a retriable error; opening the id again settles the outcome of the batch", async () => {
    const { cluster, topic, values, prefix, proxied } = testKafka();
    const [input, out] = [await topic("in"), await topic("out")];
    const group = `${prefix}group`;
    const { proxy, cluster: behind } = await proxied();
    for (const [round, mode] of (["down", "deaf"] as const).entries()) {
      proxy.mode = "up";
      const producer = await transactional(behind, `${prefix}id`, { patienceMs: 20_000 });
      producer.begin([{ topic: out, partition: 0 }], { group, topic: input, partition: 0, offset: round + 1 });
      proxy.mode = mode;
      expect(await failed(producer.commit([output(out, 0, [`lost ${round}`])], Date.now()))).toMatchObject({
        name: "KafkaError",
        code: "kafka_network",
        retriable: true,
        fenced: false,
      });
      await producer.close();
    }
    expect(await failed(TransactionalProducer.open(behind, `${prefix}id`, { patienceMs: 300 }))).toMatchObject({
      code: "kafka_network",
      retriable: true,
    });
    proxy.mode = "up";
    const next = await transactional(behind, `${prefix}id`);
    const committed = (await committedOffset(cluster, group, { topic: input, partition: 0 })) ?? 0;
    expect(await values(out)).toHaveLength(committed === 0 ? 0 : 1);
    next.begin([{ topic: out, partition: 0 }], { group, topic: input, partition: 0, offset: 9 });
    await next.commit([output(out, 0, ["next"])], Date.now());
    expect((await values(out)).at(-1)).toBe("next");
    expect(await committedOffset(cluster, group, { topic: input, partition: 0 })).toBe(9);
  });
});

describe("BatchProducer", () => {
  test("stores what many callers publish at once in the order of their calls", async () => {
    const { cluster, topic, values } = testKafka();
    const out = await topic("out", 3);
    const producer = await batching(cluster);
    const keys = Array.from({ length: 20 }, (_, i) => Buffer.from(`card-${i}`));
    const calls = Array.from({ length: 150 }, (_, n) =>
      producer.publish(
        out,
        keys.slice(0, 1 + (n % 20)).map((key, i) => ({ key, value: Buffer.from(`${n}/${i}`) })),
      ),
    );
    await Promise.all(calls);
    for (const partition of [0, 1, 2]) {
      const expected = calls.flatMap((_, n) =>
        keys.slice(0, 1 + (n % 20)).flatMap((key, i) => (partitionOf(key, 3) === partition ? [`${n}/${i}`] : [])),
      );
      expect(await values(out, partition)).toEqual(expected);
    }
  });

  test("returns the offset of the first record, also for what takes several batches", async () => {
    const { cluster, topic, values } = testKafka();
    const out = await topic("out", 2);
    const producer = await batching(cluster);
    expect(await producer.publishTo(out, 1, [plain("a"), plain("b")])).toBe(0);
    expect(
      await producer.publishTo(
        out,
        1,
        Array.from({ length: 5 }, () => plain(Buffer.alloc(500_000, 97))),
      ),
    ).toBe(2);
    expect(await producer.publishTo(out, 1, [plain("z")])).toBe(7);
    expect((await values(out, 1)).map((value) => value.length)).toEqual([
      1, 1, 500_000, 500_000, 500_000, 500_000, 500_000, 1,
    ]);
    await producer.publish(out, []);
    expect(await values(out, 0)).toEqual([]);
  });

  test("keys, nulls and headers arrive unchanged", async () => {
    const { cluster, topic } = testKafka();
    const out = await topic("out");
    const producer = await batching(cluster);
    await producer.publishTo(out, 0, [
      { key: null, value: null },
      { key: Buffer.alloc(0), value: Buffer.alloc(0), headers: null },
    ]);
    const reader = new PartitionReader(cluster, out, 0);
    onTestFinished(() => reader.close());
    const records = await reader.fetch(0);
    expect([...records.keyLength.subarray(0, 2), ...records.valueLength.subarray(0, 2)]).toEqual([-1, 0, -1, 0]);
  });

  test("resends a batch that got no answer, and it is stored once", async () => {
    const { topic, values, proxied } = testKafka();
    const out = await topic("out");
    const { proxy, cluster: behind } = await proxied();
    const producer = await batching(behind);
    expect(await producer.publishTo(out, 0, [plain("first")])).toBe(0);
    for (let round = 1; round <= 3; round++) {
      proxy.mode = "deaf";
      const publishing = producer.publishTo(out, 0, [plain(`round ${round}`)]);
      await until(async () => (await values(out)).length === round + 1);
      proxy.mode = "up";
      expect(await publishing).toBe(round);
    }
    expect(await values(out)).toEqual(["first", "round 1", "round 2", "round 3"]);
  });

  test("nothing follows a batch whose outcome is unknown: it could be taken for that batch and be lost", async () => {
    const { topic, values, proxied } = testKafka();
    const out = await topic("out");
    const { proxy, cluster: behind } = await proxied();
    const producer = await batching(behind, { patienceMs: 400 });
    await producer.publish(out, [plain("first")]);
    proxy.mode = "deaf";
    const unknown = failed(producer.publish(out, [plain("unknown")]).finally(() => (proxy.mode = "up")));
    const behindIt = failed(producer.publish(out, [plain("behind it")]));
    expect(await unknown).toMatchObject({ code: "kafka_network", retriable: true });
    expect(await behindIt).toMatchObject({ code: "kafka_producer_failed", retriable: true });
    expect(await failed(producer.publish(out, [plain("later")]))).toMatchObject({ code: "kafka_producer_failed" });
    expect(await values(out)).toEqual(["first", "unknown"]);
    const anew = await batching(behind);
    await anew.publish(out, [plain("anew")]);
    expect(await values(out)).toEqual(["first", "unknown", "anew"]);
  });

  test("an unknown topic and a record that is too large are errors; the first leaves the producer usable", async () => {
    const { cluster, topic, prefix, values } = testKafka();
    const out = await topic("out", 1, { "max.message.bytes": "100000" });
    const producer = await batching(cluster, { patienceMs: 300 });
    expect(await failed(producer.publish(`${prefix}nowhere`, [plain("x")]))).toMatchObject({
      code: "kafka_unknown_topic_or_partition",
      retriable: true,
    });
    await producer.publish(out, [plain("a")]);
    expect(await failed(producer.publish(out, [plain(Buffer.alloc(200_000))]))).toMatchObject({
      code: "kafka_message_too_large",
      retriable: false,
    });
    expect(await values(out)).toEqual(["a"]);
  });

  test("waits for batches under way when it is closed", async () => {
    const { cluster, topic, values } = testKafka();
    const out = await topic("out");
    const producer = await BatchProducer.open(cluster);
    const calls = Array.from({ length: 5 }, (_, i) => producer.publish(out, [plain(String(i))]));
    await producer.close();
    await Promise.all(calls);
    expect(await values(out)).toEqual(["0", "1", "2", "3", "4"]);
    expect(await failed(producer.publish(out, [plain("late")]))).toBeInstanceOf(KafkaError);
  });
});
