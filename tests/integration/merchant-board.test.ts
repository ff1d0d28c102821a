import { expect, it, onTestFinished } from "vitest";
import { Schemas } from "../../infra/kafka/schemas.js";
import { HistoryPlan } from "../../models/features/history-plan.js";
import { BUCKET_MS, LABEL_DELAY_MS } from "../../models/features/history-terms.js";
import { MerchantBoard } from "../../pipelines/scoring/merchant-board.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { silent } from "../support/kafka-cluster.js";
import { bucketRecord } from "../support/merchants.js";
import { kafkaJs } from "../support/workers-kafkajs.js";
import { TestSystem } from "../support/workers-system.js";
import { rowsOf } from "../unit/models/features/bucket-rows.js";

const B = 424_000;
const plan = new HistoryPlan(
  ["count", "fraud_share"].map((aggregate) => ({
    kind: "merchant",
    aggregate: aggregate as "count",
    window: "P3D",
    delay: "P7D",
    bucket: "PT1H",
  })),
);

it("forgets what its worker's partitions no longer need, and reads it again for one that lags far behind", async () => {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: 2 });
  onTestFinished(() => system.close());
  const publish = (
    partition: number,
    ...buckets: readonly (readonly [id: string, bucket: number, count: number, frauds: number])[]
  ): Promise<number> =>
    system.producer.publishTo(
      system.topics.merchantBuckets.name,
      partition,
      buckets.map(([id, bucket, count, frauds]) =>
        bucketRecord({
          entity: id === "" ? "watermark" : "merchant",
          id,
          bucket: bucket * BUCKET_MS,
          source_partition: partition,
          count,
          frauds,
        }),
      ),
    );
  let clock: number | null = null;
  const board = new MerchantBoard({
    cluster: system.cluster,
    topics: system.topics,
    schemas: new Schemas({ schemaRegistryUrl: null, schemasDir: null }),
    log: silent,
    clock: () => clock,
    onFailure: (error) => expect.unreachable(String(error)),
  });
  await board.start();
  onTestFinished(() => board.stop());
  const { signal } = new AbortController();
  const found = (): number[] => {
    const out = new Float64Array(2);
    board.windows.lookup(
      rowsOf({ id: "", card: "", merchant: "m", time: (B + 2) * BUCKET_MS + LABEL_DELAY_MS }),
      0,
      plan,
      out,
      0,
    );
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
  expect([board.hasForgotten(oldest), board.hasForgotten(oldest - 1)]).toEqual([false, true]);
  await board.recall(oldest, signal);
  expect(board.windows).toBe(before);
  await expect(board.recall(B, AbortSignal.abort(new Error("the tenure is over")))).rejects.toThrow(
    "the tenure is over",
  );
  // The second asks for more than the first does: it gets that, too.
  await Promise.all([
    board.recall(oldest - 1, signal),
    board.recall(B, signal),
    publish(0, ["m", B + 70 * 24, 7, 7], ["", B + 70 * 24 + 1, 0, 0]),
  ]);
  expect([found(), board.windows.oldest, board.windows.complete >= B + 70 * 24]).toEqual([[8, 0.25], B, true]);
  // It goes on to follow the topic.
  await publish(1, ["m", B + 70 * 24, 1, 0], ["", B + 70 * 24 + 1, 0, 0]);
  expect(await board.waitFor(B + 70 * 24 + 1, 30_000, signal)).toBe(true);
  const out = new Float64Array(2);
  board.windows.lookup(
    rowsOf({ id: "", card: "", merchant: "m", time: (B + 70 * 24 + 2) * BUCKET_MS + LABEL_DELAY_MS }),
    0,
    plan,
    out,
    0,
  );
  expect([found(), ...out]).toEqual([[8, 0.25], 8, 7 / 8]);

  // What retention has deleted doesn't come back, and isn't asked for again and again.
  const admin = kafkaJs(kafkaConfig()).admin();
  await admin.connect();
  await admin.connect();
  const { name: topic } = system.topics.merchantBuckets;
  await admin.fetchTopicOffsets(topic); // makes the topic known to it
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "1" }] });
  await admin.disconnect();
  await board.recall(B - 1, signal);
  expect([board.windows.oldest, found()]).toEqual([B + 1, [0, 0]]);
  expect(board.hasForgotten(B)).toBe(false);
  // A board that begins now knows the same, though a watermark is the first that it finds.
  const another = new MerchantBoard({
    cluster: system.cluster,
    topics: system.topics,
    schemas: new Schemas({ schemaRegistryUrl: null, schemasDir: null }),
    log: silent,
    onFailure: (error) => expect.unreachable(String(error)),
  });
  await another.start();
  onTestFinished(() => another.stop());
  expect([another.windows.oldest, another.windows.complete]).toEqual([B + 1, B + 70 * 24 + 1]);
});
