import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setPriority } from "node:os";
import { compiledModule } from "../../infra/package-root.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { FromJob, Incumbent, JobProgress, JobResult, JobSpec, ToJob } from "./job-messages.js";

export interface JobChildOptions {
  onProgress: (progress: JobProgress) => void;
  incumbent: () => Promise<Incumbent>;
  /** Ends the job at once. */
  signal: AbortSignal;
}

/** Below the scoring that may share the machine. */
const NICENESS = 5;
const STDERR_KEPT = 4_000;

/**
 * Runs a job in a process of its own: sorting millions of rows delays no heartbeats, what it may do to memory
 * ends only itself, and cancelling is killing it, whatever it is doing.
 *
 * @throws FraudstreamError as the job failed; `training_out_of_memory`, `training_killed`, `training_crashed`; the
 *   signal's reason when it aborts. The process is gone then, in any case
 */
export async function runJobProcess(
  spec: JobSpec,
  { onProgress, incumbent, signal }: JobChildOptions,
): Promise<JobResult> {
  signal.throwIfAborted();
  const child = fork(compiledModule("pipelines/training/job-process"), [], {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    execArgv: [],
  });
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr = (stderr + text).slice(-STDERR_KEPT)));
  // The last message may be read after the process has ended, but before its channel has.
  const ended = Promise.all([once(child, "close"), once(child, "disconnect")]);
  const kill = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", kill, { once: true });
  const tell = (message: ToJob): void => void child.send(message, () => {});
  const outcome: { message: FromJob | null; error: Error | null } = { message: null, error: null };
  child.on("error", (error) => (outcome.error = error));
  child.on("message", (message: FromJob) => {
    if (message.kind === "progress") onProgress({ phase: message.phase, percent: message.percent, rows: message.rows });
    else if (message.kind === "incumbent?") {
      incumbent().then(
        (found) => tell({ kind: "incumbent", incumbent: found }),
        (error: Error) => {
          outcome.error = error;
          kill();
        },
      );
    } else outcome.message ??= message;
  });
  try {
    if (child.pid !== undefined) setPriority(child.pid, NICENESS);
  } catch {
    // It ended already, or the system doesn't let us: it runs as it is.
  }
  tell({ kind: "start", spec });
  await ended;
  signal.removeEventListener("abort", kill);
  signal.throwIfAborted();
  const { message, error } = outcome;
  if (message?.kind === "built") return message.result;
  if (message?.kind === "failed") throw new FraudstreamError(message.code, message.message);
  throw error ?? crash(child, stderr);
}

function crash({ exitCode, signalCode }: ChildProcess, stderr: string): FraudstreamError {
  if (/heap out of memory|Array buffer allocation failed|bad_alloc/.test(stderr))
    return new FraudstreamError("training_out_of_memory", "the data set needs more memory than the trainer has");
  if (signalCode === "SIGKILL")
    return new FraudstreamError(
      "training_killed",
      "the job's process was killed, probably since the machine ran out of memory",
    );
  return new FraudstreamError(
    "training_crashed",
    `the job's process ended with ${signalCode ?? `code ${exitCode}`}: ${stderr.trim().split("\n").at(-1) ?? ""}`,
  );
}
