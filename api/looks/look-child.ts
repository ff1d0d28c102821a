import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TrainingConfig } from "../../infra/config/config.js";
import { compiledModule } from "../../infra/package-root.js";
import { maskedText } from "../../infra/privacy/masking/masked-text.js";
import type { Look } from "../../models/datasets/look.js";
import type { ReadingRequest } from "../../models/datasets/reading-request.js";
import type { ErrorCode } from "../../schemas/error-codes.js";
import { FraudstreamError, RequestError } from "../../schemas/errors.js";

export type LookRequest = ReadingRequest & { dataset: string };

/** What a look's process receives. */
export interface LookSpec {
  request: LookRequest;
  /** Its own, for the download. */
  folder: string;
  limits: TrainingConfig;
}

export type FromLook = { kind: "look"; look: Look } | { kind: "failed"; code: ErrorCode; message: string };

/** Somebody waits for the answer: a larger file is for a training job. */
const MOST = { bytes: 256 * 1024 ** 2, unpacked: 4 * 1024 ** 3, rows: 2_000_000, ms: 120_000 };

/**
 * Fetches and reads a file in a process of its own.
 *
 * @throws RequestError as `download` and `readCsv`
 * @throws FraudstreamError `busy` when it takes too long or ends without an answer
 */
export async function lookInProcess(
  request: LookRequest,
  training: TrainingConfig,
  signal: AbortSignal,
): Promise<Look> {
  const limits: TrainingConfig = {
    ...training,
    maxBytes: Math.min(training.maxBytes, MOST.bytes),
    maxUnpackedBytes: Math.min(training.maxUnpackedBytes, MOST.unpacked),
    maxRows: Math.min(training.maxRows, MOST.rows),
    deadlineMs: Math.min(training.deadlineMs, MOST.ms),
  };
  const folder = await mkdtemp(join(tmpdir(), "fraudstream-look-"));
  try {
    // A caller who left meanwhile has told it already.
    if (signal.aborted) throw new FraudstreamError("busy", "the caller did not wait for the answer");
    return await answerOf({ request, folder, limits }, signal);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function answerOf(spec: LookSpec, signal: AbortSignal): Promise<Look> {
  const child = fork(compiledModule("api/looks/look-process"), [], {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "ignore", "ipc"],
    execArgv: [],
  });
  const kill = (): void => void child.kill("SIGKILL");
  const timer = setTimeout(kill, MOST.ms);
  signal.addEventListener("abort", kill, { once: true });
  try {
    let answer: FromLook | null = null;
    child.on("message", (message: FromLook) => (answer = message));
    child.on("error", () => undefined);
    const ended = once(child, "close");
    child.send(spec, () => {});
    await ended;
    const found = answer as FromLook | null;
    if (found === null)
      throw new FraudstreamError(
        "busy",
        `the file could not be read within ${MOST.ms / 1000} s: take a part of it, or ask for a training job`,
      );
    if (found.kind === "failed") throw new RequestError(found.code, maskedText(found.message));
    return found.look;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", kill);
    kill();
  }
}
