import { setTimeout as sleep } from "node:timers/promises";
import { THRESHOLDS_NOTE } from "../../../models/evaluation/thresholds.js";
import type { JobMetrics, TrainingRequest } from "../../../models/control/training-request.js";
import { UsageError } from "../../../schemas/errors.js";
import type { FileServer } from "./file-server.js";
import { count, type Screen } from "./panel.js";
import type { Source } from "./source.js";
import type { JobView, TrainingDesk } from "./training-desk.js";

export interface FirstModelOptions {
  source: Pick<Source, "modelName" | "trainingFile">;
  desk: TrainingDesk;
  server: Pick<FileServer, "offer">;
  screen: Screen;
  signal: AbortSignal;
  /** Deploys the model even if it is too good to be true. */
  yes: boolean;
}

const LOOK_EVERY_MS = 400;

/**
 * Has a model trained on the source's file by a training job, as any user would have it, and makes it the champion.
 * Told to stop, it cancels the job first.
 *
 * @returns the deployment's epoch, and the link to the file, which stays good
 * @throws UsageError `first_training` when the job fails or is cancelled, `suspicious_model` when its model is too good
 *   to be true; the signal's reason when it aborts
 */
export async function trainFirstModel({
  source,
  desk,
  server,
  screen,
  signal,
  yes,
}: FirstModelOptions): Promise<{ epoch: number; sample: string }> {
  screen.status("  the transactions to train on are made ready");
  const { file, request } = await source.trainingFile();
  signal.throwIfAborted();
  const sample = server.offer(file);
  // What is streamed later is the test.
  const whole: TrainingRequest = {
    dataset: sample,
    algorithm: "gradient-boosted-trees",
    name: source.modelName,
    test: null,
    ...request,
  };
  const id = await desk.request(whole);
  screen.line(`training job ${id} is asked for`);
  const { model, metrics } = await finished(id, desk, screen, signal);
  const { warnings = [] } = metrics;
  for (const warning of warnings) screen.line(warning);
  if (warnings.length > 0 && !yes)
    throw new UsageError(
      "suspicious_model",
      `Model ${model} is not deployed: its metrics are too good to be true (see the warnings above). Leave out what ` +
        "tells the label with --drop NAME, or say --yes to deploy it all the same",
    );
  const epoch = await desk.enable(model, metrics);
  for (const line of resultLines(model, epoch, metrics)) screen.line(line);
  return { epoch, sample };
}

/** Watches a job to its end. */
async function finished(
  id: string,
  desk: TrainingDesk,
  screen: Screen,
  signal: AbortSignal,
): Promise<{ model: string; metrics: JobMetrics }> {
  try {
    for (let shown = -1; ; await sleep(LOOK_EVERY_MS, undefined, { signal })) {
      const { status, progress, model, metrics, error } = await desk.look(id);
      if (status === "processed" && model !== null && metrics !== null) return { model, metrics };
      if (status === "error")
        throw new UsageError(
          "first_training",
          `The first training failed (${error?.code ?? "unknown"}): ${error?.reason ?? "no reason was given"}`,
        );
      if (status === "cancelled")
        throw new UsageError("first_training", `The first training was cancelled (job ${id}).`);
      shown = show(progress, shown, screen);
    }
  } catch (error) {
    if (signal.aborted) await desk.cancel(id).catch(() => undefined);
    throw error;
  }
}

const BAR = 30;
/** Into a pipe, a line whenever so much more is done. */
const STEP = 20;

/**
 * One bar that never goes back, though phases of the training repeat; into a pipe a line now and then. @returns the
 * percentage shown last
 */
function show(progress: JobView["progress"], before: number, screen: Screen): number {
  const percent = Math.max(before, Math.floor(progress?.percent ?? 0));
  if (screen.isTerminal) {
    const done = Math.round((percent / 100) * BAR);
    screen.status(`  training  [${"#".repeat(done)}${"-".repeat(BAR - done)}] ${percent} %`);
    return percent;
  }
  if (before >= 0 && percent < before + STEP) return before;
  screen.line(`  training, ${percent} %`);
  return percent;
}

function resultLines(
  model: string,
  epoch: number,
  { rows, frauds, features, training_seconds, validation, thresholds: { review, decline }, notes }: JobMetrics,
): string[] {
  return [
    `trained on ${count(rows)} transactions with ${count(frauds)} frauds`,
    `model ${model} is deployed (epoch ${epoch}): ${features} features, trained in ${training_seconds.toFixed(1)} s, ` +
      (`validation ROC AUC ${validation?.roc_auc?.toFixed(3) ?? "-"}, average precision ` +
        `${validation?.average_precision?.toFixed(3) ?? "-"}`),
    `  reviews from ${review.toFixed(4)}, ${decline > 1 ? "declines nothing" : `declines from ${decline.toFixed(4)}`}`,
    ...notes.filter((note) => note.startsWith(THRESHOLDS_NOTE)).map((note) => `  ${note}`),
  ];
}
