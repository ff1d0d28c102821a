import { Type, type Static, type TSchema } from "@sinclair/typebox";
import { loadArtifact, loadManifest } from "../../models/artifacts.js";
import { explainingModel } from "../../models/explain/explain-model.js";
import { inSlices } from "../../models/explain/pieces.js";
import { Manifest, OfflineMetrics, modelIo } from "../../models/manifest.js";
import type { RegisteredModel } from "../../models/control/state.js";
import type { Liveness } from "../../models/control/liveness.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import { HttpProblem } from "../plugins/errors.js";
import { deployedIn, lastThresholds, roleOf, type Thresholds } from "./decide.js";

const orNull = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const ThresholdsSchema = Type.Object(
  { review: Type.Number(), decline: Type.Number() },
  { description: "Scores from here on are reviewed, declined. A decline threshold above 1 declines nothing." },
);
export const EpochSchema = orNull(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }));

export const ModelSummary = Type.Object(
  {
    id: Type.String({ description: "name@version" }),
    state: Type.Union([Type.Literal("registered"), Type.Literal("champion"), Type.Literal("shadow")]),
    registered_at: Type.String({ format: "date-time" }),
    registered_by: Type.String({ description: "A user's id, or system:…" }),
    job: orNull(Type.String({ description: "The training job that created it." })),
    algorithm: orNull(Type.String()),
    thresholds: orNull(ThresholdsSchema),
    metrics: orNull(OfflineMetrics),
    metrics_of: orNull(
      Type.Union([Type.Literal("test"), Type.Literal("validation")], {
        description:
          "The rows that the metrics were computed on: the test part or, without one, the rows that the " +
          "thresholds were chosen on. Null: its author gave no figures.",
      }),
    ),
    problem: orNull(
      Type.String({ description: "Why its artifact cannot be read; algorithm and metrics are then null." }),
    ),
  },
  { title: "ModelSummary" },
);
export type ModelSummary = Static<typeof ModelSummary>;

export const LivenessSchema = Type.Object(
  {
    epoch: Type.Integer(),
    live: Type.Boolean({ description: "Every input partition is scored with this deployment, or a later one." }),
    missing_partitions: Type.Array(Type.Integer(), {
      description: "Input partitions for which no worker has reported it.",
    }),
    refused: Type.Array(
      Type.Object({ worker: Type.String(), epoch: Type.Integer(), model: Type.String(), reason: Type.String() }),
      {
        description:
          "Workers that do not score with this deployment, because its champion could not be loaded, failed, " +
          "hung or gave no scores: they score with an earlier one. They try a new deployment.",
      },
    ),
    problems: Type.Array(Type.Object({ worker: Type.String(), problem: Type.String() }), {
      description: "Problems that scoring workers report.",
    }),
  },
  { title: "Liveness" },
);

export const ModelView = Type.Object(
  {
    ...ModelSummary.properties,
    manifest: orNull(Manifest),
    deployment: orNull(LivenessSchema),
    no_reasons: orNull(
      Type.String({
        description:
          "Why its alerts come without reasons; null: they have the three features that raised the score most.",
      }),
    ),
  },
  { title: "Model", description: "The model; with ETag: the deployment in force." },
);
export type ModelView = Static<typeof ModelView>;

/** How models look from outside. A manifest never changes, so each is read once. */
export class ModelViews {
  readonly #context: Pick<ApiContext, "control" | "config">;
  readonly #manifests = new Map<string, Manifest>();
  readonly #noReasons = new Map<string, string | null>();

  constructor(context: Pick<ApiContext, "control" | "config">) {
    this.#context = context;
  }

  /**
   * A registered model: what isn't known yet may be new, so the log is read to its end before anything is missing.
   *
   * @throws HttpProblem 404 `unknown_model`
   */
  async find(id: string): Promise<RegisteredModel> {
    const { control } = this.#context;
    if (!control.state.models.has(id)) await control.readToEnd();
    const model = control.state.models.get(id);
    if (model === undefined) throw new HttpProblem("unknown_model", `no model ${JSON.stringify(id)} is registered`);
    return model;
  }

  /** @throws FraudstreamError as `loadManifest` */
  async manifestOf({ model, manifestSha256 }: RegisteredModel): Promise<Manifest> {
    const known = this.#manifests.get(model);
    if (known !== undefined) return known;
    const { manifest } = await loadManifest(this.#context.config.artifacts, model, manifestSha256);
    this.#manifests.set(model, manifest);
    return manifest;
  }

  /** The thresholds with which a model is enabled, or would be. */
  async thresholdsOf(model: RegisteredModel): Promise<Thresholds> {
    return lastThresholds(this.#context.control.state, model.model) ?? (await this.manifestOf(model)).thresholds;
  }

  /** Why a model's alerts come without reasons; null: they don't. */
  async noReasons({ model, manifestSha256 }: RegisteredModel): Promise<string | null> {
    let cause = this.#noReasons.get(model);
    if (cause !== undefined) return cause;
    try {
      const { manifest, onnx } = await loadArtifact(this.#context.config.artifacts, model, manifestSha256);
      await inSlices(explainingModel(onnx, modelIo(manifest)));
      cause = null;
    } catch (error) {
      if (!(error instanceof FraudstreamError)) throw error;
      // Files may come back.
      if (error.code !== "not_explainable") return error.code;
      cause = error.message;
    }
    this.#noReasons.set(model, cause);
    return cause;
  }

  async summary(registered: RegisteredModel): Promise<ModelSummary & { manifest: Manifest | null }> {
    const { state } = this.#context.control;
    const { model: id, registeredAt, registeredBy, job } = registered;
    let problem: string | null = null;
    const manifest = await this.manifestOf(registered).catch((error: unknown) => {
      if (!(error instanceof FraudstreamError)) throw error;
      problem = error.code;
      return null;
    });
    const inForce = state.deployment === null ? null : deployedIn(state.deployment, id);
    return {
      id,
      job,
      problem,
      manifest,
      state: roleOf(state.deployment, id) ?? "registered",
      registered_at: new Date(registeredAt).toISOString(),
      registered_by: registeredBy,
      algorithm: manifest?.algorithm ?? null,
      thresholds:
        inForce === null
          ? (lastThresholds(state, id) ?? manifest?.thresholds ?? null)
          : { review: inForce.review, decline: inForce.decline },
      metrics: manifest?.test ?? manifest?.validation ?? null,
      metrics_of:
        (manifest?.test ?? null) !== null ? "test" : (manifest?.validation ?? null) !== null ? "validation" : null,
    };
  }
}

export function livenessView(
  epoch: number,
  { live, missing, refused, problems }: Liveness,
): Static<typeof LivenessSchema> {
  return { epoch, live, missing_partitions: missing, refused, problems };
}
