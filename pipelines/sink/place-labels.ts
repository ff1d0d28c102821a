import { setTimeout as sleep } from "node:timers/promises";
import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { lastPlacement, type PlaceOptions, placeLabels } from "../../infra/clickhouse/label-placement.js";
import type { Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import type { Logger } from "../../infra/logging.js";

const LOOK_EVERY_MS = 30_000;
/**
 * This many labels are placed as soon as they may be; fewer wait until the last placement is this old, since each
 * placement searches all predictions.
 */
const MANY = 200_000;
const AT_LEAST_EVERY_MS = 600_000;

export interface LabelPlacingOptions extends PlaceOptions {
  clickhouse: ClickHouse;
  log: Logger;
  /** @default 30_000 */
  lookEveryMs?: number;
}

/**
 * Periodically places labels at the event time of their transactions, so that metrics of a window stay fast. Metrics
 * are the same without it, so failures are logged and retried.
 */
export function startPlacingLabels(
  lifecycle: Pick<Lifecycle, "add">,
  { lookEveryMs = LOOK_EVERY_MS, ...options }: LabelPlacingOptions,
): void {
  const abort = new AbortController();
  const done = (async () => {
    for (let more = false; !abort.signal.aborted;) {
      // Copies of the sink that were started together don't check at the same time.
      if (!more) await sleep(lookEveryMs * (0.75 + Math.random() / 2), undefined, { signal: abort.signal });
      more = await placeWhenDue(options, abort.signal);
    }
  })().catch(() => {});
  lifecycle.add("label placement", async () => {
    abort.abort();
    // A running statement is left to the server: an unfinished placement doesn't count.
    await Promise.race([done, sleep(1_000, undefined, { ref: false })]);
  });
}

/** True when there may be more to do at once. */
async function placeWhenDue(
  { clickhouse, log, ...options }: Omit<LabelPlacingOptions, "lookEveryMs">,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const last = await lastPlacement(clickhouse);
    const due = last.settled >= MANY || Date.now() - last.finishedAt >= AT_LEAST_EVERY_MS;
    if (!due) return false;
    const started = performance.now();
    if (!(await placeLabels(clickhouse, last, options))) return false;
    const now = await lastPlacement(clickhouse);
    log.debug(
      { waiting: now.waiting, ms: Math.round(performance.now() - started) },
      "labels placed at the event times of their transactions",
    );
    return now.cut > last.cut && now.settled >= MANY;
  } catch (error) {
    if (!signal.aborted) log.warn({ err: error }, "labels could not be placed, metrics read more of them meanwhile");
    return false;
  }
}
