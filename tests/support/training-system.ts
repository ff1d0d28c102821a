import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { RegisteredModel, TrainingJob } from "../../models/control/state.js";
import { cancelJob, requestJob } from "../../models/control/jobs.js";
import type { TrainingRequest } from "../../models/control/training-request.js";
import { kafkaConfig, uniquePrefix } from "./engines.js";
import { TestSystem } from "./workers-system.js";
import { eventually } from "./eventually.js";
import { RoleProcess } from "./workers.js";

/** Seconds without a heartbeat until a job is taken over: short, since tests wait for it. */
const SILENCE_SECONDS = 2;

/** Each job is a process of low priority: on a busy machine it may wait for its turn. */
const PATIENCE_MS = 100_000;

/** Trainers of one test, as processes, on topics of its own. */
export class TrainingSystem {
  readonly system: TestSystem;
  readonly dataDir: string;
  readonly trainers: RoleProcess[] = [];

  private constructor(system: TestSystem, dataDir: string) {
    this.system = system;
    this.dataDir = dataDir;
  }

  /** To be called in a test; its end stops everything. */
  static async open(): Promise<TrainingSystem> {
    const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix() });
    const opened = new TrainingSystem(system, await mkdtemp(join(tmpdir(), "fraudstream-training-")));
    onTestFinished(async () => {
      for (const trainer of opened.trainers) await trainer.kill();
      await system.close();
      await rm(opened.dataDir, { recursive: true, force: true });
    });
    return opened;
  }

  startTrainer(settings: Record<string, string> = {}): RoleProcess {
    const trainer = new RoleProcess("training", {
      ...this.system.settings,
      DATA_DIR: this.dataDir,
      CLICKHOUSE_URL: "",
      DATASETS_ALLOW_PRIVATE: "127.0.0.1/32",
      TRAINER_SILENCE_SECONDS: String(SILENCE_SECONDS),
      ...settings,
    });
    this.trainers.push(trainer);
    return trainer;
  }

  request(request: TrainingRequest): Promise<string> {
    return requestJob(this.system.control, { who: "user:test", producer: this.system.producer }, request);
  }

  async cancel(id: string): Promise<void> {
    await cancelJob(this.system.control, { who: "user:test", producer: this.system.producer }, id);
  }

  /** A job as it stands now. */
  async job(id: string): Promise<TrainingJob> {
    await this.system.control.readToEnd();
    return this.system.control.state.jobs.get(id) as TrainingJob;
  }

  /** The job once it has ended. */
  ended(id: string): Promise<TrainingJob> {
    return eventually(
      `job ${id} ends`,
      async () => {
        const job = await this.job(id);
        const stopped = this.trainers.find(({ exit }) => exit !== null && exit.code !== 0 && exit.signal === null);
        if (stopped !== undefined)
          throw new Error(`a trainer ended with ${JSON.stringify(stopped.exit)}: ${stopped.tail()}`);
        return job.status !== "pending" && job.status !== "processing" ? job : undefined;
      },
      PATIENCE_MS,
    );
  }

  /**
   * Waits until a heartbeat says that an attempt at a job is in a phase. @returns the worker's process, where it is one
   * of ours
   */
  async inPhase(id: string, phase: string, attempt = 1): Promise<RoleProcess | undefined> {
    const worker = await eventually(
      `job ${id} is ${phase} (attempt ${attempt})`,
      async () => {
        const { beats } = await this.system.heartbeats();
        return beats.find(({ job }) => job?.id === id && job.attempt === attempt && job.phase === phase)?.worker;
      },
      PATIENCE_MS,
    );
    return this.trainers.find(({ pid }) => worker.includes(`-${pid}-`));
  }

  /** Models that a job has registered. */
  async modelsOf(id: string): Promise<RegisteredModel[]> {
    await this.system.control.readToEnd();
    return [...this.system.control.state.models.values()].filter(({ job }) => job === id);
  }

  /** Waits until a job's model is registered. */
  registered(id: string): Promise<RegisteredModel> {
    return eventually(`the model of job ${id} is registered`, async () => (await this.modelsOf(id)).at(0), PATIENCE_MS);
  }

  /** What trainers have left of their downloads. */
  async leftovers(): Promise<string[]> {
    return readdir(join(this.dataDir, "training", `jobs-${this.system.prefix}`));
  }
}
