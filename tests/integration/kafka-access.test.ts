import { execFileSync } from "node:child_process";
import { deleteTopicsV6, offsetCommitV8, type Connection } from "@platformatic/kafka";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { migrate } from "../../infra/clickhouse/migrate.js";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { readConfig, type KafkaConfig } from "../../infra/config/config.js";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { call, KafkaCluster } from "../../infra/kafka/cluster.js";
import { KafkaError } from "../../infra/kafka/errors.js";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { kafkajs } from "../../infra/kafka/kafkajs.js";
import { KAFKA_USERS, type KafkaUser } from "../../infra/kafka/access.js";
import { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { produce } from "../../infra/kafka/produce.js";
import { refusalOf } from "../../infra/kafka/refusals.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { TransactionalProducer } from "../../infra/kafka/transactional-producer.js";
import { compiledModule } from "../../infra/package-root.js";
import { checkReachable } from "../../infra/reachable.js";
import type { Label } from "../../schemas/generated.js";
import { topicsFor, type Topics } from "../../schemas/topics.js";
import { startTestApi } from "../support/api.js";
import { clickhouseConfig, uniquePrefix } from "../support/engines.js";
import { silent } from "../support/kafka-cluster.js";
import { BROKER, noSecureKafka, startSecureKafka, type SecureKafka } from "../support/secure-kafka.js";
import { staticServer } from "../support/static-server.js";
import { cardIn, transaction, transactionRecord } from "../support/transactions.js";
import { eventually } from "../support/eventually.js";
import { RoleProcess } from "../support/workers.js";
import { TestSystem } from "../support/workers-system.js";
import { ulbCsv } from "../unit/models/datasets/csv-files.js";

const { Kafka, logLevel } = kafkajs;

const { cacheDir } = readConfig({});
const missing = await noSecureKafka(cacheDir);
if (missing !== null) process.stderr.write(`skipped: ${missing}\n`);

const PARTITIONS = 2;
const DAY_MS = 86_400_000;

describe.skipIf(missing !== null)("a broker with TLS, SCRAM and ACLs", () => {
  let kafka: SecureKafka;
  const prefix = uniquePrefix();
  const topics = topicsFor(prefix, PARTITIONS);

  beforeAll(async () => {
    kafka = await startSecureKafka(cacheDir, [...KAFKA_USERS, "stranger"]);
    const env = {
      ...process.env,
      ...kafka.settingsOf(BROKER),
      TOPIC_PREFIX: prefix,
      TOPIC_PARTITIONS: String(PARTITIONS),
    };
    const said = execFileSync(process.execPath, [compiledModule("infra/kafka/access-command"), "--apply"], {
      env,
      encoding: "utf8",
    });
    expect(said).toMatch(/^\S+ and 8 more topics are there; \d+ grants for scoring, sink, /);
  });
  afterAll(() => kafka?.stop());

  test("every role does its work with no more than its own rights", { timeout: 240_000 }, async () => {
    const system = await TestSystem.open({ kafka: kafka.as(BROKER), prefix, partitions: PARTITIONS });
    const database = `${uniquePrefix("_")}db`;
    await migrate(clickhouseConfig(database), silent);
    const stored = createClickHouse(clickhouseConfig(database));
    const { url } = clickhouseConfig(database);
    const start = (role: KafkaUser & ("scoring" | "sink" | "merchants" | "training")): RoleProcess =>
      new RoleProcess(role, {
        ...system.settings,
        ...kafka.settingsOf(role),
        CLICKHOUSE_URL: url,
        CLICKHOUSE_DATABASE: database,
        DATASETS_ALLOW_PRIVATE: "127.0.0.1/32",
      });
    const roles = (["scoring", "sink", "merchants", "training"] as const).map(start);
    onTestFinished(async () => {
      for (const role of roles) await role.kill();
      await stored.close();
      await system.close();
    });
    const api = await startTestApi({
      prefix,
      database,
      kafka: kafka.as("api"),
      settings: { ARTIFACTS: system.artifacts },
    });

    // API and training, then API and scoring.
    const { origin } = await staticServer({ "/x.csv": ulbCsv(300) });
    const job = await api.inject("operator", {
      method: "POST",
      url: "/api/v1/training-jobs",
      payload: { dataset: `${origin}/x.csv`, algorithm: "logistic-regression" },
    });
    expect(job.statusCode).toBe(202);
    await eventually(
      "a model is trained",
      async () => (await api.inject("analyst", { url: "/api/v1/models/x@1" })).statusCode === 200,
      180_000,
    );
    const enabled = await api.inject("operator", {
      method: "PUT",
      url: "/api/v1/models/x@1/enabled",
      payload: { enabled: true, role: "champion" },
    });
    expect(enabled.statusCode).toBe(200);

    // A publisher with a client of its own: 20 days, so that merchants' buckets are sealed; one in the wrong partition,
    // one broken.
    const publisher = new Kafka({
      clientId: "publisher",
      brokers: [kafka.address],
      ssl: kafka.as("publisher").ssl,
      sasl: kafka.as("publisher").sasl as never,
      logLevel: logLevel.NOTHING,
    }).producer();
    await publisher.connect();
    const sent = Array.from({ length: 40 }, (_, n) =>
      transactionRecord(
        transaction(n, { event_time: Date.now() - ((40 - n) * DAY_MS) / 2, card_id: cardIn(n % 2, PARTITIONS, n) }),
      ),
    );
    const { key, value } = transactionRecord(transaction(99, { card_id: cardIn(1, PARTITIONS, 99) }));
    await publisher.send({
      topic: topics.transactions.name,
      messages: [
        ...sent.map((record, n) => ({ ...record, headers: {}, partition: n % 2 })),
        { key, value, partition: 0 },
        { key, value: "broken", partition: 1 },
      ],
    });
    await publisher.disconnect();
    const asked = await api.inject("service", {
      method: "POST",
      url: "/api/v1/predictions?wait_ms=20000",
      payload: { ...transaction(100), event_time: new Date().toISOString() },
    });
    expect([asked.statusCode, asked.json<{ transaction_id: string }>().transaction_id]).toEqual([200, "t100"]);

    // Labels: a good one by the labeller, one that becomes the sink's dead letter, and one over HTTP.
    await labels(kafka.as("labeller"), topics, [
      { transaction_id: "t1", card_id: cardIn(1, PARTITIONS, 1), is_fraud: true, label_time: Date.now() },
      { transaction_id: "", card_id: "c", is_fraud: true, label_time: Date.now() },
    ]);
    expect(
      (
        await api.inject("service", {
          method: "POST",
          url: "/api/v1/labels",
          payload: { transaction_id: "t100", card_id: "c0", is_fraud: false },
        })
      ).statusCode,
    ).toBe(202);

    // A reader with a client of its own.
    const consumer = new Kafka({
      clientId: "reader",
      brokers: [kafka.address],
      ssl: kafka.as("reader").ssl,
      sasl: kafka.as("reader").sasl as never,
      logLevel: logLevel.NOTHING,
    }).consumer({ groupId: `${prefix}reader-1` });
    let read = 0;
    await consumer.connect();
    await consumer.subscribe({ topic: topics.predictions.name, fromBeginning: true });
    await consumer.run({ eachMessage: () => Promise.resolve(void read++) });
    await eventually("the reader has 42 predictions", () => read === 42);
    await consumer.disconnect();

    // The sink has stored all of it, two dead letters included; the API sends one of them again.
    const counted = async (table: string): Promise<number> =>
      Number((await stored.query<{ n: number }>(`SELECT count() AS n FROM ${table} FINAL`))[0].n);
    await eventually(
      "all is stored",
      async () =>
        (await counted("predictions")) === 42 &&
        (await counted("labels")) === 2 &&
        (await counted("dead_letters")) === 2,
    );
    const [broken] = await stored.query<{ partition: number; offset: number }>(
      "SELECT partition, offset FROM dead_letters WHERE code = 'unknown_format'",
    );
    const again = await api.inject("operator", {
      method: "POST",
      url: "/api/v1/dead-letters/replay",
      payload: { dead_letters: [{ partition: broken.partition, offset: broken.offset }] },
    });
    expect([again.statusCode, again.json<{ replayed: unknown[] }>().replayed.length]).toEqual([200, 1]);
    await eventually("it has come back", async () => (await counted("dead_letters")) === 3);
    await eventually("buckets are sealed", async () => (await system.read(topics.merchantBuckets)).length > 2);
    expect((await api.app.inject({ url: "/metrics" })).body).toMatch(
      /fraudstream_sink_lag\{topic="\S+predictions",partition="0"\} 0/,
    );

    expect(await Promise.all(roles.map((role) => role.stop()))).toEqual(roles.map(() => ({ code: 0, signal: null })));
    for (const role of roles)
      expect(role.log.filter(({ msg }) => /AUTHORI[SZ]ATION|not authorized/i.test(msg))).toEqual([]);
    await api.close();
  });

  /** Letters of who may: s(coring), k (sink), m(erchants), t(raining), a(pi), p(ublisher), l(abeller), r(eader). */
  const LETTERS: Record<KafkaUser | "stranger", string> = {
    scoring: "s",
    sink: "k",
    merchants: "m",
    training: "t",
    api: "a",
    publisher: "p",
    labeller: "l",
    reader: "r",
    stranger: "x",
  };
  const MAY_READ: Record<keyof Topics, string> = {
    transactions: "skm",
    predictions: "skar",
    shadowPredictions: "k",
    labels: "km",
    deadLetters: "ska",
    merchantBuckets: "sm",
    control: "skta",
    users: "a",
    workers: "ta",
  };
  const MAY_WRITE: Record<keyof Topics, string> = {
    transactions: "sap",
    predictions: "s",
    shadowPredictions: "s",
    labels: "mal",
    deadLetters: "sk",
    merchantBuckets: "m",
    control: "ta",
    users: "a",
    workers: "sta",
  };
  const MAY_OWN: Record<string, string> = {
    "scoring-0": "s",
    "scoring-1": "s",
    "merchants-0": "m",
    replay: "a",
    sink: "",
    "": "",
    other: "",
  };

  test("and no role can do what belongs to another", { timeout: 120_000 }, async () => {
    const found = { read: new Map<string, string>(), write: new Map<string, string>(), own: new Map<string, string>() };
    const note = (kind: keyof typeof found, what: string, user: KafkaUser | "stranger", may: boolean): void =>
      void found[kind].set(what, (found[kind].get(what) ?? "") + (may ? LETTERS[user] : ""));
    for (const user of [...KAFKA_USERS, "stranger"] as const) {
      const cluster = new KafkaCluster(kafka.as(user), user);
      for (const [name, topic] of Object.entries(topics) as [keyof Topics, Topics[keyof Topics]][]) {
        const reader = new PartitionReader(cluster, topic.name, 0, { maxWaitMs: 0 });
        note("read", name, user, await allowed(() => reader.fetch(0)));
        await reader.close();
        note("write", name, user, await allowed(() => writeTo(cluster, topic.name)));
      }
      for (const id of Object.keys(MAY_OWN)) {
        note(
          "own",
          id,
          user,
          await allowed(async () =>
            (await TransactionalProducer.open(cluster, `${prefix}${id}`, { patienceMs: 5_000 })).close(),
          ),
        );
      }
      await cluster.close();
    }
    expect(Object.fromEntries(found.read)).toEqual(MAY_READ);
    expect(Object.fromEntries(found.write)).toEqual(MAY_WRITE);
    expect(Object.fromEntries(found.own)).toEqual(MAY_OWN);
  });

  test("consumer groups belong to their members, and topics to the operators", async () => {
    const source = { topic: topics.transactions.name, partition: 0 };
    const asUser = async <T>(
      user: KafkaUser,
      work: (connection: Connection, cluster: KafkaCluster) => Promise<T>,
    ): Promise<boolean> => {
      const cluster = new KafkaCluster(kafka.as(user), user);
      const connection = await cluster.open(await cluster.anyBroker());
      const may = await allowed(() => work(connection, cluster));
      await connection.close();
      await cluster.close();
      return may;
    };
    const setBack = (group: string, topic: string) => (connection: Connection) =>
      call(
        connection,
        offsetCommitV8.api,
        [
          `${prefix}${group}`,
          -1,
          "",
          null,
          [
            {
              name: topic,
              partitions: [
                { partitionIndex: 0, committedOffset: 0n, committedLeaderEpoch: -1, committedMetadata: null },
              ],
            },
          ],
        ],
        "setting an offset back",
      );
    expect(await asUser("publisher", (_, cluster) => committedOffset(cluster, `${prefix}scoring`, source))).toBe(false);
    // The API looks at scoring's offsets, for its lag, and sets none back.
    expect(await asUser("api", (_, cluster) => committedOffset(cluster, `${prefix}scoring`, source))).toBe(true);
    expect(await asUser("api", setBack("scoring", topics.predictions.name))).toBe(false);
    expect(await asUser("reader", setBack("sink", topics.predictions.name))).toBe(false);
    expect(await asUser("reader", setBack("reader-1", topics.predictions.name))).toBe(true);
    expect(
      await asUser("api", (connection) =>
        call(connection, deleteTopicsV6.api, [[{ name: topics.users.name }], 5_000], "deleting a topic"),
      ),
    ).toBe(false);
  });

  test(
    "a wrong password, a certificate of an untrusted authority, and connections without TLS are refused",
    { timeout: 120_000 },
    async () => {
      const right = kafka.as("scoring");
      const wrong: KafkaConfig = {
        ...right,
        sasl: { mechanism: "scram-sha-512", username: "scoring", password: "wrong" },
      };
      expect(await failureOf(wrong)).toEqual(["kafka_sasl_authentication_failed", false]);
      await expect(ensureTopics(createKafka(wrong, "wrong", silent), [topics.users])).rejects.toThrow(
        /^KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: the brokers do not take this user: /,
      );
      expect(await failureOf({ ...right, ssl: true })).toEqual(["kafka_untrusted_certificate", false]);
      const untrusting = new Kafka({
        brokers: [kafka.address],
        ssl: true,
        retry: { retries: 0 },
        logLevel: logLevel.NOTHING,
      }).admin();
      expect(refusalOf(await untrusting.connect().catch((error: unknown) => error))?.message).toMatch(
        /^KAFKA_TLS_CA: the brokers' certificate is not trusted: /,
      );
      // A broker closes what isn't TLS, and what asks before it has signed in.
      for (const insecure of [
        { ...right, ssl: false },
        { ...right, ssl: false, sasl: null },
        { ...right, sasl: null },
      ])
        expect((await failureOf(insecure))?.[0]).toBe("kafka_network");

      // Before anything else is asked: TLS that is missing is named, what the client itself says better is left to it.
      const reached = (config: KafkaConfig): Promise<unknown> =>
        checkReachable({ kafka: config, clickhouse: null }).catch((error: unknown) => error);
      expect(await reached({ ...right, ssl: false, sasl: null })).toMatchObject({
        code: "unreachable",
        message: expect.stringMatching(/ TLS.* set KAFKA_SSL=true/) as string,
      });
      for (const config of [right, wrong, { ...right, ssl: true }]) expect(await reached(config)).toBeUndefined();

      // A role's one line for whoever has to mend it.
      const role = new RoleProcess("scoring", {
        ...kafka.settingsOf("sink"),
        KAFKA_SASL_USERNAME: "scoring",
        TOPIC_PREFIX: prefix,
        TOPIC_PARTITIONS: String(PARTITIONS),
      });
      expect(await role.ended).toEqual({ code: 1, signal: null });
      expect(role.tail(1)).toMatch(/^KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: the brokers do not take this user/);
      const stranger = new RoleProcess("sink", {
        ...kafka.settingsOf("stranger"),
        CLICKHOUSE_URL: clickhouseConfig("x").url,
        CLICKHOUSE_DATABASE: `${uniquePrefix("_")}db`,
        TOPIC_PREFIX: prefix,
        TOPIC_PARTITIONS: String(PARTITIONS),
      });
      expect(await stranger.ended).toEqual({ code: 1, signal: null });
      expect(stranger.tail(1)).toMatch(/may not create it: npm run kafka:access lists what each role needs/);
    },
  );
});

/** Whether the brokers let it be done; anything but a refusal is thrown. */
async function allowed(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (error instanceof KafkaError && error.refused) return false;
    throw error;
  }
}

/** Writes one record as no library would hinder it. */
async function writeTo(cluster: KafkaCluster, topic: string): Promise<void> {
  const output = new PartitionOutput(topic, 0);
  output.append(Buffer.from("k"), Buffer.from("v"));
  const connection = await cluster.open(await cluster.anyBroker());
  try {
    const batch = output.batches[0].finish(Date.now(), {
      producerId: -1n,
      producerEpoch: -1,
      firstSequence: -1,
      transactional: false,
    });
    await produce(connection, null, [{ topic, partition: 0, batch }]);
  } finally {
    await connection.close();
  }
}

/** The code of what a cluster's first question ends with, and whether it may pass. */
async function failureOf(config: KafkaConfig): Promise<[string, boolean] | null> {
  const cluster = new KafkaCluster(config, "refused");
  try {
    await cluster.identityOf("any");
    return null;
  } catch (error) {
    return error instanceof KafkaError ? [error.code, error.retriable] : [String(error), true];
  } finally {
    await cluster.close();
  }
}

async function labels(config: KafkaConfig, topics: Topics, values: readonly Label[]): Promise<void> {
  const cluster = new KafkaCluster(config, "labeller");
  const producer = await BatchProducer.open(cluster);
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  await producer.publish(
    topics.labels.name,
    values.map((label) => ({ key: Buffer.from(label.card_id), value: schemas.encode("labels", label) })),
  );
  await producer.close();
  await cluster.close();
}
