import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createKafka } from "../../infra/kafka/client.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { CardHistory } from "../../models/features/card-history.js";
import { reread } from "../../pipelines/transactions/reread.js";
import { transactionSchema } from "../../schemas/generated.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { eventually } from "../support/eventually.js";
import { silent } from "../support/kafka-cluster.js";
import { amountFeature, logistic } from "../support/models.js";
import { transaction, transactionRecord, wireValue } from "../support/transactions.js";
import { TestSystem } from "../support/workers-system.js";

const ID = 2001;

test("a scored transaction that can't be read again is a gap, not a history without it", async () => {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: 1 });
  onTestFinished(() => system.close());
  const count = {
    name: "count",
    type: "number" as const,
    source: { kind: "card" as const, aggregate: "count" as const, window: "P1D" },
    default: null,
  };
  await system.register("m@1", logistic([amountFeature, count]));
  await system.deploy("m@1");
  const schemasDir = join(system.artifacts, "schemas");
  await mkdir(schemasDir);
  const { fields } = transactionSchema as unknown as { fields: { name: string }[] };
  const schema = { type: "record", name: "Payment", fields: fields.filter(({ name }) => name !== "attributes") };
  await writeFile(join(schemasDir, `${ID}.avsc`), JSON.stringify(schema));
  const payment = (n: number): ReturnType<typeof transaction> =>
    transaction(n, { card_id: "c", event_time: Date.UTC(2026, 0, 1) + n * 1_000 });

  const first = system.startWorker({ SCHEMAS_DIR: schemasDir });
  await first.logged("scoring");
  // One that was refused then is not missed now.
  await system.publishTo(
    0,
    [1, 2, 3]
      .map((n) => ({ key: Buffer.from("c"), value: wireValue(payment(n), ID, schema) }))
      .concat({ key: Buffer.from("c"), value: Buffer.from("garbage") }),
  );
  await system.consumed();
  await first.stop();
  await rm(join(system.dataDir, "state"), { recursive: true });

  const without = system.startWorker();
  expect((await without.ended).code).toBe(1);
  expect(without.tail()).toMatch(/offset 0 was scored, and can't be read now \(unknown_schema: /);
  system.startWorker({ SCHEMAS_DIR: schemasDir });
  await system.publishTo(0, [transactionRecord(payment(4))]);
  await expect
    .poll(async () => (await system.predictions()).map(({ prediction }) => prediction.features[1]), { timeout: 30_000 })
    .toEqual([1, 2, 3, 4]);
});

test("nothing of a deleted topic is read from the topic that has its name now", async () => {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: 1 });
  onTestFinished(() => system.close());
  const { name } = system.topics.transactions;
  const admin = createKafka(kafkaConfig(), `${system.prefix}admin`, silent).admin();
  await admin.connect();
  onTestFinished(() => admin.disconnect());
  const payments = Array.from({ length: 5 }, (_, n) => transactionRecord(transaction(n)));
  await system.publishTo(0, payments);
  const former = await system.cluster.identityOf(name);
  await admin.deleteTopics({ topics: [name] });
  await eventually("the topic is created", () =>
    admin.createTopics({ topics: [{ topic: name, numPartitions: 1 }] }).then(
      () => true,
      () => false,
    ),
  );
  await eventually("a payment is in it", () =>
    system.publishTo(0, payments.slice(0, 1)).then(
      () => true,
      () => false,
    ),
  );
  const options = {
    cluster: system.cluster,
    schemas: new Schemas({ schemaRegistryUrl: null, schemasDir: null }),
    source: { topic: name, partition: 0 },
    topicId: former.topicId,
    partitions: 1,
    cards: null,
    log: silent,
    signal: AbortSignal.timeout(20_000),
    onLost: () => {},
  };
  // The fifth offset, which the new one doesn't have, would be waited for.
  await expect(reread(options, new CardHistory(), 0, 5, { offsets: new Set(), complete: true })).rejects.toMatchObject({
    code: "kafka_topic_recreated",
  });
});
