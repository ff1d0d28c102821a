import { ClickHouseError } from "@clickhouse/client";
import { FraudstreamError, codeOf, messageOf } from "../../schemas/errors.js";

/**
 * The server's error codes that a later try of the same request can overcome (ClickHouse's ErrorCodes.cpp): it is
 * overloaded, starting, stopping, short of a resource, or has lost its keeper or replicas. Every other code is final.
 */
const RETRIABLE_CODES = new Set([
  "3", // UNEXPECTED_END_OF_FILE: the connection broke in the body
  "95", // CANNOT_READ_FROM_SOCKET
  "96", // CANNOT_WRITE_TO_SOCKET
  "159", // TIMEOUT_EXCEEDED
  "202", // TOO_MANY_SIMULTANEOUS_QUERIES
  "203", // NO_FREE_CONNECTION
  "209", // SOCKET_TIMEOUT
  "210", // NETWORK_ERROR
  "225", // NO_ZOOKEEPER
  "236", // ABORTED
  "241", // MEMORY_LIMIT_EXCEEDED
  "242", // TABLE_IS_READ_ONLY
  "243", // NOT_ENOUGH_SPACE
  "252", // TOO_MANY_PARTS: merges fall behind
  "254", // NO_ACTIVE_REPLICAS
  "279", // ALL_CONNECTION_TRIES_FAILED
  "285", // TOO_FEW_LIVE_REPLICAS
  "286", // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
  "289", // REPLICA_IS_NOT_IN_QUORUM
  "319", // UNKNOWN_STATUS_OF_INSERT: the token makes a second try safe
  "394", // QUERY_WAS_CANCELLED
  "425", // SYSTEM_ERROR
  "439", // CANNOT_SCHEDULE_TASK
  "473", // DEADLOCK_AVOIDED
  "499", // S3_ERROR
  "517", // CANNOT_ASSIGN_ALTER
  "571", // DATABASE_REPLICATION_FAILED
  "574", // DISTRIBUTED_TOO_MANY_PENDING_BYTES
  "659", // UNKNOWN_STATUS_OF_TRANSACTION
  "733", // TABLE_IS_BEING_RESTARTED
  "745", // SERVER_OVERLOADED
  "749", // TCP_CONNECTION_LIMIT_REACHED
  "762", // HTTP_CONNECTION_LIMIT_REACHED
  "999", // KEEPER_EXCEPTION
  "1000", // POCO_EXCEPTION: network or disk trouble without a code of its own
  "1001", // STD_EXCEPTION: the same
]);

/** Node's codes for a certificate or protocol error that retrying won't fix. */
const FINAL_NODE_CODE = /^(ERR_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_)/;

/** `TABLE_ALREADY_EXISTS` and the like, for an error made by `toClickHouseFailure`; null for any other. */
export function clickHouseErrorType(error: unknown): string | null {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof ClickHouseError ? (cause.type ?? null) : null;
}

/**
 * Turns what the client threw into an error that says whether to retry: by ClickHouse's error code, or by the class of
 * what happened on the way. `clickhouse_refused` means that the server answered; `clickhouse_unreachable` that it did
 * not: no connection, a time-out, an answer that isn't ClickHouse's.
 */
export function toClickHouseFailure(error: unknown): unknown {
  if (error instanceof FraudstreamError || error instanceof TypeError || error instanceof RangeError) return error;
  if (error instanceof ClickHouseError) {
    const what = `ClickHouse: ${error.type ?? "error"} (${error.code}): ${firstLine(error.message)}`;
    return new FraudstreamError("clickhouse_refused", what, {
      retriable: RETRIABLE_CODES.has(error.code),
      cause: error,
    });
  }
  const code = codeOf(error) ?? "";
  const what = `ClickHouse did not answer: ${code === "" ? "" : `${code}: `}${firstLine(messageOf(error))}`;
  return new FraudstreamError("clickhouse_unreachable", what, { retriable: !FINAL_NODE_CODE.test(code), cause: error });
}

/** A server's message can quote at length the data that it failed on. */
function firstLine(message: string): string {
  return message.split("\n", 1)[0].slice(0, 300);
}
