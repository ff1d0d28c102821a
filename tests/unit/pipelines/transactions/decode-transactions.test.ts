import { expect, test } from "vitest";
import { KafkaError, LOG_CUT_OFF, TOPIC_RECREATED } from "../../../../infra/kafka/errors.js";
import { Schemas } from "../../../../infra/kafka/schemas.js";
import { unlessReplaced } from "../../../../pipelines/scoring/scoring-pipeline.js";
import {
  MOST_UNKNOWN,
  decodeTransactions,
  learnSchemas,
} from "../../../../pipelines/transactions/decode-transactions.js";
import { TransactionBatch } from "../../../../pipelines/transactions/transaction-batch.js";
import { TransactionReader } from "../../../../schemas/transaction-reader.js";
import { fetchedRecords } from "../../../support/fetched-records.js";
import { transaction } from "../../../support/transactions.js";
import { registryServer } from "../../../support/registry-server.js";

test(
  "a batch whose records name thousands of made-up schemas costs a bounded number of requests, and " +
    "each is refused",
  async () => {
    const registry = await registryServer();
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }, { patienceMs: 0 });
    const batch = new TransactionBatch([]);
    const reader = new TransactionReader(batch, null, schemas.shapes.transactions);
    const count = 3 * MOST_UNKNOWN;
    const valueOf = (id: number): Buffer => {
      const value = Buffer.alloc(12);
      value.writeUInt32BE(id, 1);
      return value;
    };
    const records = fetchedRecords(
      { topic: "fraud.transactions" },
      Array.from({ length: count }, (_, i) => ({ value: valueOf(5_000 + i) })),
    );
    await learnSchemas(records, reader, schemas, { mostUnknown: MOST_UNKNOWN });
    expect(registry.requests).toHaveLength(MOST_UNKNOWN);
    const rejections = decodeTransactions(records, reader, batch);
    expect(rejections).toHaveLength(count);
    expect(new Set(rejections.map(({ code }) => code))).toEqual(new Set(["unknown_schema"]));
  },
);

test("a schema that is known is learnt, with or without a listener", async () => {
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  const reader = new TransactionReader(new TransactionBatch([]), null, schemas.shapes.transactions);
  const records = fetchedRecords({ topic: "fraud.transactions" }, [
    { value: schemas.encode("transactions", transaction(1)) },
  ]);
  await learnSchemas(records, reader, schemas);
  expect(reader.knows(schemas.idOf("transactions"))).toBe(true);
});

test(
  "a worker whose decisions' log was created again, or has lost its end, goes on with the decisions " + "that it knows",
  () => {
    for (const name of [TOPIC_RECREATED, LOG_CUT_OFF])
      expect(() => unlessReplaced(new KafkaError(name, name, { retriable: true }))).not.toThrow();
    const away = new KafkaError("NETWORK", "away", { retriable: true });
    expect(() => unlessReplaced(away)).toThrow(away);
  },
);
