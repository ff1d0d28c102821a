import { isDeepStrictEqual } from "node:util";
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import { Type } from "@sinclair/typebox";
import type { FastifyInstance, FastifySchema } from "fastify";
import { withExamples } from "./examples.js";
import { FraudstreamError } from "../../schemas/errors.js";

/** How every error looks: RFC 9457. */
const ProblemSchema = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    code: Type.String({ description: "Stable, for programs to compare; schemas/ERRORS.md lists them." }),
    detail: Type.String({ description: "Human-readable." }),
    request_id: Type.String({ description: "Also in the log, and the x-request-id header." }),
    errors: Type.Optional(
      Type.Array(
        Type.Object({
          in: Type.Optional(Type.String()),
          field: Type.String(),
          code: Type.Optional(Type.String()),
          message: Type.String(),
        }),
        { description: "Each invalid field, by name." },
      ),
    ),
  },
  { description: "An error.", title: "Problem" },
);

/**
 * /doc is Swagger UI, /doc/json the OpenAPI 3.1 document, made of the same schemas that requests are checked against.
 */
export async function openapi(app: FastifyInstance): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "fraudstream",
        version: "1",
        license: { name: "Apache-2.0", identifier: "Apache-2.0" },
        description: [
          "Trains, enables and measures fraud models, and scores transactions.",
          "Sign in with POST /api/v1/tokens and send the token as `Authorization: Bearer <token>`. A service " +
            "scores and labels; an analyst reads models, metrics and predictions, and labels; an operator " +
            "trains, enables, and sends dead letters again; an admin may do all and manages users.",
          "Errors are `application/problem+json` (RFC 9457) with a stable `code`, and name every field that " +
            "is wrong. Parameters and fields that a route doesn't have are refused. 429 and 503 carry " +
            "Retry-After.",
          "Lists take `limit` and `cursor`, and answer with `total` and `next_cursor`, null on the last " +
            "page. Times are ISO 8601 with a zone.",
        ].join("\n\n"),
      },
      servers: [{ url: "/" }],
      tags: ["status", "users", "training", "models", "predictions", "labels", "dead letters", "schemas", "health"].map(
        (name) => ({ name }),
      ),
      components: {
        securitySchemes: { token: { type: "http", scheme: "bearer", bearerFormat: "JWT" } },
        schemas: { Problem: plain(ProblemSchema) },
      },
    },
    hideUntagged: true,
    transform: ({ schema, url, route }) => {
      const permission = route.config?.permission;
      const documented: FastifySchema = { ...schema };
      documented.response = { ...(schema?.response as Record<string, unknown> | undefined), default: problemResponse };
      if (permission !== undefined) documented.security = [{ token: [] }];
      documented.operationId = schema?.operationId ?? operationId(String(route.method), url);
      return { schema: documented, url };
    },
    transformObject: (document) =>
      "openapiObject" in document ? withComponents(document.openapiObject) : document.swaggerObject,
  });
  await app.register(swaggerUi, {
    routePrefix: "/doc",
    staticCSP: PAGES_POLICY,
    uiConfig: { persistAuthorization: false, validatorUrl: null, docExpansion: "list" },
    logo: { type: "image/svg+xml", content: Buffer.from(LOGO), href: "/doc/", target: "_self" },
    theme: {
      title: "fraudstream API",
      favicon: [
        { filename: "fraudstream.svg", rel: "icon", sizes: "any", type: "image/svg+xml", content: Buffer.from(ICON) },
      ],
    },
  });
}

const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" ' +
  'fill="#123"/><path d="M4 20h6l3-11 5 16 3-9h7" fill="none" stroke="#4db" stroke-width="2.5"/></svg>';
const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" width="180" height="32" viewBox="0 0 180 32"><path d="M4 ' +
  '20h6l3-11 5 16 3-9h7" fill="none" stroke="#4db" stroke-width="2.5"/><text x="38" y="22" ' +
  'font-family="sans-serif" font-size="20" fill="#fff">fraudstream</text></svg>';

/** What Swagger UI needs, and no more: it sets styles itself, and nothing comes from, or is told to, another host. */
const PAGES_POLICY =
  "default-src 'none'; base-uri 'none'; connect-src 'self'; font-src 'self'; form-action 'none'; " +
  "frame-ancestors 'none'; img-src 'self' data:; script-src 'self'; style-src 'self' 'unsafe-inline'";

const problemResponse = {
  description: "An error: what was wrong, with a stable code.",
  content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
};

/** A schema without TypeBox's symbols. */
function plain(schema: object): Record<string, unknown> {
  return JSON.parse(JSON.stringify(schema)) as Record<string, unknown>;
}

/**
 * Every schema with a title stands once, among the components, by that name: so generated clients have types with
 * names.
 */
function withComponents<T extends { components?: { schemas?: Record<string, object> } | undefined; paths?: unknown }>(
  document: T,
): T {
  withExamples(document.paths);
  const schemas: Record<string, object> = { ...document.components?.schemas };
  const hoist = (value: unknown): unknown => {
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) return value.map(hoist);
    const inner = Object.fromEntries(
      Object.entries(value).map(([key, each]) => [key, key === "examples" || key === "example" ? each : hoist(each)]),
    );
    const { title, type } = inner;
    if (typeof title !== "string" || type !== "object") return inner;
    const known = (schemas[title] ??= inner);
    if (!isDeepStrictEqual({ ...known, description: null }, { ...inner, description: null }))
      throw new FraudstreamError("two_schemas", `two schemas have the title ${title}`);
    return { $ref: `#/components/schemas/${title}` };
  };
  const paths = hoist(document.paths);
  return { ...document, paths, components: { ...document.components, schemas } };
}

/** `GET /api/v1/models/:id/history` → `getModelsIdHistory`: names for generated clients. */
function operationId(method: string, url: string): string {
  const words = url
    .replace(/^\/api\/v1/, "")
    .split(/[^A-Za-z0-9]+/)
    .filter((word) => word !== "");
  return method.toLowerCase() + words.map((word) => word[0].toUpperCase() + word.slice(1)).join("");
}
