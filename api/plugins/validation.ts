import { createRequire } from "node:module";
import type { FastifyInstance } from "fastify";
import { FraudstreamError } from "../../schemas/errors.js";

interface CompilerOptions {
  customOptions: Record<string, unknown>;
}
type Compile = (route: { schema: unknown; httpPart?: string }) => (data: unknown) => unknown;
const require = createRequire(import.meta.url);
// A CommonJS package whose types name another version of ajv than the one it depends on.
const AjvCompiler = require("@fastify/ajv-compiler") as () => (
  schemas: Record<string, unknown>,
  options: CompilerOptions,
) => Compile;

/** allErrors: every bad field is named. What one request can cost is bounded by its size. */
const STRICT = { allErrors: true, removeAdditional: false, useDefaults: true, coerceTypes: false, strict: false };

/** For a route without parameters: what a caller sends may be misspelt, and must not be ignored. */
const NO_PARAMETERS = { type: "object", properties: {}, additionalProperties: false };

/**
 * How requests are checked: bodies as they are, without coercion; queries, paths and headers, which can only be text,
 * may be read as numbers and booleans. A route whose request schema leaves an object open doesn't start.
 */
export function validation(app: FastifyInstance): void {
  const build = AjvCompiler();
  const body = build({}, { customOptions: STRICT });
  const text = build({}, { customOptions: { ...STRICT, coerceTypes: true } });
  app.setValidatorCompiler((route) => (route.httpPart === "body" ? body : text)(route) as (data: unknown) => boolean);
  app.addHook("onRoute", (route) => {
    const { url } = route;
    // Probes and scrapers may add what they like.
    if (url.startsWith("/api/")) route.schema = { querystring: NO_PARAMETERS, ...route.schema };
    const { schema } = route;
    for (const part of ["body", "querystring", "params"] as const) {
      const open = openObject(schema?.[part], part);
      if (open !== null)
        throw new FraudstreamError(
          "open_schema",
          `${url}: ${open} doesn't say additionalProperties; write { additionalProperties: false }`,
        );
    }
  });
}

/** Where a schema has an object that doesn't say what becomes of further properties. */
function openObject(schema: unknown, path: string): string | null {
  if (typeof schema !== "object" || schema === null) return null;
  const { type, properties, additionalProperties } = schema as Record<string, unknown>;
  if (type === "object" && properties !== undefined && additionalProperties === undefined) return path;
  for (const [name, inner] of Object.entries(schema)) {
    const open = openObject(inner, `${path}.${name}`);
    if (open !== null) return open;
  }
  return null;
}
