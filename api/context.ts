import type { Kafka } from "kafkajs";
import type { Config, KafkaConfig } from "../infra/config.js";
import type { ClickHouseReader } from "../infra/clickhouse/client.js";
import type { BatchProducer } from "../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../infra/kafka/cluster.js";
import type { Schemas } from "../infra/kafka/schemas.js";
import type { Logger } from "../infra/logging.js";
import type { ControlLog } from "../models/registry/control-log.js";
import type { Topics } from "../schemas/topics.js";
import type { WorkerHeartbeat } from "../schemas/generated.js";

/** The latest heartbeat of every process that has sent one lately. */
export interface WorkerBoard {
  /** Heartbeats of a role that are younger than `maxAgeMs`. */
  alive(role: string, maxAgeMs?: number): WorkerHeartbeat[];
  /** Resolves at the next heartbeat of anybody, or when the signal aborts. */
  changed(signal?: AbortSignal): Promise<void>;
}

/** What routes are made of; `main.ts` wires it, and tests do. */
export interface ApiContext {
  config: Config;
  kafkaConfig: KafkaConfig;
  log: Logger;
  cluster: KafkaCluster;
  kafka: Kafka;
  topics: Topics;
  schemas: Schemas;
  clickhouse: ClickHouseReader;
  control: ControlLog;
  workers: WorkerBoard;
  /** Runs work with the process's producer; one that has failed is replaced for the next call. */
  produce<T>(work: (producer: BatchProducer) => Promise<T>): Promise<T>;
}
