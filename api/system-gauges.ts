import { messageOf } from "../schemas/errors.js";
import type { ApiContext } from "./context.js";
import { gauge } from "./metrics.js";

/** What /metrics tells of the system around the API: lag, deployment, workers, request log. Read at each scrape. */
export function systemGauges({ config, log, kafka, topics, control, workers, users, requestLog, metrics: { registry } }: ApiContext): { close: () => Promise<void> } {
  const admin = kafka.admin();
  let connected: Promise<void> | null = null;
  gauge(registry, {
    name: "fraudstream_scoring_lag", help: "Transactions that are published and not scored yet, by partition.", labelNames: ["partition"],
    read: async () => {
      connected ??= admin.connect();
      await connected.catch((error: unknown) => {
        connected = null;
        throw error;
      });
      const topic = topics.transactions.name;
      const [ends, groups] = await Promise.all([admin.fetchTopicOffsets(topic), admin.fetchOffsets({ groupId: `${config.topicPrefix}scoring`, topics: [topic] })]);
      const committed = new Map(groups.flatMap(({ partitions }) => partitions).map(({ partition, offset }) => [partition, Number(offset)]));
      return ends.map(({ partition, low, high }) => ({ labels: { partition: String(partition) }, value: Number(high) - Math.max(Number(low), committed.get(partition) ?? 0) }));
    },
  }, (error) => log.warn(`the lag of scoring can't be told: ${messageOf(error)}`));
  gauge(registry, { name: "fraudstream_deployment_epoch", help: "Epoch of the newest deployment; -1: none.", read: () => [{ value: control.state.deployment?.epoch ?? -1 }] });
  gauge(registry, {
    name: "fraudstream_partition_epoch", help: "The deployment epoch in use, by partition of the transactions, as the workers say.", labelNames: ["partition"],
    read: () => workers.alive("scoring").flatMap(({ partitions }) => partitions.map(({ partition, epoch }) => ({ labels: { partition: String(partition) }, value: epoch }))),
  });
  gauge(registry, {
    name: "fraudstream_workers", help: "Processes of a role that have said lately that they are alive.", labelNames: ["role"],
    read: () => ["scoring", "sink", "merchants", "training"].map((role) => ({ labels: { role }, value: workers.alive(role).length })),
  });
  gauge(registry, { name: "fraudstream_users", help: "Users, enabled or not.", read: () => [{ value: users.all().length }] });
  gauge(registry, { name: "fraudstream_request_log_waiting", help: "Requests that wait to be written to ClickHouse.", read: () => [{ value: requestLog.waiting }] });
  gauge(registry, { name: "fraudstream_request_log_dropped_total", help: "Requests that were not written to ClickHouse.", read: () => [{ value: requestLog.dropped }] });
  return { close: () => admin.disconnect() };
}
