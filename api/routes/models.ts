import { anySignal } from "../../infra/abort-signals.js";
import multipart from "@fastify/multipart";
import { Type } from "@sinclair/typebox";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { loadArtifact } from "../../models/artifacts.js";
import { Manifest } from "../../models/manifest.js";
import type { Deployment, RegisteredModel } from "../../models/registry/control-state.js";
import { refusalsOf } from "../../models/registry/liveness.js";
import { deploy } from "../../models/registry/decisions.js";
import { UploadedManifest, UploadedSamples } from "../../models/uploads/upload.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import { disabled, enabled, withThresholds, type Decision } from "../deployments/decide.js";
import { historyOf } from "../deployments/history.js";
import { LIVE_WITHIN_MS, livenessNow, waitUntilLive } from "../deployments/liveness.js";
import { EpochSchema, LivenessSchema, ModelSummary, ModelView, ModelViews, livenessView } from "../deployments/model-views.js";
import { HttpProblem } from "../plugins/errors.js";
import { addModel, type ManifestValidator } from "../uploads/add-model.js";
import { MULTIPART_LIMITS, receiveUpload } from "../uploads/receive-upload.js";

const tags = ["models"];
const Params = Type.Object({ id: Type.String({ minLength: 1, maxLength: 200, description: "name@version" }) }, { additionalProperties: false });
const MOST_LISTED = 1_000;
const Page = Type.Object(
  { limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MOST_LISTED, default: MOST_LISTED })), after: Type.Optional(Type.String({ minLength: 1, maxLength: 200, description: "The id behind which the list goes on." })) },
  { additionalProperties: false },
);
const Role = Type.Union([Type.Literal("champion"), Type.Literal("shadow")]);
const Wait = Type.Object(
  { wait_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: LIVE_WITHIN_MS, default: LIVE_WITHIN_MS, description: "How long the answer may wait for the deployment to be live." })) },
  { additionalProperties: false },
);
const BaseEpoch = Type.Optional(Type.Union([Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), Type.Null()], { description: "The deployment that the caller knows (null: none): refused with 409 when another is in force. Also as If-Match." }));
const EnabledBody = Type.Object({ enabled: Type.Boolean(), role: Type.Optional(Role), epoch: BaseEpoch }, { additionalProperties: false, examples: [{ enabled: true, role: "champion" }] });
const ThresholdsBody = Type.Object({ review: Type.Number({ minimum: 0 }), decline: Type.Number({ minimum: 0, description: "Above 1: nothing is declined." }), epoch: BaseEpoch }, { additionalProperties: false, examples: [{ review: 0.4, decline: 0.8 }] });
const Deployed = Type.Object({ model: Type.String(), changed: Type.Boolean({ description: "false: it was so already." }), ...LivenessSchema.properties });
const deployedAnswers = { 200: Type.Object(Deployed.properties, { title: "Deployed", description: "The deployment is live." }), 202: Type.Object(Deployed.properties, { description: "Decided, but not live yet: the partitions that are missing, and what the workers complain of." }) };
const History = Type.Array(
  Type.Object({
    action: Type.Union([Type.Literal("registered"), Type.Literal("enabled"), Type.Literal("disabled"), Type.Literal("thresholds")]),
    at: Type.String({ format: "date-time" }),
    who: Type.String({ description: "A user's id, or system:…" }),
    epoch: EpochSchema,
    role: Type.Union([Role, Type.Null()]),
    review: Type.Union([Type.Number(), Type.Null()]),
    decline: Type.Union([Type.Number(), Type.Null()]),
    job: Type.Union([Type.String(), Type.Null()]),
  }, { title: "ModelChange" }),
  { description: "Oldest first." },
);

/** Checks at a time, in one copy of the API: each may take a processor and a gibibyte. */
const MOST_UPLOADS = 2;
const UploadBody = Type.Object(
  {
    manifest: UploadedManifest,
    model: Type.Unsafe<string>({ type: "string", format: "binary", description: "One ONNX file of at most 64 MiB: one float input [None, features], and an output with the probability of fraud, a float tensor or a ZipMap's." }),
    samples: UploadedSamples,
  },
  { additionalProperties: false, description: "Each part is a file or a field; manifest and samples are JSON." },
);

/** Models: looked at, put in force, and brought along. */
export async function modelRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { control, log } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const views = new ModelViews(context);
  // The end of the app doesn't wait for workers.
  const closing = new AbortController();
  app.addHook("preClose", (done) => {
    closing.abort();
    done();
  });

  const listAnswer = Type.Object({ epoch: EpochSchema, models: Type.Array(ModelSummary), next: Type.Union([Type.String(), Type.Null()], { description: "What to give as after for the rest; null: that is all." }), refused: LivenessSchema.properties.refused }, { description: "The deployment in force, and the models." });
  api.get("/api/v1/models", { config: { permission: "models:read" }, schema: { tags, summary: "The registered models, newest first", querystring: Page, response: { 200: listAnswer } } }, async (request) => {
    const { limit = MOST_LISTED, after } = request.query;
    const last = after === undefined ? null : await views.find(after);
    const { models, deployment } = control.state;
    const rest = [...models.values()].reverse();
    if (last !== null) rest.splice(0, rest.findIndex(({ model }) => model === last.model) + 1);
    const summaries = [];
    for (const model of rest.slice(0, limit)) summaries.push(await views.summary(model));
    return { epoch: deployment?.epoch ?? null, models: summaries, next: rest.length > limit ? rest[limit - 1].model : null, refused: refusalsOf(context.workers) };
  });

  api.get("/api/v1/models/:id", { config: { permission: "models:read" }, schema: { tags, summary: "A model: manifest, offline metrics, state", params: Params, response: { 200: ModelView } } }, async (request, reply) => {
    const registered = await views.find(request.params.id);
    const { deployment } = control.state;
    const summary = await views.summary(registered);
    if (deployment !== null) void reply.header("etag", `"${deployment.epoch}"`);
    const no_reasons = await views.noReasons(registered);
    return { ...summary, no_reasons, deployment: deployment === null || summary.state === "registered" ? null : livenessView(deployment.epoch, livenessNow(context, deployment.epoch)) };
  });

  api.get("/api/v1/models/:id/history", { config: { permission: "models:read" }, schema: { tags, summary: "Who did what to a model, and when", params: Params, response: { 200: History } } }, async (request) => {
    const { model } = await views.find(request.params.id);
    return historyOf(control.state, model).map(({ at, ...change }) => ({ ...change, at: new Date(at).toISOString() }));
  });

  const enabledSchema = { tags, summary: "Enable a model as champion or shadow, or disable it", description: "Rolling back is enabling an earlier version.", params: Params, querystring: Wait, body: EnabledBody, response: deployedAnswers };
  api.put("/api/v1/models/:id/enabled", { config: { permission: "deployments:write" }, schema: enabledSchema }, async (request, reply) => {
    const { enabled: enable, role, epoch } = request.body;
    if (enable && role === undefined) throw badField("role", "required", "is missing: champion or shadow");
    return decide(request, reply, epoch, async (deployment, registered) => {
      if (!enable || role === undefined) return disabled(deployment, registered.model, role);
      const thresholds = await readable(() => views.thresholdsOf(registered));
      const decision = enabled(deployment, { model: registered.model, ...thresholds }, role);
      // What is known to be broken isn't put in force.
      if (decision !== null) await readable(() => loadArtifact(context.config.artifacts, registered.model, registered.manifestSha256));
      return decision;
    });
  });

  const thresholdsSchema = { tags, summary: "Set the thresholds of an enabled model", params: Params, querystring: Wait, body: ThresholdsBody, response: deployedAnswers };
  api.put("/api/v1/models/:id/thresholds", { config: { permission: "deployments:write" }, schema: thresholdsSchema }, async (request, reply) => {
    const { epoch, ...thresholds } = request.body;
    if (thresholds.review > thresholds.decline) throw badField("review", "maximum", "is above the decline threshold");
    return decide(request, reply, epoch, (deployment, { model }) => Promise.resolve(withThresholds(deployment, model, thresholds)));
  });

  await app.register(multipart, { limits: MULTIPART_LIMITS });
  const validator = app.validatorCompiler?.({ schema: UploadedManifest, method: "POST", url: "/api/v1/models", httpPart: "body" }) as ManifestValidator | undefined;
  if (validator === undefined) throw new FraudstreamError("no_validator", "the model routes need the app's validator");
  const check = Type.Object({ rows: Type.Integer(), greatest_difference: Type.Number({ description: "Of a score and its expected one." }), ms_per_row: Type.Number({ description: "Of a call with one row, measured here." }), warnings: Type.Array(Type.String(), { description: "What the model gives no score for, though it is accepted." }) });
  const uploadSchema = { tags, summary: "Bring a model that was trained elsewhere", consumes: ["multipart/form-data"], body: UploadBody, response: { 201: Type.Object({ id: Type.String(), manifest: Manifest, check }, { description: "Stored and registered; not enabled." }) } };
  let uploads = 0;
  // The parts are checked as they are read, not by the schema that documents them.
  api.post("/api/v1/models", { config: { permission: "models:write" }, validatorCompiler: () => () => true, schema: uploadSchema }, async (request, reply) => {
    if (uploads >= MOST_UPLOADS) throw new HttpProblem(503, "busy", `${uploads} models are being checked`, { headers: { "retry-after": "5", connection: "close" } });
    uploads++;
    try {
      const { artifact, checked, samples } = await addModel(context, request.user.id, await receiveUpload(request), validator, abortedWith(reply));
      const id = artifact.manifest.model;
      log.info({ model: id, who: request.user.id }, "a model was uploaded");
      void reply.code(201).header("location", locationOf(id));
      return { id, manifest: artifact.manifest, check: { rows: samples, greatest_difference: checked.greatestDifference, ms_per_row: checked.msPerRow, warnings: checked.warnings } };
    } finally {
      uploads--;
    }
  });

  /**
   * Decides on the grounds of the deployment that this copy knows now, so that of two who decide at once one is told; then
   * waits until the decision is live.
   */
  async function decide(
    request: FastifyRequest<{ Params: { id: string }; Querystring: { wait_ms?: number } }>, reply: FastifyReply, epoch: number | null | undefined,
    choose: (deployment: Deployment | null, registered: RegisteredModel) => Promise<Decision | null>,
  ) {
    const known = control.state.deployment;
    const base = await checkedBase(known, epoch ?? (epoch === null ? -1 : ifMatch(request)));
    const registered = await views.find(request.params.id);
    const deployment = base === (known?.epoch ?? -1) ? known : control.state.deployment;
    const decision = await choose(deployment, registered);
    const decidedAt = performance.now();
    const inForce = decision === null ? (deployment?.epoch ?? null) : await context.produce((producer) => deploy(control, { who: request.user.id, producer }, decision, base));
    if (decision !== null) log.info({ epoch: inForce, model: registered.model, who: request.user.id }, "a deployment was decided");
    // Nothing was ever deployed, and nothing is to be: that is in force everywhere.
    if (inForce === null) return { model: registered.model, changed: false, epoch: -1, live: true, missing_partitions: [], refused: [], problems: [] };
    const liveness = await waitUntilLive(context, inForce, { timeoutMs: request.query.wait_ms ?? LIVE_WITHIN_MS, signal: abortedWith(reply) });
    if (decision !== null && liveness.live) context.metrics.swapSeconds.observe((performance.now() - decidedAt) / 1_000);
    void reply.code(liveness.live ? 200 : 202).header("etag", `"${inForce}"`);
    if (!liveness.live) void reply.header("location", locationOf(registered.model));
    return { model: registered.model, changed: decision !== null, ...livenessView(inForce, liveness) };
  }

  /** The base of a new deployment. @throws HttpProblem 409 when the caller's isn't what is in force */
  async function checkedBase(known: Deployment | null, asked: number | undefined): Promise<number> {
    const base = known?.epoch ?? -1;
    if (asked === undefined || asked === base) return base;
    // The caller may have it from a copy that is ahead of this one.
    if (asked > base) await control.readToEnd();
    const now = control.state.deployment?.epoch ?? -1;
    if (asked === now) return now;
    throw new HttpProblem(409, "conflict", `the deployment in force is ${now === -1 ? "none" : `epoch ${now}`}, not ${asked === -1 ? "none" : `epoch ${asked}`}; look at it again and repeat`);
  }

  /** Aborts when the caller is gone, or the app is closing. */
  function abortedWith(reply: FastifyReply): AbortSignal {
    const gone = new AbortController();
    reply.raw.once("close", () => gone.abort());
    return anySignal(gone.signal, closing.signal);
  }
}

/** The epoch of an If-Match header; undefined: any. */
function ifMatch({ headers }: FastifyRequest): number | undefined {
  const header = headers["if-match"];
  if (header === undefined || header === "*") return undefined;
  const epoch = /^"(\d{1,15})"$/.exec(header)?.[1];
  if (epoch === undefined) throw new HttpProblem(400, "invalid_request", 'If-Match must be the epoch in quotation marks, as in "12"', { errors: [{ in: "header", field: "if-match", code: "pattern", message: 'must be an epoch such as "12"' }] });
  return Number(epoch);
}

/** An artifact that can't be read can't be enabled; what is wrong with it is for operators to see. */
async function readable<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof FraudstreamError && ARTIFACT_PROBLEMS.has(error.code)) throw new HttpProblem(409, error.code, `the model's artifact can't be used (${error.code})`, { cause: error });
    throw error;
  }
}
const ARTIFACT_PROBLEMS = new Set(["artifact_missing", "artifact_corrupt", "manifest_invalid", "feature_hash_differs"]);

function badField(field: string, code: string, message: string): HttpProblem {
  return new HttpProblem(400, "invalid_request", `${field}: ${message}`, { errors: [{ in: "body", field, code, message }] });
}

function locationOf(model: string): string {
  return `/api/v1/models/${encodeURIComponent(model)}`;
}
