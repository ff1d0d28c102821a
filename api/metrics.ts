import { Counter, Histogram, createRegistry, type Registry } from "../infra/metrics/registry.js";

/** What /metrics tells. Routes add their own through `registry`. */
export interface ApiMetrics {
  registry: Registry;
  requests: Counter<"method" | "route" | "status">;
  seconds: Histogram<"method" | "route">;
  /** From a decision about the deployment to when it was live everywhere. */
  swapSeconds: Histogram;
}

/** Metrics of one process, in a registry of their own, so that several apps in one process don't mix. */
export function createMetrics(): ApiMetrics {
  const registry = createRegistry();
  const registers = [registry];
  return {
    registry,
    requests: new Counter({
      name: "fraudstream_http_requests_total",
      help: "Requests by route pattern and status.",
      labelNames: ["method", "route", "status"],
      registers,
    }),
    seconds: new Histogram({
      name: "fraudstream_http_request_seconds",
      help: "From a request's arrival to the end of its answer.",
      labelNames: ["method", "route"],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    swapSeconds: new Histogram({
      name: "fraudstream_deployment_swap_seconds",
      help:
        "From a decision made here to when every partition was reported to be at its epoch; decisions that " +
        "weren't live in time aren't in it.",
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
  };
}
