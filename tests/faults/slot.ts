import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { once } from "node:events";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { compiledModule } from "../../infra/package-root.js";
import { ROLES, type Role } from "../../infra/roles.js";

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

const RESTART_AFTER_MS = 1_000;
/** What Node tells about a process that doesn't end: its stack, and what it has open. */
const REPORTING = "--report-on-signal --report-signal=SIGUSR2 --report-directory=";
const REPORT_MS = 3_000;

/**
 * A place where copies of a role run, one after the other, each `node dist/…/main.js`: as a supervisor would keep it,
 * one that ends by itself is started again. Its log, and what was done to it, are in a file.
 */
export class Slot {
  readonly name: string;
  readonly role: Role;
  /** How copies ended that nobody had asked to end, with the end of their log. */
  readonly fell: string[] = [];
  /** The module that is run; another one after an upgrade. */
  module: string;
  /** Whether it is to run. */
  #wanted = false;
  #child: ChildProcess | null = null;
  #ended: Promise<Exit> | null = null;
  #asked = false;
  #stopped = false;
  readonly #settings: Record<string, string>;
  readonly #logFile: string;

  /** @param logFile reports of hung processes go to its folder */
  constructor({
    name,
    role,
    module,
    settings,
    logFile,
  }: {
    name: string;
    role: Role;
    module?: string;
    settings: Record<string, string>;
    logFile: string;
  }) {
    this.name = name;
    this.role = role;
    this.module = module ?? ROLES[role].module;
    this.#settings = settings;
    this.#logFile = logFile;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  get running(): boolean {
    return this.#child !== null;
  }

  start(): void {
    this.#wanted = true;
    if (this.#child !== null) return;
    const log = openSync(this.#logFile, "a");
    writeSync(log, `${JSON.stringify({ level: 30, time: Date.now(), msg: `--- ${this.name} starts` })}\n`);
    // A module beside the roles' is told which one it is to be.
    const own = this.module !== ROLES[this.role].module;
    const child = spawn(process.execPath, [compiledModule(this.module), ...(own ? [this.role] : [])], {
      stdio: ["ignore", "ignore", log, "ipc"],
      env: { ...process.env, NODE_OPTIONS: REPORTING + dirname(this.#logFile), ...this.#settings },
    });
    closeSync(log);
    this.#child = child;
    this.#asked = false;
    this.#ended = once(child, "exit").then(([code, signal]) => {
      this.#child = null;
      const exit = { code: code as number | null, signal: signal as NodeJS.Signals | null };
      if (!this.#asked) void this.#fell(exit);
      return exit;
    });
  }

  /** Asks it to stop, politely, and waits until it has. @returns null: it didn't run */
  async stop(patienceMs = 90_000): Promise<Exit | "hung" | null> {
    this.#wanted = false;
    if (this.#child === null) return null;
    this.#asked = true;
    if (this.#stopped) this.resume();
    this.#child.kill("SIGTERM");
    const ended = await Promise.race([
      this.#ended as Promise<Exit>,
      sleep(patienceMs, "hung" as const, { ref: false }),
    ]);
    if (ended === "hung") {
      // What it still has open goes to a report beside its log.
      this.#child?.kill("SIGUSR2");
      await sleep(REPORT_MS);
      await this.kill();
    }
    return ended;
  }

  /** kill -9 */
  async kill(): Promise<void> {
    this.#wanted = false;
    if (this.#child === null) return;
    this.#asked = true;
    this.#stopped = false;
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  /** From now on it may end by itself, and is not started again. */
  mayEnd(): void {
    this.#wanted = false;
    this.#asked = true;
  }

  /** SIGSTOP: nothing of it runs until `resume`. */
  pause(): void {
    this.#stopped = true;
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#stopped = false;
    this.#child?.kill("SIGCONT");
  }

  /** How often a text stands in its log. */
  logged(text: string): number {
    return this.#log().split(text).length - 1;
  }

  /** How often it has reported a condition about a subject; without one, about any. */
  said(code: string, subject = ""): number {
    return this.#log()
      .split("\n")
      .filter((line) => line.includes(`"code":"${code}"`) && line.includes(subject) && !line.includes('"msg":"over: '))
      .length;
  }

  /** The last warnings and worse. */
  tail(lines = 8): string[] {
    return this.#log()
      .split("\n")
      .filter((line) => line !== "" && !/"level":[123]0/.test(line))
      .slice(-lines)
      .map((line) => line.slice(0, 600));
  }

  #log(): string {
    try {
      return readFileSync(this.#logFile, "utf8");
    } catch {
      return "";
    }
  }

  async #fell(exit: Exit): Promise<void> {
    this.fell.push(
      `${new Date().toISOString()} ${this.name} ended by itself with ${exit.signal ?? exit.code}: ` +
        `${this.tail(3).join(" | ")}`,
    );
    await sleep(RESTART_AFTER_MS);
    if (this.#wanted && this.#child === null) this.start();
  }
}
