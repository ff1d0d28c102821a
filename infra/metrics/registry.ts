import { Gauge, Registry, collectDefaultMetrics } from "prom-client";

export { Counter, Histogram, Registry } from "prom-client";

/** A registry with the process's own metrics; one for each app, so that several in one process don't mix. */
export function createRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return registry;
}

/**
 * The text of a registry's metrics, rendered at most once in so many milliseconds, for all readers: rendering asks
 * Kafka and takes time from the work that it reports.
 */
export function metricsText(registry: Registry, everyMs = 1_000): () => Promise<string> {
  let made: Promise<string> | null = null;
  let until = 0;
  return () => {
    if (made !== null && performance.now() < until) return made;
    const text = registry.metrics();
    made = text;
    until = Infinity;
    const settle = (keepMs: number) => (): void => void (until = performance.now() + keepMs);
    text.then(settle(everyMs), settle(0));
    return text;
  };
}

export interface Sample {
  labels?: Record<string, string>;
  value: number;
}

export interface GaugeSource {
  name: string;
  help: string;
  labelNames?: readonly string[];
  read: () => readonly Sample[] | Promise<readonly Sample[]>;
}

/** A gauge that is read at each scrape; one that fails is left out of it, and `onFailure` is called. */
export function gauge(
  registry: Registry,
  { name, help, labelNames = [], read }: GaugeSource,
  onFailure: (error: unknown) => void = () => {},
): void {
  new Gauge({
    name,
    help,
    labelNames: [...labelNames],
    registers: [registry],
    async collect() {
      this.reset();
      // Without labels, reset would leave a 0.
      if (labelNames.length === 0) this.remove({});
      // A value that cannot be read now is left out rather than reported wrong.
      const samples = await Promise.resolve()
        .then(read)
        .catch((error: unknown) => {
          onFailure(error);
          return [];
        });
      for (const { labels = {}, value } of samples) this.set(labels, value);
    },
  });
}
