import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { Connection } from "@platformatic/kafka";
import type { Transaction as KafkaJsTransaction } from "kafkajs";
import { describe, expect, onTestFinished, test } from "vitest";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster, type BrokerAddress } from "../../infra/kafka/cluster.js";
import { PartitionReader, type PartitionReaderOptions } from "../../infra/kafka/partition-reader.js";
import { readHeaders } from "../../infra/kafka/records.js";
import { readConfig } from "../../infra/config/config.js";
import { canRunJava } from "../../infra/local/kafka-java.js";
import { kafkaJars } from "../../infra/local/kafka-jars.js";
import { packageRoot } from "../../infra/package-root.js";
import { UsageError } from "../../schemas/errors.js";
import { allTopics, topicsFor } from "../../schemas/topics.js";
import type { CuttableProxy } from "../support/cuttable-proxy.js";
import { kafkaConfig } from "../support/engines.js";
import { until } from "../support/eventually.js";
import { silent, testKafka } from "../support/kafka-cluster.js";

const { cacheDir } = readConfig();
const java = existsSync(kafkaJars(cacheDir)) && (await canRunJava(cacheDir));
if (!java)
  process.stderr.write(
    `Batches of Kafka's own client are not tested: there is no Java 17, or no Kafka in ${kafkaJars(cacheDir)}.\n`,
  );

function readerOf(cluster: KafkaCluster, topic: string, options: PartitionReaderOptions = {}): PartitionReader {
  const reader = new PartitionReader(cluster, topic, 0, { maxWaitMs: 50, ...options });
  onTestFinished(() => reader.close());
  return reader;
}

async function publish(cluster: KafkaCluster, topic: string, values: (string | Buffer)[]): Promise<void> {
  const producer = await BatchProducer.open(cluster);
  await producer.publishTo(
    topic,
    0,
    values.map((value) => ({ key: null, value: Buffer.from(value as string) })),
  );
  await producer.close();
}

/** kafkajs: `ConfigResourceTypes.TOPIC`. */
const CONFIG_OF_TOPICS = 2;

const failed = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "no error",
    (error: unknown) => error,
  );

/** As tests/support/ProduceCompressed.java makes them. */
function javaValue(i: number): Buffer | null {
  if (i % 10 === 7) return null;
  const bytes = Buffer.alloc(3000 + 10 * i);
  for (let at = 0, state = i; at < bytes.length; at++) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    bytes[at] = at % 256 < 128 ? 97 + (i % 26) : state >> 16;
  }
  return bytes;
}

describe("compression", () => {
  test.runIf(java)("batches of Kafka's own client are read, whatever codec they are compressed with", async () => {
    const { cluster, topic } = testKafka();
    const codecs = ["gzip", "snappy", "lz4", "zstd", "none"];
    const name = await topic("packed", codecs.length);
    const count = 250;
    const source = join(packageRoot(), "tests/support/ProduceCompressed.java");
    await promisify(execFile)("java", [
      "-cp",
      join(kafkaJars(cacheDir), "*"),
      "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
      source,
      kafkaConfig().brokers.join(","),
      name,
      String(count),
      ...codecs,
    ]);
    const expected = Array.from({ length: count }, (_, i) => javaValue(i));
    for (const [partition, codec] of codecs.entries()) {
      const reader = new PartitionReader(cluster, name, partition, { maxBytes: 300_000 });
      onTestFinished(() => reader.close());
      let next = 0;
      let fetches = 0;
      for (let seen = 0; seen < count; fetches++) {
        const records = await reader.fetch(next);
        for (let i = 0; i < records.count; i++, seen++) {
          const value =
            records.valueLength[i] < 0
              ? null
              : records.bytes.subarray(records.valueAt[i], records.valueAt[i] + records.valueLength[i]);
          const same = expected[seen] === null ? value === null : value?.equals(expected[seen] as Buffer);
          if (same !== true) expect.fail(`${codec}: value ${seen}`);
          expect([records.offset[i], records.timestamp[i], records.keyLength[i]]).toEqual([
            seen,
            1_700_000_000_000 + seen,
            seen % 3 === 0 ? -1 : `key-${seen}`.length,
          ]);
          expect(readHeaders(records, i)).toEqual(
            seen % 4 === 0
              ? [
                  ["n", Buffer.from(String(seen))],
                  ["none", null],
                ]
              : [],
          );
        }
        next = records.nextOffset;
      }
      // Several batches, each of many records.
      expect(fetches, codec).toBeGreaterThan(1);
      expect(fetches, codec).toBeLessThan(20);
    }
  });
});

describe("PartitionReader", () => {
  test("of an empty topic", async () => {
    const { cluster, topic } = testKafka();
    const reader = readerOf(cluster, await topic("empty"));
    expect([
      await reader.firstOffset(),
      await reader.endOffset(),
      await reader.offsetAt(0),
      await reader.offsetAt(Date.now() + 1e9),
    ]).toEqual([0, 0, 0, 0]);
    const records = await reader.fetch(0);
    expect([records.count, records.nextOffset, records.lastStableOffset]).toEqual([0, 0, 0]);
    expect(await failed(reader.fetch(1))).toMatchObject({ code: "kafka_offset_out_of_range", retriable: false });
  });

  test("returns first and last offsets, offsets by time, and an error for what is no longer in the log", async () => {
    const { cluster, topic, kafka } = testKafka();
    const name = await topic("log");
    const times: number[] = [];
    for (let i = 0; i < 3; i++) {
      times.push(Date.now());
      await publish(cluster, name, [`${i}a`, `${i}b`]);
      await sleep(20);
    }
    const reader = readerOf(cluster, name);
    expect([await reader.firstOffset(), await reader.endOffset()]).toEqual([0, 6]);
    expect(
      await Promise.all(
        [0, times[0], times[1], times[2], Date.now() + 60_000].map((time) => readerOf(cluster, name).offsetAt(time)),
      ),
    ).toEqual([0, 0, 2, 4, 6]);
    expect((await reader.fetch(3)).count).toBe(3);
    const admin = kafka.admin();
    await admin.connect();
    await admin.fetchTopicOffsets(name); // kafkajs deletes only in topics that it has met
    await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: "3" }] });
    await admin.disconnect();
    expect(await reader.firstOffset()).toBe(3);
    expect(await failed(reader.fetch(2))).toMatchObject({ code: "kafka_offset_out_of_range", retriable: false });
    const rest = await reader.fetch(3);
    expect([rest.count, rest.offset[0], rest.nextOffset]).toEqual([3, 3, 6]);
  });

  test("a batch larger than a fetch still comes whole, also next to smaller ones", async () => {
    const { cluster, topic, values } = testKafka();
    const name = await topic("large", 1, { "max.message.bytes": "5000000" });
    await publish(cluster, name, ["small", Buffer.alloc(3_000_000, 98), "behind"]);
    const reader = readerOf(cluster, name, { maxBytes: 1_000 });
    const seen: number[] = [];
    for (let next = 0; next < 3;) {
      const records = await reader.fetch(next);
      for (let i = 0; i < records.count; i++) seen.push(records.valueLength[i]);
      next = records.nextOffset;
    }
    expect(seen).toEqual([5, 3_000_000, 6]);
    expect((await values(name)).map((value) => value.length)).toEqual([5, 3_000_000, 6]);
  });

  describe("with a transaction open", () => {
    async function openTransaction(): Promise<{
      name: string;
      cluster: KafkaCluster;
      transaction: KafkaJsTransaction;
    }> {
      const { cluster, topic, kafka, prefix } = testKafka();
      const name = await topic("log");
      await publish(cluster, name, ["before"]);
      const producer = kafka.producer({ transactionalId: `${prefix}id`, maxInFlightRequests: 1, idempotent: true });
      await producer.connect();
      onTestFinished(() => producer.disconnect());
      const transaction = await producer.transaction();
      await transaction.send({ topic: name, messages: [{ value: "inside" }] });
      await publish(cluster, name, ["after"]);
      return { name, cluster, transaction };
    }
    const texts = async (
      reader: PartitionReader,
      from: number,
    ): Promise<{ values: string[]; next: number; stable: number }> => {
      const records = await reader.fetch(from);
      return {
        values: Array.from({ length: records.count }, (_, i) =>
          records.bytes.toString("utf8", records.valueAt[i], records.valueAt[i] + records.valueLength[i]),
        ),
        next: records.nextOffset,
        stable: records.lastStableOffset,
      };
    };

    test("nothing from its first record on is visible until it is committed", async () => {
      const { name, cluster, transaction } = await openTransaction();
      const reader = readerOf(cluster, name);
      expect(await reader.endOffset()).toBe(1);
      expect(await texts(reader, 0)).toEqual({ values: ["before"], next: 1, stable: 1 });
      expect(await texts(reader, 1)).toEqual({ values: [], next: 1, stable: 1 });
      // A fetch that waits is answered by the commit.
      const waiting = texts(readerOf(cluster, name, { maxWaitMs: 20_000 }), 1);
      await transaction.commit();
      expect(["inside,after", "inside"]).toContain((await waiting).values.join());
      const all: string[] = [];
      let next = 0;
      while (next < 4) {
        const part = await texts(reader, next);
        all.push(...part.values);
        next = part.next;
      }
      expect([all, next, await reader.endOffset()]).toEqual([["before", "inside", "after"], 4, 4]);
    });

    test("its records are left out when it is aborted, from wherever reading begins", async () => {
      const { name, cluster, transaction } = await openTransaction();
      await transaction.abort();
      for (const [from, expected] of [
        [0, ["before", "after"]],
        [1, ["after"]],
        [2, ["after"]],
        [3, []],
      ] as const) {
        const reader = readerOf(cluster, name);
        const all: string[] = [];
        for (let next: number = from; next < 4;) {
          const part = await texts(reader, next);
          all.push(...part.values);
          next = part.next;
        }
        expect(all).toEqual(expected);
      }
    });
  });

  test("an unknown topic or partition is transient trouble, for as long as the reader has patience", async () => {
    const { cluster, topic, prefix } = testKafka();
    expect(await failed(readerOf(cluster, `${prefix}nowhere`, { patienceMs: 200 }).fetch(0))).toMatchObject({
      code: "kafka_unknown_topic_or_partition",
      retriable: true,
    });
    const name = await topic("one");
    const beyond = new PartitionReader(cluster, name, 7, { patienceMs: 200 });
    expect(await failed(beyond.endOffset())).toMatchObject({
      code: "kafka_unknown_topic_or_partition",
      retriable: true,
    });
    // A topic that comes up meanwhile is found.
    const early = readerOf(cluster, `${prefix}late`).endOffset();
    await topic("late");
    expect(await early).toBe(0);
  });

  test("closing ends a fetch under way, and every later one", async () => {
    const { cluster, topic } = testKafka();
    const reader = readerOf(cluster, await topic("quiet"), { maxWaitMs: 30_000 });
    await reader.endOffset();
    const fetching = failed(reader.fetch(0));
    await reader.close();
    expect(await fetching).toMatchObject({ code: "kafka_closed" });
    expect(await failed(reader.fetch(0))).toMatchObject({ code: "kafka_closed" });
    const neverOpened = readerOf(cluster, reader.topic, { maxWaitMs: 30_000 });
    const opening = failed(neverOpened.fetch(0));
    await neverOpened.close();
    expect(await opening).toMatchObject({ code: "kafka_closed" });
  });

  test("concurrent callers share a connection: a second one would be closed by nobody", async () => {
    const { topic } = testKafka();
    const opened: BrokerAddress[] = [];
    class Counted extends KafkaCluster {
      override open(address: BrokerAddress): Promise<Connection> {
        opened.push(address);
        return super.open(address);
      }
    }
    const cluster = new Counted(kafkaConfig(), "counted");
    onTestFinished(() => cluster.close());
    const reader = readerOf(cluster, await topic("shared"));
    expect(await Promise.all([reader.firstOffset(), reader.endOffset()])).toEqual([0, 0]);
    // Another one asks for the leader.
    expect(opened).toHaveLength(2);
  });

  test("a lost connection is opened again; without patience it is a retriable error", async () => {
    const { cluster, topic, proxied } = testKafka();
    const name = await topic("log");
    const { proxy, cluster: behind } = await proxied();
    const reader = readerOf(behind, name, { maxWaitMs: 30_000 });
    expect(await reader.endOffset()).toBe(0);
    const fetching = reader.fetch(0);
    proxy.mode = "down";
    await sleep(50);
    proxy.mode = "up";
    await publish(cluster, name, ["x"]);
    expect((await fetching).count).toBe(1);
    proxy.mode = "down";
    expect(await failed(readerOf(behind, name, { patienceMs: 100 }).fetch(0))).toMatchObject({
      name: "KafkaError",
      code: "kafka_network",
      retriable: true,
    });
    const abort = new AbortController();
    const patient = failed(readerOf(behind, name, { signal: abort.signal }).fetch(0));
    await sleep(50);
    abort.abort();
    expect(await patient).toBeInstanceOf(Error);
  });
});

describe("ensureTopics", () => {
  test("creates missing topics, also from several clients at once, and accepts existing ones", async () => {
    const { prefix, kafka } = testKafka();
    const topics = allTopics(topicsFor(prefix, 3));
    const others = [1, 2, 3].map((n) => createKafka(kafkaConfig(), `${prefix}${n}`, silent));
    // One of them finds some of the topics there.
    await Promise.all([...others.map((other) => ensureTopics(other, topics)), ensureTopics(kafka, topics.slice(0, 4))]);
    await ensureTopics(kafka, topics);
    const admin = kafka.admin();
    await admin.connect();
    const { topics: found } = await admin.fetchTopicMetadata({ topics: topics.map(({ name }) => name) });
    expect(new Map(found.map(({ name, partitions }) => [name, partitions.length]))).toEqual(
      new Map(topics.map(({ name, partitions }) => [name, partitions])),
    );
    const described = (await admin.describeConfigs({
      includeSynonyms: false,
      resources: topics.map(({ name }) => ({ type: CONFIG_OF_TOPICS, name })),
    })) as { resources: { resourceName: string; configEntries: { configName: string; configValue: string }[] }[] };
    for (const { name, settings } of topics) {
      const entries = described.resources.find(({ resourceName }) => resourceName === name)?.configEntries ?? [];
      expect(
        Object.fromEntries(
          Object.keys(settings).map((key) => [key, entries.find(({ configName }) => configName === key)?.configValue]),
        ),
      ).toEqual(settings);
    }
    await admin.disconnect();
  });

  test("waits for a broker that goes away while it is asked", async () => {
    const { prefix, proxied } = testKafka();
    const { proxy } = await proxied();
    proxy.mode = "dying";
    const ensured = ensureTopics(
      createKafka({ ...kafkaConfig(), brokers: [`127.0.0.1:${proxy.port}`] }, prefix, silent),
      [{ name: `${prefix}one`, partitions: 1, settings: {} }],
    );
    await until(() => proxy.cuts > 0);
    proxy.mode = "up";
    await ensured;
  });

  test("another number of partitions is a user's mistake, reported in one line", async () => {
    const { prefix, kafka, topic } = testKafka();
    await topic("two", 2);
    const wrong = failed(
      ensureTopics(kafka, [
        { name: `${prefix}one`, partitions: 1, settings: {} },
        { name: `${prefix}two`, partitions: 3, settings: {} },
      ]),
    );
    expect(await wrong).toBeInstanceOf(UsageError);
    expect(await wrong).toMatchObject({
      code: "partition_count",
      message: expect.stringMatching(/two has 2 partitions, not 3.*TOPIC_PARTITIONS/) as string,
    });
  });
});

describe("KafkaCluster", () => {
  const clusterOf = (brokers: string[]): KafkaCluster => {
    const cluster = new KafkaCluster({ ...kafkaConfig(), brokers }, "test");
    onTestFinished(() => cluster.close());
    return cluster;
  };

  test("finds its way from any broker that answers", async () => {
    const { topic } = testKafka();
    const name = await topic("two", 2);
    const cluster = clusterOf(["127.0.0.1:1", ...kafkaConfig().brokers]);
    expect(await cluster.partitionsOf(name)).toBe(2);
    expect(`${(await cluster.anyBroker()).host}:${(await cluster.anyBroker()).port}`).toBe(kafkaConfig().brokers[0]);
  });

  describe("with a broker that accepts connections and never answers", () => {
    const silentProxy = async (): Promise<CuttableProxy> => {
      const { proxy } = await testKafka().proxied();
      proxy.mode = "silent";
      return proxy;
    };
    const took = async (work: () => Promise<unknown>): Promise<number> => {
      const startedAt = performance.now();
      await work();
      return performance.now() - startedAt;
    };

    test("asks the next one after seconds, and not the silent one again until it answers", async () => {
      const { topic } = testKafka();
      const name = await topic("two", 2);
      const proxy = await silentProxy();
      const cluster = clusterOf([`127.0.0.1:${proxy.port}`, ...kafkaConfig().brokers]);
      expect(await took(async () => expect(await cluster.partitionsOf(name)).toBe(2))).toBeLessThan(10_000);
      // Its own connection is lost, and the silent one is not even tried.
      const other = clusterOf([`127.0.0.1:${proxy.port}`, ...kafkaConfig().brokers]);
      expect(await took(() => Promise.all([other.partitionsOf(name), other.identityOf(name)]))).toBeLessThan(10_000);
      expect(await took(() => Promise.all([cluster.partitionsOf(name), cluster.identityOf(name)]))).toBeLessThan(2_000);
    });

    test("topics are created within seconds, and a second client in the same process does not wait again", async () => {
      const { prefix } = testKafka();
      const proxy = await silentProxy();
      const kafka = createKafka(
        { ...kafkaConfig(), brokers: [`127.0.0.1:${proxy.port}`, ...kafkaConfig().brokers] },
        prefix,
        silent,
      );
      expect(
        await took(() => ensureTopics(kafka, [{ name: `${prefix}one`, partitions: 1, settings: {} }])),
      ).toBeLessThan(10_000);
      expect(
        await took(() => ensureTopics(kafka, [{ name: `${prefix}two`, partitions: 1, settings: {} }])),
      ).toBeLessThan(4_000);
    });

    test("a fetch that hangs midway is given up, and continues when the broker is back", async () => {
      const { cluster, topic, proxied } = testKafka();
      const name = await topic("log");
      const { proxy, cluster: behind } = await proxied();
      const reader = readerOf(behind, name, { maxWaitMs: 200, patienceMs: 1_000 });
      await reader.endOffset();
      const fetching = reader.fetch(0);
      proxy.mode = "silent";
      await publish(cluster, name, ["x"]);
      await fetching.catch(() => {});
      expect(
        await took(async () =>
          expect(await failed(reader.fetch(0))).toMatchObject({ code: "kafka_network", retriable: true }),
        ),
      ).toBeLessThan(20_000);
      proxy.mode = "up";
      expect(await took(async () => expect((await reader.fetch(0)).count).toBe(1))).toBeLessThan(5_000);
      // Closing doesn't wait for it either.
      proxy.mode = "silent";
      expect(await took(() => Promise.all([reader.close(), behind.close()]))).toBeLessThan(1_000);
    });
  });

  test("takes IPv6 addresses", async () => {
    expect(await failed(clusterOf(["[::1]:1"]).anyBroker())).toMatchObject({
      code: "kafka_network",
      message: expect.stringContaining("connecting to ::1:1") as string,
    });
  });

  test("if none answers, that is transient trouble; once the cluster is closed, it is not", async () => {
    const cluster = clusterOf(["127.0.0.1:1"]);
    expect(await failed(cluster.partitionsOf("x"))).toMatchObject({
      name: "KafkaError",
      code: "kafka_network",
      retriable: true,
    });
    await cluster.close();
    expect(await failed(cluster.partitionsOf("x"))).toMatchObject({ code: "kafka_closed", retriable: false });
    const closing = clusterOf(kafkaConfig().brokers);
    const asking = failed(closing.partitionsOf("x"));
    await closing.close();
    expect(await asking).toMatchObject({ name: "KafkaError" });
  });
});
