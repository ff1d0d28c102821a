import { Type, type Static } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ApiContext } from "../context.js";
import { AUDITED_ROUTES } from "../plugins/audit.js";

const Time = Type.String({ format: "date-time", description: "ISO 8601 with a zone" });
const Query = Type.Object({
  username: Type.Optional(Type.String({ maxLength: 64 })),
  code: Type.Optional(Type.String({ maxLength: 100, description: "why it was refused: wrong_credentials, too_many_requests, forbidden, …" })),
  from: Type.Optional(Time),
  to: Type.Optional(Time),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000, default: 100 })),
}, { additionalProperties: false });
const Entry = Type.Object({
  at: Type.String(), request_id: Type.String(), user_id: Type.String(), username: Type.String({ description: "[unknown]: a sign-in under a name that nobody has" }), role: Type.String(),
  address: Type.String(), method: Type.String(), route: Type.String(), url: Type.String(), status: Type.Integer(), code: Type.String({ description: "of the problem; empty: none" }),
}, { title: "AuditEntry" });

const TRAIL = `
  SELECT formatDateTime(q.at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC') AS at, q.request_id AS request_id, q.user_id AS user_id, username, role, address, q.method AS method, q.route AS route, url, status, code
  FROM (SELECT * FROM requests FINAL WHERE ${AUDITED_ROUTES} AND ({username: String} = '' OR lower(username) = lower({username: String}))
    AND requests.at >= parseDateTime64BestEffort({from: String}, 3, 'UTC') AND requests.at <= parseDateTime64BestEffort({to: String}, 3, 'UTC')) AS q
  INNER JOIN (SELECT * FROM responses FINAL WHERE responses.at >= parseDateTime64BestEffort({from: String}, 3, 'UTC') AND responses.at <= parseDateTime64BestEffort({to: String}, 3, 'UTC')) AS a ON a.request_id = q.request_id
  WHERE {code: String} = '' OR code = {code: String}
  ORDER BY q.at DESC, q.request_id LIMIT {limit: UInt32}`;

/** GET /api/v1/audit: who signed in, or tried to, and who changed what. */
export function auditRoutes(app: FastifyInstance, { clickhouse }: ApiContext): Promise<void> {
  app.get<{ Querystring: Static<typeof Query> }>(
    "/api/v1/audit",
    { config: { permission: "audit:read" }, schema: { tags: ["users"], summary: "Who signed in or tried to, and who changed what, newest first", querystring: Query, response: { 200: Type.Object({ entries: Type.Array(Entry) }, { description: "A few seconds behind; kept as long as the request log." }) } } },
    async ({ query: { username = "", code = "", from = "1971-01-01T00:00:00Z", to = "2200-01-01T00:00:00Z", limit = 100 } }) => ({ entries: await clickhouse.query<Static<typeof Entry>>(TRAIL, { username, code, from, to, limit }) }),
  );
  return Promise.resolve();
}
