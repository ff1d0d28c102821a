import { Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";

const STATUS = { status: "success", message: "pong!" } as const;

/** GET /api/v1/status: is anybody there? */
export async function statusRoutes(app: FastifyInstance): Promise<void> {
  const response = { 200: Type.Object({ status: Type.Literal(STATUS.status), message: Type.Literal(STATUS.message) }, { description: "The API is there." }) };
  app.get("/api/v1/status", { schema: { tags: ["status"], summary: "Is anybody there?", response } }, () => STATUS);
  return Promise.resolve();
}
