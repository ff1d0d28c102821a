import { cardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { LogWatch } from "../../infra/kafka/log-watch.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { Conditions } from "../../infra/health/conditions.js";
import { configOrExit } from "../../infra/lifecycle/config-or-exit.js";
import { runRole } from "../../infra/lifecycle/lifecycle.js";
import { createLogger } from "../../infra/logging.js";
import { createRegistry } from "../../infra/metrics/registry.js";
import { serveProbes } from "../../infra/metrics/serve.js";
import { waitUntilReachable } from "../../infra/reachable.js";
import { ROLES } from "../../infra/roles.js";
import { UsageError } from "../../schemas/errors.js";
import { allTopics, subjectTopics, topicsFor } from "../../schemas/topics.js";
import { startPlacingLabels } from "./place-labels.js";
import { prepareClickHouse, startSink } from "./sink.js";

/** The role `sink`: from Kafka to ClickHouse. */
const config = configOrExit();
const log = createLogger(config, "sink");
await runRole(log, async (lifecycle) => {
  if (config.kafka === null)
    throw new UsageError("no_kafka", "KAFKA_BROKERS is not set: the sink needs a Kafka cluster");
  if (config.clickhouse === null)
    throw new UsageError("no_clickhouse", "CLICKHOUSE_URL is not set: the sink needs a ClickHouse server");
  const topics = topicsFor(config.topicPrefix, config.topicPartitions);

  const registry = createRegistry();
  const conditions = new Conditions(log, registry);
  let storing = false;
  await serveProbes(lifecycle, { config, registry, log, conditions, ready: () => storing });

  await waitUntilReachable(config, { log, signal: lifecycle.signal });
  const clickhouse = createClickHouse(config.clickhouse);
  lifecycle.add("clickhouse", () => clickhouse.close());
  const clientId = `${config.topicPrefix}sink`;
  const kafka = createKafka(config.kafka, clientId, log);
  const cluster = new KafkaCluster(config.kafka, clientId, { log, stopping: lifecycle.signal });
  lifecycle.add("kafka", () => cluster.close());
  await ensureTopics(kafka, allTopics(topics), { replication: config.kafka.replication, log });
  const owner = { clusterId: await cluster.clusterId(), topicPrefix: config.topicPrefix };
  await prepareClickHouse(config.clickhouse, clickhouse, {
    retention: config.retention,
    log,
    signal: lifecycle.signal,
    owner,
    takeOver: config.clickhouseTakeOver,
  });
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
  const schemas = new Schemas(config, { conditions });
  await schemas.register(subjectTopics(topics));

  await startSink(lifecycle, {
    kafka,
    cluster,
    clickhouse,
    schemas,
    topics,
    group: config.topicPrefix + ROLES.sink.group,
    log,
    cards: cardPseudonyms(config),
    registry,
    conditions,
  });
  const patient = createClickHouse(config.clickhouse, { requestTimeoutMs: 600_000 });
  lifecycle.add("clickhouse of label placement", () => patient.close());
  startPlacingLabels(lifecycle, { clickhouse: patient, log, keepDays: config.retention.labels });
  storing = true;
  log.info("storing in ClickHouse");
});
