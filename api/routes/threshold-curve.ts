import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { type Static, Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import type { RegisteredModel } from "../../models/control/state.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import type { Thresholds } from "../deployments/decide.js";
import { ModelViews } from "../deployments/model-views.js";
import { ThresholdCurve, thresholdCurve } from "../queries/threshold-curve.js";
import { labelsField, maturedBefore, windowFields, windowOf } from "../queries/window-query.js";

const MOST_POINTS = 200;
const USUAL_POINTS = 99;
const Params = Type.Object(
  { id: Type.String({ minLength: 1, maxLength: 200, description: "name@version" }) },
  { additionalProperties: false },
);
const CurveQuery = Type.Object(
  {
    ...windowFields,
    ...labelsField,
    points: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MOST_POINTS,
        default: USUAL_POINTS,
        description:
          `Thresholds, at even distances between 0 and 1: ${USUAL_POINTS} are 0.01, 0.02 and so on to 0.99. ` +
          "The model's present ones come beside them.",
      }),
    ),
    threshold: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: "One more, such as 0.305." })),
  },
  { additionalProperties: false },
);

/** GET /api/v1/models/{id}/thresholds/curve: how many alerts a threshold would make, and what they would catch. */
export async function thresholdCurveRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { queries, config, log } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const views = new ModelViews(context);
  const schema = {
    tags: ["models"],
    summary: "Alerts per day, precision, recall and value caught for each threshold",
    description:
      "Computed from the scores that the model gave in a window, as champion or shadow, whatever the " +
      "decision was: what each threshold would have meant. Choose one, and set it with PUT " +
      "/api/v1/models/{id}/thresholds.",
    params: Params,
    querystring: CurveQuery,
    response: { 200: ThresholdCurve },
  };
  api.get(
    "/api/v1/models/:id/thresholds/curve",
    { config: { permission: "metrics:read" }, schema },
    async (request, reply): Promise<ThresholdCurve> => {
      const registered = await views.find(request.params.id);
      const thresholds = await presentThresholds(registered);
      return queries.ask("heavy", request, reply, (clickhouse) =>
        curveOf(clickhouse, registered.model, thresholds, request.query),
      );
    },
  );

  async function curveOf(
    clickhouse: ClickHouseReader,
    model: string,
    thresholds: Thresholds | null,
    query: Static<typeof CurveQuery>,
  ): Promise<ThresholdCurve> {
    const { labels = "matured", points = USUAL_POINTS, threshold } = query;
    const { window, now, shown } = await windowOf(clickhouse, query);
    // A quotient is the same number as the literal that a person writes: 30 / 100 is 0.3.
    const grid = [
      ...Array.from({ length: points }, (_, i) => (i + 1) / (points + 1)),
      ...(threshold === undefined ? [] : [threshold]),
    ];
    return {
      model,
      ...shown,
      labels,
      ...(await thresholdCurve(clickhouse, {
        model,
        ...window,
        maturedBefore: maturedBefore(labels, now, config.labelMaturityDays),
        grid,
        thresholds,
      })),
    };
  }

  async function presentThresholds(registered: RegisteredModel): Promise<Thresholds | null> {
    try {
      const { review, decline } = await views.thresholdsOf(registered);
      return { review, decline };
    } catch (error) {
      if (!(error instanceof FraudstreamError)) throw error;
      log.warn(
        { err: error, model: registered.model },
        "a curve without the present thresholds: the model's manifest can't be read",
      );
      return null;
    }
  }
  return Promise.resolve();
}
