import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { ErrorCode } from "../../schemas/error-codes.js";
import { FraudstreamError } from "../../schemas/errors.js";
import { limitedProcess, reservedByNode } from "../onnx/limited-process.js";
import type { CheckedModel, CheckRequest } from "./check-model.js";

/** What the process says at its end. */
export type CheckAnswer = { checked: CheckedModel } | { refused: { code: ErrorCode; message: string } };

export interface CheckLimits {
  /** Of the process, of its processor time, too. @default one minute */
  timeoutMs?: number;
  /** Memory that the process may write to beyond what Node needs, bytes. @default 1 GiB */
  memoryBytes?: number;
}

const TIMEOUT_MS = 60_000;
const MEMORY_BYTES = 1024 ** 3;
const HEAP_MB = 384;
const STDERR_CHARACTERS = 300;

/**
 * Runs `checkModel` in a process that may die: bounded in memory and time, with an empty environment, so that it knows
 * no address and no secret.
 *
 * @throws FraudstreamError what `checkModel` throws; `model_too_slow` when the time is over, `model_died` when the
 *   process
 *   ended without an answer, as it does when the memory is used up; the signal's reason when it aborts
 */
export async function checkInProcess(
  request: CheckRequest,
  { timeoutMs = TIMEOUT_MS, memoryBytes = MEMORY_BYTES }: CheckLimits = {},
  signal?: AbortSignal,
): Promise<CheckedModel> {
  const reserved = await reservedByNode(1);
  signal?.throwIfAborted();
  const { command, args, options } = limitedProcess("models/uploads/check-process", [], {
    memoryBytes,
    reserved,
    heapMb: HEAP_MB,
    cpuSeconds: Math.ceil(timeoutMs / 1000),
  });
  const child = spawn(command, args, {
    ...options,
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    serialization: "advanced",
  });
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr = (stderr + text).slice(-STDERR_CHARACTERS)));
  let timedOut = false;
  const kill = (): void => void child.kill("SIGKILL");
  const timer = setTimeout(() => {
    timedOut = true;
    kill();
  }, timeoutMs);
  signal?.addEventListener("abort", kill, { once: true });
  try {
    const answer = await answerOf(child, request);
    signal?.throwIfAborted();
    if (timedOut || answer === "SIGXCPU")
      throw new FraudstreamError("model_too_slow", `checking the model took more than ${timeoutMs / 1000} s`);
    if (typeof answer === "string") {
      // What it wrote at last names our files: for the log only.
      throw new FraudstreamError(
        "model_died",
        `the process that loaded the model died of it (${answer}), with ` +
          `${Math.floor(memoryBytes / 1024 ** 2)} MiB of memory`,
        { cause: new Error(stderr) },
      );
    }
    if ("refused" in answer) throw new FraudstreamError(answer.refused.code, answer.refused.message);
    return answer.checked;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", kill);
    kill();
  }
}

/** The process's answer, or how it ended without one. */
async function answerOf(child: ChildProcess, request: CheckRequest): Promise<CheckAnswer | string> {
  let answer: CheckAnswer | null = null;
  child.on("message", (message) => (answer = message as CheckAnswer));
  // "close" comes after the last message and the last of stderr; a failed send is a process that has died.
  const closed = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  child.send(request, () => undefined);
  const [code, signal] = await closed;
  return answer ?? signal ?? `exit code ${code}`;
}
