import { createRequire } from "node:module";
import type * as KafkaJs from "kafkajs";

/** kafkajs: CommonJS whose exports Node can't name. */
export const kafkajs = createRequire(import.meta.url)("kafkajs") as typeof KafkaJs;

/** kafkajs' names for a cluster that can't be reached now. Those that it tries again by itself come back as others of these. */
const AWAY = new Set(["KafkaJSGroupCoordinatorNotFound", "KafkaJSConnectionError", "KafkaJSConnectionClosedError", "KafkaJSBrokerNotFound", "KafkaJSRequestTimeoutError", "KafkaJSNumberOfRetriesExceeded", "KafkaJSMetadataNotLoaded", "KafkaJSLockTimeout"]);

/** Whether an error of kafkajs, or what caused it, is that the cluster can't be reached. */
export function isAway(error: unknown): boolean {
  for (let failure = error; failure instanceof Error; failure = failure.cause) if (AWAY.has(failure.name)) return true;
  return false;
}
