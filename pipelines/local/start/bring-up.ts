import { rmSync } from "node:fs";
import { join } from "node:path";
import { createClickHouse, type ClickHouse } from "../../../infra/clickhouse/client.js";
import { migrate } from "../../../infra/clickhouse/migrate.js";
import type { Config } from "../../../infra/config/config.js";
import { createKafka, ensureTopics } from "../../../infra/kafka/client.js";
import { KafkaCluster } from "../../../infra/kafka/cluster.js";
import { Schemas } from "../../../infra/kafka/schemas.js";
import type { Lifecycle } from "../../../infra/lifecycle/lifecycle.js";
import { checkReachable } from "../../../infra/reachable.js";
import { freePorts } from "../../../infra/local/ports.js";
import { startLocalStack, writeStackFile, type LocalStack } from "../../../infra/local/stack.js";
import type { Logger } from "../../../infra/logging.js";
import { ROLE_NAMES, ROLES } from "../../../infra/roles.js";
import { ControlLog } from "../../../models/control/log.js";
import { waitUntilLive } from "../../../models/control/liveness.js";
import { WorkerBoard } from "../../../models/control/workers.js";
import { UsageError } from "../../../schemas/errors.js";
import { allTopics, subjectTopics, topicsFor, type Topics } from "../../../schemas/topics.js";
import { startApi, type RunningApi } from "./api-role.js";
import type { Screen } from "./panel.js";
import { startRole } from "./roles.js";

/** What a start works with. */
export interface Context {
  config: Config;
  lifecycle: Lifecycle;
  log: Logger;
  screen: Screen;
}

/** Kafka and ClickHouse with topics and tables, and what speaks to them. */
export interface System {
  stack: LocalStack;
  topics: Topics;
  cluster: KafkaCluster;
  clickhouse: ClickHouse;
  schemas: Schemas;
  /** Read to its end. */
  control: ControlLog;
}

/** Loading a model and a group's first assignment take seconds, on a busy machine more; longer than this is trouble. */
const LIVE_WITHIN_MS = 90_000;

/** Brings up Kafka and ClickHouse, creates what is missing in them, and reads what was decided before. */
export async function bringUp({ config, lifecycle, log, screen }: Context): Promise<System> {
  const { signal } = lifecycle;
  await checkReachable(config);
  const stack = await startLocalStack({ config, log, progress: (line) => screen.line(line), signal });
  lifecycle.add("local stack", () => stack.stop());
  // A process that waits for the file must not find that of an earlier run.
  rmSync(join(config.dataDir, "stack.json"), { force: true });
  screen.line(`${stack.how.kafka}; ${stack.how.clickhouse}`);
  const topics = topicsFor(config.topicPrefix, config.topicPartitions);
  await ensureTopics(createKafka(stack.kafka, "fraudstream-start", log), allTopics(topics));
  const cluster = new KafkaCluster(stack.kafka, "fraudstream-start");
  lifecycle.add("Kafka connections", () => cluster.close());
  const owner = { clusterId: await cluster.clusterId(), topicPrefix: config.topicPrefix };
  await migrate(stack.clickhouse, log, { signal, owner, takeOver: config.clickhouseTakeOver });
  const clickhouse = createClickHouse(stack.clickhouse);
  lifecycle.add("ClickHouse connections", () => clickhouse.close());
  const schemas = new Schemas(config);
  await schemas.register(subjectTopics(topics));
  const control = new ControlLog({ cluster, topic: topics.control.name, schemas, log });
  lifecycle.add("control log", () => control.close());
  await control.open();
  return { stack, topics, cluster, clickhouse, schemas, control };
}

/** The roles at work. */
export interface Roles {
  api: RunningApi;
  workers: WorkerBoard;
}

/**
 * Starts the roles. Without a deployment scoring consumes nothing yet.
 *
 * @param fetchFrom `host:port` that the trainer may fetch from beside what the configuration allows
 */
export async function startRoles(
  { config, lifecycle, log, screen }: Context,
  { stack, topics, cluster, schemas }: System,
  fetchFrom: string,
): Promise<Roles> {
  lifecycle.signal.throwIfAborted();
  // Only what is said from now on: a worker of an earlier run may have been heard a second ago.
  const workers = await WorkerBoard.open({ cluster, topic: topics.workers.name, schemas, log, lookBackMs: 0 });
  lifecycle.add("workers", () => workers.close());
  screen.status("  scoring, sink, merchants, training and API are starting");
  const withMetrics = ROLE_NAMES.filter((role) => ROLES[role].hasMetricsPort);
  const metricsPort = config.metricsPort === null ? null : await freePorts(config.metricsPort, withMetrics.length);
  const { allowPrivate } = config.training;
  const mayFetch =
    allowPrivate === true
      ? {}
      : { DATASETS_ALLOW_PRIVATE: [...(allowPrivate === false ? [] : allowPrivate), fetchFrom].join(",") };
  for (const [i, role] of withMetrics.entries())
    await startRole(role, config, stack, lifecycle, {
      ...(metricsPort === null ? {} : { METRICS_PORT: String(metricsPort + i) }),
      ...(role === "training" ? mayFetch : {}),
    });
  const api = await startApi(config, stack, lifecycle);
  for (const hint of api.hints) screen.line(hint);
  if (metricsPort !== null)
    screen.line(
      `metrics of ${withMetrics.join(", ")} on ports ${metricsPort} to ${metricsPort + withMetrics.length - 1}`,
    );
  return { api, workers };
}

/**
 * Waits until a deployment is live, and writes DATA_DIR/stack.json.
 *
 * @throws UsageError `not_live`
 */
export async function everythingUp(
  { config, lifecycle, screen }: Context,
  { stack, topics }: System,
  { api, workers }: Roles,
  { epoch, sample }: { epoch: number; sample: string },
): Promise<void> {
  const { signal } = lifecycle;
  screen.status("  waiting for the scoring workers");
  const { live, missing, problems } = await waitUntilLive(workers, epoch, {
    partitions: topics.transactions.partitions,
    timeoutMs: LIVE_WITHIN_MS,
    signal,
  });
  signal.throwIfAborted();
  if (!live) {
    const what =
      `No scoring worker has taken on partition ${missing.join(", ")} within ${LIVE_WITHIN_MS / 1000} s; the ` +
      `logs are in ${config.dataDir}/logs.`;
    throw new UsageError("not_live", [what, ...problems.map(({ problem }) => problem)].join("\n"));
  }
  writeStackFile(config.dataDir, {
    kafka: stack.kafka.brokers.join(","),
    clickhouse: stack.clickhouse.url,
    api: api.url,
    sample,
  });
  screen.line(`a file to train on, for this machine: ${sample}`);
  screen.line(`everything is up; addresses in ${config.dataDir}/stack.json, logs in ${config.dataDir}/logs`);
}
