import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { guardDatabase } from "../../infra/clickhouse/owner.js";
import type { Config } from "../../infra/config/config.js";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { LogWatch } from "../../infra/kafka/log-watch.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { Conditions } from "../../infra/health/conditions.js";
import { configOrExit } from "../../infra/lifecycle/config-or-exit.js";
import { runRole, type Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import { createLogger, type Logger } from "../../infra/logging.js";
import { createRegistry, gauge } from "../../infra/metrics/registry.js";
import { serveProbes } from "../../infra/metrics/serve.js";
import { waitUntilReachable } from "../../infra/reachable.js";
import { ControlLog } from "../../models/control/log.js";
import { UsageError } from "../../schemas/errors.js";
import { allTopics, subjectTopics, topicsFor } from "../../schemas/topics.js";
import { Heartbeat } from "../runtime/heartbeat.js";
import { Producing } from "./producing.js";
import { Trainer } from "./trainer.js";
import { TrainerSigns } from "./trainer-signs.js";

const DAY_MS = 86_400_000;

/** The trainer: `node dist/pipelines/training/main.js`. */
async function start(config: Config, log: Logger, lifecycle: Lifecycle): Promise<void> {
  if (config.kafka === null)
    throw new UsageError(
      "no_kafka",
      "KAFKA_BROKERS is not set: a trainer needs a Kafka cluster (npm start brings one of its own)",
    );
  const worker = `training-${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`;
  const topics = topicsFor(config.topicPrefix, config.topicPartitions);
  await waitUntilReachable(
    { kafka: config.kafka, clickhouse: null },
    { log, signal: lifecycle.signal, without: config },
  );
  await ensureTopics(createKafka(config.kafka, worker, log), allTopics(topics), {
    replication: config.kafka.replication,
    log,
  });
  const schemas = new Schemas(config);
  await schemas.register(subjectTopics(topics));
  const cluster = new KafkaCluster(config.kafka, worker, { log, stopping: lifecycle.signal });
  lifecycle.add("cluster", () => cluster.close());
  if (config.clickhouse !== null) {
    const clickhouse = createClickHouse(config.clickhouse);
    lifecycle.add("clickhouse", () => clickhouse.close());
    await guardDatabase(
      lifecycle,
      clickhouse,
      { clusterId: await cluster.clusterId(), topicPrefix: config.topicPrefix },
      log,
    );
  }
  const workDir = join(config.dataDir, "training", `jobs-${config.topicPrefix}`);
  await mkdir(workDir, { recursive: true });

  const producing = new Producing(cluster);
  lifecycle.add("producer", () => producing.close());
  const signs = new TrainerSigns({
    cluster,
    topic: topics.workers.name,
    schemas,
    silenceMs: config.training.silenceMs,
  });
  lifecycle.add("signs", () => signs.close());
  const control = new ControlLog({ cluster, topic: topics.control.name, schemas, log });
  lifecycle.add("control", () => control.close());
  await control.open();

  const trainer = new Trainer({
    control,
    signs,
    producing,
    log,
    worker,
    workDir,
    ...settingsOf(config),
    onChange: () => heartbeat.beat(),
  });
  const registry = createRegistry();
  const conditions = new Conditions(log, registry);
  gauge(registry, {
    name: "fraudstream_training_busy",
    help: "1: this trainer has a job.",
    read: () => [{ value: Number(trainer.progress !== null) }],
  });
  gauge(registry, {
    name: "fraudstream_training_percent",
    help: "How far the job under way is; absent without one.",
    read: () => (trainer.progress === null ? [] : [{ value: trainer.progress.percent }]),
  });
  const watch = new LogWatch({
    cluster,
    conditions,
    registry,
    log,
    topics: allTopics(topics),
    brokers: config.kafka.brokers,
    standstillBlocks: false,
  });
  lifecycle.add("log watch", () => watch.stop());
  await serveProbes(lifecycle, { config, registry, log, conditions, ready: () => true });
  const heartbeat = new Heartbeat({
    openProducer: () => BatchProducer.open(cluster),
    topic: topics.workers.name,
    schemas,
    log,
    worker,
    role: "training",
    report: () => ({ partitions: [], problems: [], refused: [], job: trainer.progress }),
  });
  heartbeat.start();
  lifecycle.add("heartbeat", () => {
    // The last one says that the job is free.
    heartbeat.beat();
    return heartbeat.stop();
  });
  control.follow(
    () => trainer.changed(),
    (error) => lifecycle.fail(error),
  );
  const stop = new AbortController();
  const running = trainer.run(stop.signal).catch((error: unknown) => {
    if (!stop.signal.aborted) lifecycle.fail(error);
  });
  lifecycle.add("trainer", () => {
    stop.abort(new Error("the trainer stops"));
    return running;
  });
  log.info({ worker }, "waiting for training jobs");
}

function settingsOf(config: Config) {
  return {
    artifactsDir: config.artifacts,
    clickhouse: config.clickhouse,
    limits: config.training,
    maturityMs: config.labelMaturityDays * DAY_MS,
    hidesCards: config.cardIdKey !== null,
  };
}

const config = configOrExit();
const log = createLogger(config, "training");
await runRole(log, (lifecycle) => start(config, log, lifecycle));
