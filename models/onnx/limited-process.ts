import { execFile } from "node:child_process";
import { tmpdir } from "node:os";
import { promisify } from "node:util";
import { compiledModule } from "../../infra/package-root.js";

export interface ProcessLimits {
  /** Memory that the process may write to, bytes, beyond `reserved`. */
  memoryBytes: number;
  /** What Node itself reserves (`reservedByNode`), bytes. */
  reserved: number;
  /** Of the JavaScript heap, which is part of the memory. */
  heapMb: number;
  /** Processor time; absent: no limit. */
  cpuSeconds?: number;
}

/** The shell sets the limits and becomes Node. RLIMIT_DATA holds on Linux; elsewhere only time and heap are bounded. */
const LIMITED = 'ulimit -d "$1"; [ -z "$2" ] || ulimit -S -t "$2"; ulimit -c 0; shift 2; exec "$@"';

/**
 * How a module of ours is started as a process that may die: in bounded memory, with an empty environment, so that it
 * knows no address and no secret.
 */
export function limitedProcess(
  module: string,
  args: readonly string[],
  { memoryBytes, reserved, heapMb, cpuSeconds }: ProcessLimits,
): { command: string; args: string[]; options: { env: NodeJS.ProcessEnv; cwd: string } } {
  const kibibytes = Math.floor((memoryBytes + reserved) / 1024);
  const node = [process.execPath, `--max-old-space-size=${heapMb}`, compiledModule(module), ...args];
  return {
    command: "/bin/sh",
    args: ["-c", LIMITED, "sh", String(kibibytes), String(cpuSeconds ?? ""), ...node],
    options: { env: {}, cwd: tmpdir() },
  };
}

const MEASURED_WITHIN_MS = 10_000;
const OWN_DATA = `
  const { readFileSync } = require("node:fs");
  const { Worker } = require("node:worker_threads");
  const data = () => Number(/^VmData:\\s+(\\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
  const alone = data();
  const worker = new Worker("setInterval(() => {}, 1000)", { eval: true });
  worker.once("online", () => process.stdout.write(JSON.stringify([alone, data()]), () => process.exit()));`;

let reserved: Promise<readonly [alone: number, withThread: number]> | null = null;

/**
 * What counts against RLIMIT_DATA before a module has been loaded, bytes: 50 MB with Node 20, while Node 24 reserves
 * 512 MB for machine code, and as much again for a second thread. 0 where that can't be told.
 *
 * @param threads of JavaScript, the main one included
 */
export async function reservedByNode(threads: 1 | 2): Promise<number> {
  reserved ??= promisify(execFile)(process.execPath, ["-e", OWN_DATA], { env: {}, timeout: MEASURED_WITHIN_MS }).then(
    ({ stdout }) => JSON.parse(stdout) as [number, number],
    () => {
      reserved = null; // the next caller tries again
      return [0, 0];
    },
  );
  return (await reserved)[threads - 1];
}
