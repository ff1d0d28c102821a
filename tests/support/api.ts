import { randomUUID } from "node:crypto";
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from "fastify";
import { onTestFinished } from "vitest";
import { createApp, type Patience } from "../../api/app.js";
import type { ApiContext } from "../../api/context.js";
import type { Role } from "../../api/users/roles.js";
import { startParts, wireApi } from "../../api/wiring.js";
import { migrate } from "../../infra/clickhouse/migrate.js";
import { readConfig, type Config, type KafkaConfig } from "../../infra/config/config.js";
import { ensureTopics } from "../../infra/kafka/client.js";
import { Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import { createLogger, type Logger } from "../../infra/logging.js";
import { allTopics } from "../../schemas/topics.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "./engines.js";

export const JWT_SECRET = "a secret of the tests, thirty-two bytes or more";
export const ADMIN_PASSWORD = "correct horse battery";

export interface TestApiOptions {
  /** To make a second copy: what the first one's `prefix` and `database` are. */
  prefix?: string;
  database?: string;
  /** The environment beside the engines: settings of `infra/config/config.ts`. */
  settings?: Record<string, string>;
  patience?: Patience;
  log?: Logger;
  /** Another address of the test run's ClickHouse: a proxy's, or one where nobody is. */
  clickhouseUrl?: string;
  /** Another Kafka than the test run's. */
  kafka?: KafkaConfig;
  /** @default false: the sink would migrate it; a test of its own needs the tables */
  migrated?: boolean;
}

/** One copy of the API on the test run's engines, with topics and a database of its own. */
export interface TestApi {
  app: FastifyInstance;
  context: ApiContext;
  config: Config;
  prefix: string;
  database: string;
  /** The Authorization header of a user with this role, made at the first call. */
  as(role: Role): Promise<{ authorization: string }>;
  /** A request to the app, signed in with a role; null: not signed in. */
  inject(role: Role | null, request: InjectOptions): Promise<LightMyRequestResponse>;
  /** Stops this copy; otherwise the end of the test does. */
  close(): Promise<void>;
}

/** Builds and starts an API; to be called in a test, whose end stops it, or in a hook, with `close` called later. */
export async function startTestApi(options: TestApiOptions = {}): Promise<TestApi> {
  const {
    prefix = uniquePrefix(),
    database = `${uniquePrefix("_")}db`,
    settings = {},
    patience,
    migrated = false,
  } = options;
  const log = options.log ?? createLogger({ logLevel: "silent" }, "test");
  const config: Config = readConfig({
    TOPIC_PREFIX: prefix,
    TOPIC_PARTITIONS: "2",
    CLICKHOUSE_DATABASE: database,
    JWT_SECRET,
    ADMIN_PASSWORD,
    RATE_LIMIT: "1000000",
    SIGN_IN_RATE_LIMIT: "100000",
    ...settings,
  });
  const clickhouse = {
    ...clickhouseConfig(database),
    ...(options.clickhouseUrl === undefined ? {} : { url: options.clickhouseUrl }),
  };
  if (migrated) await migrate(clickhouseConfig(database), log);
  const lifecycle = new Lifecycle(log);
  const parts = wireApi({
    config,
    kafka: options.kafka ?? kafkaConfig(),
    clickhouse,
    clientId: `api-${prefix}${randomUUID().slice(0, 8)}`,
    log,
    stopping: lifecycle.signal,
  });
  const { context } = parts;
  await ensureTopics(context.kafka, allTopics(context.topics));
  await startParts(parts, lifecycle);
  const app = await createApp(context, patience);
  lifecycle.add("http", () => app.close());

  const tokens = new Map<Role, Promise<string>>();
  const close = async (): Promise<void> => {
    await lifecycle.stop();
    if (lifecycle.failure !== null) throw new Error("a part of the API failed", { cause: lifecycle.failure });
  };
  try {
    onTestFinished(close);
  } catch {
    // Called in a hook: whoever called closes it.
  }
  const tokenOf = async (role: Role): Promise<string> => {
    const user = await context.produce((producer) =>
      context.users.create(producer, {
        username: `${role}-${randomUUID().slice(0, 8)}`,
        email: "",
        role,
        passwordHash: null,
        by: "system:test",
      }),
    );
    return context.tokens.issue(user);
  };
  const as = async (role: Role): Promise<{ authorization: string }> => {
    const token = tokens.get(role) ?? tokenOf(role);
    tokens.set(role, token);
    return { authorization: `Bearer ${await token}` };
  };
  return {
    app,
    context,
    config,
    prefix,
    database,
    as,
    close,
    inject: async (role, request) =>
      app.inject({ ...request, headers: { ...request.headers, ...(role === null ? {} : await as(role)) } }),
  };
}
