import type { KafkaCode } from "../../schemas/error-codes.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { connectionRefusal } from "./refusals.js";

/**
 * An error of Kafka or of the connection to it. `code` is `kafka_` and the protocol's own name in lower case, or
 * `kafka_network`.
 */
export class KafkaError extends FraudstreamError {
  declare readonly code: KafkaCode;
  /** Another producer has taken over this one's transactional id: it must not be used again. */
  readonly fenced: boolean;
  /** The partition's leader or the coordinator is another broker now. */
  readonly moved: boolean;
  /**
   * The topic's name refers to another topic by now: it was deleted and created again, and offsets of the former one
   * mean nothing.
   */
  readonly recreated: boolean;
  /**
   * What was read of the log is no longer in it: the topic was created again, or the log ends before the reader's
   * position.
   */
  readonly replaced: boolean;
  /** The brokers reject this client, or don't allow it this operation: waiting does not help. */
  readonly refused: boolean;

  constructor(name: string, message: string, options: { retriable: boolean; cause?: unknown }) {
    super(`kafka_${name.toLowerCase() as Lowercase<string>}`, message, options);
    this.name = "KafkaError";
    this.fenced = FENCED.has(name);
    this.moved = MOVED.has(name);
    this.recreated = name === TOPIC_RECREATED;
    this.replaced = this.recreated || name === LOG_CUT_OFF;
    this.refused =
      name.endsWith("_AUTHORIZATION_FAILED") ||
      name === "SASL_AUTHENTICATION_FAILED" ||
      name === "UNTRUSTED_CERTIFICATE";
  }
}

/** Not a protocol name: what UNKNOWN_TOPIC_ID means once the topic's name has another id. */
export const TOPIC_RECREATED = "TOPIC_RECREATED";
/** Not a protocol name either. */
export const LOG_CUT_OFF = "LOG_CUT_OFF";

const FENCED = new Set(["PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH"]);
const MOVED = new Set([
  "NOT_LEADER_OR_FOLLOWER",
  "LEADER_NOT_AVAILABLE",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
  "UNKNOWN_TOPIC_OR_PARTITION",
  "NOT_COORDINATOR",
  "COORDINATOR_NOT_AVAILABLE",
  "NETWORK",
  "REPLICA_NOT_AVAILABLE",
  "KAFKA_STORAGE_ERROR",
  "UNKNOWN_TOPIC_ID",
  "INCONSISTENT_TOPIC_ID",
]);
const RETRIABLE = new Set([
  ...MOVED,
  TOPIC_RECREATED,
  "CONCURRENT_TRANSACTIONS",
  "COORDINATOR_LOAD_IN_PROGRESS",
  "REQUEST_TIMED_OUT",
  "NOT_ENOUGH_REPLICAS",
  "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
  "UNSTABLE_OFFSET_COMMIT",
  "THROTTLING_QUOTA_EXCEEDED",
  "OFFSET_NOT_AVAILABLE",
]);

interface ProtocolFailure {
  apiId?: string;
  message?: string;
  serverErrorMessage?: string | null;
}
/** How kafkajs carries a broker's error, often as the cause of its own. */
interface KafkaJsFailure {
  type?: unknown;
}

/** The error of a named protocol error code. */
export function protocolError(name: string, doing: string, detail?: string | null): KafkaError {
  return new KafkaError(name, `${doing}: ${name}${detail ? ` (${detail})` : ""}`, { retriable: RETRIABLE.has(name) });
}

/** Maps whatever the client libraries throw to a KafkaError. */
export function toKafkaError(error: unknown, doing: string): KafkaError {
  if (error instanceof KafkaError) return error;
  const failures = (error as { errors?: ProtocolFailure[] }).errors;
  const first = failures?.find((failure) => failure.apiId !== undefined) ?? (error as ProtocolFailure);
  if (first.apiId !== undefined) return protocolError(first.apiId, doing, first.serverErrorMessage);
  for (let failure = error; failure instanceof Error; failure = failure.cause) {
    const { type } = failure as KafkaJsFailure;
    if (typeof type === "string") return protocolError(type, doing);
  }
  const refusal = connectionRefusal(error);
  if (refusal !== null)
    return new KafkaError(refusal.name, `${doing}: ${refusal.detail}`, { retriable: false, cause: error });
  return new KafkaError("NETWORK", `${doing}: ${messageOf(error)}`, { retriable: true, cause: error });
}
