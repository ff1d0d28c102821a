import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { type Static, Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { DRIFT_THRESHOLDS } from "../../models/evaluation/drift.js";
import type { Manifest } from "../../models/manifest.js";
import type { RegisteredModel } from "../../models/control/state.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import { ModelViews } from "../deployments/model-views.js";
import { modelDrift, type WindowDrift } from "../queries/drift.js";
import { ModelDrift } from "../queries/drift-schema.js";
import { windowFields, windowOf } from "../queries/window-query.js";

const Params = Type.Object(
  { id: Type.String({ minLength: 1, maxLength: 200, description: "name@version" }) },
  { additionalProperties: false },
);
/** A week: longer windows hold, soon after a beginning, what came while features' own windows were filling. */
const DEFAULT_WINDOW = "P7D";
const DriftQuery = Type.Object(
  {
    ...windowFields,
    window: Type.Optional({
      ...windowFields.window,
      description: `An ISO 8601 duration in event time that ends now; ${DEFAULT_WINDOW} when nothing is given.`,
    }),
    bins: Type.Optional(Type.Boolean({ default: false, description: "Also the shares of the bins." })),
  },
  { additionalProperties: false },
);

/** GET /api/v1/models/{id}/drift: how far the stream is from what a model was trained on. */
export async function driftRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { queries, log } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const views = new ModelViews(context);
  const schema = {
    tags: ["models"],
    summary: "Drift of a model's features and score",
    description:
      "The population stability index of every feature and of the score: the model's predictions of a " +
      "window, as champion or shadow, against its training rows (from when its windows were full, the newest " +
      "week at least), in bins of about a tenth of those each.",
    params: Params,
    querystring: DriftQuery,
    response: {
      200: {
        ...ModelDrift,
        title: "ModelDrift",
        description: "How far the features and the score have drifted from the training data.",
      },
    },
  };
  api.get(
    "/api/v1/models/:id/drift",
    { config: { permission: "metrics:read" }, schema },
    async (request, reply): Promise<ModelDrift> => {
      const registered = await views.find(request.params.id);
      return queries.ask("heavy", request, reply, (clickhouse) => driftOf(clickhouse, registered, request.query));
    },
  );

  async function driftOf(
    clickhouse: ClickHouseReader,
    registered: RegisteredModel,
    query: Static<typeof DriftQuery>,
  ): Promise<ModelDrift> {
    const { window, shown } = await windowOf(
      clickhouse,
      query.window === undefined && query.from === undefined && query.to === undefined
        ? { window: DEFAULT_WINDOW }
        : query,
    );
    const head = { model: registered.model, ...shown, thresholds: DRIFT_THRESHOLDS };
    const manifest = await manifestOrCause(registered);
    if (typeof manifest === "string") return { ...head, ...without(manifest) };
    const { drift: reference, features } = manifest;
    if (reference === undefined) return { ...head, ...without("no_reference") };
    return {
      ...head,
      ...(await modelDrift(clickhouse, {
        model: registered.model,
        features: features.map(({ name }) => name),
        reference,
        ...window,
        bins: query.bins ?? false,
      })),
    };
  }

  /** The code says why it can't be read. */
  async function manifestOrCause(registered: RegisteredModel): Promise<Manifest | string> {
    try {
      return await views.manifestOf(registered);
    } catch (error) {
      if (!(error instanceof FraudstreamError)) throw error;
      log.warn({ err: error, model: registered.model }, "no drift: the model's manifest can't be read");
      return error.code;
    }
  }
  return Promise.resolve();
}

function without(cause: string): WindowDrift {
  return { rows: null, reference_rows: null, verdict: null, cause, score: null, features: [] };
}
