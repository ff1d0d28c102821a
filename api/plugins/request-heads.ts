import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Logger } from "../../infra/logging.js";
import { HttpProblem } from "./errors.js";

/** Headers that a request has at most once: a proxy in front may have believed another one than Node would. */
const ONCE = new Set([
  "host",
  "authorization",
  "content-type",
  "content-length",
  "content-encoding",
  "transfer-encoding",
  "if-match",
]);

/** Refuses requests whose head can be read in two ways, and warns of a proxy that the settings don't name. */
export function requestHeads(app: FastifyInstance, log: Logger): void {
  let warned = false;
  app.addHook("onRequest", function checkHead(request, _reply, done) {
    const twice = repeated(request.raw.rawHeaders);
    if (twice !== null)
      return done(
        new HttpProblem("repeated_header", `the header ${twice} is there more than once`, {
          headers: { connection: "close" },
        }) as Error,
      );
    if (!warned && isUnnamedProxy(request)) {
      warned = true;
      log.warn(
        { address: request.socket.remoteAddress },
        "a request came with X-Forwarded-For from an address that TRUST_PROXY does not name: the header is " +
          "ignored, and all of its clients count as one address for sign-in and limits. If that is your proxy, " +
          "set TRUST_PROXY to its address",
      );
    }
    done();
  });
}

function repeated(rawHeaders: readonly string[]): string | null {
  const seen = new Set<string>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i].toLowerCase();
    if (!ONCE.has(name)) continue;
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return null;
}

/** Where the proxy's word is taken, the address is the one that it names. */
function isUnnamedProxy({ headers, ip, ips, socket }: FastifyRequest): boolean {
  const forwarded = headers["x-forwarded-for"] ?? headers["x-real-ip"] ?? headers.forwarded;
  return forwarded !== undefined && ip === socket.remoteAddress && (ips === undefined || ips.length <= 1);
}
