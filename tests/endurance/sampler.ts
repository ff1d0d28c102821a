import { readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Role } from "../../infra/roles.js";
import type { Answer } from "./client.js";
import type { PacedLoad } from "./load.js";
import { quantileOf, tallyOf } from "./slopes.js";
import type { SystemUnderLoad } from "./system.js";

/** One look at the whole system. */
export interface Sample {
  /** Since the sampler's start. */
  seconds: number;
  phase: string;
  /** Resident memory, MB, and open file descriptors, by role. */
  residentMb: Partial<Record<Role, number>>;
  handles: Partial<Record<Role, number>>;
  /** Status of `/health/ready`, by role; 0: no answer. */
  ready: Partial<Record<Role, number>>;
  /** As the API's `/metrics` tells it; null: it doesn't. */
  scoringLag: number | null;
  sinkLag: number | null;
  published: number;
  /** What should be in Kafka and isn't yet. */
  waiting: number;
}

/** One request to the API, as an operator's or a payment system's would be. */
export interface Probe {
  seconds: number;
  phase: string;
  what: "predict" | "look up";
  answer: Pick<Answer, "status" | "ms"> & { retryAfter: boolean };
}

/** What came back for probes, and how long it took. */
export function answersOf(probes: readonly Probe[]): {
  statuses: Record<string, number>;
  p50_ms: number | null;
  p99_ms: number | null;
  max_ms: number | null;
} {
  const took = probes.map(({ answer }) => answer.ms);
  return {
    statuses: tallyOf(
      probes.map(
        ({ answer: { status, retryAfter } }) =>
          `${status}${status === 503 && !retryAfter ? " without Retry-After" : ""}`,
      ),
    ),
    p50_ms: quantileOf(took, 0.5),
    p99_ms: quantileOf(took, 0.99),
    max_ms: quantileOf(took, 1),
  };
}

/** Looks at the system at a steady pace, and asks the API for predictions meanwhile. */
export class Sampler {
  readonly samples: Sample[] = [];
  readonly probes: Probe[] = [];
  /** Ids that the API was asked to have scored, and that it has taken or may have taken. */
  readonly asked: { id: string; taken: boolean }[] = [];
  phase = "start";
  /** Whether the API is asked for predictions. */
  asking = true;
  readonly #under: SystemUnderLoad;
  readonly #load: PacedLoad;
  readonly #started = performance.now();
  readonly #loops: Promise<void>[] = [];
  readonly #probing = new Set<Promise<void>>();
  #stopped = false;

  /**
   * @param probesPerSecond predictions asked for; each is on its own, whether the one before has been answered or not
   */
  constructor(
    under: SystemUnderLoad,
    load: PacedLoad,
    { everyMs, probesPerSecond }: { everyMs: number; probesPerSecond: number },
  ) {
    this.#under = under;
    this.#load = load;
    this.#loops.push(this.#every(everyMs, () => this.#sample()));
    this.#loops.push(
      this.#every(1_000 / probesPerSecond, () => {
        if (!this.asking) return;
        const probe = this.#predict().finally(() => this.#probing.delete(probe));
        this.#probing.add(probe);
      }),
    );
    this.#loops.push(this.#every(1_000, () => this.#lookUp()));
  }

  get seconds(): number {
    return (performance.now() - this.#started) / 1_000;
  }

  get last(): Sample | undefined {
    return this.samples.at(-1);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#loops, ...this.#probing]);
  }

  async #every(ms: number, work: () => Promise<void> | void): Promise<void> {
    for (let next = performance.now(); !this.#stopped;) {
      await work();
      next = Math.max(next + ms, performance.now());
      await sleep(next - performance.now());
    }
  }

  async #sample(): Promise<void> {
    const { roles, client } = this.#under;
    const sample: Sample = {
      seconds: this.seconds,
      phase: this.phase,
      residentMb: {},
      handles: {},
      ready: {},
      scoringLag: null,
      sinkLag: null,
      published: this.#load.acknowledged,
      waiting: this.#load.waiting,
    };
    await Promise.all(
      roles.map(async ({ name, process, port }) => {
        try {
          sample.residentMb[name] = process.residentMb();
          sample.handles[name] = readdirSync(`/proc/${process.child.pid}/fd`).length;
        } catch {
          // It has ended: the verdict says so.
        }
        sample.ready[name] = (await client.ask(port, "GET", "/health/ready", { timeoutMs: 5_000 })).status;
      }),
    );
    const metrics = await this.#under.metrics("api");
    if (metrics !== null) {
      sample.scoringLag = sumOf(metrics, "fraudstream_scoring_lag");
      sample.sinkLag = sumOf(metrics, "fraudstream_sink_lag");
    }
    this.samples.push(sample);
  }

  async #predict(): Promise<void> {
    const { seconds, phase } = this;
    const id = `p${this.asked.length}`;
    const asked = { id, taken: false };
    this.asked.push(asked);
    const body = {
      transaction_id: id,
      event_time: Date.now(),
      card_id: `probe-${this.asked.length % 50}`,
      merchant_id: "merchant-0",
      amount: 12.5,
      currency: "EUR",
    };
    const { status, ms, headers } = await this.#under.client.ask(this.#under.apiPort, "POST", "/api/v1/predictions", {
      body,
      timeoutMs: 15_000,
    });
    asked.taken = status === 200 || status === 202;
    this.probes.push({
      seconds,
      phase,
      what: "predict",
      answer: { status, ms, retryAfter: headers["retry-after"] !== undefined },
    });
  }

  async #lookUp(): Promise<void> {
    const { seconds, phase } = this;
    const { status, ms, headers } = await this.#under.client.ask(this.#under.apiPort, "GET", "/api/v1/predictions/p0", {
      timeoutMs: 40_000,
    });
    this.probes.push({
      seconds,
      phase,
      what: "look up",
      answer: { status, ms, retryAfter: headers["retry-after"] !== undefined },
    });
  }
}

/** The sum over a metric's labels; null: it isn't there. */
export function sumOf(metrics: Map<string, number>, name: string): number | null {
  const found = [...metrics].filter(([key]) => key === name || key.startsWith(`${name}{`));
  return found.length === 0 ? null : found.reduce((sum, [, value]) => sum + value, 0);
}
