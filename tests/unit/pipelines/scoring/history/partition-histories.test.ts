import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import type { KafkaCluster } from "../../../../../infra/kafka/cluster.js";
import { createLogger } from "../../../../../infra/logging.js";
import { SnapshotStore } from "../../../../../infra/snapshots.js";
import { Schemas } from "../../../../../infra/kafka/schemas.js";
import { CardHistory } from "../../../../../models/features/card-history.js";
import { PartitionHistories, PartitionHistory } from "../../../../../pipelines/scoring/history/partition-histories.js";
import type { Tenure } from "../../../../../pipelines/runtime/partition-consumer.js";
import { topicsFor } from "../../../../../schemas/topics.js";
import { planOf, rowOf } from "../../../models/features/card-rows.js";

it("attributes dead letters to its own transactions only if a batch was committed after them", () => {
  const history = new PartitionHistory(0, new CardHistory(), 5, 2);
  history.deadLettersEnded(9);
  expect(history.deadLettersFrom).toBe(2);
  // The partition may be another worker's by now.
  history.begin();
  history.undo();
  expect([history.offset, history.deadLettersFrom]).toEqual([5, 2]);
  history.begin();
  history.committed(8);
  expect([history.offset, history.deadLettersFrom]).toEqual([8, 9]);
  history.deadLettersEnded(7);
  history.committed(9);
  expect(history.deadLettersFrom).toBe(9);
});

it("is not shared with a former tenure that is still at work, and is handed on by one that is over", async () => {
  const dir = await mkdtemp(join(tmpdir(), "fraudstream-histories-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  const log = createLogger({ logLevel: "silent" }, "test");
  // All that a history asks of Kafka where nothing is to be read again.
  const cluster = { identityOf: () => Promise.resolve({ cluster: "c", topicId: "t" }) } as unknown as KafkaCluster;
  const topics = topicsFor("", 1);
  const histories = new PartitionHistories({
    cluster,
    topics,
    schemas: new Schemas({ schemaRegistryUrl: null, schemasDir: null }),
    snapshots: new SnapshotStore(dir, log),
    clickhouse: null,
    snapshotEveryMs: 1_000,
    cards: null,
    log,
  });
  const tenure = {
    topic: topics.transactions.name,
    partition: 0,
    signal: new AbortController().signal,
    mark: { topicId: "t", cluster: "c", gaps: [] },
  } as unknown as Tenure;
  const former = await histories.open(tenure, 0);
  former.begin();
  former.cards.fold(rowOf({ id: "a", time: Date.UTC(2026, 0, 1) }), 0, 0, planOf([]), null, new Float64Array(0), 0);

  const next = await histories.open(tenure, 0);
  expect([next === former, next.cards.events]).toEqual([false, 0]);
  next.begin();
  next.cards.fold(rowOf({ id: "b", time: Date.UTC(2026, 0, 1) }), 0, 0, planOf([]), null, new Float64Array(0), 0);
  histories.release(former);
  expect(next.cards.events).toBe(1);

  histories.release(next);
  const last = await histories.open(tenure, 0);
  expect([last === next, last.cards.events]).toEqual([true, 0]);
});
