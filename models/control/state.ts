import type { ControlEvent, Deployed, DeployedModel, ModelRegistered } from "../../schemas/generated.js";
import { DEPLOYMENT_KEY, deadLetterKey, deploymentIn, jobKey, registrationIn, type EventBody } from "./events.js";

/**
 * The models in force, decided together. The epoch is the sequence number of its event: it grows with each deployment,
 * and stays what it is in a copy of the topic.
 */
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

type JobStatus = "pending" | "processing" | "processed" | "error" | "cancelled";

/** A training job, as far as its events tell. */
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

/** A dead letter, identified by its position. */
export interface LetterCoordinates {
  topic: string;
  partition: number;
  offset: number;
}

/** One accepted event, for audit views. */
export interface HistoryEntry {
  offset: number;
  sequence: number;
  at: number;
  who: string;
  key: string;
  event: EventBody;
}

/** One accepted event about models: a registration, or a deployment. */
export interface ModelEvent extends Pick<HistoryEntry, "sequence" | "at" | "who"> {
  registration: ModelRegistered | null;
  deployment: Deployed | null;
}

/** The last accepted event of a key. */
interface Last {
  base: number;
  sequence: number;
  nextBase: number;
}

/** A refused deployment event that no accepted one explains. */
export interface UnexplainedRefusal {
  offset: number;
  at: number;
  who: string;
}

/** If two events name the same base within this time, the second lost a race, and its author was told so. */
const RACE_MS = 10 * 60_000;

/**
 * The state of the control topic: a deterministic fold of its events, in the order of the log. Offsets are not
 * compared: in a copy of the topic (a mirror, a restore) the events have other offsets, while the bases that they name
 * are the old ones. An event is accepted when its base is greater than the base of the last accepted event of its key.
 * An author who knew that event names a base that was assigned after it; one who knew only an earlier event names a
 * base that is at most equal. In the log where the events were written this accepts exactly those whose base is the
 * offset of the last accepted event (infra/decisions/0014-order.md).
 */
export class ControlState {
  /** Every deployment so far, oldest first: a worker that can't load the newest uses the newest that it can load. */
  readonly deployments: Deployment[] = [];
  readonly models = new Map<string, RegisteredModel>();
  readonly jobs = new Map<string, TrainingJob>();
  /** Keys (`deadLetterKey`) of dead letters that were sent again, with who sent them and when. */
  readonly replayed = new Map<string, { at: number; who: string }>();
  /** Every accepted event, oldest first. */
  readonly history: HistoryEntry[] = [];
  readonly #last = new Map<string, Last>();
  /** Accepted deployment events by the base that they name. */
  readonly #decided = new Map<number, ControlEvent>();
  #unexplained: UnexplainedRefusal | null = null;

  /** The base that a new event of this key must name; -1: the key has no event yet. */
  baseOf(key: string): number {
    return this.#last.get(key)?.nextBase ?? -1;
  }

  /** The sequence number for a new event of this key. @param position offset of the next event to be read */
  nextSequence(key: string, position: number): number {
    return Math.max((this.#last.get(key)?.sequence ?? -1) + 1, position);
  }

  /** The newest deployment; null: there was never one. */
  get deployment(): Deployment | null {
    return this.deployments.at(-1) ?? null;
  }

  /** Who sent a dead letter again, and when; undefined: nobody did. */
  replayOf({ topic, partition, offset }: LetterCoordinates): { at: number; who: string } | undefined {
    return this.replayed.get(deadLetterKey(topic, partition, offset));
  }

  /** The events about a model's registration and deployments, oldest first. */
  get modelHistory(): ModelEvent[] {
    return this.history.flatMap(({ sequence, at, who, event }) => {
      const [registration, deployment] = [registrationIn(event), deploymentIn(event)];
      return registration === null && deployment === null ? [] : [{ sequence, at, who, registration, deployment }];
    });
  }

  /**
   * A refused deployment event after the newest accepted one that is neither a repeat nor the loser of a race: the log
   * lacks its beginning, or events of two logs are mixed in it. Leaving it out may put an older model in force.
   */
  get unexplainedRefusal(): UnexplainedRefusal | null {
    return this.#unexplained;
  }

  /**
   * Applies the event at an offset.
   *
   * @param sequence the number that its author gave it; null: an event of a version that gave none
   * @returns false if the event is refused because its author knew an older state
   */
  apply(event: ControlEvent, offset: number, sequence: number | null = null): boolean {
    const last = this.#last.get(event.key);
    if (last === undefined ? event.base !== -1 : event.base <= last.base) {
      if (event.key === DEPLOYMENT_KEY && !this.#isExplained(event))
        this.#unexplained = { offset, at: event.at, who: event.who };
      return false;
    }
    // An event without a number gets that of its offset, as always; in a copy, at least one that grows.
    const number = Math.max(sequence ?? Math.max(offset, event.base + 1), (last?.sequence ?? -1) + 1);
    this.#last.set(event.key, { base: event.base, sequence: number, nextBase: Math.max(offset, event.base + 1) });
    this.history.push({ offset, sequence: number, at: event.at, who: event.who, key: event.key, event: event.event });
    if (event.key === DEPLOYMENT_KEY) {
      this.#decided.set(event.base, event);
      this.#unexplained = null;
    }
    const body = event.event;
    const registration = registrationIn(body);
    const deployment = deploymentIn(body);
    if (registration !== null) {
      const { model, manifest_sha256, job } = registration;
      this.models.set(model, {
        model,
        manifestSha256: manifest_sha256,
        registeredAt: event.at,
        registeredBy: event.who,
        job,
      });
    } else if (deployment !== null) {
      const { champion, shadows } = deployment;
      this.deployments.push({ epoch: number, champion, shadows });
    } else if ("fraudstream.DeadLetterReplayed" in body) {
      this.replayed.set(event.key, { at: event.at, who: event.who });
    } else {
      this.#applyJob(event, body);
    }
    return true;
  }

  /** Whether a refused deployment lost a race, or is a repeat: a mirror may deliver an event twice. */
  #isExplained(event: ControlEvent): boolean {
    const winner = this.#decided.get(event.base);
    if (winner === undefined) return false;
    return (
      Math.abs(winner.at - event.at) <= RACE_MS ||
      (winner.who === event.who && JSON.stringify(winner.event) === JSON.stringify(event.event))
    );
  }

  #applyJob(event: ControlEvent, body: EventBody): void {
    const id = event.key.slice(jobKey("").length);
    if ("fraudstream.JobRequested" in body) {
      const { request } = body["fraudstream.JobRequested"];
      this.jobs.set(id, {
        id,
        request,
        status: "pending",
        requestedAt: event.at,
        requestedBy: event.who,
        attempt: 0,
        worker: null,
        claimedAt: null,
        finishedAt: null,
        model: null,
        code: null,
        reason: null,
        metrics: null,
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
      Object.assign(job, {
        status: code === null ? "processed" : "error",
        finishedAt: event.at,
        model,
        code,
        reason,
        metrics,
      } satisfies Partial<TrainingJob>);
    } else if ("fraudstream.JobCancelled" in body) {
      Object.assign(job, { status: "cancelled", finishedAt: event.at } satisfies Partial<TrainingJob>);
    }
  }
}
