import type { KafkaCluster } from "../../../infra/kafka/cluster.js";
import { BatchProducer } from "../../../infra/kafka/batch-producer.js";
import type { ControlLog } from "../../../models/control/log.js";
import type { TrainingJob } from "../../../models/control/state.js";
import { deploy } from "../../../models/control/decisions.js";
import { cancelJob, requestJob, toldStatus } from "../../../models/control/jobs.js";
import { parseJobMetrics, type JobMetrics, type TrainingRequest } from "../../../models/control/training-request.js";
import type { WorkerBoard } from "../../../models/control/workers.js";
import { UsageError } from "../../../schemas/errors.js";
import { withTimeLimit } from "../../../infra/async/abort-signals.js";

/** The state of a job; `progress` while a trainer reports it. */
export interface JobView {
  status: TrainingJob["status"];
  progress: { phase: string; percent: number } | null;
  model: string | null;
  metrics: JobMetrics | null;
  error: { code: string; reason: string } | null;
}

/** Where a training job is asked for, and its model put in force. */
export interface TrainingDesk {
  /** @returns the job's id */
  request(request: TrainingRequest): Promise<string>;
  look(id: string): Promise<JobView>;
  cancel(id: string): Promise<void>;
  /** Makes a job's model the champion. @returns the deployment's epoch */
  enable(model: string, metrics: JobMetrics): Promise<number>;
}

export interface Credentials {
  username: string;
  password: string;
}

const ANSWER_WITHIN_MS = 60_000;
const NEVER = new AbortController().signal;

/**
 * The API's routes, as any user would call them. Its calls throw UsageError `api_refused` with what the API answered.
 */
export class ApiDesk implements TrainingDesk {
  readonly #url: string;
  readonly #credentials: Credentials;
  readonly #signal: AbortSignal;
  #token = "";

  private constructor(url: string, credentials: Credentials, signal: AbortSignal) {
    this.#url = url;
    this.#credentials = credentials;
    this.#signal = signal;
  }

  /**
   * @param signal ends the waiting for an answer, but to no call that asks for a job or cancels one
   * @throws UsageError `api_refused` when the API doesn't let these credentials in
   */
  static async signIn(url: string, credentials: Credentials, signal: AbortSignal): Promise<ApiDesk> {
    const desk = new ApiDesk(url, credentials, signal);
    await desk.#signIn();
    return desk;
  }

  async request(request: TrainingRequest): Promise<string> {
    return (await this.#call<{ id: string }>("POST", "/training-jobs", request, NEVER)).id;
  }

  look(id: string): Promise<JobView> {
    return this.#call<JobView>("GET", `/training-jobs/${id}`);
  }

  async cancel(id: string): Promise<void> {
    await this.#call("DELETE", `/training-jobs/${id}`, undefined, NEVER);
  }

  async enable(model: string): Promise<number> {
    return (
      await this.#call<{ epoch: number }>("PUT", `/models/${encodeURIComponent(model)}/enabled`, {
        enabled: true,
        role: "champion",
      })
    ).epoch;
  }

  async #signIn(): Promise<void> {
    this.#token = "";
    this.#token = (await this.#call<{ access_token: string }>("POST", "/tokens", this.#credentials)).access_token;
  }

  async #call<T>(method: string, path: string, body?: object, signal = this.#signal): Promise<T> {
    const ask = (): Promise<Response> =>
      fetch(`${this.#url}/api/v1${path}`, {
        method,
        headers: {
          ...(this.#token === "" ? {} : { authorization: `Bearer ${this.#token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: withTimeLimit(signal, ANSWER_WITHIN_MS),
      });
    let response = await ask();
    if (response.status === 401 && this.#token !== "") {
      // A long job outlives a token.
      await response.body?.cancel();
      await this.#signIn();
      response = await ask();
    }
    if (response.ok) return (await response.json()) as T;
    const { detail = `status ${response.status}` } = (await response.json().catch(() => ({}))) as { detail?: string };
    throw new UsageError("api_refused", `the API answered ${method} ${path}: ${detail}`);
  }
}

/** How old a heartbeat may be that still reports a job's progress. */
const PROGRESS_MAX_AGE_MS = 30_000;
const WHO = "system:start";

/**
 * The same decisions, written to fraud.control as the API's routes write them: for systems where no local user can sign
 * in.
 */
export class ControlDesk implements TrainingDesk {
  readonly #control: ControlLog;
  readonly #cluster: KafkaCluster;
  readonly #workers: WorkerBoard;

  constructor({ control, cluster, workers }: { control: ControlLog; cluster: KafkaCluster; workers: WorkerBoard }) {
    this.#control = control;
    this.#cluster = cluster;
    this.#workers = workers;
  }

  request(request: TrainingRequest): Promise<string> {
    return this.#produce((producer) => requestJob(this.#control, { who: WHO, producer }, request));
  }

  async look(id: string): Promise<JobView> {
    await this.#control.readToEnd();
    const job = this.#control.state.jobs.get(id);
    if (job === undefined) throw new UsageError("unknown_job", `fraud.control has no training job ${id}`);
    const { model, code, reason } = job;
    const status = toldStatus(this.#control.state, job);
    const beat = this.#workers
      .alive("training", PROGRESS_MAX_AGE_MS)
      .find((worker) => worker.job?.id === id && worker.job.attempt === job.attempt);
    return {
      status,
      model,
      progress: beat?.job ?? null,
      metrics: parseJobMetrics(job.metrics),
      error: code === null ? null : { code, reason: reason ?? "" },
    };
  }

  async cancel(id: string): Promise<void> {
    await this.#produce((producer) => cancelJob(this.#control, { who: WHO, producer }, id));
  }

  async enable(model: string, { thresholds }: JobMetrics): Promise<number> {
    const shadows = this.#control.state.deployment?.shadows ?? [];
    return this.#produce((producer) =>
      deploy(this.#control, { who: WHO, producer }, { champion: { model, ...thresholds }, shadows }),
    );
  }

  async #produce<T>(work: (producer: BatchProducer) => Promise<T>): Promise<T> {
    const producer = await BatchProducer.open(this.#cluster);
    try {
      return await work(producer);
    } finally {
      await producer.close();
    }
  }
}
