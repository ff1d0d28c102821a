import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { maskedText } from "../../infra/privacy/masking/masked-text.js";
import type { ClickHouseConfig, TrainingConfig } from "../../infra/config/config.js";
import { KafkaError } from "../../infra/kafka/errors.js";
import type { Logger } from "../../infra/logging.js";
import { RETRY, waitOut } from "../../infra/async/retry.js";
import { saveNextVersion, type Artifact } from "../../models/artifacts.js";
import type { ControlLog } from "../../models/control/log.js";
import {
  claimJob,
  finishJob,
  hasFinished,
  isNewest,
  lastAttempt,
  type Attempt,
  type JobOutcome,
} from "../../models/control/jobs.js";
import type { TrainingJob } from "../../models/control/state.js";
import { parseTrainingRequest } from "../../models/control/training-request.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";
import { runJobProcess } from "./job-child.js";
import type { Incumbent, JobResult } from "./job-messages.js";
import type { Producing } from "./producing.js";
import { inRequestWords } from "../../models/control/request-words.js";
import { settleJob, TRAINER } from "./settle-job.js";
import type { TrainerSigns } from "./trainer-signs.js";

export interface TrainerOptions {
  control: ControlLog;
  signs: TrainerSigns;
  producing: Producing;
  log: Logger;
  worker: string;
  artifactsDir: string;
  /** Where jobs keep what they download; trainers may share it. */
  workDir: string;
  clickhouse: ClickHouseConfig | null;
  limits: TrainingConfig;
  maturityMs: number;
  /** Whether card ids are pseudonyms where transactions are scored. @default false */
  hidesCards?: boolean;
  /** What the heartbeats say has changed. */
  onChange: () => void;
}

/** A job that lost this many trainers is the cause. */
const MOST_ATTEMPTS = 5;
const LOOK_EVERY_MS = 1_000;
/** How long the trainer that finished a job has to settle it before others do. */
const SETTLE_AFTER_MS = 5_000;

/** Takes training jobs off fraud.control, one at a time. */
export class Trainer {
  readonly #options: TrainerOptions;
  readonly #log: Logger;
  /** What the heartbeats report: set before the claim is published, so that every later one has it. */
  #progress: WorkerHeartbeat["job"] = null;
  /** Ends the job under way when it is no longer this trainer's. */
  #gone: AbortController | null = null;
  #claim: Attempt | null = null;
  readonly #settled = new Set<string>();
  #wake: () => void = () => {};

  constructor(options: TrainerOptions) {
    this.#options = options;
    this.#log = options.log;
  }

  get progress(): WorkerHeartbeat["job"] {
    return this.#progress;
  }

  /** To be called after each change of the control state. */
  changed(): void {
    if (this.#claim !== null && !this.#holds(this.#claim))
      this.#gone?.abort(
        new FraudstreamError("training_superseded", "the job was cancelled or taken over by another trainer"),
      );
    this.#wake();
  }

  /** Works until the signal aborts; the job under way is then left to another trainer. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => {
      this.#gone?.abort(signal.reason);
      this.#wake();
    });
    for (let known = false; !signal.aborted;) {
      try {
        if (!known) await this.#options.signs.read();
        known = true;
        await this.#turn(signal);
      } catch (error) {
        // A job whose end could not be published is started again: no heartbeat names it any more.
        if (!(error instanceof KafkaError)) throw error;
        await waitOut(error, this.#log, signal);
      }
    }
  }

  /** One job, or a pause where there is none. */
  async #turn(signal: AbortSignal): Promise<void> {
    const claim = await this.#claimNext(signal);
    if (claim === null) {
      this.#setProgress(null);
      await this.#tidy();
      await this.#pause();
      return;
    }
    try {
      await this.#work(claim, signal);
    } finally {
      this.#setProgress(null);
    }
  }

  /** The oldest unclaimed job, once the fold has accepted our claim; null: there is none. */
  async #claimNext(signal: AbortSignal): Promise<Attempt | null> {
    const { control, signs, producing, worker } = this.#options;
    const open = [...control.state.jobs.values()].filter(
      ({ status }) => status === "pending" || status === "processing",
    );
    if (open.some(({ status }) => status === "processing")) await signs.read();
    for (const job of open) {
      if (signal.aborted) return null;
      const last = lastAttempt(control, job);
      if (job.status !== "pending" && !(job.status === "processing" && signs.isAbandoned(job))) continue;
      if (job.attempt >= MOST_ATTEMPTS) {
        await this.#decide(
          last,
          { code: "training_abandoned", reason: `${job.attempt} trainers were lost while they worked on it` },
          signal,
        );
        continue;
      }
      this.#setProgress({ id: job.id, attempt: last.attempt + 1, phase: "claimed", percent: 0, rows: 0 });
      try {
        return await producing.run((producer) => claimJob(control, { who: TRAINER, producer }, last, worker));
      } catch (error) {
        // Another trainer was faster. After trouble with Kafka the claim may be ours all the same: it is then
        // abandoned, since the heartbeats don't name it.
        if (!(error instanceof FraudstreamError) || (error.code !== "conflict" && !error.retriable)) throw error;
        this.#setProgress(null);
      }
    }
    return null;
  }

  async #work(claim: Attempt, signal: AbortSignal): Promise<void> {
    const { job, attempt } = claim;
    const { control, artifactsDir, clickhouse, limits, maturityMs, hidesCards = false } = this.#options;
    const log = this.#log.child({ job: job.id, attempt });
    const folder = join(this.#options.workDir, `${job.id}.${attempt}`);
    const gone = new AbortController();
    this.#claim = claim;
    this.#gone = gone;
    log.info("training");
    try {
      // What came between the claim and now has been folded already, unseen by `changed`.
      this.changed();
      if (signal.aborted) gone.abort(signal.reason);
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      const request = parseTrainingRequest(job.request);
      const spec = { request, folder, artifactsDir, clickhouse, limits, maturityMs, hidesCards };
      const result = await runJobProcess(spec, {
        onProgress: (progress) => this.#setProgress({ id: job.id, attempt, ...progress }),
        incumbent: () => this.#incumbent(),
        signal: gone.signal,
      });
      await control.readToEnd();
      this.changed();
      gone.signal.throwIfAborted();
      this.#setProgress({ id: job.id, attempt, phase: "registering", percent: 98, rows: result.metrics.rows });
      await this.#finish(claim, result, signal);
    } catch (error) {
      if (gone.signal.aborted)
        log.info(`training ended: ${signal.aborted ? "the trainer stops" : messageOf(gone.signal.reason)}`);
      else if (error instanceof KafkaError) throw error;
      else {
        const code = error instanceof FraudstreamError ? error.code : "training_failed";
        // It may quote a cell of the file.
        const reason = maskedText(inRequestWords(messageOf(error)));
        log.warn({ code, ...(error instanceof FraudstreamError ? {} : { err: error }) }, `training failed: ${reason}`);
        await this.#decide(claim, { code, reason }, signal);
      }
    } finally {
      this.#claim = null;
      this.#gone = null;
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Stores the model, decides the job with it, and brings about what follows (see `settleJob` for the order). */
  async #finish(claim: Attempt, { name, manifest, onnx, metrics }: JobResult, signal: AbortSignal): Promise<void> {
    const { control, artifactsDir } = this.#options;
    const artifact = await saveNextVersion(artifactsDir, name, { manifest, onnx }, highestVersion(control, name));
    const { model } = artifact.manifest;
    if (
      !(await this.#decide(claim, { model, metrics: { ...metrics, manifest_sha256: artifact.manifestSha256 } }, signal))
    )
      return this.#withdraw(artifact);
    this.#log.info({ job: claim.job.id, model }, "trained");
    await this.#settle(claim.job);
  }

  /** The job isn't ours any more, so no event will ever name this artifact. */
  async #withdraw({ manifest, folder }: Artifact): Promise<void> {
    this.#log.info({ model: manifest.model }, "not registered: the job was cancelled or taken over by another trainer");
    await rm(folder, { recursive: true, force: true });
  }

  /**
   * Publishes the event that ends a job, however long that takes.
   *
   * @returns whether it was accepted; false: another attempt was claimed, or the job has ended
   */
  async #decide(claim: Attempt, outcome: JobOutcome, signal: AbortSignal): Promise<boolean> {
    const { control, producing } = this.#options;
    for (;;) {
      try {
        await producing.run((producer) => finishJob(control, { who: TRAINER, producer }, claim, outcome));
        return true;
      } catch (error) {
        if (!(error instanceof FraudstreamError)) throw error;
        if (error.code === "conflict") break;
        if (!error.retriable || signal.aborted) throw error;
        this.#log.warn({ job: claim.job.id }, `a job's end could not be published yet: ${error.message}`);
        await sleep(RETRY.away.firstMs, undefined, { signal });
      }
      await control.readToEnd();
      if (!isNewest(control, claim)) break;
    }
    // An earlier try may have been accepted although its answer was lost.
    return hasFinished(control, claim, outcome);
  }

  async #incumbent(): Promise<Incumbent> {
    const { control } = this.#options;
    await control.readToEnd();
    const { state } = control;
    const champion = state.deployment?.champion ?? null;
    const registered = champion === null ? undefined : state.models.get(champion.model);
    return {
      epoch: state.deployment?.epoch ?? -1,
      champion:
        champion === null || registered === undefined
          ? null
          : { model: champion.model, manifestSha256: registered.manifestSha256, review: champion.review },
    };
  }

  /** Settles what other trainers have left, and removes what they have downloaded. */
  async #tidy(): Promise<void> {
    const { control, signs, worker } = this.#options;
    for (const job of control.state.jobs.values()) {
      const due = job.worker === worker || (job.finishedAt ?? 0) < Date.now() - SETTLE_AFTER_MS;
      if (job.status === "processed" && due) await this.#settle(job);
    }
    signs.forget((id, attempt) => {
      const job = control.state.jobs.get(id);
      return job?.status === "processing" && attempt >= job.attempt;
    });
    await this.#sweep();
  }

  async #settle(job: TrainingJob): Promise<void> {
    if (this.#settled.has(job.id)) return;
    const { control, producing, artifactsDir } = this.#options;
    if (await settleJob({ control, producing, artifactsDir, log: this.#log }, job)) this.#settled.add(job.id);
  }

  /**
   * Folders of jobs that have ended, and of attempts that others have followed; a job that isn't known may be newer
   * than what was read.
   */
  async #sweep(): Promise<void> {
    const { control, workDir } = this.#options;
    for (const entry of await readdir(workDir)) {
      const [id, attempt] = entry.split(".");
      const job = control.state.jobs.get(id);
      if (job === undefined || job.status === "pending") continue;
      if (job.status !== "processing" || Number(attempt) < job.attempt)
        await rm(join(workDir, entry), { recursive: true, force: true });
    }
  }

  #holds({ job, attempt }: Attempt): boolean {
    const now = this.#options.control.state.jobs.get(job.id);
    return now?.status === "processing" && now.attempt === attempt && now.worker === this.#options.worker;
  }

  #setProgress(progress: WorkerHeartbeat["job"]): void {
    const told = this.#progress;
    this.#progress = progress;
    if (told?.id !== progress?.id || told?.phase !== progress?.phase) this.#options.onChange();
  }

  /** Until the control state changes, or it is time to look for abandoned jobs. */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LOOK_EVERY_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** The highest version of a name that was ever registered. */
function highestVersion(control: ControlLog, name: string): number {
  let highest = 0;
  for (const model of control.state.models.keys()) {
    const at = model.lastIndexOf("@");
    if (model.slice(0, at) === name) highest = Math.max(highest, Number(model.slice(at + 1)));
  }
  return highest;
}
