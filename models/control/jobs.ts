import { randomUUID } from "node:crypto";
import type { ErrorCode } from "../../schemas/error-codes.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { Author } from "./decisions.js";
import { jobCancelled, jobClaimed, jobFailed, jobKey, jobProcessed, jobRequested } from "./events.js";
import type { ControlLog } from "./log.js";
import type { ControlState, TrainingJob } from "./state.js";
import { checkTrainingRequest, type JobMetrics, type TrainingRequest } from "./training-request.js";

/**
 * Requests a training job; any trainer may take it.
 *
 * @returns its id
 * @throws RequestError as `checkTrainingRequest`
 */
export async function requestJob(
  control: ControlLog,
  { who, producer }: Author,
  request: TrainingRequest,
): Promise<string> {
  checkTrainingRequest(request);
  const id = randomUUID();
  await control.append(producer, { ...jobRequested(id, JSON.stringify(request)), who, base: -1 });
  return id;
}

/** How long after a job's end its model may take to be registered. */
const REGISTERED_WITHIN_MS = 30_000;

/** A job's status as the API shows it: a job whose model is not registered yet is still processing. */
export function toldStatus(
  { models }: Pick<ControlState, "models">,
  { status, model, finishedAt }: TrainingJob,
): TrainingJob["status"] {
  const settling =
    status === "processed" &&
    model !== null &&
    !models.has(model) &&
    Date.now() - (finishedAt ?? 0) < REGISTERED_WITHIN_MS;
  return settling ? "processing" : status;
}

/** How many times a job may be claimed again while a request tries to cancel it. */
const CANCEL_TRIES = 5;

/**
 * Cancels a job, whichever trainer has it by now.
 *
 * @throws FraudstreamError `unknown_job`; `conflict` if it has already ended
 */
export async function cancelJob(control: ControlLog, { who, producer }: Author, id: string): Promise<TrainingJob> {
  for (let tries = 1; ; tries++) {
    await control.readToEnd();
    const job = control.state.jobs.get(id);
    if (job === undefined) throw new FraudstreamError("unknown_job", `there is no training job ${id}`);
    if (job.status !== "pending" && job.status !== "processing")
      throw new FraudstreamError("conflict", `training job ${id} has ended already: ${job.status}`);
    try {
      await control.append(producer, { ...jobCancelled(id), who });
      return job;
    } catch (error) {
      const again = error instanceof FraudstreamError && error.code === "conflict" && tries < CANCEL_TRIES;
      if (!again) throw error;
    }
  }
}

/** An attempt at a job; `base` is what its author knows: once it is claimed, the offset of its JobClaimed. */
export interface Attempt {
  job: TrainingJob;
  attempt: number;
  base: number;
}

/** The outcome of an attempt: a model, or an error. */
export type JobOutcome = { model: string; metrics: JobMetrics } | { code: ErrorCode; reason: string };

const LONGEST_REASON = 2_000;

/** The last claimed attempt at the job, as the fold has it now. */
export function lastAttempt({ state }: ControlLog, job: TrainingJob): Attempt {
  return { job, attempt: job.attempt, base: state.baseOf(jobKey(job.id)) };
}

/**
 * Claims the attempt that follows the last one.
 *
 * @param last as the trainer knew it when it decided
 * @throws FraudstreamError `conflict` if another trainer was faster, or the job has ended
 */
export async function claimJob(
  control: ControlLog,
  { who, producer }: Author,
  { job, attempt, base }: Attempt,
  worker: string,
): Promise<Attempt> {
  const next = attempt + 1;
  return {
    job,
    attempt: next,
    base: await control.append(producer, { ...jobClaimed(job.id, next, worker), who, base }),
  };
}

/**
 * Ends a job with the outcome of an attempt.
 *
 * @throws FraudstreamError `conflict` if another attempt was claimed, or the job has ended
 */
export async function finishJob(
  control: ControlLog,
  { who, producer }: Author,
  { job, attempt, base }: Attempt,
  outcome: JobOutcome,
): Promise<void> {
  const finished =
    "model" in outcome
      ? jobProcessed(job.id, attempt, { model: outcome.model, metrics: JSON.stringify(outcome.metrics) })
      : jobFailed(job.id, attempt, { code: outcome.code, reason: outcome.reason.slice(0, LONGEST_REASON) });
  await control.append(producer, { ...finished, who, base });
}

/** Whether there has been no event about the job since. */
export function isNewest({ state }: ControlLog, { job, base }: Attempt): boolean {
  return state.baseOf(jobKey(job.id)) === base;
}

/** Whether the job has ended with this outcome of the attempt. */
export function hasFinished({ state }: ControlLog, { job: { id }, attempt }: Attempt, outcome: JobOutcome): boolean {
  const job = state.jobs.get(id);
  if (job === undefined || (job.status !== "processed" && job.status !== "error")) return false;
  const [model, code] = "model" in outcome ? [outcome.model, null] : [null, outcome.code];
  return job.attempt === attempt && job.model === model && job.code === code;
}
