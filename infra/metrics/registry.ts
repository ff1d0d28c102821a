import { Gauge, Registry, collectDefaultMetrics } from "prom-client";

export { Counter, Histogram, Registry } from "prom-client";

/** A registry with the process's own metrics; one for each app, so that several in one process don't mix. */
export function createRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return registry;
}

export interface Sample { labels?: Record<string, string>; value: number }

export interface GaugeSource { name: string; help: string; labelNames?: readonly string[]; read: () => readonly Sample[] | Promise<readonly Sample[]> }

/** A gauge that is asked at each scrape; one that fails is left out of it, and `onFailure` hears of it. */
export function gauge(registry: Registry, { name, help, labelNames = [], read }: GaugeSource, onFailure: (error: unknown) => void = () => {}): void {
  new Gauge({
    name, help, labelNames: [...labelNames], registers: [registry],
    async collect() {
      this.reset();
      // Without labels, reset would leave a 0.
      if (labelNames.length === 0) this.remove({});
      // What can't be told now is left out rather than told wrong.
      const samples = await Promise.resolve().then(read).catch((error: unknown) => {
        onFailure(error);
        return [];
      });
      for (const { labels = {}, value } of samples) this.set(labels, value);
    },
  });
}
