import { anySignal } from "../async/abort-signals.js";
import { kafkajs } from "../kafka/kafkajs.js";

/** Waits until a broker answers for its cluster; the caller sets the deadline by aborting. */
export async function kafkaAnswers(broker: string, clusterId: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const admin = new kafkajs.Kafka({
      brokers: [broker],
      logLevel: kafkajs.logLevel.NOTHING,
      connectionTimeout: 1_000,
      retry: { retries: 0 },
    }).admin();
    try {
      await admin.connect();
      const cluster = await admin.describeCluster();
      // A port that another cluster took in the meantime is not ours.
      if (cluster.clusterId === clusterId && cluster.brokers.length > 0) return;
    } catch {
      // Not yet.
    } finally {
      await admin.disconnect().catch(() => undefined);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Waits until a ClickHouse server answers; the caller sets the deadline by aborting. */
export async function clickhouseAnswers(url: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const ok = await fetch(`${url}/ping`, { signal: anySignal(signal, AbortSignal.timeout(1_000)) }).then(
      (response) => response.ok,
      () => false,
    );
    if (ok) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
