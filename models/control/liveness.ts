import { anySignal } from "../../infra/async/abort-signals.js";
import type { RefusedDeployment, WorkerHeartbeat } from "../../schemas/generated.js";

/** Knows which workers are alive: `WorkerBoard`, or a part of it. */
export interface Heartbeats {
  alive(role: string, maxAgeMs?: number): WorkerHeartbeat[];
  changed(signal?: AbortSignal): Promise<void>;
}

/** A deployment that a worker doesn't score with. */
export interface Refusal extends RefusedDeployment {
  worker: string;
}

export interface Liveness {
  live: boolean;
  /** Input partitions that no scoring worker has reported at the epoch or a later one. */
  missing: number[];
  /** The workers that don't score with this deployment, and why: they score with an earlier one, or not at all. */
  refused: Refusal[];
  /** Problems that the scoring workers report. */
  problems: { worker: string; problem: string }[];
}

/** Every deployment that a scoring worker currently refuses. */
export function refusalsOf(board: Heartbeats): Refusal[] {
  return board.alive("scoring").flatMap(({ worker, refused }) => refused.map((each) => ({ worker, ...each })));
}

/**
 * Whether a deployment is live now: every input partition is reported by a scoring worker at its epoch or a later one
 * (ARCHITECTURE.md#guarantee-7). A report comes after its tenure's fence, so no other worker can write for that
 * partition.
 */
export function livenessOf(board: Heartbeats, epoch: number, partitions: number): Liveness {
  const beats = board.alive("scoring");
  const reported = new Set(
    beats.flatMap((beat) => beat.partitions.filter((owned) => owned.epoch >= epoch).map(({ partition }) => partition)),
  );
  const missing = Array.from({ length: partitions }, (_, partition) => partition).filter(
    (partition) => !reported.has(partition),
  );
  return {
    live: missing.length === 0,
    missing,
    refused: refusalsOf(board).filter((refusal) => refusal.epoch === epoch),
    problems: beats.flatMap(({ worker, problems }) => problems.map((problem) => ({ worker, problem }))),
  };
}

/** Whether waiting is pointless: every worker that has partitions, or could have, refuses the deployment. */
function isRefused(board: Heartbeats, { refused }: Liveness): boolean {
  const workers = board.alive("scoring").map(({ worker }) => worker);
  return workers.length > 0 && workers.every((worker) => refused.some((refusal) => refusal.worker === worker));
}

/**
 * Waits until a deployment is live, every worker refuses it, the time is up, or the signal aborts.
 *
 * @returns its state then
 */
export async function waitUntilLive(
  board: Heartbeats,
  epoch: number,
  options: { partitions: number; timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<Liveness> {
  const { partitions, timeoutMs, signal } = options;
  const timeUp = new AbortController();
  const timer = setTimeout(() => timeUp.abort(), timeoutMs);
  const over = signal === undefined ? timeUp.signal : anySignal(timeUp.signal, signal);
  try {
    for (;;) {
      const liveness = livenessOf(board, epoch, partitions);
      if (liveness.live || over.aborted || isRefused(board, liveness)) return liveness;
      await board.changed(over);
    }
  } finally {
    clearTimeout(timer);
  }
}
