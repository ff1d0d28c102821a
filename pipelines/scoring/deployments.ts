import { Turns } from "../../infra/async/turns.js";
import type { Conditions } from "../../infra/health/conditions.js";
import type { Logger } from "../../infra/logging.js";
import type { Artifact } from "../../models/artifacts.js";
import { AlertReasons } from "../../models/explain/alert-reasons.js";
import { explainingModel } from "../../models/explain/explain-model.js";
import { inSlices } from "../../models/explain/pieces.js";
import { HistoryPlan, historySlotsOf } from "../../models/features/history-plan.js";
import type { AttributeSlot } from "../../models/features/attribute-slots.js";
import { slotsOf } from "../../models/features/plan.js";
import { modelIo, type Manifest } from "../../models/manifest.js";
import type { SessionLimits } from "../../models/onnx/guarded-session.js";
import { loadScorer, type Scorer } from "../../models/onnx/scorer.js";
import type { ModelIo } from "../../models/onnx/session.js";
import type { ControlState, Deployment } from "../../models/control/state.js";
import type { DeployedModel, RefusedDeployment } from "../../schemas/generated.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { ChampionHealth } from "./champion-health.js";

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
  readonly health: ChampionHealth;
  /** Shadows that work; one that fails is removed until the next epoch. */
  shadows: LoadedModel[];
  /** All models it holds in memory, dropped shadows included: freed when no batch scores with it any more. */
  readonly models: readonly LoadedModel[];
  /** The attributes that its models read. */
  readonly slots: AttributeSlot[];
  /** The history of cards and merchants that they read. */
  readonly history: HistoryPlan;
}

export interface DeploymentsOptions {
  /** Returns a model's files by the sha256 of its manifest. @throws FraudstreamError */
  loadArtifact: (model: string, manifestSha256: string) => Promise<Artifact>;
  log: Logger;
  conditions: Conditions;
  /** Limits of one run of a model that runs in its own process. */
  limits?: SessionLimits;
  /** Called when `current` or the problems have changed. */
  onChange: () => void;
  /** Called with the time that a deployment took to be loaded and put in force. */
  onSwap?: (ms: number) => void;
  /** Called when a champion is put out of force here. */
  onFallback?: (model: string) => void;
}

/** Files that are missing or still being copied may appear later, and the API that serves them may come back. */
const MAY_COME = new Set(["artifact_missing", "artifact_corrupt", "artifact_unavailable"]);
const MOST_TRIED_AGAIN = 10;
/** A champion that stays because nothing else works is reported for this long after its last failure. */
const FAILS_FOR_MS = 5 * 60_000;
const CHAMPION_FAILS = "champion_fails";
const OUT_OF_FORCE = "deployment_out_of_force";
const NOT_LOADED = "deployment_not_loaded";
const NOTHING_SCORES = "no_deployment_works";

/**
 * The deployments of fraud.control in the memory of one worker. `current` changes only once the models of another
 * deployment are loaded; a batch reads it once. It is the newest deployment that can be loaded, or the one before it if
 * a champion hangs, fails or gives no scores: such a deployment is out of force in this worker until it restarts, and a
 * newer deployment of the same model is tried again.
 */
export class Deployments {
  readonly #options: DeploymentsOptions;
  readonly #log: Logger;
  readonly #conditions: Conditions;
  #current: LoadedDeployment | null = null;
  /** Epoch of `current`, or of the decision to have no champion. */
  #epoch: number | null = null;
  /** Epoch of the newest deployment that was looked at. */
  #seen = -1;
  /** Whether files were missing that may appear. */
  #incomplete = false;
  #state: ControlState | null = null;
  /** Deployments not to be scored with, by epoch: put out of force here, or impossible to load. */
  readonly #outOfForce = new Map<number, RefusedDeployment>();
  #notLoaded: RefusedDeployment[] = [];
  /** Epochs whose champion can't be loaded for a reason other than missing files. */
  readonly #broken = new Set<number>();
  #problems: string[] = [];
  readonly #turns = new Turns();
  /** While models are being loaded, none are freed: the new deployment may reuse them. */
  #loading = false;
  #waiting: (() => void)[] = [];
  /** Conditions of refused deployments that are raised. */
  #told: { code: string; epoch: number }[] = [];
  /** Epochs whose champion fails while nothing can take its place, and when it last failed. */
  readonly #failing = new Map<number, number>();
  readonly #users = new Map<LoadedDeployment, number>();

  constructor(options: DeploymentsOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#conditions = options.conditions;
  }

  /** What is in force here; null: no deployment has a champion, or none could be loaded. */
  get current(): LoadedDeployment | null {
    return this.#current;
  }

  /** The epoch in force, even if it has no champion; null: none could be loaded yet. */
  get epoch(): number | null {
    return this.#epoch;
  }

  /** Models that could not be loaded, shadows that were dropped; for people. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Deployments later than the one in force that this worker doesn't score with. */
  get refused(): RefusedDeployment[] {
    const epoch = this.#epoch ?? -1;
    return [...this.#outOfForce.values(), ...this.#notLoaded]
      .filter((refused) => refused.epoch > epoch)
      .sort((a, b) => a.epoch - b.epoch);
  }

  /**
   * Whether a champion is wanted but this worker can score with none: its partitions are better off with another
   * worker.
   */
  get stuck(): boolean {
    return this.#current === null && (this.#state?.deployment?.champion ?? null) !== null;
  }

  /** Loads the newest deployment that can be loaded, unless that is in force already. One at a time. */
  settle(state: ControlState): Promise<void> {
    return this.#turns.take(() => this.#settle(state));
  }

  /** Looks again for files that were missing, and checks whether a failing champion has not failed for a while. */
  retry(now = Date.now()): Promise<void> {
    return this.#turns.take(async () => {
      for (const [epoch, at] of this.#failing) if (now - at >= FAILS_FOR_MS) this.#failsNoMore(epoch);
      if (!this.#incomplete || this.#state === null) return;
      this.#seen = -1;
      await this.#settle(this.#state, true);
    });
  }

  /**
   * Puts a deployment out of force in this worker, and the newest earlier one that works in its place.
   *
   * @param unconditionally even if none works: then nothing is scored until one does
   * @returns whether a deployment other than the failed one is in force; false: none works, and it stays
   */
  putOutOfForce(
    failed: LoadedDeployment,
    reason: string,
    { unconditionally }: { unconditionally: boolean },
  ): Promise<boolean> {
    return this.#turns.take(async () => {
      // Several partitions may notice it at the same time.
      if (this.#current !== failed) return true;
      const refusal = { epoch: failed.epoch, model: failed.champion.model, reason };
      const known = this.#outOfForce.get(failed.epoch);
      this.#outOfForce.set(failed.epoch, refusal);
      const problems: string[] = [];
      const incomplete = this.#incomplete;
      const earlier =
        this.#state === null ? null : await this.#loadNewest(this.#state, this.#earlierThan(failed.epoch), problems);
      if (earlier === null && !unconditionally) {
        // The deployment in force has its files: missing files of earlier ones are no reason to load it again.
        this.#incomplete = incomplete;
        if (known === undefined) this.#outOfForce.delete(failed.epoch);
        this.#failing.set(failed.epoch, Date.now());
        this.#conditions.raise(
          CHAMPION_FAILS,
          String(failed.epoch),
          `the champion ${refusal.model} of epoch ${failed.epoch} fails (${reason}), and no earlier ` +
            "deployment works: payments without a score become dead letters; deploy a model that works, then " +
            "send them again",
          { blocking: false },
        );
        return false;
      }
      const problem =
        `epoch ${failed.epoch} is out of force here: ${refusal.model} failed: ${reason}; ` +
        (earlier === null
          ? "no earlier deployment works"
          : `${earlier.champion.model} of epoch ${earlier.epoch} scores instead`);
      this.#log.error({ epoch: failed.epoch, model: refusal.model }, problem);
      this.#options.onFallback?.(refusal.model);
      this.#replace(earlier, earlier?.epoch ?? null, [problem, ...problems]);
      return true;
    });
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
    // That was the last batch of an older epoch in its partition: reported at once, but after the tenure has noted it.
    if (deployment !== this.#current) queueMicrotask(this.#options.onChange);
  }

  /** Removes a shadow until the next epoch. */
  dropShadow(deployment: LoadedDeployment, shadow: LoadedModel, reason: string): void {
    if (!deployment.shadows.includes(shadow)) return;
    deployment.shadows = deployment.shadows.filter((other) => other !== shadow);
    const problem = `shadow ${shadow.model} of epoch ${deployment.epoch} is dropped: ${reason}`;
    this.#log.error(problem);
    this.#problems = [...this.#problems, problem];
    this.#options.onChange();
  }

  async close(): Promise<void> {
    await this.#turns.over();
    const current = this.#current;
    this.#current = null;
    // One that has scored nothing has no users yet: the process of its model would keep this one alive.
    if (current !== null) this.#users.set(current, this.#users.get(current) ?? 0);
    this.#dropUnused();
  }

  async #settle(state: ControlState, again = false): Promise<void> {
    this.#state = state;
    const newest = state.deployment;
    if (newest === null || newest.epoch === this.#seen) return;
    this.#seen = newest.epoch;
    this.#incomplete = false;
    // What is broken stays broken; only missing files may have appeared.
    this.#notLoaded = again ? this.#notLoaded.filter(({ epoch }) => this.#broken.has(epoch)) : [];
    if (newest.champion === null) {
      // A decision: without a champion nothing is consumed.
      this.#replace(null, newest.epoch, []);
      return;
    }
    const startedAt = performance.now();
    const problems = again
      ? this.#problems.filter((problem) => [...this.#broken].some((epoch) => problem.startsWith(`epoch ${epoch} `)))
      : [];
    // At the start, the newest that can be loaded; later, the one in force stays if the newest can't be loaded.
    const candidates = this.#usable(this.#current === null ? [...state.deployments].reverse() : [newest], newest.epoch);
    const loaded = await this.#loadNewest(
      state,
      again ? candidates.filter(({ epoch }) => !this.#broken.has(epoch)).slice(0, MOST_TRIED_AGAIN) : candidates,
      problems,
    );
    if (loaded !== null) {
      this.#replace(loaded, loaded.epoch, problems);
      this.#options.onSwap?.(performance.now() - startedAt);
      return;
    }
    this.#dropUnused();
    this.#problems = problems;
    this.#tellConditions();
    this.#options.onChange();
  }

  /** The deployments before one, newest first, as far as they may be used for scoring. */
  #earlierThan(epoch: number): Deployment[] {
    const deployments = this.#state?.deployments ?? [];
    return this.#usable(deployments.filter((deployment) => deployment.epoch < epoch).reverse(), epoch);
  }

  /**
   * Leaves out those that are out of force, and earlier ones with the same champion; nothing from before a withdrawal
   * counts.
   */
  #usable(newestFirst: readonly Deployment[], newest: number): Deployment[] {
    const usable: Deployment[] = [];
    for (const deployment of newestFirst) {
      const { epoch, champion } = deployment;
      if (champion === null) break;
      const failed =
        this.#outOfForce.has(epoch) ||
        (epoch !== newest &&
          [...this.#outOfForce.values()].some((refused) => refused.model === champion.model && refused.epoch > epoch));
      if (!failed) usable.push(deployment);
    }
    return usable;
  }

  /**
   * The first of these that can be loaded. While models are being loaded, none are freed: the new deployment may reuse
   * them.
   */
  async #loadNewest(
    state: ControlState,
    candidates: readonly Deployment[],
    problems: string[],
  ): Promise<LoadedDeployment | null> {
    this.#loading = true;
    try {
      for (const deployment of candidates) {
        if (deployment.champion === null) break;
        const loaded = await this.#load(state, deployment, deployment.champion, problems);
        if (loaded !== null) return loaded;
      }
      return null;
    } finally {
      this.#loading = false;
    }
  }

  #replace(loaded: LoadedDeployment | null, epoch: number | null, problems: string[]): void {
    const former = this.#current;
    this.#current = loaded;
    this.#epoch = epoch;
    this.#problems = problems;
    if (former !== null) this.#users.set(former, this.#users.get(former) ?? 0);
    this.#log.info(
      { epoch, champion: loaded?.champion.model ?? null, shadows: loaded?.shadows.map(({ model }) => model) ?? [] },
      "deployment in force",
    );
    if (loaded !== null) for (const wake of this.#waiting.splice(0)) wake();
    this.#dropUnused();
    this.#tellConditions();
    this.#options.onChange();
  }

  /** Conditions that last until another deployment is decided, or files appear. */
  #tellConditions(): void {
    const conditions = this.#conditions;
    const refused = new Map(this.refused.map((each) => [each.epoch, each]));
    const codeOf = (epoch: number): string => (this.#outOfForce.has(epoch) ? OUT_OF_FORCE : NOT_LOADED);
    for (const { code, epoch } of this.#told)
      if (!refused.has(epoch) || codeOf(epoch) !== code) conditions.clear(code, String(epoch));
    this.#told = [...refused.keys()].map((epoch) => ({ code: codeOf(epoch), epoch }));
    const instead =
      this.#current === null
        ? "nothing scores instead"
        : `${this.#current.champion.model} of epoch ${this.#current.epoch} scores instead`;
    for (const { epoch, model, reason } of refused.values()) {
      const code = codeOf(epoch);
      const advice =
        code === OUT_OF_FORCE
          ? "deploy another model, or this one again to try it anew"
          : "put its files in place (ARTIFACTS, ARTIFACTS_URL), or deploy another model";
      conditions.raise(
        code,
        String(epoch),
        `epoch ${epoch} is not in force in this worker: ${model}: ${reason}; ${instead}; ${advice}`,
        { blocking: false },
      );
    }
    for (const epoch of this.#failing.keys()) if (epoch !== this.#epoch) this.#failsNoMore(epoch);
    conditions.set(
      this.stuck,
      NOTHING_SCORES,
      "",
      () =>
        "this worker can score with no deployment: it leaves its partitions to others; deploy a model that " +
        "works, or put the files of one in place",
      { blocking: true },
    );
  }

  #failsNoMore(epoch: number): void {
    this.#failing.delete(epoch);
    this.#conditions.clear(CHAMPION_FAILS, String(epoch));
  }

  async #load(
    state: ControlState,
    deployment: Deployment,
    champion: DeployedModel,
    problems: string[],
  ): Promise<LoadedDeployment | null> {
    const main = await this.#loadModel(state, champion).catch((error: unknown) => {
      this.#report(problems, `epoch ${deployment.epoch} can't be loaded: ${messageOf(error)}`);
      if (error instanceof FraudstreamError && MAY_COME.has(error.code)) this.#incomplete = true;
      else this.#broken.add(deployment.epoch);
      this.#notLoaded = [
        ...this.#notLoaded.filter(({ epoch }) => epoch !== deployment.epoch),
        { epoch: deployment.epoch, model: champion.model, reason: messageOf(error) },
      ];
      return null;
    });
    if (main === null) return null;
    const shadows: LoadedModel[] = [];
    for (const shadow of deployment.shadows) {
      if (
        [...this.#outOfForce.values()].some(({ model, epoch }) => model === shadow.model && epoch > deployment.epoch)
      ) {
        this.#report(
          problems,
          `shadow ${shadow.model} of epoch ${deployment.epoch} is left out: it failed as champion`,
        );
        continue;
      }
      try {
        shadows.push(await this.#loadModel(state, shadow));
      } catch (error) {
        this.#report(
          problems,
          `shadow ${shadow.model} of epoch ${deployment.epoch} can't be loaded: ${messageOf(error)}`,
        );
      }
    }
    const models = [main, ...shadows];
    const features = models.map(({ manifest }) => manifest.features);
    return {
      epoch: deployment.epoch,
      champion: main,
      health: new ChampionHealth(),
      shadows,
      models,
      slots: slotsOf(features),
      history: new HistoryPlan(historySlotsOf(features)),
    };
  }

  /** Reuses a model that is in memory. */
  async #loadModel(state: ControlState, deployed: DeployedModel): Promise<LoadedModel> {
    const registered = state.models.get(deployed.model);
    if (registered === undefined) throw new FraudstreamError("unknown_model", `${deployed.model} is not registered`);
    const inMemory = this.#models().find(({ model }) => model === deployed.model);
    if (inMemory !== undefined) return { ...inMemory, ...deployed };
    const { manifest, onnx } = await this.#options.loadArtifact(deployed.model, registered.manifestSha256);
    // Refuses features that this version does not compute before loading the model.
    historySlotsOf([manifest.features]);
    const io = modelIo(manifest);
    const scorer = await loadScorer(onnx, io, this.#log.child({ model: deployed.model }), this.#options.limits);
    try {
      // The first run allocates and shapes: better now than on the first transaction.
      await scorer.run(new Float32Array(manifest.features.length), 1);
    } catch (error) {
      await scorer.release();
      throw error;
    }
    return { ...deployed, manifest, scorer, reasons: await this.#reasonsOf(onnx, io, manifest) };
  }

  /**
   * Null if the model cannot be explained: then its predictions have no reasons, as `GET /models/{id}` also says.
   * Explains in slices, so that batches are scored with the previous model meanwhile.
   */
  async #reasonsOf(onnx: Uint8Array, io: ModelIo, { model, features }: Manifest): Promise<AlertReasons | null> {
    try {
      return new AlertReasons(
        await inSlices(explainingModel(onnx, io)),
        features.map(({ name }) => name),
      );
    } catch (error) {
      this.#log.warn({ model }, `alerts of ${model} get no reasons: ${messageOf(error)}`);
      return null;
    }
  }

  /** A failure that repeats with each attempt is logged once. */
  #report(problems: string[], problem: string): void {
    if (!this.#problems.includes(problem)) this.#log.error(problem);
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
