import { pino, type Logger } from "pino";
import type { Config } from "./config.js";

export type { Logger };

/**
 * One logger a process, JSON lines on standard error (standard output is for what a command was asked for).
 * Record values, keys and credentials are never passed to it; the paths below are the safety net.
 */
export function createLogger(config: Pick<Config, "logLevel">, role: string): Logger {
  return pino(
    {
      level: config.logLevel,
      base: { role, pid: process.pid },
      redact: { paths: ["password", "*.password", "token", "*.token", "authorization", "*.authorization", "card_id", "*.card_id"], censor: "[hidden]" },
    },
    pino.destination({ fd: 2, sync: true }),
  );
}
