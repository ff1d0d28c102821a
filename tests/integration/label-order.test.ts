import { expect, onTestFinished, test, vi } from "vitest";
import { type ClickHouse, createClickHouse } from "../../infra/clickhouse/client.js";
import { partitionOf } from "../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import { deploy, registerModel } from "../../models/control/decisions.js";
import { startSink } from "../../pipelines/sink/sink.js";
import type { Label, Prediction } from "../../schemas/generated.js";
import { allTopics, topicsFor } from "../../schemas/topics.js";
import { startTestApi, type TestApi } from "../support/api.js";
import { copyTopic } from "../support/copy-topics.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "../support/engines.js";
import { until } from "../support/eventually.js";
import { silent } from "../support/kafka-cluster.js";

vi.setConfig({ testTimeout: 180_000 });

const BASE = Date.UTC(2026, 2, 1);
const COUNT = 40;
const cardOf = (n: number): string => `c${n % 13}`;

/** A sink of the API's topics and database; stopped by what it returns. */
async function sinkOf({ context, prefix, database }: TestApi): Promise<() => Promise<void>> {
  const lifecycle = new Lifecycle(silent);
  const clickhouse = createClickHouse(clickhouseConfig(database));
  lifecycle.add("clickhouse", () => clickhouse.close());
  const { cluster, schemas, topics } = context;
  await startSink(lifecycle, {
    kafka: createKafka(kafkaConfig(), `${prefix}sink`, silent),
    cluster,
    clickhouse,
    schemas,
    topics,
    group: `${prefix}sink`,
    log: silent,
  });
  onTestFinished(() => lifecycle.stop());
  return async () => {
    await lifecycle.stop();
    expect(lifecycle.failure).toBeNull();
  };
}

async function frauds(clickhouse: ClickHouse): Promise<[number, number]> {
  const [row] = await clickhouse.query<{ rows: number; frauds: number }>(
    "SELECT count() AS rows, countIf(is_fraud) AS frauds FROM labels FINAL",
  );
  return [Number(row.rows), Number(row.frauds)];
}

async function publishPredictions({ context: { schemas, topics, produce } }: TestApi): Promise<void> {
  const records = Array.from({ length: COUNT }, (_, n) => {
    const prediction: Prediction = {
      transaction_id: `t${n}`,
      card_id: cardOf(n),
      merchant_id: "m",
      amount: n,
      currency: "EUR",
      event_time: BASE + n * 1_000,
      scored_at: BASE + n,
      scoring_ms: 1,
      score: n / COUNT,
      decision: n % 2 === 0 ? "decline" : "approve",
      model: "m@1",
      epoch: 1,
      features: [n],
      stale: false,
      reasons: null,
      source_topic: topics.transactions.name,
      source_partition: 0,
      source_offset: n,
    };
    return { key: Buffer.from(prediction.card_id), value: schemas.encode("predictions", prediction) };
  });
  await produce((producer) => producer.publish(topics.predictions.name, records));
}

/** As a feed sends them that has no keys, and a clock ahead: each to a partition that isn't its card's. */
async function publishKeyless(
  { context: { schemas, topics, produce } }: TestApi,
  isFraud: boolean,
  timestamp: number,
): Promise<void> {
  const { name, partitions } = topics.labels;
  for (let n = 0; n < COUNT; n++) {
    const label: Label = {
      transaction_id: `t${n}`,
      card_id: cardOf(n),
      is_fraud: isFraud,
      label_time: BASE + 86_400_000,
    };
    const partition = (partitionOf(Buffer.from(label.card_id), partitions) + 1) % partitions;
    await produce((producer) =>
      producer.publishTo(name, partition, [{ key: null, value: schemas.encode("labels", label) }], timestamp),
    );
  }
}

async function correct(api: TestApi, isFraud: boolean, more: object = {}): Promise<void> {
  const body = Array.from({ length: COUNT }, (_, n) => ({
    transaction_id: `t${n}`,
    card_id: cardOf(n),
    is_fraud: isFraud,
    ...more,
  }));
  expect((await api.inject("service", { method: "POST", url: "/api/v1/labels", payload: body })).statusCode).toBe(202);
}

/** The verdict that the API shows of one of them. */
async function shownVerdict(api: TestApi): Promise<unknown> {
  const { rows } = (
    await api.context.clickhouse.query<{ rows: number }>("SELECT count() AS rows FROM predictions FINAL")
  )[0];
  expect(Number(rows)).toBe(COUNT);
  const answer = await api.inject("analyst", { url: "/api/v1/predictions/t7" });
  return answer.json<{ label: { is_fraud: boolean } }>().label.is_fraud;
}

test(
  "the label that was published last counts: of another partition, of a topic made anew, in a copy " + "of all topics",
  async () => {
    const api = await startTestApi({ migrated: true });
    const { context } = api;
    const { clickhouse, control, users, cluster, topics, produce } = context;
    const stop = await sinkOf(api);
    await publishPredictions(api);

    // The feed's clock is a minute ahead, and its offsets are higher than those of the corrections.
    const ahead = Date.now() + 60_000;
    for (let round = 0; round < 3; round++) await publishKeyless(api, true, ahead + round);
    const published =
      "SELECT count() AS rows FROM labels FINAL WHERE is_fraud AND bitShiftRight(version, 20) = {at: UInt64}";
    await until(
      async () => Number((await clickhouse.query<{ rows: number }>(published, { at: ahead + 2 }))[0].rows) === COUNT,
    );
    await until(
      async () =>
        Number((await clickhouse.query<{ rows: number }>("SELECT count() AS rows FROM predictions FINAL"))[0].rows) ===
        COUNT,
    );
    await correct(api, false, { label_time: new Date(BASE).toISOString() });
    await until(async () => (await frauds(clickhouse)).join() === `${COUNT},0`);
    expect(await shownVerdict(api)).toBe(false);

    // What was published earlier may come later.
    await publishKeyless(api, true, Date.now() - 3_600_000);
    await correct(api, true);
    await correct(api, false);
    await until(async () => (await frauds(clickhouse)).join() === `${COUNT},0`);

    for (const model of ["a@1", "b@1"])
      await produce((producer) =>
        registerModel(control, { who: "ada", producer }, { model, manifestSha256: "f".repeat(64) }),
      );
    for (const model of ["a@1", "b@1"])
      await produce((producer) =>
        deploy(control, { who: "ada", producer }, { champion: { model, review: 0.5, decline: 0.9 }, shadows: [] }),
      );
    const made = await produce((producer) =>
      users.create(producer, { username: "eve", email: "", role: "operator", passwordHash: null, by: "system:test" }),
    );
    await produce((producer) => users.change(producer, made.id, { role: "analyst" }, "system:test"));
    await produce((producer) => users.change(producer, made.id, { enabled: false }, "system:test"));

    // Another cluster, as far as the roles can tell: other topics, other offsets, a ClickHouse filled anew.
    const prefix = uniquePrefix();
    const copies = await startCopy(api, prefix);
    const stopCopy = await sinkOf(copies);
    await until(async () => (await frauds(copies.context.clickhouse)).join() === `${COUNT},0`);
    const labels =
      "SELECT card_id, transaction_id, is_fraud, label_time, bitShiftRight(version, 20) AS published FROM " +
      "labels FINAL ORDER BY card_id, transaction_id";
    expect(await copies.context.clickhouse.query(labels)).toEqual(await clickhouse.query(labels));
    expect(copies.context.control.state.deployments).toEqual(control.state.deployments);
    expect(copies.context.control.state.deployment?.champion?.model).toBe("b@1");
    const shown = (all: ReturnType<typeof users.all>): unknown => all.map(({ claim: _, ...user }) => user);
    expect(shown(copies.context.users.all())).toEqual(shown(users.all()));
    expect(copies.context.users.byId(made.id)).toMatchObject({ enabled: false, role: "analyst" });
    await copies.context.produce((producer) =>
      copies.context.users.change(producer, made.id, { enabled: true }, "system:test"),
    );
    expect(copies.context.users.byId(made.id)?.enabled).toBe(true);
    await stopCopy();

    // The topic is made anew: its offsets begin at 0, below those of all that is stored.
    await stop();
    const admin = context.kafka.admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [topics.labels.name] });
    await until(async () => !(await admin.listTopics()).includes(topics.labels.name));
    await admin.disconnect();
    await ensureTopics(context.kafka, allTopics(topics));
    await sinkOf(api);
    await cluster.partitionsOf(topics.labels.name);
    await correct(api, true);
    await until(async () => (await frauds(clickhouse)).join() === `${COUNT},${COUNT}`);
    expect(await shownVerdict(api)).toBe(true);
  },
);

/** The topics of an API copied under another prefix, and an API there. */
async function startCopy({ context: { kafka, topics, cluster } }: TestApi, prefix: string): Promise<TestApi> {
  const copied = topicsFor(prefix, topics.transactions.partitions);
  await ensureTopics(kafka, allTopics(copied));
  for (const key of Object.keys(topics) as (keyof typeof topics)[])
    await copyTopic(cluster, topics[key].name, copied[key].name);
  return startTestApi({ prefix, migrated: true });
}
