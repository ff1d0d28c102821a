import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { compiledModule } from "../../infra/package-root.js";
import { ROLES, type Role } from "../../infra/roles.js";
import { eventually } from "./eventually.js";

export interface WorkerExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** One line of a role's log. */
export interface LogLine {
  level: number;
  msg: string;
  [field: string]: unknown;
}

const MAX_LOG_LINES = 10_000;

/**
 * A role as a process of its own, as in production: `node dist/pipelines/<role>/main.js`. Whoever starts it ends it; a
 * channel sees to it that it does not outlive this process.
 */
export class RoleProcess {
  readonly role: string;
  readonly ended: Promise<WorkerExit>;
  readonly log: LogLine[] = [];
  readonly #child: ChildProcess;
  #rest = "";
  #exit: WorkerExit | null = null;

  constructor(role: Exclude<Role, "api">, settings: Record<string, string>) {
    this.role = role;
    this.#child = spawn(process.execPath, [compiledModule(ROLES[role].module)], {
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      env: { ...process.env, ...settings },
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#read(text));
    // "close" comes after the last of the log, "exit" may come before it.
    this.ended = once(this.#child, "close").then(
      ([code, signal]) => (this.#exit = { code: code as number | null, signal: signal as NodeJS.Signals | null }),
    );
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** How it ended; null while it runs. */
  get exit(): WorkerExit | null {
    return this.#exit;
  }

  send(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Asks it to stop and waits until it has. */
  stop(): Promise<WorkerExit> {
    this.send("SIGTERM");
    return this.ended;
  }

  /** Ends it at once, if it runs. */
  async kill(): Promise<void> {
    if (this.#exit !== null) return;
    this.send("SIGKILL");
    await this.ended;
  }

  /** Waits for a line of its log with this message. */
  async logged(text: string): Promise<LogLine> {
    return eventually(`${this.role} logs ${JSON.stringify(text)}`, () => {
      const line = this.log.find(({ msg }) => msg === text);
      if (line === undefined && this.#exit !== null)
        throw new Error(`${this.role} ended (${JSON.stringify(this.#exit)}): ${this.tail()}`);
      return line;
    });
  }

  /** The end of its log. */
  tail(lines = 10): string {
    return this.log
      .slice(-lines)
      .map(({ msg }) => msg)
      .join("\n");
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.log.push(parseLine(line));
    if (this.log.length > MAX_LOG_LINES) this.log.splice(0, this.log.length - MAX_LOG_LINES);
  }
}

/** What is no JSON line (a user's mistake, a crash of Node itself) is a line, too. */
function parseLine(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return { level: 60, msg: line };
  }
}
