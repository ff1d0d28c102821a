import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import type * as KafkaJs from "kafkajs";
import { messageOf } from "../../schemas/errors.js";
import { refusalOf } from "./refusals.js";

/** kafkajs: CommonJS whose exports Node can't name. */
export const kafkajs = loadKafkajs();

/** What kafkajs' queue of the requests of one connection has, as far as it is used here. */
interface RequestQueue {
  pending: unknown[];
  throttledUntil: number;
  throttleCheckTimeoutId: NodeJS.Timeout | null;
  checkPendingRequests: () => void;
  scheduleCheckPendingRequests: () => void;
}

const CHECK_AGAIN_MS = 10;

/**
 * Loads kafkajs with one method replaced. In 2.2.4 each connection looks for pending requests after a negative time, again and
 * again: a timer every millisecond for as long as the connection lives, and a TimeoutNegativeWarning in each role's log from
 * Node 24 on. Here a check is scheduled only when a request is pending, which is also when it can matter. An idle process with an
 * admin, a producer and a consumer takes 0.5% of a core instead of 5.5% (Node 20.20 and 24.21, 2026-11-30).
 */
function loadKafkajs(): typeof KafkaJs {
  const require = createRequire(import.meta.url);
  const { prototype } = require("kafkajs/src/network/requestQueue/index.js") as { prototype: RequestQueue };
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue): void {
    if (this.throttleCheckTimeoutId !== null || this.pending.length === 0) return;
    const throttledMs = this.throttledUntil - Date.now();
    this.throttleCheckTimeoutId = setTimeout(() => {
      this.throttleCheckTimeoutId = null;
      this.checkPendingRequests();
    }, throttledMs > 0 ? throttledMs : CHECK_AGAIN_MS);
  };
  return require("kafkajs") as typeof KafkaJs;
}

/** kafkajs' names for a cluster that can't be reached now. Those that it tries again by itself come back as others of these. */
const AWAY = new Set(["KafkaJSGroupCoordinatorNotFound", "KafkaJSConnectionError", "KafkaJSConnectionClosedError", "KafkaJSBrokerNotFound", "KafkaJSRequestTimeoutError", "KafkaJSNumberOfRetriesExceeded", "KafkaJSMetadataNotLoaded", "KafkaJSLockTimeout"]);

/** Whether an error of kafkajs, or what caused it, is that the cluster can't be reached. */
export function isAway(error: unknown): boolean {
  for (let failure = error; failure instanceof Error; failure = failure.cause) if (AWAY.has(failure.name)) return true;
  return false;
}

const TRIED_FOR_MS = 60_000;
const AGAIN_MS = 500;

/** Repeats what a client of kafkajs does when a role starts, for a minute beside kafkajs' own patience, when the cluster goes away under it. */
export async function onceReached<T>(kafka: Pick<KafkaJs.Kafka, "logger">, work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + TRIED_FOR_MS;
  for (let told = false; ; told = true) {
    try {
      return await work();
    } catch (error) {
      // A TypeError: kafkajs takes an answer for granted that it hasn't got when every broker has gone.
      const mayPass = isAway(error) || error instanceof TypeError;
      if (!mayPass || refusalOf(error) !== null || Date.now() > deadline) throw error;
      if (!told) kafka.logger().error(`Kafka went away while this starts; it is tried again: ${messageOf(error)}`);
    }
    await sleep(AGAIN_MS);
  }
}
