import { compressionsAlgorithms } from "@platformatic/kafka";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { createKafka } from "../../infra/kafka/client.js";
import { RETRY, retry } from "../../infra/async/retry.js";
import { KafkaError } from "../../infra/kafka/errors.js";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { produce } from "../../infra/kafka/produce.js";
import { PartitionConsumer, type PartitionHandler, type Tenure } from "../../pipelines/runtime/partition-consumer.js";
import { FraudstreamError } from "../../schemas/errors.js";
import { kafkaConfig } from "../support/engines.js";
import { until } from "../support/eventually.js";
import { silent, testKafka, type TestKafka } from "../support/kafka-cluster.js";
import { handMadeBatch } from "../unit/infra/kafka/hand-made-batch.js";

interface Member {
  consumer: PartitionConsumer;
  /** `partition/offset` of each record that was processed, in order. */
  seen: string[];
  opened: number[];
  closed: number[];
  failures: unknown[];
  /** Runs before a batch is processed; what it throws ends the tenure. */
  before: (partition: number, tenure: Tenure) => Promise<void> | void;
  /** Runs when a tenure begins. */
  onOpen: (tenure: Tenure) => Promise<void> | void;
}

/** A member of the test's group that commits each batch behind it, as the sink does. */
async function member(
  test: TestKafka,
  topic: string,
  name: string,
  { start = true, brokers = kafkaConfig().brokers } = {},
): Promise<Member> {
  const { cluster, prefix } = test;
  const made: Omit<Member, "consumer"> = {
    seen: [],
    opened: [],
    closed: [],
    failures: [],
    before: () => {},
    onOpen: () => {},
  };
  const consumer: PartitionConsumer = new PartitionConsumer({
    cluster,
    kafka: createKafka({ ...kafkaConfig(), brokers }, `${prefix}${name}`, silent),
    log: silent,
    group: `${prefix}group`,
    topics: [topic],
    reader: { maxWaitMs: 100, maxBytes: 2_000 },
    onFailure: (error) => void result.failures.push(error),
    open: async (tenure) => {
      const { partition } = tenure;
      result.opened.push(partition);
      await result.onOpen(tenure);
      const handler: PartitionHandler = {
        process: async (records) => {
          await result.before(partition, tenure);
          for (let i = 0; i < records.count; i++) result.seen.push(`${partition}/${records.offset[i]}`);
          await consumer.commit([{ topic, partition, offset: records.nextOffset }]);
        },
        close: () => {
          result.closed.push(partition);
          return Promise.resolve();
        },
      };
      return { handler, start: (await tenure.committed()).offset };
    },
  });
  const result: Member = Object.assign(made, { consumer });
  onTestFinished(() => consumer.stop());
  if (start) await consumer.start();
  return result;
}

async function fill(test: TestKafka, topic: string, partitions: number, count: number): Promise<void> {
  const producer = await BatchProducer.open(test.cluster);
  for (let partition = 0; partition < partitions; partition++) {
    for (let i = 0; i < count; i++)
      await producer.publishTo(topic, partition, [{ key: null, value: Buffer.alloc(500, i) }]);
  }
  await producer.close();
}

/** Writes a batch as it is. A topic made just now may have a leader that doesn't know of it yet. */
async function produceRaw({ cluster }: TestKafka, topic: string, batch: Buffer): Promise<void> {
  await retry(async () => {
    const connection = await cluster.open(await cluster.leaderOf(topic, 0, true));
    await produce(connection, null, [{ topic, partition: 0, batch }]).finally(() => connection.close());
  }, RETRY.kafkaRequest);
}

const partitionsOf = (of: Member): number[] => of.consumer.assigned.map(({ partition }) => partition).sort();
const all = (partitions: number, from: number, to: number): string[] =>
  Array.from({ length: partitions }, (_, p) => Array.from({ length: to - from }, (_, i) => `${p}/${from + i}`)).flat();

describe("PartitionConsumer", () => {
  test("members share the partitions; when one leaves, another resumes its partitions where it stopped", async () => {
    const kafka = testKafka();
    const topic = await kafka.topic("in", 4);
    // kafkajs can't unpack this; it never sees it.
    const packed = handMadeBatch({
      firstTimestamp: Date.now(),
      records: [{ value: Buffer.from("packed") }],
      codec: 2,
      pack: (records) => compressionsAlgorithms.snappy.compressSync(records),
    });
    await produceRaw(kafka, topic, packed);
    await fill(kafka, topic, 4, 20);

    const first = await member(kafka, topic, "first");
    await until(() => new Set(first.seen).size === 81);
    expect([partitionsOf(first), first.opened.sort()]).toEqual([
      [0, 1, 2, 3],
      [0, 1, 2, 3],
    ]);
    // In order, and each once.
    for (const partition of [0, 1, 2, 3])
      expect(first.seen.filter((seen) => seen.startsWith(`${partition}/`))).toEqual(
        Array.from({ length: partition === 0 ? 21 : 20 }, (_, i) => `${partition}/${i}`),
      );

    const second = await member(kafka, topic, "second");
    await until(() => partitionsOf(first).length === 2 && partitionsOf(second).length === 2);
    const [moved = -1] = partitionsOf(second);
    expect([...partitionsOf(first), ...partitionsOf(second)].sort()).toEqual([0, 1, 2, 3]);
    await fill(kafka, topic, 4, 10);
    await until(() => new Set([...first.seen, ...second.seen]).size === 121);
    expect(second.seen.every((seen) => partitionsOf(second).includes(Number(seen.split("/")[0])))).toBe(true);
    expect(second.seen).toHaveLength(20);

    // What has moved is no longer the first one's to commit.
    const group = `${kafka.prefix}group`;
    const at = { topic, partition: moved };
    await until(async () => (await committedOffset(kafka.cluster, group, at)) === (moved === 0 ? 31 : 30));
    const refused = first.consumer.commit([{ ...at, offset: 1 }]).then(
      () => "accepted",
      (error: unknown) => error,
    );
    expect(await refused).toMatchObject({ name: "KafkaError", code: "kafka_not_assigned" });
    expect(await committedOffset(kafka.cluster, group, at)).toBe(moved === 0 ? 31 : 30);

    await second.consumer.stop();
    expect(
      await second.consumer.commit([{ ...at, offset: 1 }]).then(
        () => "accepted",
        (error: unknown) => error,
      ),
    ).toBeInstanceOf(KafkaError);
    await until(() => partitionsOf(first).length === 4);
    await fill(kafka, topic, 4, 5);
    await until(() => new Set([...first.seen, ...second.seen]).size === 141);
    expect([first.failures, second.failures]).toEqual([[], []]);
  });

  test("a member that starts waits for a broker that goes away meanwhile", async () => {
    const kafka = testKafka();
    const topic = await kafka.topic("shared");
    const { proxy } = await kafka.proxied();
    proxy.mode = "dying";
    const { consumer, opened } = await member(kafka, topic, "early", {
      start: false,
      brokers: [`127.0.0.1:${proxy.port}`],
    });
    const started = consumer.start();
    await until(() => proxy.cuts > 0);
    proxy.mode = "up";
    await started;
    await until(() => opened.length === 1);
  });

  test("a fenced member leaves and rejoins, and every tenure begins again", async () => {
    const kafka = testKafka();
    const topic = await kafka.topic("in", 2);
    await fill(kafka, topic, 2, 5);
    const fenced = await member(kafka, topic, "fenced", { start: false });
    let left = 1;
    fenced.before = (partition) => {
      if (partition === 1 && left-- > 0) throw new KafkaError("PRODUCER_FENCED", "another owner", { retriable: false });
    };
    await fenced.consumer.start();
    await until(() => new Set(fenced.seen).size === 10 && partitionsOf(fenced).length === 2);
    expect(fenced.seen.filter((seen) => seen.startsWith("1/"))).toEqual(["1/0", "1/1", "1/2", "1/3", "1/4"]);
    expect(fenced.opened.filter((partition) => partition === 1)).toHaveLength(2);
    expect(fenced.failures).toEqual([]);
    await fill(kafka, topic, 2, 1);
    await until(() => new Set(fenced.seen).size === 12);
  });

  test("a transient error restarts the tenure from what was committed; any other goes to the role", async () => {
    const kafka = testKafka();
    const topic = await kafka.topic("in");
    await fill(kafka, topic, 1, 10);
    const one = await member(kafka, topic, "one", { start: false });
    const errors = [
      new KafkaError("NETWORK", "away", { retriable: true }),
      new FraudstreamError("schema_registry_unreachable", "away"),
      new KafkaError("MESSAGE_TOO_LARGE", "no", { retriable: false }),
    ];
    let batches = 0;
    one.before = () => {
      // The first batch is processed, then each error comes once.
      const error = batches++ > 0 ? errors.shift() : undefined;
      if (error !== undefined) throw error;
    };
    one.onOpen = () => {
      if (one.opened.length === 2) throw new KafkaError("COORDINATOR_NOT_AVAILABLE", "not yet", { retriable: true });
    };
    await one.consumer.start();
    await until(() => one.seen.length === 10);
    expect(one.seen).toEqual(all(1, 0, 10));
    expect([one.opened.length, one.closed.length, one.failures]).toEqual([5, 3, []]);

    one.before = () => {
      throw new FraudstreamError("undecodable", "it will never work");
    };
    await fill(kafka, topic, 1, 1);
    await until(() => one.failures.length > 0);
    await sleep(300);
    expect(one.failures).toEqual([expect.objectContaining({ code: "undecodable" })]);
    expect(one.opened).toHaveLength(5);
  });

  test("stopping finishes the current batch and commits it", async () => {
    const kafka = testKafka();
    const topic = await kafka.topic("in");
    await fill(kafka, topic, 1, 30);
    const one = await member(kafka, topic, "one", { start: false });
    let inHand = (): void => {};
    const begun = new Promise<void>((resolve) => (inHand = resolve));
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    one.before = async () => {
      inHand();
      await gate;
    };
    await one.consumer.start();
    await begun;
    let stopped = false;
    const stopping = one.consumer.stop().then(() => (stopped = true));
    await sleep(200);
    expect([stopped, one.seen]).toEqual([false, []]);
    release();
    await stopping;
    expect(one.seen.length).toBeGreaterThan(0);
    expect(one.seen.length).toBeLessThan(30);
    expect(await committedOffset(kafka.cluster, `${kafka.prefix}group`, { topic, partition: 0 })).toBe(one.seen.length);
    expect([one.closed, one.failures]).toEqual([[0], []]);
    const next = await member(kafka, topic, "next");
    await until(() => one.seen.length + next.seen.length === 30);
    expect([...one.seen, ...next.seen]).toEqual(all(1, 0, 30));
  });

  test("a tenure that is over before it has begun is closed, and nothing is left behind", async () => {
    const kafka = testKafka();
    const topic = await kafka.topic("in");
    await fill(kafka, topic, 1, 3);
    const one = await member(kafka, topic, "one", { start: false });
    one.onOpen = async ({ signal }) => {
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
    };
    await one.consumer.start();
    await until(() => one.opened.length === 1);
    await one.consumer.stop();
    await sleep(200);
    expect([one.seen, one.closed, one.failures]).toEqual([[], [0], []]);
  });

  test("records that retention has deleted are skipped", async () => {
    const kafka = testKafka();
    const topic = await kafka.topic("in");
    await fill(kafka, topic, 1, 6);
    const admin = kafka.kafka.admin();
    await admin.connect();
    await admin.fetchTopicOffsets(topic); // kafkajs deletes only in topics that it has met
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "4" }] });
    await admin.disconnect();
    const one = await member(kafka, topic, "one");
    await until(() => one.seen.length === 2);
    expect([one.seen, one.failures]).toEqual([["0/4", "0/5"], []]);
  });
});
