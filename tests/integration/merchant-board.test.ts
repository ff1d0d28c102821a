import { expect, it, onTestFinished } from "vitest";
import { Schemas } from "../../infra/kafka/schemas.js";
import { HistoryPlan } from "../../models/features/history-plan.js";
import { BUCKET_MS, LABEL_DELAY_MS } from "../../models/features/history-terms.js";
import { MerchantBoard } from "../../pipelines/scoring/merchant-board.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { silent } from "../support/kafka-cluster.js";
import { bucketRecord } from "../support/merchants.js";
import { TestSystem } from "../support/workers-system.js";
import { rowsOf } from "../unit/features/bucket-rows.js";

const B = 424_000;
const plan = new HistoryPlan(["count", "fraud_share"].map((aggregate) => ({ kind: "merchant", aggregate: aggregate as "count", window: "P3D", delay: "P7D", bucket: "PT1H" })));

it("forgets what its worker's partitions don't look at any more, and reads it again for one that lies far behind", async () => {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: 2 });
  onTestFinished(() => system.close());
  const publish = (partition: number, ...buckets: readonly (readonly [id: string, bucket: number, count: number, frauds: number])[]): Promise<number> =>
    system.producer.publishTo(system.topics.merchantBuckets.name, partition, buckets.map(([id, bucket, count, frauds]) => bucketRecord({ entity: id === "" ? "watermark" : "merchant", id, bucket: bucket * BUCKET_MS, source_partition: partition, count, frauds })));
  let clock: number | null = null;
  const board = new MerchantBoard({ cluster: system.cluster, topics: system.topics, schemas: new Schemas({ schemaRegistryUrl: null, schemasDir: null }), log: silent, clock: () => clock, onFailure: (error) => expect.unreachable(String(error)) });
  await board.start();
  onTestFinished(() => board.stop());
  const { signal } = new AbortController();
  const found = (): number[] => {
    const out = new Float64Array(2);
    board.windows.lookup(rowsOf({ id: "", card: "", merchant: "m", time: (B + 2) * BUCKET_MS + LABEL_DELAY_MS }), 0, plan, out, 0);
    return [...out];
  };

  await publish(0, ["m", B, 3, 2], ["", B + 1, 0, 0]);
  await publish(1, ["m", B, 5, 0], ["", B + 1, 0, 0]);
  expect(await board.waitFor(B + 1, 30_000, signal)).toBe(true);
  expect(found()).toEqual([8, 0.25]);
  // No partition has a clock yet: nothing is forgotten.
  for (const partition of [0, 1]) await publish(partition, ["", B + 60 * 24, 0, 0]);
  expect(await board.waitFor(B + 60 * 24, 30_000, signal)).toBe(true);
  expect([found(), board.windows.oldest]).toEqual([[8, 0.25], -Infinity]);

  clock = (B + 80 * 24) * BUCKET_MS;
  for (const partition of [0, 1]) await publish(partition, ["", B + 70 * 24, 0, 0]);
  expect(await board.waitFor(B + 70 * 24, 30_000, signal)).toBe(true);
  expect(found()).toEqual([0, 0]);
  const { oldest } = board.windows;
  expect(oldest).toBeGreaterThan(B);

  const before = board.windows;
  await board.recall(oldest);
  expect(board.windows).toBe(before);
  await Promise.all([board.recall(oldest - 1), board.recall(B), publish(0, ["m", B + 70 * 24, 7, 7], ["", B + 70 * 24 + 1, 0, 0])]);
  expect([found(), board.windows.oldest, board.windows.complete >= B + 70 * 24]).toEqual([[8, 0.25], -Infinity, true]);
  // It goes on to follow the topic; what has been read again is not read again in vain.
  const again = board.windows;
  await board.recall(B - 1_000_000);
  await publish(1, ["m", B + 70 * 24, 1, 0], ["", B + 70 * 24 + 1, 0, 0]);
  expect(await board.waitFor(B + 70 * 24 + 1, 30_000, signal)).toBe(true);
  expect([board.windows === again, found()]).toEqual([true, [8, 0.25]]);
  const out = new Float64Array(2);
  board.windows.lookup(rowsOf({ id: "", card: "", merchant: "m", time: (B + 70 * 24 + 2) * BUCKET_MS + LABEL_DELAY_MS }), 0, plan, out, 0);
  expect([...out]).toEqual([8, 7 / 8]);
});
