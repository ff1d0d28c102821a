import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../../schemas/errors.js";
import { endProcess, identify, isAlive, type ProcessIdentity } from "./processes.js";

/** How long engines that outlived their parent may take to end. */
const LEFTOVER_GRACE_MS = 15_000;

interface LockContent {
  owner: ProcessIdentity;
  engines: ProcessIdentity[];
}

/** @throws UsageError `data_dir` when a folder can't be made or written */
export function checkDataDir(dataDir: string): void {
  const probe = join(dataDir, `.probe.${process.pid}`);
  try {
    mkdirSync(dataDir, { recursive: true });
    writeFileSync(probe, "");
    rmSync(probe);
  } catch (cause) {
    const { code = "" } = cause as NodeJS.ErrnoException;
    const why =
      code === "EEXIST" || code === "ENOTDIR"
        ? "it is a file, or lies in one"
        : code === "EROFS"
          ? "the file system is read-only"
          : code === "EACCES" || code === "EPERM"
            ? "this user may not write there"
            : code;
    throw new UsageError(
      "data_dir",
      `DATA_DIR is ${dataDir}, which can't be written (${why}): set DATA_DIR to another folder`,
      { cause },
    );
  }
}

/** The data folder of a local stack, held by one process at a time. */
export class DataDirLock {
  readonly #file: string;
  readonly #content: LockContent;

  private constructor(file: string, content: LockContent) {
    this.#file = file;
    this.#content = content;
  }

  /**
   * Takes the folder. A lock whose owner is gone is taken over, after its engines have ended.
   *
   * @throws UsageError `stack_running` that names the process which has it
   */
  static async take(dataDir: string): Promise<DataDirLock> {
    mkdirSync(dataDir, { recursive: true });
    const file = join(dataDir, "stack.lock");
    const owner = identify(process.pid) ?? { pid: process.pid, started: "" };
    const content: LockContent = { owner, engines: [] };
    const own = `${file}.${process.pid}`;
    writeFileSync(own, JSON.stringify(content), { mode: 0o600 });
    try {
      linkSync(own, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      const before = readLock(file);
      if (before !== null && isAlive(before.owner)) throw inUse(dataDir, before.owner.pid);
      renameSync(own, file);
      // Two may take over at once: the later one's lock counts.
      await new Promise((resolve) => setTimeout(resolve, 100));
      const now = readLock(file);
      if (now === null || now.owner.pid !== owner.pid || now.owner.started !== owner.started)
        throw inUse(dataDir, now?.owner.pid ?? 0);
      await Promise.all((before?.engines ?? []).filter(isAlive).map((engine) => endProcess(engine, LEFTOVER_GRACE_MS)));
    } finally {
      rmSync(own, { force: true });
    }
    return new DataDirLock(file, content);
  }

  /** Notes an engine's process, so that a later process can clean up after this one. */
  addEngine(pid: number): void {
    const engine = identify(pid);
    if (engine === null) return;
    this.#content.engines = [...this.#content.engines.filter(isAlive), engine];
    writeAtomically(this.#file, JSON.stringify(this.#content));
  }

  release(): void {
    if (readLock(this.#file)?.owner.pid === this.#content.owner.pid) rmSync(this.#file, { force: true });
  }
}

/** The addresses in use, for people and for tools: `DATA_DIR/stack.json`. */
export interface StackAddresses {
  /** `host:port,…` */
  kafka: string;
  clickhouse: string;
  api?: string;
  /** Where the trainer, and this machine alone, may fetch a file to train on. */
  sample?: string;
}

/** Writes `DATA_DIR/stack.json`, readable by its owner only, as a whole or not at all. */
export function writeStackFile(dataDir: string, addresses: StackAddresses): void {
  mkdirSync(dataDir, { recursive: true });
  writeAtomically(join(dataDir, "stack.json"), `${JSON.stringify(addresses, null, 2)}\n`);
}

/** The ports that a stack in this folder had last: a restart asks for them first. */
export function rememberedPort(dataDir: string, engine: "kafka" | "clickhouse", preferred: number): number {
  const ports = readPorts(dataDir);
  return ports[engine] ?? preferred;
}

export function rememberPort(dataDir: string, engine: "kafka" | "clickhouse", port: number): void {
  writeAtomically(join(dataDir, "ports.json"), JSON.stringify({ ...readPorts(dataDir), [engine]: port }));
}

function readPorts(dataDir: string): Partial<Record<"kafka" | "clickhouse", number>> {
  return readJson(join(dataDir, "ports.json")) ?? {};
}

function readLock(file: string): LockContent | null {
  return readJson(file) as LockContent | null;
}

/** Null where there is no file, or one that a crash left incomplete. */
function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return null;
  }
}

function writeAtomically(file: string, text: string): void {
  const fresh = `${file}.${process.pid}.tmp`;
  writeFileSync(fresh, text, { mode: 0o600 });
  renameSync(fresh, file);
}

function inUse(dataDir: string, pid: number): UsageError {
  return new UsageError(
    "stack_running",
    `${dataDir} is in use by process ${pid}. Stop it, or start with another DATA_DIR.`,
  );
}
