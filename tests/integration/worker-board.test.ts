import { setTimeout as sleep } from "node:timers/promises";
import { expect, it, onTestFinished } from "vitest";
import { Schemas } from "../../infra/kafka/schemas.js";
import { createLogger } from "../../infra/logging.js";
import { WorkerBoard } from "../../models/control/workers.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { eventually } from "../support/eventually.js";
import { TestSystem } from "../support/workers-system.js";

it("shows the latest heartbeat of each worker, by role and age, and wakes callers that wait", async () => {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix() });
  onTestFinished(() => system.close());
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  const say = (worker: string, epoch: number, role = "scoring") =>
    system.producer.publishTo(system.topics.workers.name, 0, [
      {
        key: Buffer.from(worker),
        value: schemas.encode("workers", {
          worker,
          role,
          at: 0,
          partitions: [{ partition: 0, epoch }],
          problems: [],
          refused: [],
          job: null,
        }),
      },
      { key: Buffer.from("noise"), value: Buffer.from("not a heartbeat") },
    ]);
  const options = {
    cluster: system.cluster,
    topic: system.topics.workers.name,
    schemas,
    log: createLogger({ logLevel: "silent" }, "test"),
  };
  await say("one", 1);
  await say("one", 2);
  await say("trainer", 0, "training");
  const board = await WorkerBoard.open(options);
  const fresh = await WorkerBoard.open({ ...options, lookBackMs: 0 });
  onTestFinished(() => board.close());
  onTestFinished(() => fresh.close());
  const epochs = (of: WorkerBoard, maxAgeMs?: number): string[] =>
    of
      .alive("scoring", maxAgeMs)
      .map(({ worker, partitions }) => `${worker} ${partitions[0].epoch}`)
      .sort();
  expect(epochs(board, 60_000)).toEqual(["one 2"]);
  expect(board.alive("training", 60_000)).toHaveLength(1);
  expect(epochs(fresh, 60_000)).toEqual([]);

  const changed = Promise.all([board.changed(), fresh.changed()]);
  await say("two", 3);
  await changed;
  await eventually(
    "both boards show the second worker",
    () => epochs(board, 60_000).length === 2 && epochs(fresh, 60_000).length === 1,
  );
  expect([epochs(board, 60_000), epochs(fresh, 60_000)]).toEqual([["one 2", "two 3"], ["two 3"]]);
  // Whoever is silent is not alive for long.
  await sleep(30);
  expect(epochs(board, 20)).toEqual([]);

  const gone = new AbortController();
  const waiting = board.changed(gone.signal);
  gone.abort();
  await waiting;
  const closing = fresh.changed();
  await fresh.close();
  await closing;
});
