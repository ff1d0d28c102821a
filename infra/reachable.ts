import { setTimeout as sleep } from "node:timers/promises";
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

const ROLE_TRIES_MS = 60_000;
const SAY_EVERY_MS = 20_000;
const AGAIN_MS = 1_000;
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
    forMs = ROLE_TRIES_MS,
    sayEveryMs = SAY_EVERY_MS,
    againMs = AGAIN_MS,
  }: WaitOptions,
): Promise<void> {
  if (without.clickhouse !== null) {
    void checkReachable({ kafka: null, clickhouse: without.clickhouse }, ANSWERS_ROLE_WITHIN_MS).catch(
      (error: unknown) => log.warn({ code: "unreachable" }, `${messageOf(error)} This role goes on without it for now`),
    );
  }
  const started = performance.now();
  for (let saidAt = -Infinity; ;) {
    try {
      return await checkReachable(needed, ANSWERS_ROLE_WITHIN_MS);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      const now = performance.now();
      if (now - started >= forMs)
        throw new UsageError(error.code, `${error.message} It was tried for ${Math.round((now - started) / 1_000)} s`, {
          cause: error,
        });
      if (now - saidAt >= sayEveryMs) {
        log.warn(
          { code: error.code, triesForMs: Math.round(forMs - (now - started)) },
          `${error.message} It is tried again`,
        );
        saidAt = now;
      }
    }
    await sleep(againMs, undefined, { signal });
  }
}
