import { RETRY, retry } from "./async/retry.js";
import { messageOf, UsageError } from "../schemas/errors.js";
import type { Config } from "./config/config.js";
import type { Logger } from "./logging.js";
import { probeBroker, probeClickHouse } from "./health/probe-server.js";

/** What the configuration names, as far as it does. */
type Named = Pick<Config, "kafka" | "clickhouse">;

/** How long a server may take to answer a command. */
const ANSWERS_WITHIN_MS = 3_000;

/**
 * Asks each server that the configuration names whether it is there and speaks the protocol, before anything waits for
 * it.
 *
 * @throws UsageError `unreachable` with the address, the reason and the setting that names it
 */
export async function checkReachable({ kafka, clickhouse }: Named, withinMs = ANSWERS_WITHIN_MS): Promise<void> {
  const [why, clickhouseWhy] = await Promise.all([
    Promise.all(
      (kafka?.brokers ?? []).map((broker) => {
        const colon = broker.lastIndexOf(":");
        return probeBroker(
          { host: broker.slice(0, colon).replace(/^\[(.*)\]$/, "$1"), port: Number(broker.slice(colon + 1)) },
          kafka?.ssl ?? false,
          withinMs,
        );
      }),
    ),
    clickhouse === null ? null : probeClickHouse(clickhouse, withinMs),
  ]);
  if (kafka !== null && why.every((reason) => reason !== null)) {
    throw new UsageError(
      "unreachable",
      `KAFKA_BROKERS is ${kafka.brokers.join(",")}, where no Kafka broker can be reached ` +
        `(${[...new Set(why)].join("; ")}): is Kafka running there, and is the address right?`,
    );
  }
  if (clickhouse !== null && clickhouseWhy !== null) {
    throw new UsageError(
      "unreachable",
      `CLICKHOUSE_URL is ${clickhouse.url.replace(/\/\/[^/@]*@/, "//…@")}, where no ClickHouse can be ` +
        `reached (${clickhouseWhy}): is ClickHouse running there, and is the address right?`,
    );
  }
}

export interface WaitOptions {
  log: Logger;
  signal: AbortSignal;
  /** A role needs these; what it can do without is only looked for once, and missed in one line. @default neither */
  without?: Pick<Config, "clickhouse">;
  /** How long it goes on trying. @default 60_000 */
  forMs?: number;
  /** Between two lines that say so. @default 20_000 */
  sayEveryMs?: number;
  /** Between two tries. @default 1_000 */
  againMs?: number;
}

const SAY_EVERY_MS = 20_000;
/** Engines that start, or are busy, may take longer than a command would wait. */
const ANSWERS_ROLE_WITHIN_MS = 5_000;

/**
 * For a role's start: waits until the servers that it needs answer. Whatever starts it may start them at the same time.
 *
 * @throws UsageError `unreachable` in the end
 */
export async function waitUntilReachable(
  needed: Named,
  {
    log,
    signal,
    without = { clickhouse: null },
    forMs = RETRY.servers.forMs,
    sayEveryMs = SAY_EVERY_MS,
    againMs = RETRY.servers.firstMs,
  }: WaitOptions,
): Promise<void> {
  if (without.clickhouse !== null) {
    void checkReachable({ kafka: null, clickhouse: without.clickhouse }, ANSWERS_ROLE_WITHIN_MS).catch(
      (error: unknown) => log.warn({ code: "unreachable" }, `${messageOf(error)} This role goes on without it for now`),
    );
  }
  const started = performance.now();
  const triedForMs = (): number => performance.now() - started;
  let saidAt = -Infinity;
  const policy = { firstMs: againMs, mostMs: againMs, forMs };
  try {
    await retry(() => checkReachable(needed, ANSWERS_ROLE_WITHIN_MS), policy, {
      signal,
      again: (error) => error instanceof UsageError,
      onRetry: (error) => {
        if (performance.now() - saidAt < sayEveryMs) return;
        saidAt = performance.now();
        log.warn(
          { code: (error as UsageError).code, triesForMs: Math.round(forMs - triedForMs()) },
          `${messageOf(error)} It is tried again`,
        );
      },
    });
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(error.code, `${error.message} It was tried for ${Math.round(triedForMs() / 1_000)} s`, {
      cause: error,
    });
  }
}
