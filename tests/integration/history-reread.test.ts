import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { transactionSchema } from "../../schemas/generated.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { amountFeature, logistic } from "../support/models.js";
import { transaction, transactionRecord, wireValue } from "../support/transactions.js";
import { TestSystem } from "../support/workers-system.js";

const ID = 2001;

test("a transaction that was scored and can't be read again is a gap, not a history without it", async () => {
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
