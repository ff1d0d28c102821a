import { once } from "node:events";
import type { Logger } from "../logging.js";
import { RequestError, UsageError, messageOf } from "../../schemas/errors.js";

/** Parts of a process that were started, stopped in reverse order. */
export class Lifecycle {
  readonly #parts: { name: string; stop: () => Promise<void> | void }[] = [];
  readonly #abort = new AbortController();
  readonly #log: Logger;
  #stopping: Promise<void> | null = null;
  #failure: unknown = null;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Aborts when the process is asked to stop, or has failed. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** What made the process stop, if something did. */
  get failure(): unknown {
    return this.#failure;
  }

  /**
   * To be called right after a part has started. One that came up while the process was being stopped is stopped, too.
   */
  add(name: string, stop: () => Promise<void> | void): void {
    this.#parts.push({ name, stop });
    if (this.#stopping !== null) this.#stopping = this.#stopping.then(() => this.#stopAll());
  }

  /**
   * A part can't go on: the process stops, and ends with exit code 1. One that can't because everything stops is no
   * failure.
   */
  fail(error: unknown): void {
    if (this.#stopping === null) this.#failure ??= error;
    else this.#log.debug({ err: error }, "failed while it was being stopped");
    void this.stop();
  }

  /** Stops every part once, last started first; one that fails to stop is logged and does not hold up the others. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<void> {
    this.#abort.abort();
    for (let part = this.#parts.pop(); part !== undefined; part = this.#parts.pop()) {
      try {
        await part.stop();
      } catch (error) {
        this.#log.error({ part: part.name, err: error }, "did not stop cleanly");
      }
    }
  }
}

/**
 * Runs a role until SIGINT, SIGTERM or a failure: `start` wires its parts and returns once they run. Asked to stop, it
 * ends with code 0.
 */
export function runRole(log: Logger, start: (lifecycle: Lifecycle) => Promise<void>): Promise<void> {
  return run(log, { codeWhenStopped: 0, leftOpenMs: ROLE_LEFT_OPEN_MS }, async (lifecycle) => {
    await start(lifecycle);
    if (!lifecycle.signal.aborted) await once(lifecycle.signal, "abort");
  });
}

/**
 * Runs a command: it is done when `work` returns; SIGINT and SIGTERM abort its signal and end it with code 130, and so
 * does the end of whoever reads its output, as in `| head`.
 */
export function runCommand(log: Logger, work: (lifecycle: Lifecycle) => Promise<void>): Promise<void> {
  return run(log, { codeWhenStopped: 130, leftOpenMs: COMMAND_LEFT_OPEN_MS }, async (lifecycle, stop) => {
    for (const output of [process.stdout, process.stderr])
      output.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code !== "EPIPE") throw error;
        if (!lifecycle.signal.aborted) stop();
      });
    await work(lifecycle);
    if (lifecycle.signal.aborted) process.exitCode ??= 130;
  });
}

/** After every part has stopped nothing of a role is left to be done; a command may still tell how far it has come. */
const ROLE_LEFT_OPEN_MS = 2_000;
const COMMAND_LEFT_OPEN_MS = 10_000;

/** A second signal ends the process at once. A user's mistake is one line, without a stack. */
async function run(
  log: Logger,
  { codeWhenStopped, leftOpenMs }: { codeWhenStopped: number; leftOpenMs: number },
  body: (lifecycle: Lifecycle, stop: () => void) => Promise<void>,
): Promise<void> {
  const lifecycle = new Lifecycle(log);
  let signals = 0;
  const onSignal = (): void => {
    signals += 1;
    if (signals > 1) process.exit(130);
    void lifecycle.stop().then(() => {
      // A start that hangs, or what it left open when it was broken off, must not keep a process that was asked to
      // stop.
      setTimeout(() => {
        log.warn({ open: process.getActiveResourcesInfo() }, "stopped, with something left open");
        process.exit(process.exitCode ?? codeWhenStopped);
      }, leftOpenMs).unref();
    });
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  // Started by another process of ours: when that one is gone, however it ended, this one must not stay behind.
  process.on("disconnect", onSignal);
  try {
    await body(lifecycle, onSignal);
  } catch (error) {
    // An error of a part that is being stopped while it starts or works is not a failure.
    if (signals === 0) lifecycle.fail(error);
    else {
      log.debug({ err: error }, "stopped while under way");
      process.exitCode = codeWhenStopped;
    }
  }
  await lifecycle.stop();
  process.off("SIGINT", onSignal);
  process.off("SIGTERM", onSignal);
  process.off("disconnect", onSignal);
  const { failure } = lifecycle;
  if (failure === null) return;
  process.exitCode = 1;
  if (failure instanceof UsageError || failure instanceof RequestError) process.stderr.write(`${failure.message}\n`);
  else log.fatal({ err: failure }, messageOf(failure));
}
