import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, readFileSync } from "node:fs";
import { once } from "node:events";
import { compiledModule } from "../../../infra/package-root.js";

/** A process that is measured. */
export interface MeasuredProcess {
  child: ChildProcess;
  /** User and system time so far, seconds, start-up included. */
  cpuSeconds(): number;
  residentMb(): number;
  peakResidentMb(): number;
  stop(): Promise<void>;
}

/** Starts one of our roles with an environment of its own; its log goes to a file. */
export function startRole(module: string, env: Record<string, string>, logFile: string): MeasuredProcess {
  return measure(
    spawn(process.execPath, [compiledModule(module)], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    }),
    logFile,
  );
}

/** Starts any other command. */
export function startCommand(
  [command, args]: [string, string[]],
  cwd: string,
  env: Record<string, string>,
  logFile: string,
): MeasuredProcess {
  return measure(
    spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "pipe"] }),
    logFile,
  );
}

function measure(child: ChildProcess, logFile: string): MeasuredProcess {
  child.stderr?.pipe(createWriteStream(logFile));
  const pid = child.pid as number;
  const status = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) /
    1024;
  return {
    child,
    cpuSeconds: () => cpuSecondsOf(pid),
    residentMb: () => Math.round(status("VmRSS")),
    peakResidentMb: () => Math.round(status("VmHWM")),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGTERM");
      await once(child, "exit");
    },
  };
}

/** Clock ticks a second, as Linux reports times of processes. */
const TICKS = 100;

function cpuSecondsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}
