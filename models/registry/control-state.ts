import type { ControlEvent, DeployedModel } from "../../schemas/generated.js";

/** The models in force, decided together; its epoch is the offset of its event in fraud.control. */
export interface Deployment {
  epoch: number;
  champion: DeployedModel | null;
  shadows: DeployedModel[];
}

export interface RegisteredModel {
  /** name@version */
  model: string;
  manifestSha256: string;
  registeredAt: number;
  registeredBy: string;
  job: string | null;
}

export type JobStatus = "pending" | "processing" | "processed" | "error" | "cancelled";

/** A training job, as far as its events have told. */
export interface TrainingJob {
  id: string;
  status: JobStatus;
  /** JSON, as it was requested. */
  request: string;
  requestedAt: number;
  requestedBy: string;
  /** The attempt that was claimed last; 0: none yet. */
  attempt: number;
  /** The worker of that attempt. */
  worker: string | null;
  claimedAt: number | null;
  finishedAt: number | null;
  model: string | null;
  /** Of the error, when it failed. */
  code: string | null;
  reason: string | null;
  /** JSON */
  metrics: string | null;
}

/** One accepted event, for histories. */
export interface HistoryEntry { offset: number; at: number; who: string; key: string; event: EventBody }

/** The name under which an event of each kind travels. */
export type EventBody = ControlEvent["event"];

export const DEPLOYMENT_KEY = "deployment";
export const modelKey = (model: string): string => `model:${model}`;
export const jobKey = (id: string): string => `job:${id}`;
export const deadLetterKey = (topic: string, partition: number, offset: number): string => `dead-letter:${topic}/${partition}/${offset}`;

/** What the control topic says: a deterministic fold of its events, in their order. */
export class ControlState {
  /** Every deployment so far, oldest first: a worker that can't load the newest takes the newest that it can. */
  readonly deployments: Deployment[] = [];
  readonly models = new Map<string, RegisteredModel>();
  readonly jobs = new Map<string, TrainingJob>();
  /** Keys (`deadLetterKey`) of dead letters that were sent again, with who and when. */
  readonly replayed = new Map<string, { at: number; who: string }>();
  /** Every accepted event, oldest first. */
  readonly history: HistoryEntry[] = [];
  /** Offset of the last accepted event of each key. */
  readonly #last = new Map<string, number>();

  /** The offset that a new event of this key must name as its base; -1: the key has no event yet. */
  baseOf(key: string): number {
    return this.#last.get(key) ?? -1;
  }

  /** The newest deployment; null: nothing was ever deployed. */
  get deployment(): Deployment | null {
    return this.deployments.at(-1) ?? null;
  }

  /**
   * Applies the event at an offset.
   *
   * @returns false when the event is refused, since its author knew an older state
   */
  apply(event: ControlEvent, offset: number): boolean {
    if (event.base !== this.baseOf(event.key)) return false;
    this.#last.set(event.key, offset);
    this.history.push({ offset, at: event.at, who: event.who, key: event.key, event: event.event });
    const body = event.event;
    if ("fraudstream.ModelRegistered" in body) {
      const { model, manifest_sha256, job } = body["fraudstream.ModelRegistered"];
      this.models.set(model, { model, manifestSha256: manifest_sha256, registeredAt: event.at, registeredBy: event.who, job });
    } else if ("fraudstream.Deployed" in body) {
      const { champion, shadows } = body["fraudstream.Deployed"];
      this.deployments.push({ epoch: offset, champion, shadows });
    } else if ("fraudstream.DeadLetterReplayed" in body) {
      this.replayed.set(event.key, { at: event.at, who: event.who });
    } else {
      this.#applyJob(event, body);
    }
    return true;
  }

  #applyJob(event: ControlEvent, body: EventBody): void {
    const id = event.key.slice(jobKey("").length);
    if ("fraudstream.JobRequested" in body) {
      const { request } = body["fraudstream.JobRequested"];
      this.jobs.set(id, {
        id, request, status: "pending", requestedAt: event.at, requestedBy: event.who, attempt: 0, worker: null,
        claimedAt: null, finishedAt: null, model: null, code: null, reason: null, metrics: null,
      });
      return;
    }
    const job = this.jobs.get(id);
    if (job === undefined) return;
    if ("fraudstream.JobClaimed" in body) {
      const { attempt, worker } = body["fraudstream.JobClaimed"];
      Object.assign(job, { status: "processing", attempt, worker, claimedAt: event.at } satisfies Partial<TrainingJob>);
    } else if ("fraudstream.JobFinished" in body) {
      const { model, code, reason, metrics } = body["fraudstream.JobFinished"];
      Object.assign(job, { status: code === null ? "processed" : "error", finishedAt: event.at, model, code, reason, metrics } satisfies Partial<TrainingJob>);
    } else if ("fraudstream.JobCancelled" in body) {
      Object.assign(job, { status: "cancelled", finishedAt: event.at } satisfies Partial<TrainingJob>);
    }
  }
}
