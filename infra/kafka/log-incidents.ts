/**
 * What a reader met when its position and the log do not match:
 * - `recreated`: the topic was deleted and created again;
 * - `cut_off`: the log ends before the position (an unclean election, a lost copy, an offset set by hand);
 * - `deleted`: retention has deleted records that weren't read;
 * - `forgotten`: the group's committed offset is gone, and its position is known from other traces.
 */
type IncidentKind = "recreated" | "cut_off" | "deleted" | "forgotten";

export interface LogIncident {
  kind: IncidentKind;
  topic: string;
  partition: number;
  /** Offsets lost because of it, as far as that can be known. */
  lost: number;
  /** What happened, and what the reader does now, in one line. */
  message: string;
}

/** Passes incidents on to whoever reports them; incidents from before anybody listens are kept until then. */
export class LogIncidents {
  #listener: ((incident: LogIncident) => void) | null = null;
  #unheard: LogIncident[] = [];
  /** The last message of each kind and partition: retrying readers meet the same incident. */
  readonly #last = new Map<string, string>();

  report(incident: LogIncident): void {
    const { kind, topic, partition, message } = incident;
    const key = `${kind} ${topic} ${partition}`;
    if (this.#last.get(key) === message) return;
    this.#last.set(key, message);
    if (this.#listener === null) this.#unheard.push(incident);
    else this.#listener(incident);
  }

  listen(listener: (incident: LogIncident) => void): void {
    this.#listener = listener;
    for (const incident of this.#unheard.splice(0)) listener(incident);
  }
}
