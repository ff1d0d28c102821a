import { anySignal } from "../../infra/async/abort-signals.js";
import multipart from "@fastify/multipart";
import { Type } from "@sinclair/typebox";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { FastifyInstance, FastifyReply } from "fastify";
import { loadArtifact } from "../../models/artifacts.js";
import { Manifest } from "../../models/manifest.js";
import { refusalsOf } from "../../models/control/liveness.js";
import { UploadedSamples } from "../../models/uploads/samples.js";
import { UploadedManifest } from "../../models/uploads/upload.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import { CoverageSchema, attributeCoverage, coverageView } from "../deployments/attribute-coverage.js";
import { disabled, enabled, withThresholds } from "../deployments/decide.js";
import { BaseEpoch, Deployed, Deployer, Wait, locationOf, readable } from "../deployments/deployer.js";
import { historyOf } from "../deployments/history.js";
import { livenessNow } from "../deployments/liveness.js";
import {
  EpochSchema,
  LivenessSchema,
  ModelSummary,
  ModelView,
  ModelViews,
  livenessView,
} from "../deployments/model-views.js";
import { cursorOf, listAnswerFields, listFields, pageOf, sortField } from "../lists.js";
import { HttpProblem } from "../plugins/errors.js";
import { nameOf } from "../users/names.js";
import { addModel, type ManifestValidator } from "../uploads/add-model.js";
import { MULTIPART_LIMITS, receiveUpload } from "../uploads/receive-upload.js";
import { UploadSlots } from "../uploads/upload-slots.js";

const tags = ["models"];
const Params = Type.Object(
  { id: Type.String({ minLength: 1, maxLength: 200, description: "name@version" }) },
  { additionalProperties: false },
);
const MOST_LISTED = 1_000;
const Page = Type.Object(
  {
    ...listFields(MOST_LISTED, MOST_LISTED),
    sort: sortField(["-registered_at", "registered_at", "id", "-id"]),
    after: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        deprecated: true,
        description: "The id after which the list continues; cursor does the same.",
      }),
    ),
  },
  { additionalProperties: false },
);
const Role = Type.Union([Type.Literal("champion"), Type.Literal("shadow")]);
const EnabledBody = Type.Object(
  { enabled: Type.Boolean(), role: Type.Optional(Role), epoch: BaseEpoch },
  { additionalProperties: false, examples: [{ enabled: true, role: "champion" }] },
);
const ThresholdsBody = Type.Object(
  {
    review: Type.Number({ minimum: 0 }),
    decline: Type.Number({ minimum: 0, description: "Above 1: nothing is declined." }),
    epoch: BaseEpoch,
  },
  { additionalProperties: false, examples: [{ review: 0.4, decline: 0.8 }] },
);
const deployedAnswers = {
  200: Type.Object(Deployed.properties, { title: "Deployed", description: "The deployment is live." }),
  202: Type.Object(Deployed.properties, {
    description: "Decided, but not live yet: the missing partitions, the workers that refuse it, and their problems.",
  }),
};
const Enabled = Type.Object({
  ...Deployed.properties,
  attributes: Type.Union([CoverageSchema, Type.Null()]),
  warnings: Type.Array(Type.String(), { description: "What the model may be missing in the stream." }),
});
const enabledAnswers = {
  200: Type.Object(Enabled.properties, { title: "Enabled", description: "The deployment is live." }),
  202: Type.Object(Enabled.properties, {
    description: "Decided, but not live yet: the missing partitions, the workers that refuse it, and their problems.",
  }),
};
const History = Type.Array(
  Type.Object(
    {
      action: Type.Union([
        Type.Literal("registered"),
        Type.Literal("enabled"),
        Type.Literal("disabled"),
        Type.Literal("thresholds"),
      ]),
      at: Type.String({ format: "date-time" }),
      who: Type.String({ description: "A user's id, or system:…" }),
      who_name: Type.Union([Type.String(), Type.Null()], { description: "Null: the user no longer exists." }),
      epoch: EpochSchema,
      role: Type.Union([Role, Type.Null()]),
      review: Type.Union([Type.Number(), Type.Null()]),
      decline: Type.Union([Type.Number(), Type.Null()]),
      job: Type.Union([Type.String(), Type.Null()]),
    },
    { title: "ModelChange" },
  ),
  { description: "Oldest first." },
);

/** Checks at a time, in one copy of the API: each may take a processor and a gibibyte. */
const MOST_UPLOADS = 2;
const UploadBody = Type.Object(
  {
    manifest: UploadedManifest,
    model: Type.Unsafe<string>({
      type: "string",
      format: "binary",
      description:
        "One ONNX file of at most 64 MiB: inputs of numbers, booleans or texts ([None, n] or [None]), and an output " +
        "with the probability of fraud, a float tensor or a ZipMap's.",
    }),
    samples: UploadedSamples,
  },
  { additionalProperties: false, description: "Each part is a file or a field; manifest and samples are JSON." },
);

const UploadCheck = Type.Object({
  rows: Type.Integer(),
  greatest_difference: Type.Number({ description: "Between a score and the expected one." }),
  differing_rows: Type.Integer({ description: "Rows that differ by more, as the manifest's tolerance lets them." }),
  ms_per_row: Type.Number({ description: "Of a call with one row, measured here." }),
  warnings: Type.Array(Type.String(), {
    description: "Inputs that the model gives no score for, although it is accepted.",
  }),
});

/** Models: listing, deploying, uploading. */
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
  const deployer = new Deployer(context, (reply) => abortedWith(reply));

  const listAnswer = Type.Object(
    {
      epoch: EpochSchema,
      models: Type.Array(ModelSummary),
      ...listAnswerFields,
      next: Type.Union([Type.String(), Type.Null()], {
        deprecated: true,
        description: "The value of after for the rest; null: there is no more.",
      }),
      refused: LivenessSchema.properties.refused,
    },
    { description: "The deployment in force, and the models." },
  );
  api.get(
    "/api/v1/models",
    {
      config: { permission: "models:read" },
      schema: {
        tags,
        summary: "The registered models, newest first",
        querystring: Page,
        response: { 200: listAnswer },
      },
    },
    async (request) => {
      const { limit = MOST_LISTED, after, sort, cursor } = request.query;
      const last = after === undefined ? null : await views.find(after);
      const { models, deployment } = control.state;
      const all = [...models.values()];
      if (sort?.endsWith("id")) all.sort((a, b) => a.model.localeCompare(b.model, "en", { numeric: true }));
      if (sort === undefined || sort.startsWith("-")) all.reverse();
      const { page, total, next_cursor } = pageOf(all, ({ model }) => model, {
        limit,
        cursor: cursor ?? (last === null ? undefined : cursorOf(last.model)),
      });
      const summaries = [];
      for (const model of page) summaries.push(await views.summary(model));
      return {
        epoch: deployment?.epoch ?? null,
        models: summaries,
        total,
        next_cursor,
        next: next_cursor === null ? null : page[page.length - 1].model,
        refused: refusalsOf(context.workers),
      };
    },
  );

  api.get(
    "/api/v1/models/:id",
    {
      config: { permission: "models:read" },
      schema: {
        tags,
        summary: "A model: manifest, offline metrics, state",
        params: Params,
        response: { 200: ModelView },
      },
    },
    async (request, reply) => {
      const registered = await views.find(request.params.id);
      const { deployment } = control.state;
      const summary = await views.summary(registered);
      if (deployment !== null) void reply.header("etag", `"${deployment.epoch}"`);
      const no_reasons = await views.noReasons(registered);
      return {
        ...summary,
        no_reasons,
        deployment:
          deployment === null || summary.state === "registered"
            ? null
            : livenessView(deployment.epoch, livenessNow(context, deployment.epoch)),
      };
    },
  );

  api.get(
    "/api/v1/models/:id/history",
    {
      config: { permission: "models:read" },
      schema: { tags, summary: "Who did what to a model, and when", params: Params, response: { 200: History } },
    },
    async (request) => {
      const { model } = await views.find(request.params.id);
      return historyOf(control.state, model).map(({ at, ...change }) => ({
        ...change,
        who_name: nameOf(context.users, change.who),
        at: new Date(at).toISOString(),
      }));
    },
  );

  const enabledSchema = {
    tags,
    summary: "Enable a model as champion or shadow, or disable it",
    description: "To roll back, POST /api/v1/deployments/undo brings the earlier deployment back as a whole.",
    params: Params,
    querystring: Wait,
    body: EnabledBody,
    response: enabledAnswers,
  };
  api.put(
    "/api/v1/models/:id/enabled",
    { config: { permission: "deployments:write" }, schema: enabledSchema },
    async (request, reply) => {
      const { enabled: enable, role, epoch } = request.body;
      if (enable && role === undefined) throw badField("role", "required", "is missing: champion or shadow");
      const registered = await views.find(request.params.id);
      const attributes = enable
        ? views
            .manifestOf(registered)
            .then(({ features }) => attributeCoverage(context.clickhouse, features))
            .catch(() => null)
        : Promise.resolve(null);
      const answer = await deployer.decide(request, reply, epoch, registered.model, async (deployment) => {
        if (!enable || role === undefined) return disabled(deployment, registered.model, role);
        const thresholds = await readable(() => views.thresholdsOf(registered));
        const decision = enabled(deployment, { model: registered.model, ...thresholds }, role);
        // What is known to be broken isn't put in force.
        if (decision !== null)
          await readable(() => loadArtifact(context.config.artifacts, registered.model, registered.manifestSha256));
        return decision;
      });
      return { ...answer, ...coverageView(await attributes) };
    },
  );

  const thresholdsSchema = {
    tags,
    summary: "Set the thresholds of an enabled model",
    params: Params,
    querystring: Wait,
    body: ThresholdsBody,
    response: deployedAnswers,
  };
  api.put(
    "/api/v1/models/:id/thresholds",
    { config: { permission: "deployments:write" }, schema: thresholdsSchema },
    async (request, reply) => {
      const { epoch, ...thresholds } = request.body;
      if (thresholds.review > thresholds.decline) throw badField("review", "maximum", "is above the decline threshold");
      const { model } = await views.find(request.params.id);
      return deployer.decide(request, reply, epoch, model, (deployment) =>
        Promise.resolve(withThresholds(deployment, model, thresholds)),
      );
    },
  );

  await app.register(multipart, { limits: MULTIPART_LIMITS });
  const validator = app.validatorCompiler?.({
    schema: UploadedManifest,
    method: "POST",
    url: "/api/v1/models",
    httpPart: "body",
  }) as ManifestValidator | undefined;
  if (validator === undefined) throw new FraudstreamError("no_validator", "the model routes need the app's validator");
  const uploadSchema = {
    tags,
    summary: "Upload a model that was trained elsewhere",
    consumes: ["multipart/form-data"],
    body: UploadBody,
    response: {
      201: Type.Object(
        { id: Type.String(), manifest: Manifest, check: UploadCheck },
        { description: "Stored and registered; not enabled." },
      ),
    },
  };
  let uploads = 0;
  const slots = new UploadSlots();
  // The parts are checked as they are read, not by the schema that documents them.
  api.post(
    "/api/v1/models",
    { config: { permission: "models:write" }, validatorCompiler: () => () => true, schema: uploadSchema },
    async (request, reply) => {
      const received = await slots.receive(request, reply, () => receiveUpload(request));
      if (uploads >= MOST_UPLOADS)
        throw new HttpProblem("busy", `${uploads} models are being checked`, {
          headers: { "retry-after": "5", connection: "close" },
        });
      uploads++;
      try {
        const { artifact, checked, samples } = await addModel(
          context,
          request.user.id,
          received,
          validator,
          abortedWith(reply),
        );
        const id = artifact.manifest.model;
        log.info({ model: id, who: request.user.id }, "a model was uploaded");
        void reply.code(201).header("location", locationOf(id));
        return {
          id,
          manifest: artifact.manifest,
          check: {
            rows: samples,
            greatest_difference: checked.greatestDifference,
            differing_rows: checked.differingRows,
            ms_per_row: checked.msPerRow,
            warnings: checked.warnings,
          },
        };
      } finally {
        uploads--;
      }
    },
  );

  /** Aborts when the caller is gone, or the app is closing. */
  function abortedWith(reply: FastifyReply): AbortSignal {
    const gone = new AbortController();
    reply.raw.once("close", () => gone.abort());
    return anySignal(gone.signal, closing.signal);
  }
}

function badField(field: string, code: string, message: string): HttpProblem {
  return new HttpProblem("invalid_request", `${field}: ${message}`, { errors: [{ in: "body", field, code, message }] });
}
