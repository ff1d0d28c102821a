import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Config } from "../../infra/config/config.js";
import { cardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { guardDatabase } from "../../infra/clickhouse/owner.js";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { LogWatch } from "../../infra/kafka/log-watch.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { Conditions } from "../../infra/health/conditions.js";
import { configOrExit } from "../../infra/lifecycle/config-or-exit.js";
import { runRole, type Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import { createLogger, type Logger } from "../../infra/logging.js";
import { SnapshotStore } from "../../infra/snapshots.js";
import { createRegistry, gauge } from "../../infra/metrics/registry.js";
import { serveProbes } from "../../infra/metrics/serve.js";
import { waitUntilReachable } from "../../infra/reachable.js";
import { ROLES } from "../../infra/roles.js";
import { artifactSource } from "../../models/artifact-source.js";
import { ControlLog } from "../../models/control/log.js";
import { UsageError } from "../../schemas/errors.js";
import { allTopics, subjectTopics, topicsFor } from "../../schemas/topics.js";
import { Heartbeat } from "../runtime/heartbeat.js";
import { PartitionConsumer } from "../runtime/partition-consumer.js";
import { Deployments } from "./deployments.js";
import { GroupPresence } from "./group-presence.js";
import { HistoryConditions } from "./history-conditions.js";
import { PartitionHistories } from "./history/partition-histories.js";
import { MerchantBoard } from "./merchant-board.js";
import { ScoringMeter, historyGauges } from "./meter.js";
import { ScoringTenure } from "./scoring-pipeline.js";
import { UnreadableAttributes } from "./unreadable-attributes.js";

const REPORT_EVERY_MS = 10_000;
/** How often to look for missing files. */
const RETRY_EVERY_MS = 3_000;
/** With SCORING_LINGER_MS, a batch of this many bytes is not waited for any longer. */
const FULL_BATCH_BYTES = 512 * 1024;
/**
 * If a champion hangs and nothing can take its place, a batch waits for this many runs before the rest of its payments
 * is given up.
 */
const MOST_HUNG_RUNS = 5;
/** Covers waiting for merchants' buckets and for a writer's schema, and the rest of a batch. */
const TRANSACTION_MS = 60_000;

/** The scoring worker: `node dist/pipelines/scoring/main.js`. */
async function start(config: Config, log: Logger, lifecycle: Lifecycle): Promise<void> {
  if (config.kafka === null)
    throw new UsageError(
      "no_kafka",
      "KAFKA_BROKERS is not set: a scoring worker needs a Kafka cluster (npm start brings one of its own)",
    );
  const worker = `scoring-${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`;
  const topics = topicsFor(config.topicPrefix, config.topicPartitions);
  const group = config.topicPrefix + ROLES.scoring.group;
  await waitUntilReachable(
    { kafka: config.kafka, clickhouse: null },
    { log, signal: lifecycle.signal, without: config },
  );
  const kafka = createKafka(config.kafka, worker, log);
  await ensureTopics(kafka, allTopics(topics), { replication: config.kafka.replication, log });

  const registry = createRegistry();
  const conditions = new Conditions(log, registry);
  const schemas = new Schemas(config, { conditions });
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
  const control = new ControlLog({ cluster, topic: topics.control.name, schemas, log });
  lifecycle.add("control", () => control.close());
  const unreadable = new UnreadableAttributes(conditions);
  const historyConditions = new HistoryConditions(conditions);
  lifecycle.add("history conditions", () => historyConditions.stop());
  const watch = new LogWatch({
    cluster,
    conditions,
    registry,
    log,
    topics: allTopics(topics),
    brokers: config.kafka.brokers,
    standstillBlocks: true,
  });
  lifecycle.add("log watch", () => watch.stop());
  const meter = new ScoringMeter(registry);
  const artifacts = artifactSource(config, log);
  const deployments = new Deployments({
    loadArtifact: (model, manifestSha256) => artifacts.load(model, manifestSha256),
    log,
    conditions,
    limits: config.models,
    onChange: () => {
      heartbeat.beat();
      presence.set(!deployments.stuck);
    },
    onSwap: (ms) => meter.swapped(ms),
    onFallback: (model) => meter.fellBack(model),
  });
  lifecycle.add("deployments", () => deployments.close());

  // A worker that can't score with any deployment would leave its share of the partitions idle.
  const presence = new GroupPresence(log, (error) => lifecycle.fail(error));
  const tenures = new Map<number, ScoringTenure>();
  gauge(registry, {
    name: "fraudstream_scoring_epoch",
    help: "Epoch of the deployment in force here; -1: none could be loaded yet.",
    read: () => [{ value: deployments.epoch ?? -1 }],
  });
  gauge(registry, {
    name: "fraudstream_scoring_partitions",
    help: "Partitions that this worker has.",
    read: () => [{ value: tenures.size }],
  });
  gauge(registry, {
    name: "fraudstream_scoring_problems",
    help: "Models that could not be loaded, and shadows that were dropped.",
    read: () => [{ value: deployments.problems.length }],
  });
  await serveProbes(lifecycle, { config, registry, log, conditions, ready: () => deployments.current !== null });
  const heartbeat = new Heartbeat({
    openProducer: () => BatchProducer.open(cluster),
    topic: topics.workers.name,
    schemas,
    log,
    worker,
    role: "scoring",
    report: () => ({
      partitions: [...tenures].flatMap(([partition, { epoch }]) => (epoch === null ? [] : [{ partition, epoch }])),
      problems: [...deployments.problems, ...unreadable.problems, ...historyConditions.problems],
      refused: deployments.refused,
      job: null,
    }),
  });

  // ARCHITECTURE.md#guarantee-7: a worker knows the newest deployment before its first score.
  await control.open();
  await deployments.settle(control.state);
  const retry = setInterval(() => void deployments.retry(), RETRY_EVERY_MS);
  lifecycle.add("retry", () => clearInterval(retry));
  control.follow(
    (state) => void deployments.settle(state),
    (error) => lifecycle.fail(error),
  );
  if (deployments.current === null) log.warn("no model is deployed: nothing is consumed until one is");

  const { snapshotEveryMs, merchantWaitMs } = config.history;
  const snapshots = new SnapshotStore(join(config.dataDir, "state"), log);
  const cards = cardPseudonyms(config);
  const histories = new PartitionHistories({
    cluster,
    topics,
    schemas,
    snapshots,
    clickhouse: config.clickhouse,
    snapshotEveryMs,
    cards,
    log,
  });
  lifecycle.add("histories", () => histories.close());
  historyGauges(registry, histories);

  const merchants = new MerchantBoard({
    cluster,
    topics,
    schemas,
    log,
    clock: () => histories.clock,
    onFailure: (error) => lifecycle.fail(error),
  });
  lifecycle.add("merchant board", () => merchants.stop());
  await merchants.start();

  const transactionTimeoutMs = TRANSACTION_MS + MOST_HUNG_RUNS * config.models.timeoutMs;
  const deps = {
    cluster,
    topics,
    group,
    transactionTimeoutMs,
    schemas,
    control,
    deployments,
    histories,
    merchants,
    merchantWaitMs,
    meter,
    conditions: historyConditions,
    cards,
    unreadable,
    log,
  };
  const openConsumer = (): PartitionConsumer =>
    new PartitionConsumer({
      cluster,
      kafka,
      log,
      group,
      conditions,
      topics: [topics.transactions.name],
      reader: config.scoringLingerMs > 0 ? { maxWaitMs: config.scoringLingerMs, minBytes: FULL_BATCH_BYTES } : {},
      onFailure: (error) => lifecycle.fail(error),
      open: async (tenure) => {
        const opened = await ScoringTenure.open(deps, tenure);
        tenures.set(tenure.partition, opened.handler);
        heartbeat.beat();
        const close = async (): Promise<void> => {
          if (tenures.get(tenure.partition) === opened.handler) tenures.delete(tenure.partition);
          meter.forget(tenure.partition);
          historyConditions.forget(tenure.topic, tenure.partition);
          await opened.handler.close();
        };
        return { start: opened.start, handler: { process: (records) => opened.handler.process(records), close } };
      },
    });
  heartbeat.start();
  lifecycle.add("heartbeat", () => heartbeat.stop());
  lifecycle.add("consumer", () => presence.stop());
  await presence.open(openConsumer, !deployments.stuck);
  const report = setInterval(() => log.info(meter.take(), "scored"), REPORT_EVERY_MS);
  lifecycle.add("report", () => clearInterval(report));
  log.info({ worker, group, topic: topics.transactions.name }, "scoring");
}

const config = configOrExit();
const log = createLogger(config, "scoring");
await runRole(log, (lifecycle) => start(config, log, lifecycle));
