import type { FastifyInstance, onRequestHookHandler } from "fastify";
import { FraudstreamError } from "../../schemas/errors.js";
import { can, type Permission } from "../users/roles.js";
import { HttpProblem } from "./errors.js";

declare module "fastify" {
  interface FastifyContextConfig {
    /** What the caller must be allowed to do; of several, one is enough. */
    permission?: Permission | readonly Permission[];
  }
}

/** A hook that refuses callers who may do none of these. To run after authentication. */
function requirePermission(...permissions: readonly Permission[]): onRequestHookHandler {
  return function checkPermission(request, _reply, done) {
    const { role } = request.user;
    if (can(role, ...permissions)) done();
    else
      done(
        new HttpProblem(
          "forbidden",
          `the role ${role} may not do this; it takes the permission ${permissions.join(" or ")}`,
        ) as Error,
      );
  };
}

/** Every route of a scope asks for what its `config.permission` says; one that says nothing doesn't start. */
export function permissions(app: FastifyInstance): void {
  app.addHook("onRoute", ({ url, config }) => {
    if (config?.permission === undefined)
      throw new FraudstreamError("no_permission", `${url} says in no config.permission who may use it`);
  });
  app.addHook("onRequest", function checkRoutePermission(request, reply, done) {
    const { permission } = request.routeOptions.config;
    const asked = permission === undefined ? [] : typeof permission === "string" ? [permission] : permission;
    requirePermission(...asked).call(this, request, reply, done);
  });
}
