import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { migrate } from "../../infra/clickhouse/migrate.js";
import type { DatabaseOwner } from "../../infra/clickhouse/owner.js";
import { applyRetention } from "../../infra/clickhouse/retention.js";
import type { Retention } from "../../infra/clickhouse/tables.js";
import type { CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import type { ClickHouseConfig } from "../../infra/config/config.js";
import type { Conditions } from "../../infra/health/conditions.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { LABEL_ORDER, labelOrder } from "../../infra/kafka/label-order.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import type { Logger } from "../../infra/logging.js";
import { Registry } from "../../infra/metrics/registry.js";
import type { Topics } from "../../schemas/topics.js";
import type { SchemaKey } from "../../schemas/wire-format.js";
import type { Kafka } from "kafkajs";
import { PartitionConsumer } from "../runtime/partition-consumer.js";
import { RETRY, retry, type Backoff } from "../../infra/async/retry.js";
import { SinkDeadLetters } from "./sink-dead-letters.js";
import { predictionRows } from "./rows/avro-rows.js";
import { controlEventRows } from "./rows/control-event-rows.js";
import { deadLetterRows } from "./rows/dead-letter-rows.js";
import { labelRows } from "./rows/label-rows.js";
import type { Refusal } from "./rows/row-mapper.js";
import { transactionRows } from "./rows/transaction-rows.js";
import { sinkMetrics } from "./meter.js";
import { SinkPipeline, type SinkRoute } from "./sink-pipeline.js";

export interface SinkOptions {
  kafka: Kafka;
  cluster: KafkaCluster;
  clickhouse: ClickHouse;
  schemas: Schemas;
  topics: Topics;
  /** The consumer group. */
  group: string;
  log: Logger;
  /** Replaces card ids; null: card ids are used as they are. @default null */
  cards?: CardPseudonyms | null;
  /** The registry of its metrics. @default none */
  registry?: Registry;
  /** Where it reports what keeps it from storing. @default nowhere */
  conditions?: Conditions;
}

export interface PrepareOptions {
  retention: Retention;
  log: Logger;
  signal: AbortSignal;
  /** The owner of the rows in the database. */
  owner?: DatabaseOwner;
  takeOver?: string | null;
}

/** Brings the tables up to date, waiting for ClickHouse for as long as it is away. */
export async function prepareClickHouse(
  config: ClickHouseConfig,
  clickhouse: ClickHouse,
  { retention, log, signal, owner, takeOver = null }: PrepareOptions,
): Promise<void> {
  let told = false;
  const onRetry = (error: unknown): void => {
    if (!told) log.warn({ err: error }, "waiting for ClickHouse");
    told = true;
  };
  await retry(
    async () => {
      await migrate(config, log, { signal, ...(owner && { owner }), takeOver });
      await applyRetention(clickhouse, log, retention);
    },
    RETRY.migration,
    { signal, onRetry },
  );
}

/** Starts a sink in this process, as a member of the group; tables and topics must exist. Stopped by `lifecycle`. */
export async function startSink(lifecycle: Lifecycle, options: SinkOptions): Promise<SinkPipeline> {
  const { kafka, cluster, clickhouse, schemas, topics, group, log, cards = null, registry = new Registry() } = options;
  const deadLetters = new SinkDeadLetters(cluster, topics.deadLetters.name, cards);
  lifecycle.add("dead letters", () => deadLetters.close());

  const refuseLabel = (records: FetchedRecords, index: number, refusal: Refusal): Promise<void> => {
    // When it is sent again, it must not override what has been published since.
    const order = Math.min(labelOrder(records, index), Date.now());
    return deadLetters.send(records, index, refusal, "store-labels", [[LABEL_ORDER, String(order)]]);
  };
  const backoff: Backoff = { ...RETRY.clickhouse, signal: lifecycle.signal };
  const deps = { lookup: (key: SchemaKey) => schemas.load(key), backoff, log, cards };
  const routes = new Map<string, SinkRoute>([
    [
      topics.transactions.name,
      { table: "transactions", rows: transactionRows({ ...deps, shape: schemas.shapes.transactions }) },
    ],
    [topics.predictions.name, { table: "predictions", rows: predictionRows(deps) }],
    [topics.shadowPredictions.name, { table: "shadow_predictions", rows: predictionRows(deps) }],
    [
      topics.labels.name,
      {
        table: "labels",
        rows: labelRows({ ...deps, shape: schemas.shapes.labels, partitions: topics.labels.partitions }),
        onRefusal: refuseLabel,
      },
    ],
    [topics.deadLetters.name, { table: "dead_letters", rows: deadLetterRows() }],
    [topics.control.name, { table: "control_events", rows: controlEventRows(deps) }],
  ]);
  // Scoring dead-letters transactions that can't be read, in the Kafka transaction of their neighbours.
  for (const [topic, route] of routes) {
    if (topic !== topics.transactions.name)
      route.onUnread = (records, index, refusal) => deadLetters.send(records, index, refusal, "read");
  }
  const fail = (error: unknown): void => lifecycle.fail(error);
  const onStored = sinkMetrics(registry, () => pipeline.counts);
  const pipeline: SinkPipeline = new SinkPipeline({
    clickhouse,
    routes,
    commit: (offsets) => consumer.commit(offsets),
    log,
    fail,
    onStored,
  });
  lifecycle.add("sink", () => pipeline.stop());
  const consumer = new PartitionConsumer({
    cluster,
    kafka,
    log,
    group,
    topics: [...routes.keys()],
    open: (tenure) => pipeline.open(tenure),
    onFailure: fail,
    ...(options.conditions === undefined ? {} : { conditions: options.conditions }),
  });
  // Stopped first: each partition's rows are stored and committed while this process is still a member.
  lifecycle.add("consumer", () => consumer.stop());
  await consumer.start();
  return pipeline;
}
