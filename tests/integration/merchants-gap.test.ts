import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { Admin } from "kafkajs";
import type { OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { createKafka } from "../../infra/kafka/client.js";
import type { TopicSpec } from "../../schemas/topics.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { eventually } from "../support/eventually.js";
import { silent } from "../support/kafka-cluster.js";
import { labelRecord, publishedBuckets } from "../support/merchants.js";
import { amountFeature, logistic } from "../support/models.js";
import { transaction, transactionRecord } from "../support/transactions.js";
import { RoleProcess } from "../support/workers.js";
import { TestSystem } from "../support/workers-system.js";

// Processes of their own start slowly on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 0, 1);

let system: TestSystem;
let admin: Admin;
let merchants: RoleProcess;
let worker: RoleProcess;
let published = 0;

beforeAll(async () => {
  system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: 1 });
  admin = createKafka(kafkaConfig(), `${system.prefix}admin`, silent).admin();
  await admin.connect();
  const count = {
    name: "count",
    type: "number" as const,
    source: { kind: "merchant" as const, aggregate: "count" as const, window: "P1D", delay: "P7D", bucket: "PT1H" },
    default: null,
  };
  await system.register("m@1", logistic([amountFeature, count]));
  await system.deploy("m@1");
  merchants = startMerchants();
  worker = system.startWorker({ MERCHANT_WAIT_MS: "100" });
}, 120_000);

afterAll(async () => {
  await admin.disconnect();
  await merchants.kill();
  await system.close();
});

function startMerchants(): RoleProcess {
  return new RoleProcess("merchants", system.settings);
}

/** Payments at one merchant, a second apart, each by a card of its own. */
async function publish(count: number, days: number): Promise<void> {
  const records: OutgoingRecord[] = Array.from({ length: count }, (_, i) => {
    const n = published + i;
    return transactionRecord(
      transaction(n, {
        transaction_id: `t${n}`,
        card_id: `c${n}`,
        merchant_id: "m",
        event_time: START + days * DAY + i * 1_000,
      }),
    );
  });
  await system.publish(records);
  published += count;
}

/** What is in a topic now is gone before it was read by a role that is stopped. */
async function deleteLog(topic: TopicSpec): Promise<void> {
  const ends = await admin.fetchTopicOffsets(topic.name);
  await admin.deleteTopicRecords({
    topic: topic.name,
    partitions: ends.map(({ partition, high }) => ({ partition, offset: high })),
  });
}

/** Publishes payments, and one more when merchants have sealed what the first of them let be sealed. */
async function predictionAt(days: number): Promise<{ count: number; stale: boolean }> {
  await publish(3, days);
  const needed = Math.floor(days * 24) - 7 * 24 - 1;
  await eventually(`merchants are sealed up to hour ${needed}`, async () =>
    (await publishedBuckets(system)).some(
      ({ value }) => value.entity === "watermark" && value.bucket >= START + needed * HOUR,
    ),
  );
  await publish(1, days);
  const n = published - 1;
  const found = await eventually(`t${n} has a prediction`, async () =>
    (await system.predictions()).find(({ prediction }) => prediction.transaction_id === `t${n}`),
  );
  return { count: found.prediction.features[1], stale: found.prediction.stale };
}

test("merchant windows are stale if they may miss payments deleted by retention before they were counted", async () => {
  await publish(5, 0);
  await publish(3, 0.5);
  expect(await predictionAt(8)).toEqual({ count: 8, stale: false });
  expect(await merchants.stop()).toEqual({ code: 0, signal: null });

  // Scored, and never counted.
  await publish(7, 8.1);
  await system.consumed();
  await deleteLog(system.topics.transactions);
  merchants = startMerchants();
  // More than a few hundred: they tell when in the stream's own time the gap was.
  await publish(300, 8.2);
  await eventually("they are counted", async () => {
    const [{ partitions }] = await admin.fetchOffsets({
      groupId: `${system.prefix}merchants`,
      topics: [system.topics.transactions.name],
    });
    return Number(partitions[0].offset) === published;
  });
  expect(await predictionAt(15.3)).toEqual({ count: 304, stale: true });
  await eventually("the worker says so", () => worker.log.find(({ code }) => code === "history_incomplete"));
  expect(merchants.log.some(({ code }) => code === "log_deleted")).toBe(true);

  // A worker that starts later knows of it; a week later windows have moved past it.
  expect(await worker.stop()).toEqual({ code: 0, signal: null });
  worker = system.startWorker({ MERCHANT_WAIT_MS: "100" });
  expect(await predictionAt(15.9)).toMatchObject({ stale: true });
  expect(await predictionAt(22.9)).toEqual({ count: 4, stale: false });
});

test("and also if they may miss labels that retention deleted before they were counted", async () => {
  expect(await merchants.stop()).toEqual({ code: 0, signal: null });
  const last = published - 1;
  await system.producer.publishTo(system.topics.labels.name, 0, [
    labelRecord({ transaction_id: `t${last}`, card_id: `c${last}`, is_fraud: true, label_time: START + 23 * DAY }),
  ]);
  await deleteLog(system.topics.labels);
  merchants = startMerchants();
  expect(await predictionAt(30.1)).toEqual({ count: 4, stale: true });
});
