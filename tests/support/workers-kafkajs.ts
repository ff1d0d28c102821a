import { createRequire } from "node:module";
import type { Kafka, KafkaConfig as KafkaJsConfig } from "kafkajs";
import type { KafkaConfig } from "../../infra/config.js";

// kafkajs is CommonJS whose exports Node can't name.
const { Kafka: KafkaJs } = createRequire(import.meta.url)("kafkajs") as { Kafka: new (config: KafkaJsConfig) => Kafka };

const LOG_NOTHING = 0;
/** kafkajs' name for the only codec that it brings along. */
export const GZIP = 1;

/** A Kafka client that is not ours, to produce what ours doesn't and to check what ours has written. */
export function kafkaJs({ brokers }: KafkaConfig): Kafka {
  return new KafkaJs({ brokers, logLevel: LOG_NOTHING });
}
