import { join } from "node:path";
import { cardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { guardDatabase } from "../../infra/clickhouse/owner.js";
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
import { SnapshotStore } from "../../infra/snapshots.js";
import { ROLES } from "../../infra/roles.js";
import { UsageError } from "../../schemas/errors.js";
import { allTopics, subjectTopics, topicsFor } from "../../schemas/topics.js";
import { BucketRecordReader } from "../runtime/bucket-records.js";
import { PartitionConsumer } from "../runtime/partition-consumer.js";
import { MerchantsTenure } from "./merchants-pipeline.js";
import { passOver } from "./pass-over.js";
import { merchantsMetrics } from "./meter.js";
import { Watermarks } from "./watermarks.js";

const REPORT_EVERY_MS = 10_000;

/** The role `merchants`: `node dist/pipelines/merchants/main.js`. From transactions and labels to sealed buckets. */
const config = configOrExit();
const log = createLogger(config, "merchants");
await runRole(log, async (lifecycle) => {
  if (config.kafka === null)
    throw new UsageError(
      "no_kafka",
      "KAFKA_BROKERS is not set: the merchants role needs a Kafka cluster (npm start brings one of its own)",
    );
  const topics = topicsFor(config.topicPrefix, config.topicPartitions);
  const group = config.topicPrefix + ROLES.merchants.group;
  await waitUntilReachable(
    { kafka: config.kafka, clickhouse: null },
    { log, signal: lifecycle.signal, without: config },
  );
  const kafka = createKafka(config.kafka, group, log);
  await ensureTopics(kafka, allTopics(topics), { replication: config.kafka.replication, log });
  const registry = createRegistry();
  const conditions = new Conditions(log, registry);
  const schemas = new Schemas(config, { conditions });
  await schemas.register(subjectTopics(topics));
  const cluster = new KafkaCluster(config.kafka, group, { log, stopping: lifecycle.signal });
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
  const tenures = new Map<number, MerchantsTenure>();
  const states = () => [...tenures.values()].map(({ state }) => state);
  let consuming = false;
  merchantsMetrics(registry, states);
  await serveProbes(lifecycle, { config, registry, log, conditions, ready: () => consuming });
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

  const { name, partitions } = topics.merchantBuckets;
  const watermarks = new Watermarks(
    cluster,
    name,
    partitions,
    new BucketRecordReader(schemas.idOf("merchantBuckets"), log),
  );
  lifecycle.add("watermarks", () => watermarks.close());
  const snapshots = new SnapshotStore(join(config.dataDir, "state"), log);
  const deps = {
    cluster,
    topics,
    group,
    schemas,
    watermarks,
    snapshots,
    clickhouse: config.clickhouse,
    snapshotEveryMs: config.history.snapshotEveryMs,
    cards: cardPseudonyms(config),
    log,
  };
  const consumer: PartitionConsumer = new PartitionConsumer({
    cluster,
    kafka,
    log,
    group,
    conditions,
    topics: [topics.transactions.name],
    onFailure: (error) => lifecycle.fail(error),
    open: async (tenure) => {
      if (tenure.partition >= topics.transactions.partitions)
        return passOver(tenure, (offset) => consumer.commit([offset]));
      const { handler, start } = await MerchantsTenure.open(deps, tenure);
      tenures.set(tenure.partition, handler);
      const close = async (): Promise<void> => {
        if (tenures.get(tenure.partition) === handler) tenures.delete(tenure.partition);
        await handler.close();
      };
      return { start, handler: { process: (records) => handler.process(records), close } };
    },
  });
  await consumer.start();
  lifecycle.add("consumer", () => consumer.stop());
  const report = setInterval(() => log.info({ partitions: states() }, "sealed"), REPORT_EVERY_MS);
  lifecycle.add("report", () => clearInterval(report));
  consuming = true;
  log.info({ group, topic: topics.transactions.name }, "sealing merchants' buckets");
});
