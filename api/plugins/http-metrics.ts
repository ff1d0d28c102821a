import type { FastifyInstance } from "fastify";
import type { ApiMetrics } from "../metrics.js";

/** Counts and times every request by its route's pattern (never by its URL, which a caller makes up). */
export function httpMetrics(app: FastifyInstance, { requests, seconds }: ApiMetrics): void {
  app.addHook("onResponse", (request, reply, done) => {
    const route = request.routeOptions.url ?? "none";
    const { method } = request;
    requests.inc({ method, route, status: String(reply.statusCode) });
    seconds.observe({ method, route }, reply.elapsedTime / 1000);
    done();
  });
}
