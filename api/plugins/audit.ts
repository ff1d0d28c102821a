import type { FastifyInstance, FastifyRequest } from "fastify";
import { maskedUrl } from "../request-log/mask.js";
import type { Permission } from "../users/roles.js";

declare module "fastify" {
  interface FastifyRequest {
    /**
     * Whose sign-in was tried and failed, or who has just made themselves, for the audit trail; of a name that nobody
     * has, `UNKNOWN`. Gives no rights.
     */
    tried: { id: string; username: string; role: string } | null;
    /** What this request changed from what to what, for the audit trail. */
    changes: readonly object[] | null;
  }
}

/** An unknown name may be a password typed into the wrong field: it is not recorded. */
export const UNKNOWN = { id: "", username: "[unknown]", role: "" } as const;

/**
 * What services do all day; it is in the request log and no decision of anybody. A label that a person gives is one.
 */
const TRAFFIC = new Set<Permission>(["predictions:write", "labels:write"]);

/** Requests that are written to the audit trail: sign-ins, and whatever changes something. */
export const AUDITED_ROUTES =
  "method != 'GET' AND route != '/api/v1/predictions' AND (route != '/api/v1/labels' OR role != 'service')";
/** Of those, what operators and analysts do. */
export const OPERATIONS = "NOT startsWith(route, '/api/v1/users') AND route != '/api/v1/tokens'";

/**
 * One line in the log, with `audit`, for each sign-in, and for each request of somebody who is signed in that would
 * change something: who, from where, what, and what came of it. Never a body. The same requests are in ClickHouse, with
 * theirs, masked.
 */
export function auditTrail(app: FastifyInstance): void {
  app.decorateRequest("tried", null);
  app.decorateRequest("changes", null);
  app.addHook("onResponse", (request, reply, done) => {
    const who = request.signedIn?.user ?? request.tried;
    if (who !== null && isAudited(request, who.role)) {
      const { method, ip } = request;
      const audit = {
        request_id: request.id,
        user_id: who.id,
        username: who.username,
        role: who.role,
        address: ip,
        method,
        route: request.routeOptions.url ?? "",
        url: whatItChanged(request, reply.statusCode),
        status: reply.statusCode,
        code: request.problemCode,
        ...(request.changes === null ? {} : { changes: request.changes }),
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

function isAudited({ method, routeOptions }: FastifyRequest, role: string): boolean {
  const { permission } = routeOptions.config;
  const traffic =
    typeof permission === "string" && TRAFFIC.has(permission) && !(permission === "labels:write" && role !== "service");
  return method !== "GET" && method !== "HEAD" && !traffic;
}
