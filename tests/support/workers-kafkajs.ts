import type { Kafka } from "kafkajs";
import type { KafkaConfig } from "../../infra/config/config.js";
import { kafkajs } from "../../infra/kafka/kafkajs.js";

const LOG_NOTHING = 0;
/** kafkajs' name for the only codec that it brings along. */
export const GZIP = 1;

/** A Kafka client that is not ours, to produce what ours doesn't and to check what ours has written. */
export function kafkaJs({ brokers }: KafkaConfig): Kafka {
  return new kafkajs.Kafka({ brokers, logLevel: LOG_NOTHING });
}
