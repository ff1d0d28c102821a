import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { type Static, Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { loadManifest } from "../../models/artifacts.js";
import { DAY_MS, HOUR_MS } from "../../models/evaluation/stored-outcomes.js";
import type { DeployedModel } from "../../schemas/generated.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import { modelMetrics, type Role } from "../queries/metrics.js";
import { ModelMetrics } from "../queries/metrics-schema.js";
import type { TimeWindow } from "../queries/time-window.js";
import {
  invalidQuery,
  labelsField,
  LabelsChoice,
  maturedBefore,
  shownWindowFields,
  windowFields,
  windowOf,
} from "../queries/window-query.js";

/** Points of a series. */
const MOST_POINTS = 2_500;
/** Each day is a query of its own. */
const MOST_CARD_DAYS = 100;
const DEFAULT_CARDS = 100;

const MetricsQuery = Type.Object(
  {
    ...windowFields,
    ...labelsField,
    by: Type.Optional(Type.Union([Type.Literal("hour"), Type.Literal("day")], { description: "Also as a series." })),
    group: Type.Optional(
      Type.Union([Type.Literal("currency"), Type.Literal("decision")], {
        description: "Also by group; with by, each group has a series.",
      }),
    ),
    card_precision: Type.Optional(
      Type.Boolean({
        default: false,
        description: `Also card precision, over windows of up to ${MOST_CARD_DAYS} days.`,
      }),
    ),
    k: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 10_000,
        description: `With card_precision: cards that are looked at in a day; ${DEFAULT_CARDS} when it isn't given.`,
      }),
    ),
  },
  { additionalProperties: false },
);

const MetricsAnswer = Type.Object(
  {
    ...shownWindowFields,
    labels: LabelsChoice,
    models: Type.Array(ModelMetrics),
  },
  { description: "The metrics of every enabled model." },
);

/** GET /api/v1/models/metrics: how the enabled models do on the stream, computed by ClickHouse. */
export async function metricsRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { queries, config, control } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const schema = {
    tags: ["models"],
    summary: "Metrics of the enabled models",
    querystring: MetricsQuery,
    response: { 200: MetricsAnswer },
  };
  api.get("/api/v1/models/metrics", { config: { permission: "metrics:read" }, schema }, async (request, reply) =>
    queries.ask("heavy", request, reply, (clickhouse) => metricsOf(clickhouse, request.query)),
  );

  async function metricsOf(
    clickhouse: ClickHouseReader,
    query: Static<typeof MetricsQuery>,
  ): Promise<Static<typeof MetricsAnswer>> {
    const { labels = "matured", by, group, card_precision, k } = query;
    const { window, now, shown } = await windowOf(clickhouse, query);
    checkSeries(window, by);
    if (k !== undefined && !card_precision)
      throw invalidQuery([{ in: "query", field: "k", code: "conflict", message: "is for card_precision=true" }]);
    if (card_precision && (window.to - window.from) / DAY_MS > MOST_CARD_DAYS)
      throw invalidQuery([
        {
          in: "query",
          field: "card_precision",
          code: "range",
          message: `the window has more than ${MOST_CARD_DAYS} days: take a shorter one`,
        },
      ]);
    const matured = maturedBefore(labels, now, config.labelMaturityDays);

    const models: Static<typeof ModelMetrics>[] = [];
    for (const { deployed, role } of enabledModels(control.state.deployment)) {
      const [metrics, training_seconds] = await Promise.all([
        modelMetrics(clickhouse, {
          model: deployed.model,
          role,
          ...window,
          maturedBefore: matured,
          slices: { by, group },
          cardsADay: card_precision ? (k ?? DEFAULT_CARDS) : undefined,
        }),
        trainingSeconds(context, deployed.model),
      ]);
      models.push({ model: deployed.model, role, training_seconds, ...metrics });
    }
    return { ...shown, labels, models };
  }
  return Promise.resolve();
}

function enabledModels(
  deployment: { champion: DeployedModel | null; shadows: DeployedModel[] } | null,
): { deployed: DeployedModel; role: Role }[] {
  if (deployment === null) return [];
  const { champion, shadows } = deployment;
  return [
    ...(champion === null ? [] : [{ deployed: champion, role: "champion" as const }]),
    ...shadows.map((deployed) => ({ deployed, role: "shadow" as const })),
  ];
}

/** Null where the artifact can't be read any more; what the model did is known all the same. */
async function trainingSeconds({ config, log }: ApiContext, model: string): Promise<number | null> {
  try {
    return (await loadManifest(config.artifacts, model)).manifest.training.seconds;
  } catch (error) {
    if (!(error instanceof FraudstreamError)) throw error;
    log.warn({ err: error, model }, "metrics without the training time: its manifest can't be read");
    return null;
  }
}

function checkSeries({ from, to }: TimeWindow, by: "hour" | "day" | undefined): void {
  if (by === undefined || (to - from) / (by === "hour" ? HOUR_MS : DAY_MS) <= MOST_POINTS) return;
  throw invalidQuery([
    {
      in: "query",
      field: "by",
      code: "range",
      message:
        `the window has more than ${MOST_POINTS} ${by}s: take ${by === "hour" ? "days, or " : ""}a ` + "shorter window",
    },
  ]);
}
