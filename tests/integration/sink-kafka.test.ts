import { readFile } from "node:fs/promises";
import { expect, it, onTestFinished } from "vitest";
import { applyRetention } from "../../infra/clickhouse/retention.js";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import { createLogger } from "../../infra/logging.js";
import type { SinkPipeline } from "../../pipelines/sink/sink-pipeline.js";
import { startSink } from "../../pipelines/sink/sink.js";
import type { ControlEvent, Label, Prediction, Transaction } from "../../schemas/generated.js";
import { topicsFor } from "../../schemas/topics.js";
import { CODECS, pack, packedBatch, publishBatch, recordPieces } from "../support/bombs.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { until } from "../support/eventually.js";

const log = createLogger({ logLevel: "silent" }, "test");
const BASE = Date.UTC(2026, 2, 1);

/** Topics of the test's own, and what writes to them. */
async function openTopics(partitions: number) {
  const prefix = uniquePrefix(".");
  const topics = topicsFor(prefix, partitions);
  const group = `${prefix}sink`;
  const kafka = createKafka(kafkaConfig(), `${prefix}test`, log);
  const cluster = new KafkaCluster(kafkaConfig(), `${prefix}test`);
  onTestFinished(() => cluster.close());
  await ensureTopics(kafka, Object.values(topics));
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  const producer = await BatchProducer.open(cluster);
  onTestFinished(() => producer.close());
  return { prefix, topics, group, kafka, cluster, schemas, producer };
}

it("stores every topic, dead-letters a label, hands its partitions over, and resumes where it stopped", async () => {
  const clickhouse = await clickhouseDatabase();
  await applyRetention(clickhouse, log);
  const { prefix, topics, group, cluster, schemas, producer } = await openTopics(2);

  const publish = async (from: number, to: number): Promise<void> => {
    const numbers = Array.from({ length: to - from }, (_, i) => from + i);
    const transaction = (n: number): Transaction => ({
      transaction_id: `t${n}`,
      event_time: BASE + n,
      card_id: `c${n % 50}`,
      merchant_id: "m",
      amount: n,
      currency: "EUR",
      attributes: { n },
    });
    const prediction = (n: number): Prediction => {
      const { transaction_id, event_time, card_id, merchant_id, amount, currency } = transaction(n);
      return {
        transaction_id,
        event_time,
        card_id,
        merchant_id,
        amount,
        currency,
        scored_at: BASE + n,
        scoring_ms: 1,
        score: 0.5,
        decision: "approve",
        model: "m@1",
        epoch: 0,
        features: [n],
        stale: false,
        reasons: null,
        source_topic: topics.transactions.name,
        source_partition: 0,
        source_offset: n,
      };
    };
    const label = (n: number): Label => ({
      transaction_id: `t${n}`,
      card_id: `c${n % 50}`,
      is_fraud: n % 10 === 0,
      label_time: BASE + n,
    });
    const keyed = (
      subject: "transactions" | "predictions" | "labels",
      value: { card_id: string },
    ): { key: Buffer; value: Buffer } => ({ key: Buffer.from(value.card_id), value: schemas.encode(subject, value) });
    await producer.publish(
      topics.transactions.name,
      numbers.map((n) => keyed("transactions", transaction(n))),
    );
    await producer.publish(
      topics.predictions.name,
      numbers.map((n) => keyed("predictions", prediction(n))),
    );
    await producer.publish(
      topics.shadowPredictions.name,
      numbers.map((n) => keyed("predictions", prediction(n))),
    );
    await producer.publish(
      topics.labels.name,
      numbers.map((n) => keyed("labels", label(n))),
    );
  };
  const start = async (): Promise<{ lifecycle: Lifecycle; pipeline: SinkPipeline }> => {
    const lifecycle = new Lifecycle(log);
    onTestFinished(() => lifecycle.stop());
    // A client of its own, as each process has: kafkajs keeps a group's offsets by client, and one member would clear
    // them under another.
    const own = createKafka(kafkaConfig(), `${prefix}sink`, log);
    return {
      lifecycle,
      pipeline: await startSink(lifecycle, { kafka: own, cluster, clickhouse, schemas, topics, group, log }),
    };
  };
  const counts = async (): Promise<Record<string, number>> => {
    const tables = ["transactions", "predictions", "shadow_predictions", "labels", "dead_letters", "control_events"];
    const [row] = await clickhouse.query<Record<string, number>>(
      `SELECT ${tables.map((table) => `(SELECT count() FROM ${table} FINAL) AS ${table}`).join(", ")}`,
    );
    return row;
  };

  await publish(0, 1_000);
  await producer.publish(topics.labels.name, [{ key: Buffer.from("c1"), value: Buffer.from("no label") }]);
  const event: ControlEvent = {
    key: "deployment",
    base: -1,
    at: BASE,
    who: "system:start",
    event: { "fraudstream.Deployed": { champion: null, shadows: [] } },
  };
  await producer.publish(topics.control.name, [
    { key: Buffer.from(event.key), value: schemas.encode("control", event) },
  ]);

  // Batches that unpack to 600 MB: scoring dead-letters that of transactions, the sink all others.
  const bombed = [topics.transactions, topics.predictions, topics.labels, topics.control, topics.deadLetters];
  const bomb = packedBatch(
    CODECS.gzip,
    pack("gzip", recordPieces([{ value: { zeros: 600e6 } }, { value: Buffer.from("x") }])),
    2,
  );
  const at = await Promise.all(bombed.map(({ name }) => publishBatch(cluster, name, 0, bomb)));

  const first = await start();
  await until(async () => Object.values(await counts()).join() === "1000,1000,1000,1000,5,1");
  const letters = await clickhouse.query<{ topic: string; offset: string; last: string; code: string; step: string }>(
    "SELECT source_topic AS topic, toString(source_offset) AS offset, headers['last-offset'] AS last, code, " +
      "step FROM dead_letters FINAL WHERE step = 'read'",
  );
  expect(new Map(letters.map(({ topic, ...letter }) => [topic, letter]))).toEqual(
    new Map(
      bombed
        .slice(1)
        .map(({ name }, i) => [
          name,
          { offset: String(at[i + 1]), last: String(at[i + 1] + 1), code: "batch_unreadable", step: "read" },
        ]),
    ),
  );
  const [dead] = await clickhouse.query(
    "SELECT code, step, source_topic, value, attempt FROM dead_letters FINAL WHERE step != 'read'",
  );
  expect(dead).toEqual({
    code: "not_avro",
    step: "store-labels",
    source_topic: topics.labels.name,
    value: "no label",
    attempt: 1,
  });

  // A second sink takes some of the partitions over, while records keep coming.
  const second = await start();
  await publish(1_000, 3_000);
  await until(async () => (await counts()).labels === 3_000 && (await counts()).predictions === 3_000);
  await first.lifecycle.stop();
  await publish(3_000, 4_000);
  await until(async () => Object.values(await counts()).join() === "4000,4000,4000,4000,5,1");
  await second.lifecycle.stop();

  // What was stored is committed: a third one finds nothing to do.
  const partitions = [topics.transactions, topics.predictions, topics.shadowPredictions, topics.labels].flatMap(
    ({ name }) => [0, 1].map((partition) => ({ topic: name, partition })),
  );
  for (const table of ["transactions", "predictions"]) {
    const stored = await clickhouse.query<{ topic: string; partition: number; end: number }>(
      `SELECT topic, partition, max(offset) + 1 AS end FROM ${table} GROUP BY topic, partition ORDER BY partition`,
    );
    for (const { topic, partition, end } of stored)
      expect(await committedOffset(cluster, group, { topic, partition })).toBe(end);
  }
  for (const partition of partitions) expect(await committedOffset(cluster, group, partition)).not.toBeNull();
  const third = await start();
  await publish(4_000, 4_100);
  await until(async () => (await counts()).transactions === 4_100 && (await counts()).labels === 4_100);
  expect(third.pipeline.counts.rows.transactions).toBe(100);
  expect([first, second, third].map(({ lifecycle }) => lifecycle.failure)).toEqual([null, null, null]);
});

it(
  "stores new records, and nothing twice, when the log ends before the committed offset",
  { timeout: 120_000 },
  async () => {
    const clickhouse = await clickhouseDatabase();
    const { topics, group, kafka, cluster, schemas, producer } = await openTopics(1);
    const { name } = topics.transactions;
    const publish = (from: number, to: number): Promise<number> =>
      producer.publishTo(
        name,
        0,
        Array.from({ length: to - from }, (_, i) => {
          const transaction: Transaction = {
            transaction_id: `t${from + i}`,
            event_time: BASE,
            card_id: "c",
            merchant_id: "m",
            amount: 1,
            currency: "EUR",
            attributes: {},
          };
          return { key: Buffer.from("c"), value: schemas.encode("transactions", transaction) };
        }),
      );
    await publish(0, 20);
    const admin = kafka.admin();
    await admin.connect();
    onTestFinished(() => admin.disconnect());
    await admin.setOffsets({ groupId: group, topic: name, partitions: [{ partition: 0, offset: "420" }] });
    const incidents: string[] = [];
    cluster.incidents.listen(({ kind, lost }) => void incidents.push(`${kind} ${lost}`));

    const lifecycle = new Lifecycle(log);
    onTestFinished(() => lifecycle.stop());
    await startSink(lifecycle, { kafka, cluster, clickhouse, schemas, topics, group, log });
    await until(() => incidents.length > 0);
    await publish(20, 30);
    await until(async () => (await committedOffset(cluster, group, { topic: name, partition: 0 })) === 30);
    expect(
      await clickhouse.query(
        "SELECT count() AS rows, uniqExact(transaction_id) AS transactions FROM transactions FINAL",
      ),
    ).toEqual([{ rows: 30, transactions: 30 }]);
    expect([incidents, lifecycle.failure]).toEqual([["cut_off 400"], null]);

    // The database is taken over, and a mirror brings twenty of them again with other offsets: decision 0014 says how
    // to count each once.
    await clickhouse.command(
      "INSERT INTO database_owner (cluster_id, topic_prefix, recorded_at) SELECT 'new', '', now64(3) + 1",
    );
    await clickhouse.command(
      "INSERT INTO transactions (transaction_id, event_time, card_id, merchant_id, amount, currency, topic, " +
        "partition, offset, inserted_at) SELECT transaction_id, event_time, card_id, merchant_id, amount, " +
        "currency, topic, partition, offset + 1000, now64(3) + 2 FROM transactions WHERE offset < 20",
    );
    const counts =
      "SELECT count() AS rows, uniqExact(transaction_id) AS transactions, countIf(offset >= 1000) AS again " +
      "FROM transactions FINAL";
    expect(await clickhouse.query(counts)).toEqual([{ rows: 50, transactions: 30, again: 20 }]);
    const statement =
      /```sql\n(DELETE FROM predictions\n[^`]*)```/.exec(
        await readFile("infra/decisions/0014-order.md", "utf8"),
      )?.[1] ?? "";
    await clickhouse.command(statement.replaceAll("FROM predictions", "FROM transactions"));
    expect(await clickhouse.query(counts)).toEqual([{ rows: 30, transactions: 30, again: 20 }]);
  },
);
