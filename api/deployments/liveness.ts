import { waitUntilLive as wait, livenessOf, type Liveness } from "../../models/control/liveness.js";
import type { ApiContext } from "../context.js";

/** How long a call that deploys waits for the workers before it answers 202. */
export const LIVE_WITHIN_MS = 30_000;

/** Waits until a deployment is live, as ARCHITECTURE.md#guarantee-7 defines it, or the wait is over. */
export function waitUntilLive(
  { workers, topics }: Pick<ApiContext, "workers" | "topics">,
  epoch: number,
  { timeoutMs = LIVE_WITHIN_MS, signal }: { timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<Liveness> {
  return wait(workers, epoch, { partitions: topics.transactions.partitions, timeoutMs, signal });
}

/** How a deployment stands at this moment. */
export function livenessNow({ workers, topics }: Pick<ApiContext, "workers" | "topics">, epoch: number): Liveness {
  return livenessOf(workers, epoch, topics.transactions.partitions);
}
