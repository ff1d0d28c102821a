import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ApiContext } from "../context.js";
import { ModelViews } from "../deployments/model-views.js";
import { compareModels } from "../queries/compare.js";
import { ModelComparison } from "../queries/compare-schema.js";
import { invalidQuery, labelsField, maturedBefore, windowFields, windowOf } from "../queries/window-query.js";

const ModelId = (description: string) => Type.String({ minLength: 1, maxLength: 200, description });
const CompareQuery = Type.Object(
  {
    a: ModelId("name@version, usually the champion"),
    b: ModelId("name@version, usually a shadow"),
    ...windowFields,
    ...labelsField,
  },
  { additionalProperties: false },
);

/** GET /api/v1/models/compare: what two models made of the same transactions. */
export async function compareRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { queries, config } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const views = new ModelViews(context);
  const schema = {
    tags: ["models"],
    summary: "Two models on the same transactions",
    description:
      "The transactions of a window that both models scored, each as champion or as shadow: the metrics of " +
      "both, the decisions that differ, and the value that they move.",
    querystring: CompareQuery,
    response: { 200: { ...ModelComparison, title: "ModelComparison" } },
  };
  api.get(
    "/api/v1/models/compare",
    { config: { permission: "metrics:read" }, schema },
    async (request, reply): Promise<ModelComparison> => {
      const { query } = request;
      const { labels = "matured" } = query;
      if (query.a === query.b)
        throw invalidQuery([{ in: "query", field: "b", code: "conflict", message: "is the same model as a" }]);
      const [a, b] = [(await views.find(query.a)).model, (await views.find(query.b)).model];
      return queries.ask("heavy", request, reply, async (clickhouse) => {
        const { window, now, shown } = await windowOf(clickhouse, query);
        const comparison = await compareModels(clickhouse, {
          a,
          b,
          ...window,
          maturedBefore: maturedBefore(labels, now, config.labelMaturityDays),
        });
        return { ...shown, labels, ...comparison };
      });
    },
  );
  return Promise.resolve();
}
