import type { Logger } from "../../infra/logging.js";
import { loadArtifact } from "../../models/artifacts.js";
import { AlertReasons } from "../../models/explain/alert-reasons.js";
import { explainingModel } from "../../models/explain/explain-model.js";
import { inSlices } from "../../models/explain/pieces.js";
import { HistoryPlan, historySlotsOf } from "../../models/features/history-plan.js";
import { slotsOf, type AttributeSlot } from "../../models/features/plan.js";
import type { Manifest } from "../../models/manifest.js";
import { loadScorer, type Scorer } from "../../models/onnx/scorer.js";
import type { ModelIo } from "../../models/onnx/session.js";
import type { ControlState, Deployment } from "../../models/registry/control-state.js";
import type { DeployedModel } from "../../schemas/generated.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";

/** A model in memory, ready to score. */
export interface LoadedModel extends DeployedModel {
  manifest: Manifest;
  scorer: Scorer;
  /** null: its scores can't be explained. */
  reasons: AlertReasons | null;
}

/** A deployment whose champion is in memory. */
export interface LoadedDeployment {
  readonly epoch: number;
  readonly champion: LoadedModel;
  /** Those that work; one that fails is taken out until the next epoch. */
  shadows: LoadedModel[];
  /** All that it holds in memory, dropped shadows included: freed when nobody scores with it any more. */
  readonly models: readonly LoadedModel[];
  /** The attributes that its models read. */
  readonly slots: AttributeSlot[];
  /** The history of cards and merchants that they read. */
  readonly history: HistoryPlan;
}

/**
 * The deployments of fraud.control in the memory of one worker. `current` changes only when the models of a newer one
 * are loaded; whoever scores takes it once for each batch.
 */
export class Deployments {
  readonly #artifactsDir: string;
  readonly #log: Logger;
  /** Called when `current` or the problems have changed. */
  readonly #onChange: () => void;
  readonly #onSwap: (ms: number) => void;
  #current: LoadedDeployment | null = null;
  /** Epoch of `current`, or of the decision to have no champion. */
  #epoch: number | null = null;
  /** Epoch of the newest deployment that was looked at. */
  #seen = -1;
  #problems: string[] = [];
  #settling: Promise<void> = Promise.resolve();
  /** While models are being loaded none is freed: the new deployment may take it over. */
  #loading = false;
  #waiting: (() => void)[] = [];
  readonly #users = new Map<LoadedDeployment, number>();

  /** @param options.onSwap is told how long a deployment took to be loaded and put in force */
  constructor(options: { artifactsDir: string; log: Logger; onChange: () => void; onSwap?: (ms: number) => void }) {
    this.#artifactsDir = options.artifactsDir;
    this.#log = options.log;
    this.#onChange = options.onChange;
    this.#onSwap = options.onSwap ?? (() => {});
  }

  /** What is in force here; null: no deployment has a champion, or none could be loaded. */
  get current(): LoadedDeployment | null {
    return this.#current;
  }

  /** The epoch in force, also where it says that there is no champion; null: none could be loaded yet. */
  get epoch(): number | null {
    return this.#epoch;
  }

  /** Models that could not be loaded, shadows that were dropped; for people. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Loads the newest deployment that can be loaded, unless that is in force already. One at a time. */
  settle(state: ControlState): Promise<void> {
    this.#settling = this.#settling.then(() => this.#settle(state));
    return this.#settling;
  }

  /** The deployment in force, held until `release`. Waits until there is one. */
  async acquire(signal: AbortSignal): Promise<LoadedDeployment> {
    while (this.#current === null) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    this.#users.set(this.#current, (this.#users.get(this.#current) ?? 0) + 1);
    return this.#current;
  }

  release(deployment: LoadedDeployment): void {
    this.#users.set(deployment, (this.#users.get(deployment) ?? 1) - 1);
    this.#dropUnused();
    // That was the last batch of an older epoch in its partition: said at once, but after the tenure has taken note of it.
    if (deployment !== this.#current) queueMicrotask(this.#onChange);
  }

  /** Takes a shadow out until the next epoch. */
  dropShadow(deployment: LoadedDeployment, shadow: LoadedModel, reason: string): void {
    if (!deployment.shadows.includes(shadow)) return;
    deployment.shadows = deployment.shadows.filter((other) => other !== shadow);
    const problem = `shadow ${shadow.model} of epoch ${deployment.epoch} is dropped: ${reason}`;
    this.#log.error(problem);
    this.#problems = [...this.#problems, problem];
    this.#onChange();
  }

  async close(): Promise<void> {
    await this.#settling;
    this.#current = null;
    this.#dropUnused();
  }

  async #settle(state: ControlState): Promise<void> {
    const newest = state.deployment;
    if (newest === null || newest.epoch === this.#seen) return;
    this.#seen = newest.epoch;
    if (newest.champion === null) {
      // Decided so: without a champion nothing is consumed.
      this.#replace(null, newest.epoch, []);
      return;
    }
    const startedAt = performance.now();
    const problems: string[] = [];
    // At start the newest that can be loaded; later the one that is in force stays when the newest can't be.
    const candidates = this.#current === null ? [...state.deployments].reverse() : [newest];
    this.#loading = true;
    for (const deployment of candidates) {
      if (deployment.champion === null) break;
      const loaded = await this.#load(state, deployment, deployment.champion, problems);
      if (loaded === null) continue;
      this.#loading = false;
      this.#replace(loaded, loaded.epoch, problems);
      this.#onSwap(performance.now() - startedAt);
      return;
    }
    this.#loading = false;
    this.#dropUnused();
    this.#problems = problems;
    this.#onChange();
  }

  #replace(loaded: LoadedDeployment | null, epoch: number, problems: string[]): void {
    const former = this.#current;
    this.#current = loaded;
    this.#epoch = epoch;
    this.#problems = problems;
    if (former !== null) this.#users.set(former, this.#users.get(former) ?? 0);
    this.#log.info({ epoch, champion: loaded?.champion.model ?? null, shadows: loaded?.shadows.map(({ model }) => model) ?? [] }, "deployment in force");
    for (const wake of this.#waiting.splice(0)) wake();
    this.#dropUnused();
    this.#onChange();
  }

  async #load(state: ControlState, deployment: Deployment, champion: DeployedModel, problems: string[]): Promise<LoadedDeployment | null> {
    const main = await this.#loadModel(state, champion).catch((error: unknown) => {
      this.#report(problems, `epoch ${deployment.epoch} can't be loaded: ${messageOf(error)}`);
      return null;
    });
    if (main === null) return null;
    const shadows: LoadedModel[] = [];
    for (const shadow of deployment.shadows) {
      try {
        shadows.push(await this.#loadModel(state, shadow));
      } catch (error) {
        this.#report(problems, `shadow ${shadow.model} of epoch ${deployment.epoch} can't be loaded: ${messageOf(error)}`);
      }
    }
    const models = [main, ...shadows];
    const features = models.map(({ manifest }) => manifest.features);
    return { epoch: deployment.epoch, champion: main, shadows, models, slots: slotsOf(features), history: new HistoryPlan(historySlotsOf(features)) };
  }

  /** A model that is in memory is used again. */
  async #loadModel(state: ControlState, deployed: DeployedModel): Promise<LoadedModel> {
    const registered = state.models.get(deployed.model);
    if (registered === undefined) throw new FraudstreamError("unknown_model", `${deployed.model} is not registered`);
    const inMemory = this.#models().find(({ model }) => model === deployed.model);
    if (inMemory !== undefined) return { ...inMemory, ...deployed };
    const { manifest, onnx } = await loadArtifact(this.#artifactsDir, deployed.model, registered.manifestSha256);
    // Refuses what nobody computes before the model is anybody's.
    historySlotsOf([manifest.features]);
    const io = { input: manifest.input, output: manifest.output, features: manifest.features.length };
    const scorer = await loadScorer(onnx, io, this.#log.child({ model: deployed.model }));
    // The first run allocates and shapes: better now than on the first transaction.
    await scorer.run(new Float32Array(manifest.features.length), 1);
    return { ...deployed, manifest, scorer, reasons: await this.#reasonsOf(onnx, io, manifest) };
  }

  /** No reasons are no problem: predictions have none then. `GET /models/{id}` says so, too. */
  /** In slices: meanwhile batches are scored with the model before. */
  async #reasonsOf(onnx: Uint8Array, io: ModelIo, { model, features }: Manifest): Promise<AlertReasons | null> {
    try {
      return new AlertReasons(await inSlices(explainingModel(onnx, io)), features.map(({ name }) => name));
    } catch (error) {
      this.#log.warn({ model }, `alerts of ${model} get no reasons: ${messageOf(error)}`);
      return null;
    }
  }

  #report(problems: string[], problem: string): void {
    this.#log.error(problem);
    problems.push(problem);
  }

  #models(): LoadedModel[] {
    const deployments = [...this.#users.keys(), ...(this.#current === null ? [] : [this.#current])];
    return deployments.flatMap(({ models }) => models);
  }

  /** Frees the models that only superseded deployments without users hold. */
  #dropUnused(): void {
    if (this.#loading) return;
    for (const [deployment, users] of this.#users) {
      if (users > 0 || deployment === this.#current) continue;
      this.#users.delete(deployment);
      const kept = new Set(this.#models().map(({ scorer }) => scorer));
      for (const { scorer } of deployment.models) if (!kept.has(scorer)) void scorer.release();
    }
  }
}
