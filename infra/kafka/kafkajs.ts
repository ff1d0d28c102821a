import { createRequire } from "node:module";
import type * as KafkaJs from "kafkajs";
import { RETRY, retry } from "../async/retry.js";
import { messageOf } from "../../schemas/errors.js";
import { refusalOf } from "./refusals.js";

/** kafkajs is CommonJS, and Node can't detect its exports. */
export const kafkajs = loadKafkajs();

/** The parts of kafkajs' request queue of a connection that are used here. */
interface RequestQueue {
  pending: unknown[];
  throttledUntil: number;
  throttleCheckTimeoutId: NodeJS.Timeout | null;
  checkPendingRequests: () => void;
  scheduleCheckPendingRequests: () => void;
}

const CHECK_AGAIN_MS = 10;

/** The parts of kafkajs' group member that are used here. */
interface GroupMember {
  groupId: string;
  coordinator: unknown;
  cluster: { findGroupCoordinator: (group: { groupId: string }) => Promise<unknown> };
  offsetManager: { coordinator: unknown } | null;
  heartbeat: (options: { interval: number }) => Promise<void>;
  commitOffsets: (offsets: unknown) => Promise<void>;
}

/** Loads kafkajs and replaces the methods that don't serve us. */
function loadKafkajs(): typeof KafkaJs {
  const require = createRequire(import.meta.url);
  checkOnlyPendingRequests(require("kafkajs/src/network/requestQueue/index.js") as { prototype: RequestQueue });
  followCoordinator(require("kafkajs/src/consumer/consumerGroup.js") as { prototype: GroupMember });
  return require("kafkajs") as typeof KafkaJs;
}

/**
 * In 2.2.4 a member keeps asking the broker that coordinated its group when it joined, even when that broker is frozen
 * or gone: it sends no heartbeat and commits nothing until that broker is back, while the group continues on another
 * one without it. Here the member looks for the coordinator whenever it can't reach the known one. It remains the same
 * member: nothing is reassigned.
 */
function followCoordinator({ prototype }: { prototype: GroupMember }): void {
  const { heartbeat, commitOffsets } = prototype;
  const following = async (member: GroupMember, ask: () => Promise<void>): Promise<void> => {
    try {
      await ask();
    } catch (error) {
      // The caller retries.
      if (isAway(error)) await lookForCoordinator(member);
      throw error;
    }
  };
  prototype.heartbeat = function (this: GroupMember, options) {
    return following(this, () => heartbeat.call(this, options));
  };
  prototype.commitOffsets = function (this: GroupMember, offsets) {
    return following(this, () => commitOffsets.call(this, offsets));
  };
}

async function lookForCoordinator(member: GroupMember): Promise<void> {
  const { groupId, cluster, offsetManager } = member;
  try {
    const coordinator = await cluster.findGroupCoordinator({ groupId });
    member.coordinator = coordinator;
    if (offsetManager !== null) offsetManager.coordinator = coordinator;
  } catch {
    // Nobody has taken over the group yet, or the broker that was asked is the silent one.
  }
}

/**
 * In 2.2.4 each connection keeps checking for pending requests with a negative delay: a timer every millisecond for as
 * long as the connection lives, and a TimeoutNegativeWarning in each role's log from Node 24 on. Here a check is
 * scheduled only when a request is pending, which is also when it can matter. An idle process with an admin, a producer
 * and a consumer takes 0.5% of a core instead of 5.5% (Node 20.20 and 24.21, 2026-11-30).
 */
function checkOnlyPendingRequests({ prototype }: { prototype: RequestQueue }): void {
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue): void {
    if (this.throttleCheckTimeoutId !== null || this.pending.length === 0) return;
    const throttledMs = this.throttledUntil - Date.now();
    this.throttleCheckTimeoutId = setTimeout(
      () => {
        this.throttleCheckTimeoutId = null;
        this.checkPendingRequests();
      },
      throttledMs > 0 ? throttledMs : CHECK_AGAIN_MS,
    );
  };
}

/**
 * kafkajs' names of errors for a cluster that can't be reached now. Errors that kafkajs retries itself come back as
 * other ones of these.
 */
const AWAY = new Set([
  "KafkaJSGroupCoordinatorNotFound",
  "KafkaJSConnectionError",
  "KafkaJSConnectionClosedError",
  "KafkaJSBrokerNotFound",
  "KafkaJSRequestTimeoutError",
  "KafkaJSNumberOfRetriesExceeded",
  "KafkaJSMetadataNotLoaded",
  "KafkaJSLockTimeout",
]);

/** The message of the plain Error with which kafkajs refuses to use a broker whose connection was lost a moment ago. */
const NOT_CONNECTED = "Broker not connected";

/** Whether an error of kafkajs, or its cause, means that the cluster can't be reached. */
export function isAway(error: unknown): boolean {
  return isOrIsCausedBy(error, ({ name, message }) => AWAY.has(name) || message === NOT_CONNECTED);
}

/**
 * Whether an error of kafkajs, or its cause, may be transient: the cluster is away, or a topic is, which may be created
 * again.
 */
export function mayComeBack(error: unknown): boolean {
  return (
    isAway(error) ||
    isOrIsCausedBy(error, (failure) => "type" in failure && failure.type === "UNKNOWN_TOPIC_OR_PARTITION")
  );
}

function isOrIsCausedBy(error: unknown, is: (failure: Error) => boolean): boolean {
  for (let failure = error; failure instanceof Error; failure = failure.cause) if (is(failure)) return true;
  return false;
}

/**
 * Retries what a client of kafkajs does when a role starts, for a minute on top of kafkajs' own retries, when the
 * cluster or a topic goes away meanwhile.
 */
export async function onceReached<T>(kafka: Pick<KafkaJs.Kafka, "logger">, work: () => Promise<T>): Promise<T> {
  return retry(work, RETRY.kafkajsAtStart, {
    // A TypeError: kafkajs relies on a response that it doesn't have when every broker has gone.
    again: (error) => (mayComeBack(error) || error instanceof TypeError) && refusalOf(error) === null,
    onRetry: (error, attempt) => {
      if (attempt === 1)
        kafka.logger().error(`Kafka went away while this starts; it is tried again: ${messageOf(error)}`);
    },
  });
}
