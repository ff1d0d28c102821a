import { setTimeout as sleep } from "node:timers/promises";
import { THRESHOLDS_NOTE } from "../../models/evaluation/thresholds.js";
import type { JobMetrics, TrainingRequest } from "../../models/registry/training-request.js";
import { UsageError } from "../../schemas/errors.js";
import type { FileServer } from "./file-server.js";
import { count, type Screen } from "./panel.js";
import type { Source } from "./source.js";
import type { JobView, TrainingDesk } from "./training-desk.js";

export interface FirstModelOptions {
  source: Pick<Source, "modelName" | "trainingFile">;
  desk: TrainingDesk;
  server: FileServer;
  screen: Screen;
  signal: AbortSignal;
}

const LOOK_EVERY_MS = 400;

/**
 * Has a model trained on the source's file by a training job, as any user would have it, and makes it the champion. Told
 * to stop, it cancels the job first.
 *
 * @returns the deployment's epoch
 * @throws UsageError `first_training` when the job fails or somebody cancels it; the signal's reason when it aborts
 */
export async function trainFirstModel({ source, desk, server, screen, signal }: FirstModelOptions): Promise<number> {
  screen.status("  the transactions to train on are made ready");
  const { file, request } = await source.trainingFile();
  signal.throwIfAborted();
  try {
    // What is streamed later is the test.
    const whole: TrainingRequest = { dataset: server.offer(file), algorithm: "gradient-boosted-trees", name: source.modelName, test: null, ...request };
    const id = await desk.request(whole);
    screen.line(`training job ${id} is asked for`);
    const { model, metrics } = await finished(id, desk, screen, signal);
    const epoch = await desk.enable(model, metrics);
    for (const line of resultLines(model, epoch, metrics)) screen.line(line);
    return epoch;
  } finally {
    server.withdraw();
  }
}

/** Watches a job to its end. */
async function finished(id: string, desk: TrainingDesk, screen: Screen, signal: AbortSignal): Promise<{ model: string; metrics: JobMetrics }> {
  try {
    for (let phase = ""; ; await sleep(LOOK_EVERY_MS, undefined, { signal })) {
      const { status, progress, model, metrics, error } = await desk.look(id);
      if (status === "processed" && model !== null && metrics !== null) return { model, metrics };
      if (status === "error") throw new UsageError("first_training", `The first training failed (${error?.code ?? "unknown"}): ${error?.reason ?? "no reason was given"}`);
      if (status === "cancelled") throw new UsageError("first_training", `The first training was cancelled (job ${id}).`);
      phase = show(progress, phase, screen);
    }
  } catch (error) {
    if (signal.aborted) await desk.cancel(id).catch(() => undefined);
    throw error;
  }
}

/** On a terminal how far the job is; into a pipe each phase as it begins. @returns the phase */
function show(progress: JobView["progress"], before: string, screen: Screen): string {
  const { phase, percent } = progress ?? { phase: "waiting for the trainer", percent: 0 };
  const text = `  ${phase}, ${percent.toFixed(0)} %`;
  if (screen.isTerminal) screen.status(text);
  else if (phase !== before) screen.line(text);
  return phase;
}

function resultLines(model: string, epoch: number, { rows, frauds, features, training_seconds, validation, thresholds: { review, decline }, notes }: JobMetrics): string[] {
  return [
    `trained on ${count(rows)} transactions with ${count(frauds)} frauds`,
    `model ${model} is deployed (epoch ${epoch}): ${features} features, trained in ${training_seconds.toFixed(1)} s, ` +
      `validation ROC AUC ${validation?.roc_auc?.toFixed(3) ?? "-"}, average precision ${validation?.average_precision?.toFixed(3) ?? "-"}`,
    `  reviews from ${review.toFixed(4)}, ${decline > 1 ? "declines nothing" : `declines from ${decline.toFixed(4)}`}`,
    ...notes.filter((note) => note.startsWith(THRESHOLDS_NOTE)).map((note) => `  ${note}`),
  ];
}
