import { createHmac } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { migrate } from "../../infra/clickhouse/migrate.js";
import { partitionOf, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import type { TopicSpec } from "../../schemas/topics.js";
import { startTestApi } from "../support/api.js";
import { HISTORY_FEATURES, outcomesOf } from "../support/card-histories.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "../support/engines.js";
import { eventually } from "../support/eventually.js";
import { silent } from "../support/kafka-cluster.js";
import { labelRecord } from "../support/merchants.js";
import { nanForRefunds } from "../support/models.js";
import { transaction, wireValue } from "../support/transactions.js";
import { RoleProcess } from "../support/workers.js";
import { TestSystem } from "../support/workers-system.js";

// Processes of their own start slowly on a busy machine.
vi.setConfig({ testTimeout: 150_000 });

const PARTITIONS = 2;
const KEY = "a key of the tests, thirty-two bytes or more";
/** Every card id has it, and nothing else. */
const PLAIN = "PLAIN";
const START = Date.now() - 30 * 86_400_000;
const STEP_MS = 7_200_000;

const cardOf = (n: number): string => `${PLAIN}-${(n * 7) % 23}`;

const isAgain = (n: number): boolean => n > 60 && n % 13 === 5;

/** The transaction with a number: with repeats, refunds, cut off ones, and some with another card's key. */
function recordOf(n: number): OutgoingRecord {
  const of = isAgain(n) ? n - 40 : n;
  const value = wireValue(
    transaction(of, {
      card_id: cardOf(of),
      event_time: START + of * STEP_MS,
      amount: of % 53 === 11 ? -1 : ((of * 31) % 400) / 4,
    }),
  );
  const key = n % 37 === 20 ? otherKey(cardOf(of)) : cardOf(of);
  return { key: Buffer.from(key), value: n % 97 === 50 ? value.subarray(0, -1) : value };
}

/** A key of another partition than a card's. */
function otherKey(card: string): string {
  for (let i = 0; ; i++)
    if (partitionOf(Buffer.from(`${PLAIN}-k${i}`), PARTITIONS) !== partitionOf(Buffer.from(card), PARTITIONS))
      return `${PLAIN}-k${i}`;
}

/** Without the four characters that place it. */
const hashOf = (card: string): string =>
  `pc1.${createHmac("sha256", KEY).update(card).digest("base64url").slice(0, 24)}`;

test("with CARD_ID_KEY no card id appears in stored data, and features are those of the card ids", async () => {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: PARTITIONS });
  const database = `${uniquePrefix("_")}db`;
  const { url } = clickhouseConfig(database);
  await migrate(clickhouseConfig(database), silent);
  const stored = createClickHouse(clickhouseConfig(database));
  Object.assign(system.further, {
    CARD_ID_KEY: KEY,
    SNAPSHOT_EVERY: "PT1S",
    LOG_LEVEL: "trace",
    CLICKHOUSE_URL: url,
    CLICKHOUSE_DATABASE: database,
  });
  const others = (["sink", "merchants"] as const).map((role) => new RoleProcess(role, system.settings));
  onTestFinished(async () => {
    for (const role of others) await role.kill();
    await stored.close();
    await system.close();
  });
  await system.register("champion@1", nanForRefunds(HISTORY_FEATURES));
  await system.deploy("champion@1");

  // The worker goes on from its snapshot half-way.
  system.startWorker();
  await system.publish(Array.from({ length: 200 }, (_, n) => recordOf(n)));
  await system.consumed();
  await system.stopWorkers();
  system.startWorker();
  await system.publish(Array.from({ length: 140 }, (_, n) => recordOf(200 + n)));
  await system.consumed();
  const counts = await checkOutcomes(system);
  expect(
    Object.values(counts).every((count) => count > 2),
    JSON.stringify(counts),
  ).toBe(true);

  // Over HTTP: the card is the same one, whichever way its transactions come.
  const api = await startTestApi({
    prefix: system.prefix,
    database,
    settings: { CARD_ID_KEY: KEY, ARTIFACTS: system.artifacts },
  });
  const card = cardOf(1);
  const payment = {
    transaction_id: "http-1",
    event_time: new Date(START + 340 * STEP_MS).toISOString(),
    card_id: card,
    merchant_id: "m",
    amount: 5,
    currency: "EUR",
  };
  const post = (path: string, payload: object) =>
    api.inject("service", { method: "POST", url: `/api/v1/${path}`, payload });
  const scored = (await post("predictions?wait_ms=20000", payment)).json<{ card_id: string; features: number[] }>();
  expect(scored.card_id.slice(0, 28)).toBe(hashOf(card));
  const sinceLast = HISTORY_FEATURES.findIndex(({ name }) => name === "seconds_since_last");
  expect(scored.features[sinceLast]).toBe((START + 340 * STEP_MS - lastOf(card)) / 1_000);
  expect((await post("predictions?wait_ms=20000", payment)).statusCode).toBe(409);
  await system.publish([
    { key: Buffer.from(card), value: Buffer.from(JSON.stringify({ ...payment, amount: 6 })) },
    { key: Buffer.from(card), value: Buffer.from(JSON.stringify({ ...payment, transaction_id: "json-1" })) },
  ]);
  await system.consumed();
  expect(
    (await system.deadLetters()).filter(
      ({ headers }) => headers["code"] === "repeated" && headers["reason"]?.includes("has had this transaction_id"),
    ).length,
  ).toBe(counts.repeated + 2);
  // What is no request of ours has its card anywhere.
  expect((await post("predictions", { ...payment, pan: card })).statusCode).toBe(400);
  expect((await api.inject("analyst", { url: `/api/v1/predictions/http-1?pan=${card}` })).statusCode).toBe(400);

  // Labels by card id, by what stands for it, by neither; from a feed; and one that can't be stored.
  const byLookup = () => post("labels", { transaction_id: "t2", is_fraud: true });
  await eventually("the label finds its card", async () => (await byLookup()).statusCode === 202);
  expect(
    (
      await post("labels", [
        { transaction_id: "http-1", card_id: card, is_fraud: true },
        { transaction_id: "json-1", card_id: scored.card_id, is_fraud: false },
      ])
    ).statusCode,
  ).toBe(202);
  const feed = [
    labelRecord({ transaction_id: "t1", card_id: cardOf(1), is_fraud: true, label_time: Date.now() }),
    labelRecord({ transaction_id: "", card_id: cardOf(1), is_fraud: true, label_time: Date.now() }),
  ];
  await system.producer.publish(system.topics.labels.name, feed);
  const labelled =
    "SELECT p.transaction_id AS id FROM (SELECT * FROM predictions FINAL) AS p JOIN (SELECT * FROM labels " +
    "FINAL) AS l ON l.card_id = p.card_id AND l.transaction_id = p.transaction_id ORDER BY id";
  await eventually(
    "the labels meet their predictions",
    async () => (await stored.query<{ id: string }>(labelled)).map(({ id }) => id).join() === "http-1,json-1,t1,t2",
  );
  expect(
    (await system.read(system.topics.labels)).every(({ key, partition }) => partition === partitionOf(key, PARTITIONS)),
  ).toBe(true);
  const found = await api.inject("analyst", { url: `/api/v1/predictions/http-1?card_id=${card}` });
  expect(found.json()).toMatchObject({
    status: "scored",
    prediction: { card_id: scored.card_id },
    label: { is_fraud: true },
  });

  // A dead letter is sent again as it was.
  const [broken] = (await system.deadLetters()).filter(({ headers }) => headers["code"] === "avro_truncated");
  const before = await system.read(system.topics.transactions);
  const replayed = await api.inject("operator", {
    method: "POST",
    url: "/api/v1/dead-letters/replay",
    payload: { dead_letters: [{ partition: broken.partition, offset: broken.offset }] },
  });
  expect(replayed.json()).toMatchObject({ replayed: [{ offset: broken.offset }] });
  const source = before.find(
    ({ partition, offset }) =>
      partition === Number(broken.headers["partition"]) && offset === Number(broken.headers["offset"]),
  );
  const again = (await system.read(system.topics.transactions)).find(({ headers }) => headers["attempt"] === "2");
  expect([again?.key, again?.value, again?.partition]).toEqual([source?.key, source?.value, source?.partition]);
  await eventually(
    "the sink has all of it",
    async () =>
      Number(
        (
          await stored.query<{ n: number }>(
            "SELECT count() AS n FROM dead_letters FINAL WHERE step = 'store-labels' OR attempt = 2",
          )
        )[0].n,
      ) === 2,
  );
  await eventually("buckets are sealed", async () => (await system.read(system.topics.merchantBuckets)).length > 2);

  await system.stopWorkers();
  for (const role of others) await role.stop();
  await api.context.requestLog.flush();

  // Everywhere but where publishers have put it.
  const { transactions, labels, ...ours } = system.topics;
  const stores = new Map<string, Buffer[]>();
  const bytesOf = async (topic: TopicSpec): Promise<Buffer[]> =>
    (await system.read(topic)).map(({ key, value, headers }) =>
      Buffer.concat([key ?? Buffer.alloc(0), value ?? Buffer.alloc(0), Buffer.from(JSON.stringify(headers))]),
    );
  for (const topic of Object.values(ours)) stores.set(topic.name.slice(system.prefix.length), await bytesOf(topic));
  const feedKeys = new Set(feed.map(({ value }) => value?.toString("hex")));
  stores.set(
    "labels",
    (await system.read(labels))
      .filter(({ value }) => !feedKeys.has(value?.toString("hex")))
      .map(({ key, value }) => Buffer.concat([key as Buffer, value as Buffer])),
  );
  for (const { name } of await stored.query<{ name: string }>(
    "SELECT name FROM system.tables WHERE database = currentDatabase()",
  )) {
    stores.set(
      `table ${name}`,
      (await stored.query(`SELECT toString(tuple(*)) AS row FROM ${name}`)).map((row) =>
        Buffer.from(JSON.stringify(row)),
      ),
    );
  }
  for (const name of await readdir(join(system.dataDir, "state")))
    stores.set(`snapshot ${name}`, [await readFile(join(system.dataDir, "state", name))]);
  for (const role of [...system.workers, ...others])
    stores.set(
      `log of ${role.role}`,
      role.log.map((line) => Buffer.from(JSON.stringify(line))),
    );
  const having = (text: string): string[] =>
    [...stores].filter(([, pieces]) => pieces.some((bytes) => bytes.includes(text))).map(([name]) => name);
  expect(having(PLAIN)).toEqual([]);
  expect((await bytesOf(transactions)).some((bytes) => bytes.includes(PLAIN))).toBe(true);
  // It was looked for where it would be.
  expect(having("pc1.")).toEqual(
    expect.arrayContaining([
      "predictions",
      "dead-letters",
      "labels",
      "table transactions",
      "table predictions",
      "table labels",
      "table dead_letters",
      "table requests",
      "table responses",
    ]),
  );
  expect([...stores.keys()].filter((name) => /^snapshot (scoring|merchants)/.test(name)).length).toBeGreaterThan(1);
});

/**
 * Every record of fraud.transactions so far has the outcome that the card ids in it determine, to the last bit of each
 * feature.
 */
async function checkOutcomes(
  system: TestSystem,
): Promise<{ prediction: number; repeated: number; other: number; forwarded: number }> {
  const counts = { prediction: 0, repeated: 0, other: 0, forwarded: 0 };
  const log = await system.read(system.topics.transactions);
  const predictions = await system.predictions();
  const letters = await system.deadLetters();
  for (let partition = 0; partition < PARTITIONS; partition++) {
    for (const [offset, outcome] of outcomesOf(
      log.filter((record) => record.partition === partition),
      PARTITIONS,
    )) {
      const where = `partition ${partition}, offset ${offset}`;
      const prediction = predictions.find(
        (found) => found.partition === partition && found.prediction.source_offset === offset,
      );
      const letter = letters.find(
        (found) => found.partition === partition && Number(found.headers["offset"]) === offset,
      );
      if (outcome.kind === "prediction")
        expect({ features: prediction?.prediction.features, stale: prediction?.prediction.stale }, where).toEqual({
          features: outcome.features,
          stale: outcome.stale,
        });
      else if (outcome.kind === "dead letter") expect(letter?.headers["code"], where).toBe(outcome.code);
      // Keyed like any other record of a card.
      if (prediction !== undefined) expect(partitionOf(prediction.key, PARTITIONS), where).toBe(partition);
      if (outcome.kind === "dead letter") counts[outcome.code === "repeated" ? "repeated" : "other"] += 1;
      else counts[outcome.kind] += 1;
    }
  }
  return counts;
}

/** The event time of the last of 340 transactions of a card that was scored. */
function lastOf(card: string): number {
  const scored = Array.from({ length: 340 }, (_, n) => n).filter(
    (n) => cardOf(n) === card && !isAgain(n) && n % 97 !== 50 && n % 53 !== 11,
  );
  return START + Math.max(...scored) * STEP_MS;
}
