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

/** The name under which an event of each kind travels. */
export type EventBody = ControlEvent["event"];

export const DEPLOYMENT_KEY = "deployment";
export const modelKey = (model: string): string => `model:${model}`;

/** What the control topic says: a deterministic fold of its events, in their order. */
export class ControlState {
  /** Every deployment so far, oldest first: a worker that can't load the newest takes the newest that it can. */
  readonly deployments: Deployment[] = [];
  readonly models = new Map<string, RegisteredModel>();
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
    const body = event.event;
    if ("fraudstream.ModelRegistered" in body) {
      const { model, manifest_sha256, job } = body["fraudstream.ModelRegistered"];
      this.models.set(model, { model, manifestSha256: manifest_sha256, registeredAt: event.at, registeredBy: event.who, job });
    } else if ("fraudstream.Deployed" in body) {
      const { champion, shadows } = body["fraudstream.Deployed"];
      this.deployments.push({ epoch: offset, champion, shadows });
    }
    return true;
  }
}
