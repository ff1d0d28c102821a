import { isUtf8 } from "node:buffer";
import type { FastifyInstance } from "fastify";
import { HttpProblem } from "./errors.js";

const MOST_DEPTH = 32;

/**
 * JSON bodies: UTF-8, not nested deeper than anything of ours, without a field that could reach an object's prototype,
 * and without half of a surrogate pair, which no UTF-8 stands for: two ids could become one.
 */
export function jsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  // The one that Fastify brings for this very type would be asked first.
  app.removeContentTypeParser(["application/json", "text/plain"]);
  app.addContentTypeParser<Buffer>(
    /^application\/(?:[\w.-]+\+)?json(?:;|$)/,
    { parseAs: "buffer" },
    (request, bytes, done) => {
      if (!isUtf8(bytes)) return done(new HttpProblem("invalid_utf8", "the body is not UTF-8"));
      const body = bytes.toString("utf8");
      if (depthOf(body) > MOST_DEPTH)
        return done(new HttpProblem("too_deep", `the body is nested deeper than ${MOST_DEPTH} levels`));
      void parse(request, body, (error, parsed) => {
        if (error !== null) return done(error);
        const place = SURROGATE_ESCAPE.test(body) ? halfPair(parsed, "") : null;
        if (place === null) return done(null, parsed);
        const message = "has half of a surrogate pair";
        done(
          new HttpProblem("invalid_utf8", `${place === "" ? "the body" : place}: ${message}`, {
            errors: [{ in: "body", field: place, code: "invalid_utf8", message }],
          }),
        );
      });
    },
  );
}

/** In UTF-8 half of a pair can only be an escape. */
const SURROGATE_ESCAPE = /\\u[dD][89a-fA-F]/;
const SURROGATE = /\p{Surrogate}/u;

/** Where a value has half of a surrogate pair, in a text or a name; null: nowhere. */
function halfPair(value: unknown, path: string): string | null {
  if (typeof value === "string") return SURROGATE.test(value) ? path : null;
  if (typeof value !== "object" || value === null) return null;
  for (const [name, inner] of Object.entries(value)) {
    // The name itself can't be shown.
    if (SURROGATE.test(name)) return path;
    const found = halfPair(inner, Array.isArray(value) ? `${path}[${name}]` : path === "" ? name : `${path}.${name}`);
    if (found !== null) return found;
  }
  return null;
}

/** The deepest nesting of a JSON text, found without parsing it. */
export function depthOf(json: string): number {
  let depth = 0;
  let deepest = 0;
  for (let i = 0; i < json.length; i++) {
    const unit = json.charCodeAt(i);
    if (unit === QUOTE) i = stringEnd(json, i);
    else if (unit === BRACE || unit === BRACKET) deepest = Math.max(deepest, ++depth);
    else if (unit === BRACE + 2 || unit === BRACKET + 2) depth--;
  }
  return deepest;
}

const QUOTE = 34;
const BACKSLASH = 92;
const BRACKET = 91;
const BRACE = 123;

/** Where the string that begins at `at` ends. */
function stringEnd(json: string, at: number): number {
  let end = at + 1;
  while (end < json.length && json.charCodeAt(end) !== QUOTE) end += json.charCodeAt(end) === BACKSLASH ? 2 : 1;
  return end;
}
