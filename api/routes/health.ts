import { Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ApiContext } from "../context.js";
import { metricsText } from "../../infra/metrics/registry.js";
import { within } from "../../infra/async/within.js";
import { KafkaError } from "../../infra/kafka/errors.js";
import { HttpProblem } from "../plugins/errors.js";
import { lookAtConditions } from "../watch-conditions.js";
import { systemGauges } from "../system-gauges.js";

const PATIENCE_MS = 2_000;

/** Probes and Prometheus. */
export async function healthRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { config, control, users, clickhouse, metrics, conditions } = context;
  const tags = ["health"];
  const gauges = systemGauges(context);
  const text = metricsText(metrics.registry);
  app.addHook("onClose", () => gauges.close());

  app.get(
    "/health/live",
    {
      schema: {
        tags,
        summary: "Whether the process is alive",
        response: { 200: Type.Object({ status: Type.Literal("live") }, { description: "The process is alive." }) },
      },
    },
    () => ({ status: "live" }),
  );

  const Condition = Type.Object(
    {
      code: Type.String(),
      message: Type.String(),
      blocking: Type.Boolean(),
      since: Type.Integer({ description: "Epoch milliseconds." }),
    },
    {
      examples: [
        {
          code: "broker_silent",
          message: "the Kafka broker 10.0.0.4:9092 does not answer",
          blocking: false,
          since: 1_795_340_000_000,
        },
      ],
    },
  );
  const Checks = Type.Object(
    {
      status: Type.String({
        description: "ready; degraded: the API answers, but something around it is not working; not ready.",
      }),
      kafka: Type.String(),
      deployment: Type.String(),
      clickhouse: Type.String(),
      conditions: Type.Array(Condition, { description: "Why it is degraded or not ready." }),
    },
    { description: "The state of what the API needs, and of what else is not working." },
  );
  app.get(
    "/health/ready",
    { schema: { tags, summary: "Whether the API is ready", response: { 200: Checks, 503: Checks } } },
    async (_request, reply) => {
      const [kafka, stored] = await Promise.all([
        answers(async () => {
          // A topic that was recreated is a condition: Kafka answers.
          await users.readToEnd().catch((error: unknown) => {
            if (!(error instanceof KafkaError && error.replaced)) throw error;
          });
          return true;
        }),
        answers(() => clickhouse.ping()),
      ]);
      const deployed = control.state.deployment?.champion !== null && control.state.deployment !== null;
      lookAtConditions(context);
      conditions.set(
        !stored,
        "clickhouse_down",
        "",
        () =>
          "ClickHouse does not answer: metrics and stored predictions can't be had, what is scored meanwhile " +
          "is stored later",
        { blocking: false },
      );
      const ready = kafka && deployed && !conditions.blocking;
      const held = conditions.list();
      return reply.code(ready ? 200 : 503).send({
        status: !ready ? "not ready" : held.length > 0 ? "degraded" : "ready",
        conditions: held.map((condition) => ({ ...condition })),
        kafka: kafka ? "up" : "down",
        deployment: deployed ? "in force" : "none",
        clickhouse: stored ? "up" : "down",
      });
    },
  );

  app.get(
    "/metrics",
    {
      schema: {
        tags,
        summary: "Prometheus metrics",
        produces: ["text/plain"],
        response: { 200: Type.String({ description: "Prometheus text format." }) },
      },
    },
    async (_request, reply) => {
      if (!config.http.metricsOpen) throw new HttpProblem("not_found", "there is no such route");
      return reply.type(metrics.registry.contentType).send(await text());
    },
  );
  return Promise.resolve();
}

/** True when something says yes soon. */
async function answers(ask: () => Promise<boolean>): Promise<boolean> {
  return within(PATIENCE_MS, ask(), () => new Error("no answer came in time")).catch(() => false);
}
