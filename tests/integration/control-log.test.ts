import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { UserDirectory } from "../../api/users/user-directory.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { NO_TOPIC_ID } from "../../infra/kafka/offset-mark.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { ControlLog } from "../../models/control/log.js";
import { DEPLOYMENT_KEY, jobKey, modelKey, type EventBody } from "../../models/control/events.js";
import { deploy, registerModel } from "../../models/control/decisions.js";
import type { ControlEvent } from "../../schemas/generated.js";
import { until } from "../support/eventually.js";
import { copyTopic } from "../support/copy-topics.js";
import { kafkaConfig } from "../support/engines.js";
import { silent, testKafka } from "../support/kafka-cluster.js";

const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
const requested: EventBody = { "fraudstream.JobRequested": { request: "{}" } };
const NOTHING: EventBody = { "fraudstream.Deployed": { champion: null, shadows: [] } };
const failed = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "no error",
    (error: unknown) => error,
  );

/** As brokers before 2.8 are: there a topic that was created again is a log that ends too early. */
class ClusterWithoutTopicIds extends KafkaCluster {
  override async identityOf(topic: string, age?: number): ReturnType<KafkaCluster["identityOf"]> {
    return { ...(await super.identityOf(topic, age)), topicId: NO_TOPIC_ID };
  }

  override async leaderAndTopic(
    topic: string,
    partition: number,
    fresh: boolean,
  ): ReturnType<KafkaCluster["leaderAndTopic"]> {
    return { ...(await super.leaderAndTopic(topic, partition, fresh)), topicId: NO_TOPIC_ID };
  }
}

interface Desk {
  log: ControlLog;
  producer: BatchProducer;
  author: { who: string; producer: BatchProducer };
}

/** Somebody who reads and writes the control topic. */
async function desk(cluster: KafkaCluster, topic: string, who = "ada"): Promise<Desk> {
  const log = new ControlLog({ cluster, topic, schemas, log: silent });
  const producer = await BatchProducer.open(cluster);
  onTestFinished(async () => {
    await log.close();
    await producer.close();
  });
  return { log, producer, author: { who, producer } };
}

describe("ControlLog", () => {
  test("an empty topic has an end, too", async () => {
    const { cluster, topic } = testKafka();
    const { log } = await desk(cluster, await topic("control"));
    await log.readToEnd();
    expect([log.position, log.state.deployment]).toEqual([0, null]);
  });

  test("an author sees the event once it is accepted; others see it when they read to the end", async () => {
    const { cluster, topic } = testKafka();
    const name = await topic("control");
    const [one, other] = [await desk(cluster, name), await desk(cluster, name)];
    await registerModel(one.log, one.author, { model: "a@1", manifestSha256: "f".repeat(64) });
    const epoch = await deploy(one.log, one.author, {
      champion: { model: "a@1", review: 0.5, decline: 0.9 },
      shadows: [],
    });
    expect(epoch).toBe(1);
    expect(one.log.state.deployment).toEqual({
      epoch: 1,
      champion: { model: "a@1", review: 0.5, decline: 0.9 },
      shadows: [],
    });
    expect(other.log.state.deployment).toBeNull();
    await other.log.readToEnd();
    expect(other.log.state.deployment).toEqual(one.log.state.deployment);
    expect(other.log.state.models).toEqual(one.log.state.models);
    expect([...other.log.state.models.values()]).toMatchObject([{ model: "a@1", registeredBy: "ada", job: null }]);
    expect(
      await failed(deploy(one.log, one.author, { champion: { model: "b@1", review: 0, decline: 0 }, shadows: [] })),
    ).toMatchObject({ code: "unknown_model" });
  });

  test("an author who decides on an older state is told so, and may decide again", async () => {
    const { cluster, topic } = testKafka();
    const name = await topic("control");
    const [one, other] = [await desk(cluster, name), await desk(cluster, name)];
    await one.log.append(one.producer, { key: DEPLOYMENT_KEY, who: "ada", event: NOTHING });
    expect(
      await failed(other.log.append(other.producer, { key: DEPLOYMENT_KEY, who: "bob", event: NOTHING })),
    ).toMatchObject({ code: "conflict", retriable: false });
    // It has read the other's decision by now.
    expect(await other.log.append(other.producer, { key: DEPLOYMENT_KEY, who: "bob", event: NOTHING })).toBe(2);
    expect(
      await failed(one.log.append(one.producer, { key: DEPLOYMENT_KEY, who: "ada", event: NOTHING, base: 0 })),
    ).toMatchObject({ code: "conflict" });
    await Promise.all([one.log.readToEnd(), other.log.readToEnd()]);
    for (const { log } of [one, other]) expect(log.state.deployments.map(({ epoch }) => epoch)).toEqual([0, 2]);
    const model = { model: "a@1", manifestSha256: "f".repeat(64) };
    await registerModel(one.log, one.author, model);
    expect(await failed(registerModel(one.log, one.author, model))).toMatchObject({ code: "conflict" });
  });

  test("in a race exactly one wins each round, and all agree on who", async () => {
    const { cluster, topic } = testKafka();
    const name = await topic("control");
    const desks = await Promise.all(["ada", "bob", "cyd"].map((who) => desk(cluster, name, who)));
    for (const { log } of desks)
      log.follow(
        () => {},
        () => {},
      );
    const winners: string[] = [];
    for (let round = 0; round < 8; round++) {
      const base = desks[0]?.log.state.baseOf(DEPLOYMENT_KEY) ?? -1;
      const results = await Promise.all(
        desks.map(({ log, producer, author: { who } }) =>
          log.append(producer, { key: DEPLOYMENT_KEY, who, event: NOTHING, base }).then(
            () => who,
            (error: { code: string }) => error.code,
          ),
        ),
      );
      expect(results.filter((result) => result !== "conflict")).toHaveLength(1);
      winners.push(...results.filter((result) => result !== "conflict"));
      await Promise.all(desks.map(({ log }) => log.readToEnd()));
    }
    for (const { log } of desks) expect(log.state.history.map(({ who }) => who)).toEqual(winners);
  });

  test("one author's simultaneous decisions are one decision; those of different keys don't conflict", async () => {
    const { cluster, topic } = testKafka();
    const { log, producer } = await desk(cluster, await topic("control"));
    const same = await Promise.all(
      [1, 2, 3].map(() => failed(log.append(producer, { key: DEPLOYMENT_KEY, who: "ada", event: NOTHING }))),
    );
    expect(same.map((result) => (result === "no error" ? result : (result as { code: string }).code)).sort()).toEqual([
      "conflict",
      "conflict",
      "no error",
    ]);
    const different = await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        log.append(producer, { key: jobKey(String(i)), who: "ada", event: requested }),
      ),
    );
    expect(new Set(different).size).toBe(10);
    expect(log.state.jobs.size).toBe(10);
  });

  test("a copy whose offsets have no gaps has the same state, and accepts decisions from there", async () => {
    const { cluster, topic } = testKafka();
    const name = await topic("control");
    const { log, producer, author } = await desk(cluster, name);
    await registerModel(log, author, { model: "a@1", manifestSha256: "f".repeat(64) });
    await registerModel(log, author, { model: "b@1", manifestSha256: "f".repeat(64) });
    // What leaves holes in a copy: markers and aborted events. Here: records that the copy leaves out.
    await producer.publishTo(
      name,
      0,
      Array.from({ length: 20 }, () => ({ key: null, value: Buffer.from("hole") })),
    );
    await log.readToEnd();
    for (const model of ["a@1", "b@1"])
      await deploy(log, author, { champion: { model, review: 0.5, decline: 0.9 }, shadows: [] });
    const copied = await copyTopic(cluster, name, await topic("copy"), (value) => value.toString() !== "hole");
    expect(copied).toBe(4);
    const other = await desk(cluster, `${name.slice(0, -"control".length)}copy`);
    await other.log.open();
    expect(other.log.state.deployments).toEqual(log.state.deployments);
    expect(other.log.state.deployment?.champion?.model).toBe("b@1");
    const epoch = await deploy(other.log, other.author, {
      champion: { model: "a@1", review: 0.5, decline: 0.9 },
      shadows: [],
    });
    expect(epoch).toBeGreaterThan(log.state.deployment?.epoch ?? Infinity);
    // The first events went to the front again, as when a topic is copied after a role has made one of its own.
    await producer.publishTo(name, 0, [
      {
        key: null,
        value: schemas.encode("control", {
          key: DEPLOYMENT_KEY,
          base: 0,
          at: 0,
          who: "eve",
          event: NOTHING,
        } satisfies ControlEvent),
      },
    ]);
    const later = await desk(cluster, name);
    expect(await failed(later.log.open())).toMatchObject({ code: "control_inconsistent" });
  });

  test("following reports every change, including its own, until it is closed", async () => {
    const { cluster, topic } = testKafka();
    const name = await topic("control");
    const [one, other] = [await desk(cluster, name), await desk(cluster, name)];
    const heard: number[] = [];
    const failures: unknown[] = [];
    other.log.follow(
      (state) => heard.push(state.deployments.length),
      (error) => failures.push(error),
    );
    await one.log.append(one.producer, { key: DEPLOYMENT_KEY, who: "ada", event: NOTHING });
    await until(() => heard.at(-1) === 1);
    await other.log.append(other.producer, { key: DEPLOYMENT_KEY, who: "bob", event: NOTHING });
    await until(() => heard.at(-1) === 2);
    await other.log.close();
    const before = heard.length;
    await one.log.readToEnd();
    await one.log.append(one.producer, { key: DEPLOYMENT_KEY, who: "ada", event: NOTHING });
    await sleep(300);
    expect([heard.length, failures]).toEqual([before, []]);
  });

  test("following waits out a cluster that is away; reading to the end reports it", async () => {
    const { cluster, topic, proxied } = testKafka();
    const name = await topic("control");
    const { proxy, cluster: behind } = await proxied();
    const writer = await desk(cluster, name);
    const follower = new ControlLog({ cluster: behind, topic: name, schemas, log: silent, patienceMs: 200 });
    onTestFinished(() => follower.close());
    const failures: unknown[] = [];
    follower.follow(
      () => {},
      (error) => failures.push(error),
    );
    await writer.log.append(writer.producer, { key: DEPLOYMENT_KEY, who: "ada", event: NOTHING });
    await until(() => follower.position === 1);
    proxy.mode = "down";
    await writer.log.append(writer.producer, { key: DEPLOYMENT_KEY, who: "ada", event: NOTHING });
    expect(await failed(follower.readToEnd())).toMatchObject({ name: "KafkaError", retriable: true });
    expect(follower.position).toBe(1);
    proxy.mode = "up";
    await until(() => follower.position === 2);
    expect(failures).toEqual([]);
  });

  test.each([
    {
      brokers: "of today",
      kind: "recreated",
      code: "kafka_topic_recreated",
      open: () => new KafkaCluster(kafkaConfig(), "decisions-test"),
    },
    {
      brokers: "without topic ids",
      kind: "cut_off",
      code: "kafka_log_cut_off",
      open: () => new ClusterWithoutTopicIds(kafkaConfig(), "decisions-test"),
    },
  ])(
    "decisions and users stay in force when their topics are deleted and created again on brokers $brokers, " +
      "and nothing is written to the new ones",
    async ({ kind, code, open }) => {
      const { kafka, topic, visible } = testKafka();
      const cluster = open();
      onTestFinished(() => cluster.close());
      const [control, users] = [await topic("control"), await topic("users")];
      const { log, producer, author } = await desk(cluster, control);
      const directory = new UserDirectory({ cluster, topic: users, schemas, log: silent });
      onTestFinished(() => directory.close());
      const incidents: string[] = [];
      cluster.incidents.listen(
        ({ kind: met, topic: of, message }) =>
          void incidents.push(`${met} ${of} ${/restart (?:every role|the API)/.exec(message)?.[0]}`),
      );
      await registerModel(log, author, { model: "a@1", manifestSha256: "f".repeat(64) });
      await deploy(log, author, { champion: { model: "a@1", review: 0.5, decline: 0.9 }, shadows: [] });
      const eve = await directory.create(producer, {
        username: "eve",
        email: "eve@example.org",
        role: "analyst",
        passwordHash: null,
      });
      await directory.create(producer, {
        username: "ada",
        email: "ada@example.org",
        role: "admin",
        passwordHash: null,
      });
      await directory.change(producer, eve.id, { enabled: false }, "ada");
      expect([log.replaced, directory.replaced]).toEqual([null, null]);
      const failures: unknown[] = [];
      log.follow(
        () => {},
        (error) => failures.push(error),
      );
      directory.follow((error) => failures.push(error));

      const admin = kafka.admin();
      await admin.connect();
      onTestFinished(() => admin.disconnect());
      await admin.deleteTopics({ topics: [control, users] });
      await until(async () =>
        admin.createTopics({ topics: [control, users].map((name) => ({ topic: name, numPartitions: 1 })) }).then(
          () => true,
          () => false,
        ),
      );
      await until(() => incidents.length === 2);
      expect(incidents.sort()).toEqual([`${kind} ${control} restart every role`, `${kind} ${users} restart the API`]);

      expect([log.replaced, directory.replaced]).toEqual(
        [control, users].map((name) => expect.stringContaining(name) as string),
      );
      const recreated = { code, retriable: true };
      expect(await failed(deploy(log, author, { champion: null, shadows: [] }))).toMatchObject(recreated);
      expect(await failed(directory.change(producer, eve.id, { enabled: true }, "ada"))).toMatchObject(recreated);
      expect(
        await failed(
          directory.create(producer, { username: "bob", email: "bob@example.org", role: "admin", passwordHash: null }),
        ),
      ).toMatchObject(recreated);
      expect([log.state.deployment?.champion?.model, directory.byId(eve.id)?.enabled, failures]).toEqual([
        "a@1",
        false,
        [],
      ]);
      expect([await visible(control), await visible(users)]).toEqual([[], []]);
      // Whoever starts now begins with what is there.
      const later = await desk(cluster, control);
      await later.log.open();
      expect(later.log.state.deployment).toBeNull();
    },
  );

  test("records that are not control events are skipped, and do not hold up what follows", async () => {
    const { cluster, topic } = testKafka();
    const name = await topic("control");
    const { log, producer } = await desk(cluster, name);
    const event: ControlEvent = {
      key: modelKey("a@1"),
      base: -1,
      at: 0,
      who: "ada",
      event: { "fraudstream.ModelRegistered": { model: "a@1", manifest_sha256: "x", job: null } },
    };
    const value = schemas.encode("control", event);
    const values = [
      Buffer.from("text"),
      null,
      Buffer.alloc(0),
      value.subarray(0, -1),
      schemas.encode("labels", { transaction_id: "t", card_id: "c", is_fraud: false, label_time: 0 }),
      value,
    ];
    await producer.publishTo(
      name,
      0,
      values.map((of) => ({ key: null, value: of })),
    );
    await log.readToEnd();
    expect([log.position, [...log.state.models.keys()], log.state.baseOf(event.key)]).toEqual([6, ["a@1"], 5]);
  });
});
