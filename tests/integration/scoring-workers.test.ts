import { setTimeout as sleep } from "node:timers/promises";
import { expect, it, onTestFinished, vi } from "vitest";
import { createKafka } from "../../infra/kafka/client.js";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { createLogger } from "../../infra/logging.js";
import { PartitionConsumer } from "../../pipelines/runtime/partition-consumer.js";
import type { TopicSpec } from "../../schemas/topics.js";
import { seededRandom } from "../../models/training/random.js";
import { killWorkers, stopWorkers } from "../faults/faults.js";
import { checkKafka } from "../faults/kafka-check.js";
import { TransactionStream } from "../faults/stream.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { logistic } from "../support/models.js";
import { readPrediction } from "../support/transactions.js";
import { eventually } from "../support/eventually.js";
import type { RoleProcess } from "../support/workers.js";
import { TestSystem } from "../support/workers-system.js";

// Processes of their own start slowly on a busy machine.
vi.setConfig({ testTimeout: 180_000 });

async function openSystem(partitions: number): Promise<TestSystem> {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions });
  onTestFinished(() => system.close());
  await system.register("champion@1", logistic());
  await system.deploy("champion@1", ["champion@1"]);
  return system;
}

function streamInto(system: TestSystem, perSecond: number): TransactionStream {
  const stream = new TransactionStream(system, perSecond);
  onTestFinished(() => stream.stop());
  return stream;
}

/** Stops streaming, waits until everything is consumed, and counts. */
async function settle(system: TestSystem, stream: TransactionStream): Promise<void> {
  await stream.stop();
  await system.consumed();
  expect((await system.stopWorkers()).filter(({ code }) => code !== 0)).toEqual([]);
  const { wrong, ...counts } = await checkKafka(system, stream.acknowledged);
  expect(wrong, JSON.stringify(counts)).toEqual([]);
}

it("loses and duplicates nothing when workers are killed with -9 within a transaction", async () => {
  const system = await openSystem(4);
  const stream = streamInto(system, 1_000);
  expect(await killWorkers(system, { kills: 2, random: seededRandom(1) })).toMatchObject({ inTransaction: 2 });
  await settle(system, stream);
});

it("loses and duplicates nothing when a stopped worker wakes up after its partitions moved", async () => {
  const system = await openSystem(2);
  const stream = streamInto(system, 1_000);
  expect(await stopWorkers(system, { stops: 1, random: seededRandom(2) })).toMatchObject({ inTransaction: 1 });
  await settle(system, stream);
});

it("shares partitions among workers, and hands them over when one stops", async () => {
  const system = await openSystem(4);
  const owned = (worker: RoleProcess, partitions: number): Promise<unknown> =>
    system.heartbeat(
      `that ${worker.pid} owns ${partitions} partitions`,
      (beat) => beat.partitions.length === partitions,
      worker,
    );
  const stream = streamInto(system, 1_000);
  const first = system.startWorker();
  await owned(first, 4);
  const second = system.startWorker();
  await owned(first, 2);
  await owned(second, 2);
  expect(await first.stop()).toEqual({ code: 0, signal: null });
  await owned(second, 4);
  await settle(system, stream);
  // Stopped without a hurry: nothing was begun that was not finished.
  const offsets = async (topic: TopicSpec): Promise<number[]> =>
    (await system.read(topic)).flatMap(({ value }) => (value === null ? [] : [readPrediction(value).source_offset]));
  expect(await offsets(system.topics.shadowPredictions)).toEqual(await offsets(system.topics.predictions));
});

it("stops at any moment of its start with code 0, and does not hinder the next worker", async () => {
  const system = await openSystem(2);
  const stream = streamInto(system, 500);
  for (const pause of [0, 40]) {
    const worker = system.startWorker();
    await worker.logged("deployment in force");
    await sleep(pause);
    expect(await worker.stop()).toEqual({ code: 0, signal: null });
  }
  system.startWorker();
  await settle(system, stream);
});

it("tolerates the end of a partition's tenure before its first fetch has been processed", async () => {
  const system = await openSystem(1);
  const log = createLogger({ logLevel: "silent" }, "test");
  let opened = 0;
  const consumer = new PartitionConsumer({
    cluster: system.cluster,
    kafka: createKafka(kafkaConfig(), system.prefix, log),
    log,
    group: `${system.prefix}calm`,
    topics: [system.topics.transactions.name],
    onFailure: (error) => expect.unreachable(String(error)),
    open: () => {
      opened += 1;
      void consumer.stop();
      return Promise.resolve({
        start: null,
        handler: {
          process: () => Promise.reject(new Error("nothing is to be processed")),
          close: () => Promise.resolve(),
        },
      });
    },
  });
  await consumer.start();
  await eventually("the partition was assigned", () => opened === 1);
  // An unhandled rejection would fail this test's file.
  await consumer.stop();
  expect(
    await committedOffset(system.cluster, `${system.prefix}calm`, {
      topic: system.topics.transactions.name,
      partition: 0,
    }),
  ).toBeNull();
});
