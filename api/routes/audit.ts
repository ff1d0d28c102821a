import { Type, type Static } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ApiContext } from "../context.js";
import { cursorOf, listAnswerFields, listFields, readCursor } from "../lists.js";
import { AUDITED_ROUTES, OPERATIONS } from "../plugins/audit.js";
import { can } from "../users/roles.js";

const Time = Type.String({ format: "date-time", description: "ISO 8601 with a zone" });
const Query = Type.Object(
  {
    username: Type.Optional(
      Type.String({ maxLength: 64, description: "Whose entries; compared without regard to case." }),
    ),
    code: Type.Optional(
      Type.String({
        maxLength: 100,
        description: "why it was refused: wrong_credentials, too_many_requests, forbidden, …",
      }),
    ),
    from: Type.Optional(Time),
    to: Type.Optional(Time),
    ...listFields(1_000, 100),
  },
  { additionalProperties: false },
);
const Entry = Type.Object(
  {
    at: Type.String({ format: "date-time" }),
    request_id: Type.String(),
    user_id: Type.String(),
    username: Type.String({ description: "[unknown]: a sign-in with an unknown name" }),
    role: Type.String(),
    address: Type.String(),
    method: Type.String(),
    route: Type.String(),
    url: Type.String(),
    status: Type.Integer(),
    code: Type.String({ description: "of the problem; empty: none" }),
    changes: Type.Unknown({
      description: "Of labels: each transaction with its previous label (null: none) and its new one.",
    }),
  },
  {
    title: "AuditEntry",
    examples: [
      {
        at: "2026-11-22T09:30:00.125Z",
        request_id: "b0b9a2f4-6f0e-4a52-9d3c-0d1b6a1f7c11",
        user_id: "7f2d0c52-5f6c-4d3e-8a42-1f1c9a0a3b77",
        username: "ann",
        role: "operator",
        address: "192.0.2.7",
        method: "PUT",
        route: "/api/v1/models/:id/thresholds",
        url: "/api/v1/models/cards@1/thresholds",
        status: 200,
        code: "",
        changes: null,
      },
    ],
  },
);

const between = (table: string): string =>
  `${table}.at >= parseDateTime64BestEffort({from: String}, 3, 'UTC') AND ${table}.at <= ` +
  "parseDateTime64BestEffort({to: String}, 3, 'UTC')";
const TRAIL = (operations: boolean): string => `
  FROM (SELECT * FROM requests FINAL WHERE ${AUDITED_ROUTES}${operations ? ` AND ${OPERATIONS}` : ""} AND ({username:
    String} = '' OR lower(username) = lower({username: String})) AND ${between("requests")}) AS q
  INNER JOIN (SELECT * FROM responses FINAL WHERE ${between("responses")}) AS a ON a.request_id = q.request_id
  WHERE ({code: String} = '' OR code = {code: String})`;
const ENTRIES = (operations: boolean): string => `
  SELECT formatDateTime(q.at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC') AS at, q.request_id AS request_id, q.user_id AS user_id,
    username, role, address, q.method AS method, q.route AS route, url, status, code,
    if(q.route = '/api/v1/labels', JSONExtractRaw(a.body, 'changes'), '') AS changes, toUnixTimestamp64Milli(q.at) AS ms
  ${TRAIL(operations)} AND ({before: Int64} = 0 OR (toUnixTimestamp64Milli(q.at), q.request_id) < ({before: Int64},
    {before_id: String}))
  ORDER BY q.at DESC, q.request_id DESC LIMIT {limit: UInt32}`;

interface Row extends Omit<Static<typeof Entry>, "changes"> {
  changes: string;
  ms: number;
}

/** GET /api/v1/audit: who signed in, or tried to, and who changed what. */
export function auditRoutes(app: FastifyInstance, { queries }: ApiContext): Promise<void> {
  const schema = {
    tags: ["users"],
    summary: "Who signed in or tried to, and who changed what, newest first",
    description:
      "Admins see everything; operators see changes of models, deployments, training jobs, labels and dead " +
      "letters, by anybody.",
    querystring: Query,
    response: {
      200: Type.Object(
        { entries: Type.Array(Entry), ...listAnswerFields },
        { description: "A few seconds behind; kept as long as the request log." },
      ),
    },
  };
  app.get<{ Querystring: Static<typeof Query> }>(
    "/api/v1/audit",
    { config: { permission: ["audit:read", "audit:read-operations"] }, schema },
    async (request, reply) =>
      queries.ask("lookup", request, reply, async (clickhouse) => {
        const {
          username = "",
          code = "",
          from = "1971-01-01T00:00:00Z",
          to = "2200-01-01T00:00:00Z",
          limit = 100,
          cursor,
        } = request.query;
        const operations = !can(request.user.role, "audit:read");
        const [before, before_id] = cursor === undefined ? [0, ""] : readCursor(cursor, ["number", "string"]);
        const params = { username, code, from, to };
        const rows = await clickhouse.query<Row>(ENTRIES(operations), { ...params, before, before_id, limit });
        const [{ total }] = await clickhouse.query<{ total: number }>(
          `SELECT count() AS total ${TRAIL(operations)}`,
          params,
        );
        const last = rows.at(-1);
        return {
          entries: rows.map(({ changes, ms: _, ...entry }) => ({ ...entry, changes: parsed(changes) })),
          total,
          next_cursor: rows.length < limit || last === undefined ? null : cursorOf(last.ms, last.request_id),
        };
      }),
  );
  return Promise.resolve();
}

/** A value that was too long is shown as far as it was kept. */
function parsed(changes: string): unknown {
  if (changes === "") return null;
  try {
    return JSON.parse(changes) as unknown;
  } catch {
    return changes;
  }
}
