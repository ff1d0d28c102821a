import { gauge, type Registry } from "../metrics/registry.js";
import type { Logger } from "../logging.js";

/** Something that keeps a role from doing all of its work and may pass: reported for as long as it lasts. */
export interface Condition {
  /** Stable, in snake_case: a label of the gauge, and what alerts and documentation refer to. */
  code: string;
  /** What happened, the detail, and what to do, in one line. It never holds record values, card numbers or secrets. */
  message: string;
  /** Whether the role can't do its work meanwhile: `/health/ready` then answers 503. */
  blocking: boolean;
  /** Epoch milliseconds. */
  since: number;
}

/**
 * The conditions of one role that hold now. A condition is identified by its code and a subject (a partition, a model):
 * raising it again updates its message and logs nothing. Each is logged once when it is raised and once when it is
 * cleared, counted in `fraudstream_condition{code,blocking}`, and named by `/health/ready`.
 */
export class Conditions {
  readonly #log: Logger;
  readonly #active = new Map<string, Condition>();

  constructor(log: Logger, registry?: Registry) {
    this.#log = log;
    if (registry === undefined) return;
    gauge(registry, {
      name: "fraudstream_condition",
      help: "Conditions that hold now, by code: what keeps this role from doing all of its work.",
      labelNames: ["code", "blocking"],
      read: () => this.#samples(),
    });
  }

  /** @param subject distinguishes conditions with the same code, such as `fraud.transactions[3]` */
  raise(code: string, subject: string, message: string, { blocking }: { blocking: boolean }): void {
    const id = `${code} ${subject}`;
    const known = this.#active.get(id);
    if (known?.blocking === blocking) {
      known.message = message;
      return;
    }
    this.#active.set(id, { code, message, blocking, since: known?.since ?? Date.now() });
    this.#log.warn({ code, blocking }, message);
  }

  clear(code: string, subject: string): void {
    const id = `${code} ${subject}`;
    const known = this.#active.get(id);
    if (known === undefined) return;
    this.#active.delete(id);
    this.#log.info({ code, lastedMs: Date.now() - known.since }, `over: ${known.message}`);
  }

  /** Raises the condition when `holds`, clears it otherwise: for conditions that are checked again and again. */
  set(holds: boolean, code: string, subject: string, message: () => string, options: { blocking: boolean }): void {
    if (holds) this.raise(code, subject, message(), options);
    else this.clear(code, subject);
  }

  /** Those that hold now, oldest first. */
  list(): readonly Condition[] {
    return [...this.#active.values()].sort((a, b) => a.since - b.since);
  }

  /** Whether one of them keeps the role from its work. */
  get blocking(): boolean {
    return [...this.#active.values()].some((condition) => condition.blocking);
  }

  #samples(): { labels: Record<string, string>; value: number }[] {
    const counts = new Map<string, { labels: Record<string, string>; value: number }>();
    for (const { code, blocking } of this.#active.values()) {
      const labels = { code, blocking: String(blocking) };
      const sample = counts.get(`${code} ${blocking}`) ?? { labels, value: 0 };
      sample.value += 1;
      counts.set(`${code} ${blocking}`, sample);
    }
    return [...counts.values()];
  }
}
