import { Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";

const STATUS = { status: "success", message: "pong!" } as const;

/** GET /api/v1/status: whether the API answers. */
export async function statusRoutes(app: FastifyInstance): Promise<void> {
  const response = {
    200: Type.Object(
      { status: Type.Literal(STATUS.status), message: Type.Literal(STATUS.message) },
      { description: "The API answers." },
    ),
  };
  // Until there is a console.
  app.get("/", { schema: { hide: true } }, (_request, reply) => reply.redirect("/doc/"));
  app.get(
    "/api/v1/status",
    {
      schema: {
        tags: ["status"],
        summary: "Whether the API answers",
        description: "Needs neither Kafka nor ClickHouse; /health/ready says whether it can do its work.",
        response,
      },
    },
    () => STATUS,
  );
  return Promise.resolve();
}
