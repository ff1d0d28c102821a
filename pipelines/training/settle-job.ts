import type { Logger } from "../../infra/logging.js";
import { loadArtifact } from "../../models/artifacts.js";
import type { ControlLog } from "../../models/control/log.js";
import type { TrainingJob } from "../../models/control/state.js";
import { deploy, registerModel } from "../../models/control/decisions.js";
import { parseJobMetrics } from "../../models/control/training-request.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { Producing } from "./producing.js";

export interface SettleDeps {
  control: ControlLog;
  producing: Producing;
  artifactsDir: string;
  log: Logger;
}

/** Who writes down what trainers decide. */
export const TRAINER = "system:train";

/**
 * Brings about what a finished job has decided: its model is registered, and deployed if it is better than the
 * champion.
 *
 * One job registers one model, however many trainers worked on it, by this order:
 * 1. the artifact is stored under its final id, by one rename; it is not known yet;
 * 2. JobFinished names it. This decides: its base is the offset of the attempt's JobClaimed, so the fold refuses it
 *    when
 *    another attempt was claimed or the job was cancelled in the meantime, and a job has one JobFinished;
 * 3. ModelRegistered and, with the epoch that the comparison was made with as its base, Deployed. Both follow from 2
 *    alone and are refused when they are there already, so any trainer may do them, any number of times: when the one
 *    that wrote JobFinished dies before, another does, or itself at its next start.
 * Not one Kafka transaction instead: that would publish the events together but not have them accepted together, since
 * the fold judges each by its own key. A trainer that dies between 1 and 2 leaves a folder that no event names.
 *
 * @returns whether there is nothing left to do; false: try again later
 */
export async function settleJob(
  { control, producing, artifactsDir, log }: SettleDeps,
  job: TrainingJob,
): Promise<boolean> {
  const metrics = parseJobMetrics(job.metrics);
  const { model } = job;
  if (job.status !== "processed" || model === null || metrics === null) return true;
  const { state } = control;
  const { comparison } = metrics;
  const wanted = (): boolean => comparison?.better === true && (state.deployment?.epoch ?? -1) === comparison.epoch;
  try {
    if (state.models.has(model) && !wanted()) return true;
    const { manifest, manifestSha256 } = await loadArtifact(artifactsDir, model, metrics.manifest_sha256);
    if (!state.models.has(model)) {
      await unlessDone(() =>
        producing.run((producer) =>
          registerModel(control, { who: TRAINER, producer }, { model, manifestSha256, job: job.id }),
        ),
      );
      log.info({ job: job.id, model }, "registered");
    }
    if (comparison === null || !wanted()) return true;
    // Shadows go on; the model itself can't be one yet.
    const shadows = state.deployment?.shadows ?? [];
    await unlessDone(() =>
      producing.run((producer) =>
        deploy(
          control,
          { who: TRAINER, producer },
          { champion: { model, ...manifest.thresholds }, shadows },
          comparison.epoch,
        ),
      ),
    );
    log.info({ job: job.id, model }, "deployed: better than the champion");
    return true;
  } catch (error) {
    if (!(error instanceof FraudstreamError)) throw error;
    log.error(
      { job: job.id, model, code: error.code },
      `a finished job's model could not be registered: ${error.message}`,
    );
    return !error.retriable;
  }
}

/** It is fine if another process did it, or decided otherwise, first. */
async function unlessDone(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof FraudstreamError) || error.code !== "conflict") throw error;
  }
}
