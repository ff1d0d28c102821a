import type {
  ControlEvent,
  DeadLetterReplayed,
  Deployed,
  DeployedModel,
  ModelRegistered,
} from "../../schemas/generated.js";

/** The name that each kind of event has in the log, and its content. */
export type EventBody = ControlEvent["event"];

/** An event about one entity, before it has been published. */
export interface EntityEvent {
  key: string;
  event: EventBody;
}

export const DEPLOYMENT_KEY = "deployment";
export const modelKey = (model: string): string => `model:${model}`;
export const jobKey = (id: string): string => `job:${id}`;
export const deadLetterKey = (topic: string, partition: number, offset: number): string =>
  `dead-letter:${topic}/${partition}/${offset}`;

export function modelRegistered(model: string, manifestSha256: string, job: string | null): EntityEvent {
  return {
    key: modelKey(model),
    event: { "fraudstream.ModelRegistered": { model, manifest_sha256: manifestSha256, job } },
  };
}

export function deployed(champion: DeployedModel | null, shadows: DeployedModel[]): EntityEvent {
  return { key: DEPLOYMENT_KEY, event: { "fraudstream.Deployed": { champion, shadows } } };
}

/** @param request JSON */
export function jobRequested(id: string, request: string): EntityEvent {
  return { key: jobKey(id), event: { "fraudstream.JobRequested": { request } } };
}

export function jobClaimed(id: string, attempt: number, worker: string): EntityEvent {
  return { key: jobKey(id), event: { "fraudstream.JobClaimed": { attempt, worker } } };
}

/** @param metrics JSON */
export function jobProcessed(
  id: string,
  attempt: number,
  { model, metrics }: { model: string; metrics: string },
): EntityEvent {
  return {
    key: jobKey(id),
    event: { "fraudstream.JobFinished": { attempt, model, code: null, reason: null, metrics } },
  };
}

export function jobFailed(
  id: string,
  attempt: number,
  { code, reason }: { code: string; reason: string },
): EntityEvent {
  return {
    key: jobKey(id),
    event: { "fraudstream.JobFinished": { attempt, model: null, code, reason, metrics: null } },
  };
}

export function jobCancelled(id: string): EntityEvent {
  return { key: jobKey(id), event: { "fraudstream.JobCancelled": {} } };
}

export function deadLetterReplayed({ topic, partition, offset }: DeadLetterReplayed): EntityEvent {
  return {
    key: deadLetterKey(topic, partition, offset),
    event: { "fraudstream.DeadLetterReplayed": { topic, partition, offset } },
  };
}

/** The registration in an event; null: the event is about something else. */
export function registrationIn(event: EventBody): ModelRegistered | null {
  return "fraudstream.ModelRegistered" in event ? event["fraudstream.ModelRegistered"] : null;
}

/** The deployment in an event; null: the event is about something else. */
export function deploymentIn(event: EventBody): Deployed | null {
  return "fraudstream.Deployed" in event ? event["fraudstream.Deployed"] : null;
}
