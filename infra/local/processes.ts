import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** A process, distinguished from a later one with the same id. */
export interface ProcessIdentity {
  pid: number;
  /** When it started, in the system's own words; empty where the system doesn't tell. */
  started: string;
}

/** The process that has this id now, or null. */
export function identify(pid: number): ProcessIdentity | null {
  if (!exists(pid)) return null;
  return { pid, started: startOf(pid) };
}

/** Whether that very process is still there. */
export function isAlive(identity: ProcessIdentity): boolean {
  const now = identify(identity.pid);
  return now !== null && now.started === identity.started;
}

/** Ends a process that is not our child: by a signal first, and by SIGKILL if it is still there after the time. */
export async function endProcess(identity: ProcessIdentity, graceMs: number): Promise<void> {
  const deadline = Date.now() + graceMs;
  signalTo(identity.pid, "SIGTERM");
  while (isAlive(identity)) {
    if (Date.now() > deadline) signalTo(identity.pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Sends a signal to a process, or with a negative id to a process group; one that is gone is not an error. */
export function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return stateOf(pid) !== "Z";
}

/** Linux: field 22 of /proc/PID/stat, behind the name in parentheses; elsewhere what `ps` says. */
function startOf(pid: number): string {
  return statFields(pid)?.[19] ?? fromPs(pid, "lstart");
}

function stateOf(pid: number): string {
  return statFields(pid)?.[0] ?? fromPs(pid, "state").slice(0, 1);
}

function statFields(pid: number): string[] | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return null;
  }
}

function fromPs(pid: number, field: string): string {
  try {
    return execFileSync("ps", ["-o", `${field}=`, "-p", String(pid)], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "";
  }
}
