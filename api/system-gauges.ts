import type { Kafka } from "kafkajs";
import { messageOf } from "../schemas/errors.js";
import type { ApiContext } from "./context.js";
import { gauge, type Sample } from "../infra/metrics/registry.js";
import { ConnectionsByBroker } from "../infra/kafka/connections-by-broker.js";
import { endsOf, type LogEnds } from "../infra/kafka/topic-ends.js";
import { refusalsOf } from "../models/control/liveness.js";
import { within } from "../infra/async/within.js";

/** What the sink stores. */
const SINK_TOPICS = ["transactions", "predictions", "shadowPredictions", "labels", "deadLetters", "control"] as const;

/** What /metrics reports on the system around the API: lag, deployment, workers, request log. Read at each scrape. */
export function systemGauges({
  config,
  log,
  kafka,
  cluster,
  topics,
  control,
  workers,
  users,
  requestLog,
  metrics: { registry },
}: ApiContext): { close: () => Promise<void> } {
  const admin = kafka.admin();
  const connections = new ConnectionsByBroker(cluster);
  let connected: Promise<void> | null = null;
  const connect = async (): Promise<void> => {
    connected ??= admin.connect();
    await connected.catch((error: unknown) => {
      connected = null;
      throw error;
    });
  };
  const lagGauge = (name: string, help: string, group: string, read: readonly string[]): void =>
    gauge(
      registry,
      {
        name,
        help,
        labelNames: ["topic", "partition"],
        read: () => {
          const lag = connect().then(() =>
            lagOf(admin, (topic) => endsOf(cluster, connections, topic), `${config.topicPrefix}${group}`, read),
          );
          return within(
            KAFKA_ANSWERS_WITHIN_MS,
            lag,
            () => new Error(`Kafka did not answer within ${KAFKA_ANSWERS_WITHIN_MS} ms`),
          );
        },
      },
      (error) => log.warn(`the lag of ${group} can't be told: ${messageOf(error)}`),
    );
  lagGauge(
    "fraudstream_scoring_lag",
    "Offsets of the transactions' log that are not scored yet, those behind an open Kafka transaction included.",
    "scoring",
    [topics.transactions.name],
  );
  lagGauge(
    "fraudstream_sink_lag",
    "Offsets that are not stored in ClickHouse yet, those behind an open Kafka transaction included.",
    "sink",
    SINK_TOPICS.map((topic) => topics[topic].name),
  );
  gauge(registry, {
    name: "fraudstream_deployment_epoch",
    help: "Epoch of the newest deployment; -1: none.",
    read: () => [{ value: control.state.deployment?.epoch ?? -1 }],
  });
  gauge(registry, {
    name: "fraudstream_partition_epoch",
    help: "The deployment epoch in use, by partition of the transactions, as the workers say.",
    labelNames: ["partition"],
    read: () =>
      workers
        .alive("scoring")
        .flatMap(({ partitions }) =>
          partitions.map(({ partition, epoch }) => ({ labels: { partition: String(partition) }, value: epoch })),
        ),
  });
  gauge(registry, {
    name: "fraudstream_deployment_refusals",
    help:
      "Workers that don't score with a deployment, by its epoch and champion: it can't be loaded there, hung, " +
      "failed or gave no scores.",
    labelNames: ["epoch", "model"],
    read: () => {
      const counts = new Map<string, { labels: Record<string, string>; value: number }>();
      for (const { epoch, model } of refusalsOf(workers)) {
        const count = counts.get(String(epoch)) ?? { labels: { epoch: String(epoch), model }, value: 0 };
        count.value += 1;
        counts.set(String(epoch), count);
      }
      return [...counts.values()];
    },
  });
  gauge(registry, {
    name: "fraudstream_workers",
    help: "Processes of a role that have said lately that they are alive.",
    labelNames: ["role"],
    read: () => ["scoring", "training"].map((role) => ({ labels: { role }, value: workers.alive(role).length })),
  });
  gauge(registry, {
    name: "fraudstream_training_jobs",
    help: "Training jobs by status.",
    labelNames: ["status"],
    read: () => {
      const counts = { pending: 0, processing: 0, processed: 0, error: 0, cancelled: 0 };
      for (const { status } of control.state.jobs.values()) counts[status]++;
      return Object.entries(counts).map(([status, value]) => ({ labels: { status }, value }));
    },
  });
  gauge(registry, {
    name: "fraudstream_users",
    help: "Users, enabled or not.",
    read: () => [{ value: users.all().length }],
  });
  gauge(registry, {
    name: "fraudstream_request_log_waiting",
    help: "Requests that wait to be written to ClickHouse.",
    read: () => [{ value: requestLog.waiting }],
  });
  gauge(registry, {
    name: "fraudstream_request_log_dropped_total",
    help: "Requests that were not written to ClickHouse.",
    read: () => [{ value: requestLog.dropped }],
  });
  return {
    close: async () => {
      await connections.close();
      await admin.disconnect();
    },
  };
}

/** Prometheus gives a scrape ten seconds: what Kafka doesn't tell by then must not cost it the rest. */
const KAFKA_ANSWERS_WITHIN_MS = 3_000;

/** How far a group's committed offsets are behind the ends of its topics. */
async function lagOf(
  admin: ReturnType<Kafka["admin"]>,
  ends: (topic: string) => Promise<LogEnds[]>,
  groupId: string,
  topics: readonly string[],
): Promise<Sample[]> {
  const [logs, groups] = await Promise.all([
    Promise.all(topics.map(ends)),
    admin.fetchOffsets({ groupId, topics: [...topics] }),
  ]);
  return topics.flatMap((topic, index) => {
    const committed = new Map(
      groups
        .find((group) => group.topic === topic)
        ?.partitions.map(({ partition, offset }) => [partition, Number(offset)]),
    );
    // The group may have moved on since the ends were asked for.
    return logs[index].map(({ partition, first, end }) => ({
      labels: { topic, partition: String(partition) },
      value: Math.max(0, end - Math.max(first, committed.get(partition) ?? 0)),
    }));
  });
}
