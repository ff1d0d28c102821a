import { pino, type Logger } from "pino";
import type { Config } from "./config/config.js";
import { maskedJson, maskedJsonText } from "./privacy/masking/masked-json.js";
import { escapeControls, maskedText } from "./privacy/masking/masked-text.js";

export type { Logger };

/** A longer line is cut when something in it has to be hidden. */
const MOST_LINE = 64 * 1024;

/**
 * One logger a process, JSON lines on standard error (standard output is for what a command was asked for).
 * Record values, keys and credentials are never passed to it; the paths below and `maskedLine` are the safety net.
 */
export function createLogger(config: Pick<Config, "logLevel">, role: string): Logger {
  return pino(
    {
      level: config.logLevel,
      base: { role, pid: process.pid },
      redact: {
        paths: [
          "password",
          "*.password",
          "token",
          "*.token",
          "authorization",
          "*.authorization",
          "card_id",
          "*.card_id",
        ],
        censor: "[hidden]",
      },
      hooks: { streamWrite: maskedLine },
    },
    pino.destination({ fd: 2, sync: true }),
  );
}

/** A line of the log without card numbers, secrets and control characters, whatever was passed to the logger. */
export function maskedLine(line: string): string {
  const printable = escapeControls(line);
  const masked = maskedJsonText(printable, MOST_LINE);
  if (masked === null) return `${maskedText(printable.trimEnd())}\n`;
  if (masked !== printable) return `${masked}\n`;
  // What stands behind a cut, or under a key that is there twice, was not looked at.
  return maskedText(printable) === printable ? printable : `${maskedJson(JSON.parse(printable), MOST_LINE)}\n`;
}
