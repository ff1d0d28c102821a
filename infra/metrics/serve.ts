import { createServer, type ServerResponse } from "node:http";
import { UsageError } from "../../schemas/errors.js";
import type { Conditions } from "../health/conditions.js";
import type { Lifecycle } from "../lifecycle/lifecycle.js";
import type { Logger } from "../logging.js";
import { metricsText, type Registry } from "./registry.js";

export interface ProbesOptions {
  /** Where the process is to be asked; a null port: nowhere. */
  config: { host: string; metricsPort: number | null };
  registry: Registry;
  /** Whether the role has started and has what it needs. */
  ready: () => boolean;
  /** What else keeps it from its work: a blocking one makes it unready, and every one is named. */
  conditions: Conditions;
  log: Logger;
}

/**
 * Serves `/metrics` (Prometheus), `/health/live` and `/health/ready` of a role that has no API, until `lifecycle` ends.
 *
 * @throws UsageError `port_taken`, `bad_address`
 */
export async function serveProbes(
  lifecycle: Pick<Lifecycle, "add">,
  { config: { host, metricsPort }, registry, ready, conditions, log }: ProbesOptions,
): Promise<void> {
  if (metricsPort === null) return;
  const json = (response: ServerResponse, status: number, body: object): void =>
    void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  const text = metricsText(registry);
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    const { method, url = "" } = request;
    if (method !== "GET") return json(response, 405, { status: "only GET" });
    switch (url) {
      case "/health/live":
        return json(response, 200, { status: "live" });
      case "/health/ready":
        return ready() && !conditions.blocking
          ? json(response, 200, { status: "ready", conditions: conditions.list() })
          : json(response, 503, { status: "not ready", conditions: conditions.list() });
      case "/metrics":
        text().then(
          (metrics) => response.writeHead(200, { "content-type": registry.contentType }).end(metrics),
          (error: unknown) => {
            log.error({ err: error }, "the metrics could not be told");
            json(response, 500, { status: "failed" });
          },
        );
        return;
      default:
        return json(response, 404, { status: "there is no such page" });
    }
  });
  try {
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(metricsPort, host, resolve));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EADDRINUSE")
      throw new UsageError(
        "port_taken",
        `METRICS_PORT ${metricsPort} on ${host} is taken by another process: stop it, or set METRICS_PORT ` +
          "to a free one",
        { cause: error },
      );
    if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND" || code === "EACCES")
      throw new UsageError(
        "bad_address",
        `HOST ${host} with METRICS_PORT ${metricsPort} can't be listened on (${code})`,
        { cause: error },
      );
    throw error;
  }
  lifecycle.add("metrics", () => {
    server.closeAllConnections();
    return new Promise((resolve) => void server.close(() => resolve()));
  });
}
