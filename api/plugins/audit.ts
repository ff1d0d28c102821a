import type { FastifyInstance, FastifyRequest } from "fastify";
import { maskedUrl } from "../request-log/mask.js";
import type { Permission } from "../users/roles.js";

declare module "fastify" {
  interface FastifyRequest {
    /** Whose sign-in was tried and failed, or who has just made themselves, for the audit trail; of a name that nobody has, `UNKNOWN`. Gives no rights. */
    tried: { id: string; username: string; role: string } | null;
  }
}

/** A name that nobody has may be a password that was typed in the wrong place: it is not written down. */
export const UNKNOWN = { id: "", username: "[unknown]", role: "" } as const;

/** What services do all day; it is in the request log and no decision of anybody. */
const TRAFFIC = new Set<Permission>(["predictions:write", "labels:write"]);

/** Routes whose requests are written to the audit trail: sign-ins, and whatever changes something. */
export const AUDITED_ROUTES = "method != 'GET' AND route NOT IN ('/api/v1/predictions', '/api/v1/labels')";

/**
 * One line in the log, with `audit`, for each sign-in, and for each request of somebody who is signed in that would change
 * something: who, from where, what, and what came of it. Never a body. The same requests are in ClickHouse, with theirs, masked.
 */
export function auditTrail(app: FastifyInstance): void {
  app.decorateRequest("tried", null);
  app.addHook("onResponse", (request, reply, done) => {
    const who = request.signedIn?.user ?? request.tried;
    if (who !== null && isAudited(request)) {
      const { method, ip } = request;
      const audit = {
        request_id: request.id, user_id: who.id, username: who.username, role: who.role, address: ip, method, route: request.routeOptions.url ?? "",
        url: whatItChanged(request, reply.statusCode), status: reply.statusCode, code: request.problemCode,
      };
      request.log.info({ audit }, "audit");
    }
    done();
  });
}

/** Its path; of a request that changed nothing only the route, since what stands in the path may be anything. */
function whatItChanged({ url, routeOptions }: FastifyRequest, status: number): string {
  return status < 400 ? maskedUrl(url.split("?", 1)[0], 200) : (routeOptions.url ?? "");
}

function isAudited({ method, routeOptions }: FastifyRequest): boolean {
  const { permission } = routeOptions.config;
  return method !== "GET" && method !== "HEAD" && !(typeof permission === "string" && TRAFFIC.has(permission));
}
