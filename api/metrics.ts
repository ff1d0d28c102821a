import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

/** What /metrics tells. Routes add their own through `registry`. */
export interface ApiMetrics {
  registry: Registry;
  requests: Counter<"method" | "route" | "status">;
  seconds: Histogram<"method" | "route">;
}

/** Metrics of one process, in a registry of their own, so that several apps in one process don't mix. */
export function createMetrics(): ApiMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    requests: new Counter({ name: "fraudstream_http_requests_total", help: "Requests by route pattern and status.", labelNames: ["method", "route", "status"], registers: [registry] }),
    seconds: new Histogram({
      name: "fraudstream_http_request_seconds", help: "From a request's arrival to the end of its answer.", labelNames: ["method", "route"],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30], registers: [registry],
    }),
  };
}

export interface Sample { labels?: Record<string, string>; value: number }

export interface GaugeSource { name: string; help: string; labelNames?: readonly string[]; read: () => readonly Sample[] | Promise<readonly Sample[]> }

/** A gauge that is asked at each scrape; one that fails is left out of it, and `onFailure` hears of it. */
export function gauge(registry: Registry, { name, help, labelNames = [], read }: GaugeSource, onFailure: (error: unknown) => void = () => {}): void {
  new Gauge({
    name, help, labelNames: [...labelNames], registers: [registry],
    async collect() {
      this.reset();
      // What can't be told now is left out rather than told wrong.
      const samples = await Promise.resolve().then(read).catch((error: unknown) => {
        onFailure(error);
        return [];
      });
      for (const { labels = {}, value } of samples) this.set(labels, value);
    },
  });
}
