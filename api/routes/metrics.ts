import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { type Static, Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { loadManifest } from "../../models/artifacts.js";
import { DAY_MS, HOUR_MS } from "../../models/evaluation/stored-outcomes.js";
import type { DeployedModel } from "../../schemas/generated.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import type { BadField } from "../plugins/bad-fields.js";
import { HttpProblem } from "../plugins/errors.js";
import { modelMetrics, newestEvent, type Role } from "../queries/metrics.js";
import { ModelMetrics } from "../queries/metrics-schema.js";
import { askedWindow, DEFAULT_WINDOW, resolveWindow, type TimeWindow } from "../queries/time-window.js";

/** Points of a series. */
const MOST_POINTS = 2_500;

const Time = Type.String({ format: "date-time", maxLength: 40 });
const MetricsQuery = Type.Object(
  {
    window: Type.Optional(Type.String({ maxLength: 60, description: `An ISO 8601 duration in event time that ends at the newest event, which it contains; ${DEFAULT_WINDOW} when nothing is given.` })),
    from: Type.Optional({ ...Time, description: "Instead of a window: the first event time, ISO 8601 with a zone." }),
    to: Type.Optional({ ...Time, description: "With from: event times before this one; up to the newest event when it isn't given." }),
    labels: Type.Optional(Type.Union([Type.Literal("matured"), Type.Literal("explicit")], {
      default: "matured",
      description: "matured: a transaction without a label counts as genuine once it is LABEL_MATURITY_DAYS older than the newest event, younger ones are left out. explicit: labelled ones only.",
    })),
    by: Type.Optional(Type.Union([Type.Literal("hour"), Type.Literal("day")], { description: "Also as a series." })),
    group: Type.Optional(Type.Union([Type.Literal("currency"), Type.Literal("decision")], { description: "Also by group; with by, each group has a series." })),
  },
  { additionalProperties: false },
);

const orNullTime = (description: string) => Type.Union([Type.String({ format: "date-time" }), Type.Null()], { description });
const MetricsAnswer = Type.Object(
  {
    from: orNullTime("The beginning of the window; null: nothing was scored yet."),
    to: orNullTime("Its end: the newest event, or the `to` that was asked for."),
    labels: Type.Union([Type.Literal("matured"), Type.Literal("explicit")]),
    models: Type.Array(ModelMetrics),
  },
  { description: "The metrics of every enabled model." },
);

/** GET /api/v1/models/metrics: how the enabled models do on the stream, computed by ClickHouse. */
export async function metricsRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { clickhouse, config, control } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const schema = { tags: ["models"], summary: "Metrics of the enabled models", querystring: MetricsQuery, response: { 200: MetricsAnswer } };
  api.get("/api/v1/models/metrics", { config: { permission: "metrics:read" }, schema }, async ({ query }): Promise<Static<typeof MetricsAnswer>> => {
    const { labels = "matured", by, group } = query;
    const asked = askedWindow(query);
    if (Array.isArray(asked)) throw invalid(asked);
    const newest = await newestEvent(clickhouse);
    // Without an event there is no window to speak of, and nothing in it.
    const window = resolveWindow(asked, newest ?? 0);
    checkSeries(window, by);
    const maturedBefore = labels === "explicit" || newest === null ? null : newest - config.labelMaturityDays * DAY_MS;

    const models: Static<typeof ModelMetrics>[] = [];
    for (const { deployed, role } of enabledModels(control.state.deployment)) {
      const [metrics, training_seconds] = await Promise.all([
        modelMetrics(clickhouse, { model: deployed.model, role, ...window, maturedBefore, slices: { by, group } }),
        trainingSeconds(context, deployed.model),
      ]);
      models.push({ model: deployed.model, role, training_seconds, ...metrics });
    }
    return { ...shownWindow(asked, window, newest), labels, models };
  });
  return Promise.resolve();
}

function enabledModels(deployment: { champion: DeployedModel | null; shadows: DeployedModel[] } | null): { deployed: DeployedModel; role: Role }[] {
  if (deployment === null) return [];
  const { champion, shadows } = deployment;
  return [...(champion === null ? [] : [{ deployed: champion, role: "champion" as const }]), ...shadows.map((deployed) => ({ deployed, role: "shadow" as const }))];
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
  throw invalid([{ in: "query", field: "by", code: "range", message: `the window has more than ${MOST_POINTS} ${by}s: take ${by === "hour" ? "days, or " : ""}a shorter window` }]);
}

/** A window that ends at the newest event is shown as it was asked for: its length is the duration. */
function shownWindow(asked: ReturnType<typeof askedWindow>, { from, to }: TimeWindow, newest: number | null): { from: string | null; to: string | null } {
  const iso = (time: number): string => new Date(time).toISOString();
  if ("from" in asked) return { from: iso(from), to: asked.to === null ? (newest === null ? null : iso(newest)) : iso(to) };
  return newest === null ? { from: null, to: null } : { from: iso(from - 1), to: iso(newest) };
}

function invalid(errors: BadField[]): HttpProblem {
  return new HttpProblem(400, "invalid_request", errors.map(({ field, message }) => `${field}: ${message}`).join("; "), { errors });
}
