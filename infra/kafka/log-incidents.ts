/**
 * What a reader met where its position and the log don't fit together:
 * - `recreated`: the topic was deleted and created again;
 * - `cut_off`: the log ends before the position (an unclean election, a lost copy, an offset set by hand);
 * - `deleted`: retention has deleted records that weren't read;
 * - `forgotten`: the group's committed offset is gone, and another trace tells where it stood.
 */
type IncidentKind = "recreated" | "cut_off" | "deleted" | "forgotten";

export interface LogIncident {
  kind: IncidentKind;
  topic: string;
  partition: number;
  /** Offsets that were lost by it, as far as that can be known. */
  lost: number;
  /** What happened, and what the reader does now, in one line. */
  message: string;
}

/** Hands incidents on to whoever reports them; those from before somebody listens are kept for them. */
export class LogIncidents {
  #listener: ((incident: LogIncident) => void) | null = null;
  #unheard: LogIncident[] = [];
  /** The last message of each kind and partition: whoever tries again meets the same. */
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
