import { setTimeout as sleep } from "node:timers/promises";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { Logger } from "../logging.js";

const AGAIN_MS = 1_000;

/**
 * Waits a second before a failed operation is retried, for callers that retry as long as the cluster is away.
 *
 * @throws the error, where it doesn't pass by itself or the signal has aborted
 */
export async function waitOut(error: unknown, log: Logger, signal: AbortSignal): Promise<void> {
  if (signal.aborted || !(error instanceof FraudstreamError) || !error.retriable) throw error;
  log.warn({ code: error.code, retryInMs: AGAIN_MS }, messageOf(error));
  await sleep(AGAIN_MS, undefined, { signal }).catch(() => {});
}
