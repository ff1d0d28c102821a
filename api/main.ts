import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { Config } from "../infra/config/config.js";
import { ensureTopics } from "../infra/kafka/client.js";
import { configOrExit } from "../infra/lifecycle/config-or-exit.js";
import { runRole, type Lifecycle } from "../infra/lifecycle/lifecycle.js";
import { createLogger, type Logger } from "../infra/logging.js";
import { waitUntilReachable } from "../infra/reachable.js";
import { UsageError } from "../schemas/errors.js";
import { allTopics, subjectTopics } from "../schemas/topics.js";
import { createApp } from "./app.js";
import { listen, stopListening } from "./listen.js";
import { startParts, wireApi } from "./wiring.js";

/** The role `api`: `node dist/api/main.js`. */
async function start(config: Config, log: Logger, lifecycle: Lifecycle): Promise<void> {
  const { kafka, clickhouse } = config;
  if (kafka === null)
    throw new UsageError(
      "no_kafka",
      "KAFKA_BROKERS is not set: the API needs a Kafka cluster (npm start brings one of its own)",
    );
  if (clickhouse === null)
    throw new UsageError(
      "no_clickhouse",
      "CLICKHOUSE_URL is not set: the API needs a ClickHouse server (npm start brings one of its own)",
    );
  await waitUntilReachable({ kafka, clickhouse: null }, { log, signal: lifecycle.signal, without: config });
  const parts = wireApi({
    config,
    kafka,
    clickhouse,
    log,
    stopping: lifecycle.signal,
    clientId: `api-${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`,
  });
  const { context } = parts;
  await ensureTopics(context.kafka, allTopics(context.topics), {
    replication: context.kafkaConfig.replication,
    log: context.log,
  });
  await context.schemas.register(subjectTopics(context.topics));
  await startParts(parts, lifecycle);

  const app = await createApp(context);
  lifecycle.add("http", () => stopListening(app));
  const address = await listen(app, config);
  log.info({ address, doc: `${address}/doc` }, "listening");
}

const config = configOrExit();
const log = createLogger(config, "api");
await runRole(log, (lifecycle) => start(config, log, lifecycle));
