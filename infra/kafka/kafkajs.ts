import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import type * as KafkaJs from "kafkajs";
import { refusalOf } from "./refusals.js";

/** kafkajs: CommonJS whose exports Node can't name. */
export const kafkajs = createRequire(import.meta.url)("kafkajs") as typeof KafkaJs;

/** kafkajs' names for a cluster that can't be reached now. Those that it tries again by itself come back as others of these. */
const AWAY = new Set(["KafkaJSGroupCoordinatorNotFound", "KafkaJSConnectionError", "KafkaJSConnectionClosedError", "KafkaJSBrokerNotFound", "KafkaJSRequestTimeoutError", "KafkaJSNumberOfRetriesExceeded", "KafkaJSMetadataNotLoaded", "KafkaJSLockTimeout"]);

/** Whether an error of kafkajs, or what caused it, is that the cluster can't be reached. */
export function isAway(error: unknown): boolean {
  for (let failure = error; failure instanceof Error; failure = failure.cause) if (AWAY.has(failure.name)) return true;
  return false;
}

const REACHED_WITHIN_MS = 20_000;
const AGAIN_MS = 500;

/** Repeats for 20 seconds what a client of kafkajs does when a role starts, while the cluster goes away under it. */
export async function onceReached(work: () => Promise<void>): Promise<void> {
  for (const deadline = Date.now() + REACHED_WITHIN_MS; ; await sleep(AGAIN_MS)) {
    try {
      return await work();
    } catch (error) {
      // A TypeError: kafkajs takes an answer for granted that it hasn't got when every broker has gone.
      const mayPass = isAway(error) || error instanceof TypeError;
      if (!mayPass || refusalOf(error) !== null || Date.now() > deadline) throw error;
    }
  }
}
