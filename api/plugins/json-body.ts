import type { FastifyInstance } from "fastify";
import { HttpProblem } from "./errors.js";

const MOST_DEPTH = 32;

/** JSON bodies: not nested deeper than anything of ours, and without a field that could reach an object's prototype. */
export function jsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  // The one that Fastify brings for this very type would be asked first.
  app.removeContentTypeParser(["application/json", "text/plain"]);
  app.addContentTypeParser<string>(/^application\/(?:[\w.-]+\+)?json(?:;|$)/, { parseAs: "string" }, (request, body, done) => {
    if (depthOf(body) > MOST_DEPTH) done(new HttpProblem(400, "too_deep", `the body is nested deeper than ${MOST_DEPTH} levels`));
    else void parse(request, body, done);
  });
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
