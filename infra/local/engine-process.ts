import { fork, type ChildProcess } from "node:child_process";
import { closeSync, fstatSync, mkdirSync, openSync, readSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { FraudstreamError } from "../../schemas/errors.js";
import { compiledModule } from "../package-root.js";
import { signalTo } from "./processes.js";

/** A log that grew beyond this is put aside at the next start. */
const MAX_LOG_BYTES = 16 << 20;

/**
 * A Node process that is an engine or guards one. It has a process group of its own, so Ctrl-C in a terminal doesn't
 * reach it before the roles have stopped, and a channel to this process, whose end tells it that this process is gone.
 */
export class EngineProcess {
  readonly name: string;
  readonly pid: number;
  /** Resolves, with words about how, once the process has ended. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #logFile: string;
  readonly #logStart: number;
  #isEnded = false;

  private constructor(name: string, child: ChildProcess, pid: number, logFile: string, logStart: number) {
    this.name = name;
    this.pid = pid;
    this.#child = child;
    this.#logFile = logFile;
    this.#logStart = logStart;
    this.ended = new Promise((resolve) =>
      child.once("exit", (code, signal) => {
        this.#isEnded = true;
        // What it may have left in its group (a broker whose guard was killed) goes with it.
        signalTo(-pid, "SIGKILL");
        resolve(signal === null ? `exit code ${code}` : signal);
      }),
    );
    // The engine alone doesn't keep this process alive.
    child.unref();
    child.channel?.unref();
  }

  /**
   * Starts a compiled module. @param module as `compiledModule` takes it @param env beside this process's environment
   */
  static async start(options: {
    name: string;
    module: string;
    args: string[];
    logFile: string;
    env?: Record<string, string>;
  }): Promise<EngineProcess> {
    mkdirSync(dirname(options.logFile), { recursive: true });
    if ((statSync(options.logFile, { throwIfNoEntry: false })?.size ?? 0) > MAX_LOG_BYTES)
      renameSync(options.logFile, `${options.logFile}.old`);
    const log = openSync(options.logFile, "a", 0o600);
    try {
      const logStart = fstatSync(log).size;
      const child = fork(compiledModule(options.module), options.args, {
        detached: true,
        execArgv: [],
        stdio: ["ignore", log, log, "ipc"],
        ...(options.env === undefined ? {} : { env: { ...process.env, ...options.env } }),
      });
      await new Promise((resolve, reject) => child.once("spawn", resolve).once("error", reject));
      return new EngineProcess(options.name, child, child.pid ?? 0, options.logFile, logStart);
    } finally {
      closeSync(log);
    }
  }

  /**
   * The first message of the process that has this field. @throws FraudstreamError `engine_failed` if it ends instead
   */
  async message(field: string, deadlineMs: number, signal?: AbortSignal): Promise<unknown> {
    const received = new Promise<unknown>((resolve) =>
      this.#child.on("message", (message: object) => {
        if (field in message) resolve((message as Record<string, unknown>)[field]);
      }),
    );
    return this.orFail(received, deadlineMs, signal);
  }

  /** Waits for something of this engine, as long as it lives, the deadline is ahead and nobody aborts. */
  async orFail<T>(work: Promise<T>, deadlineMs: number, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    let stopWaiting = (): void => undefined;
    const failure = new Promise<never>((_, reject) => {
      const timer = setTimeout(() => reject(this.failure(`did not answer within ${deadlineMs / 1000} s`)), deadlineMs);
      const onAbort = (): void => reject(new FraudstreamError("aborted", "the start was called off"));
      signal?.addEventListener("abort", onAbort);
      void this.ended.then((how) => reject(this.failure(`ended (${how})`)));
      stopWaiting = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      };
    });
    try {
      return await Promise.race([work, failure]);
    } finally {
      stopWaiting();
    }
  }

  /** An error about this engine, with the end of its log. */
  failure(what: string): FraudstreamError {
    return new FraudstreamError(
      "engine_failed",
      `${this.name} ${what}. The end of ${this.#logFile}:\n${this.logTail()}`,
    );
  }

  /** The last 3,000 bytes that this process has logged. */
  logTail(): string {
    const log = openSync(this.#logFile, "r");
    try {
      const { size } = fstatSync(log);
      const from = Math.max(this.#logStart, size - 3_000);
      const bytes = Buffer.alloc(Math.max(0, size - from));
      readSync(log, bytes, 0, bytes.length, from);
      return bytes.toString("utf8").trim();
    } finally {
      closeSync(log);
    }
  }

  /** Asks the process to end, and kills its whole group when it is still there after the time. */
  async stop(graceMs: number): Promise<void> {
    if (this.#isEnded) return;
    this.#child.ref();
    const timer = setTimeout(() => signalTo(-this.pid, "SIGKILL"), graceMs);
    signalTo(this.pid, "SIGTERM");
    await this.ended;
    clearTimeout(timer);
  }
}
