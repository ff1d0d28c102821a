import { randomUUID } from "node:crypto";
import { cardPseudonyms } from "../infra/privacy/card-pseudonyms.js";
import { createClickHouse } from "../infra/clickhouse/client.js";
import { guardDatabase } from "../infra/clickhouse/owner.js";
import type { ClickHouseConfig, Config, KafkaConfig } from "../infra/config/config.js";
import { Conditions } from "../infra/health/conditions.js";
import { BatchProducer } from "../infra/kafka/batch-producer.js";
import { createKafka } from "../infra/kafka/client.js";
import { KafkaCluster } from "../infra/kafka/cluster.js";
import { LogWatch } from "../infra/kafka/log-watch.js";
import { Schemas } from "../infra/kafka/schemas.js";
import type { Lifecycle } from "../infra/lifecycle/lifecycle.js";
import type { Logger } from "../infra/logging.js";
import { heartbeatRecord } from "../models/control/heartbeats.js";
import { ControlLog } from "../models/control/log.js";
import { WorkerBoard } from "../models/control/workers.js";
import { UsageError } from "../schemas/errors.js";
import { allTopics, topicsFor } from "../schemas/topics.js";
import type { ApiContext } from "./context.js";
import { watchConditions } from "./watch-conditions.js";
import { createMetrics } from "./metrics.js";
import { OneProducer } from "./one-producer.js";
import { ReplyListener } from "./predictions/reply-listener.js";
import { QueryDesk } from "./queries/query-desk.js";
import { RequestLog } from "./request-log/request-log.js";
import { PasswordHasher } from "./users/passwords.js";
import { createTokens } from "./users/tokens.js";
import { SHARE_EVERY_MS, SignInLocks, signInHeartbeat, signInLinesOf } from "./users/sign-in-locks.js";
import { UserDirectory } from "./users/user-directory.js";

/** The parts of an API, wired and not yet started: nothing has been asked of Kafka or ClickHouse. */
export interface Parts {
  context: ApiContext;
  users: UserDirectory;
  board: WorkerBoard;
  /** Each part's own end, in the order in which they are to be added to a lifecycle. */
  ends: readonly { name: string; stop: () => Promise<void> | void }[];
}

export interface ApiWiring {
  config: Config;
  kafka: KafkaConfig;
  clickhouse: ClickHouseConfig;
  clientId: string;
  log: Logger;
  /** Aborts when the API stops. */
  stopping: AbortSignal;
}

/** @throws UsageError `bad_setting` without a way to check tokens */
export function wireApi({
  config,
  kafka: kafkaConfig,
  clickhouse: clickhouseConfig,
  clientId,
  log,
  stopping,
}: ApiWiring): Parts {
  const topics = topicsFor(config.topicPrefix, config.topicPartitions);
  const kafka = createKafka(kafkaConfig, clientId, log);
  const cluster = new KafkaCluster(kafkaConfig, clientId, { log, stopping });
  const schemas = new Schemas(config);
  const clickhouse = createClickHouse(clickhouseConfig);
  const control = new ControlLog({ cluster, topic: topics.control.name, schemas, log });
  const users = new UserDirectory({ cluster, topic: topics.users.name, schemas, log });
  const board = new WorkerBoard({ cluster, topic: topics.workers.name, schemas, log, lookBackMs: 2 * SHARE_EVERY_MS });
  const copy = `api-${randomUUID()}`;
  const replies = new ReplyListener({ cluster, topics, schemas, log, copy });
  const requestLog = new RequestLog({ clickhouse, log });
  const producer = new OneProducer(() => BatchProducer.open(cluster));
  const locks = new SignInLocks({
    secret: config.auth.jwtSecret,
    ofAddress: config.http.signInRateLimit,
    log,
    share: async (lines) => {
      const record = heartbeatRecord(schemas, signInHeartbeat(copy, lines));
      await producer.use((opened) => opened.publishTo(topics.workers.name, 0, [record]));
    },
    heard: () =>
      board.alive("api", 2 * SHARE_EVERY_MS).flatMap((beat) => (beat.worker === copy ? [] : signInLinesOf(beat))),
  });
  const metrics = createMetrics();
  const context: ApiContext = {
    config,
    kafkaConfig,
    log,
    cluster,
    kafka,
    topics,
    schemas,
    clickhouse,
    queries: new QueryDesk(clickhouse),
    control,
    workers: board,
    replies,
    users,
    requestLog,
    cards: cardPseudonyms(config),
    locks,
    passwords: new PasswordHasher(),
    tokens: createTokens(config.auth),
    metrics,
    conditions: new Conditions(log, metrics.registry),
    produce: (work) => producer.use(work),
  };
  const ends = [
    { name: "clickhouse", stop: () => clickhouse.close() },
    { name: "request log", stop: () => requestLog.close() },
    { name: "cluster", stop: () => cluster.close() },
    { name: "sign-in locks", stop: () => locks.close() },
    { name: "producer", stop: () => producer.close() },
    { name: "workers", stop: () => board.close() },
    { name: "replies", stop: () => replies.close() },
    { name: "control", stop: () => control.close() },
    { name: "users", stop: () => users.close() },
  ];
  return { context, users, board, ends };
}

/** Reads what the API has to know before its first answer, and follows it from then on. Stopped by `lifecycle`. */
export async function startParts(
  { context, users, board, ends }: Parts,
  lifecycle: Pick<Lifecycle, "add" | "fail">,
): Promise<void> {
  for (const { name, stop } of ends) lifecycle.add(name, stop);
  const { control } = context;
  const fail = (error: unknown): void => lifecycle.fail(error);
  const owner = { clusterId: await context.cluster.clusterId(), topicPrefix: context.config.topicPrefix };
  await guardDatabase(lifecycle, context.clickhouse, owner, context.log);
  await Promise.all([control.open(), users.open(), board.start(), context.replies.start()]);
  await context.produce((producer) => users.repair(producer));
  control.follow(() => {}, fail);
  users.follow(fail);
  const {
    cluster,
    conditions,
    metrics: { registry },
    log,
    topics,
    kafkaConfig: { brokers },
  } = context;
  // What waits behind an open transaction is scoring's and the sink's: the API answers meanwhile.
  const watch = new LogWatch({
    cluster,
    conditions,
    registry,
    log,
    topics: allTopics(topics),
    brokers,
    standstillBlocks: false,
  });
  lifecycle.add("log watch", () => watch.stop());
  watchConditions(context, lifecycle);
  await ensureAdmin(context);
}

/**
 * Makes the first admin, if there isn't one of that name.
 *
 * @throws UsageError `no_admin` when nobody could manage users and no admin is configured
 */
async function ensureAdmin({ config, users, passwords, tokens, produce, log }: ApiContext): Promise<void> {
  const { adminUsername, adminPassword } = config.auth;
  const configured = adminPassword !== null || (adminUsername !== null && !tokens.canSign);
  const username = adminUsername ?? "admin";
  if (configured && (await users.find({ username })) === undefined) {
    const passwordHash = adminPassword === null ? null : await passwords.hash(adminPassword);
    try {
      await produce((producer) =>
        users.create(producer, { username, email: "", role: "admin", passwordHash, by: "system:start" }),
      );
      log.info({ username }, "the first admin was created");
    } catch (error) {
      // Another copy of the API was quicker.
      if ((await users.find({ username })) === undefined) throw error;
    }
  }
  if (users.all().some((user) => user.enabled && user.role === "admin")) return;
  throw new UsageError(
    "no_admin",
    tokens.canSign
      ? "there is no admin who is enabled: set ADMIN_PASSWORD (and ADMIN_USERNAME, if not admin) to make one"
      : "there is no admin who is enabled: set ADMIN_USERNAME to the subject of the identity provider's token " +
          "who is to be one",
  );
}
