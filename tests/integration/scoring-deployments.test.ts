import { cp, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it, onTestFinished, vi } from "vitest";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import type { OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { Manifest } from "../../models/manifest.js";
import type { Transaction, WorkerHeartbeat } from "../../schemas/generated.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import {
  alwaysNan,
  amountFeature,
  hangsAbove,
  logistic,
  lookup,
  manifestOf,
  nanForRefunds,
  numberFeature,
  sigmoidOf,
  unbounded,
  weighted,
  writeArtifact,
} from "../support/models.js";
import { transaction, transactionRecord } from "../support/transactions.js";
import { TestSystem } from "../support/workers-system.js";

// Processes of their own start slowly on a busy machine.
vi.setConfig({ testTimeout: 180_000 });

async function openSystem(partitions = 1): Promise<TestSystem> {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions });
  onTestFinished(() => system.close());
  return system;
}

let ids = 0;
/** Transactions of these amounts, each with a new id. */
const amounts = (list: number[], changed: Partial<Transaction> = {}): OutgoingRecord[] =>
  list.map((amount) => transactionRecord(transaction((ids += 1), { amount, ...changed })));

const at =
  (epoch: number) =>
  (beat: WorkerHeartbeat): boolean =>
    beat.partitions.length > 0 && beat.partitions.every((owned) => owned.epoch === epoch);
const says =
  (problem: RegExp) =>
  (beat: WorkerHeartbeat): boolean =>
    beat.problems.some((text) => problem.test(text));

it("scores with a champion and two shadows, and drops a shadow that fails until the next epoch", async () => {
  const system = await openSystem();
  await system.register("champion@1", logistic());
  await system.register("steady@2", weighted([numberFeature("risk", 0), amountFeature], [1, 0]));
  await system.register("shaky@3", nanForRefunds());
  const first = await system.deploy({ model: "champion@1", review: 0.6, decline: 0.7 }, [
    "steady@2",
    { model: "shaky@3", review: 0, decline: 0.125 },
  ]);
  system.startWorker();
  await system.publishTo(0, amounts([0, 10], { attributes: { risk: 2 } }));
  await system.consumed();
  const champions = (await system.predictions()).map(({ prediction }) => prediction);
  const shadows = async (): Promise<{ model: string; epoch: number; source_offset: number; score: number }[]> =>
    (await system.predictions(system.topics.shadowPredictions)).map(({ prediction }) => prediction);
  expect(champions.map(({ model, score, features, epoch }) => [model, score.toFixed(4), features, epoch])).toEqual([
    ["champion@1", sigmoidOf(0).toFixed(4), [0], first],
    ["champion@1", sigmoidOf(10).toFixed(4), [10], first],
  ]);
  expect(await shadows()).toMatchObject([
    { model: "steady@2", source_offset: 0, features: [2, 0], decision: "review" },
    { model: "steady@2", source_offset: 1, features: [2, 10] },
    { model: "shaky@3", source_offset: 0, score: 0, decision: "review" },
    { model: "shaky@3", source_offset: 1, decision: "decline" },
  ]);

  await system.publishTo(0, amounts([5, -5, 5]));
  await system.heartbeat("that the shadow is dropped", says(/^shadow shaky@3 of epoch \d+ is dropped: .*NaN/));
  await system.publishTo(0, amounts([5]));
  await system.consumed();
  expect((await shadows()).slice(4).map(({ model, source_offset }) => [model, source_offset])).toEqual(
    [2, 3, 4, 5].map((offset) => ["steady@2", offset]),
  );
  expect(await system.predictions()).toHaveLength(6);

  const second = await system.deploy("champion@1", ["shaky@3"]);
  await system.heartbeat(
    "that the newer epoch is in force without problems",
    (beat) => at(second)(beat) && beat.problems.length === 0,
  );
  await system.publishTo(0, amounts([5]));
  await system.consumed();
  expect((await shadows()).slice(8)).toMatchObject([{ model: "shaky@3", source_offset: 6, epoch: second }]);
  expect(await system.deadLetters()).toEqual([]);
});

it("dead-letters the records that the champion fails on, and applies thresholds exactly", async () => {
  const system = await openSystem();
  for (const [id, model] of [
    ["nan@1", nanForRefunds()],
    ["lookup@1", lookup([0.25, 0.75])],
    ["unbounded@1", unbounded()],
  ] as const)
    await system.register(id, model);
  const deployed = async (model: string, review: number, decline: number): Promise<number> => {
    const epoch = await system.deploy({ model, review, decline });
    await system.heartbeat(`that ${model} is in force`, at(epoch));
    return epoch;
  };
  await system.deploy("nan@1");
  system.startWorker();
  await system.publishTo(0, amounts([4, -4, 4, -1, 4]));
  await system.consumed();
  await deployed("lookup@1", 0.25, 0.75);
  await system.publishTo(0, amounts([0, 199, 200, 10, 1_000]));
  await system.consumed();
  const lookedUp = await deployed("lookup@1", 0.250001, 0.750001);
  await system.publishTo(0, amounts([0, 100]));
  await system.consumed();
  const unbounded1 = await deployed("unbounded@1", 0, 1);
  await system.publishTo(0, amounts([100, 101, 0, -1, -0]));
  await system.consumed();
  const scored = (await system.predictions()).map(({ prediction: { model, source_offset, score, decision } }) => [
    model,
    source_offset,
    Number(score.toFixed(3)),
    decision,
  ]);
  expect(scored).toEqual([
    ["nan@1", 0, 0.2, "approve"],
    ["nan@1", 2, 0.2, "approve"],
    ["nan@1", 4, 0.2, "approve"],
    ["lookup@1", 5, 0.25, "review"],
    ["lookup@1", 6, 0.75, "decline"],
    ["lookup@1", 8, 0.25, "review"],
    ["lookup@1", 10, 0.25, "approve"],
    ["lookup@1", 11, 0.75, "review"],
    ["unbounded@1", 12, 1, "decline"],
    ["unbounded@1", 14, 0, "review"],
    ["unbounded@1", 16, 0, "review"],
  ]);
  const letters = (await system.deadLetters()).map(({ headers }) => [
    Number(headers["offset"]),
    headers["step"],
    headers["code"],
  ]);
  expect(letters).toEqual([
    [1, "score", "no_score"],
    [3, "score", "no_score"],
    [7, "score", "model_failed"],
    [9, "score", "model_failed"],
    [13, "score", "no_score"],
    [15, "score", "no_score"],
  ]);

  // A few records say little of a model that still scores: it is their fault. So it is with any number of dead letters
  // that are sent again, and of amounts that float32 has no number for. A hundred others in a row are another matter.
  await system.publishTo(0, amounts([-1]));
  await system.consumed();
  await system.publishTo(0, amounts([-1, -2, -3]));
  await system.consumed();
  expect((await system.deadLetters()).slice(-4).map(({ headers: { offset, code } }) => [offset, code])).toEqual([
    ["17", "no_score"],
    ["18", "no_score"],
    ["19", "no_score"],
    ["20", "no_score"],
  ]);
  const hundred = new Array<number>(100).fill(-1);
  await system.publishTo(
    0,
    amounts(hundred).map((record) => ({
      ...record,
      headers: encodeHeaders([
        ["attempt", "2"],
        ["fraudstream-redrive-of", `${system.topics.deadLetters.name}/0/17`],
      ]),
    })),
  );
  await system.consumed();
  expect(
    (await system.deadLetters())
      .slice(-100)
      .every(({ headers }) => headers["code"] === "no_score" && headers["attempt"] === "2"),
  ).toBe(true);
  await system.publishTo(0, amounts(hundred.map(() => 1e300)));
  await system.consumed();
  expect(
    (await system.deadLetters())
      .slice(-100)
      .every(({ headers }) => headers["code"] === "no_score" && headers["attempt"] === "1"),
  ).toBe(true);
  // Then the model is put out of force, and the one before scores instead of it, these records included.
  await system.publishTo(0, amounts(hundred));
  await system.consumed();
  const instead = (await system.predictions()).slice(scored.length).map(({ prediction }) => prediction);
  expect([instead.length, new Set(instead.map(({ model, epoch, score }) => `${model} ${epoch} ${score}`))]).toEqual([
    100,
    new Set([`lookup@1 ${lookedUp} 0.25`]),
  ]);
  expect(await system.deadLetters()).toHaveLength(letters.length + 204);
  const beat = await system.heartbeat("which deployment is refused, and why", ({ refused }) => refused.length === 1);
  expect(beat).toMatchObject({
    partitions: [{ epoch: lookedUp }],
    refused: [
      {
        epoch: unbounded1,
        model: "unbounded@1",
        reason: expect.stringMatching(/got no score: unbounded@1 gave -/) as string,
      },
    ],
  });
  expect(system.workers[0].exit).toBeNull();
});

it("consumes nothing while the champion scores nothing, and resumes when another one is deployed", async () => {
  const system = await openSystem();
  await system.register("broken@1", alwaysNan());
  await system.register("fine@1", logistic());
  await system.deploy("broken@1");
  await system.publishTo(0, amounts([1, 2, 3]));
  const worker = system.startWorker();
  const beat = await system.heartbeat(
    "that the deployment is refused, and the partitions are given back",
    ({ refused, partitions }) => refused.length === 1 && partitions.length === 0,
  );
  expect(beat).toMatchObject({
    refused: [
      { model: "broken@1", reason: expect.stringContaining("nor has it a score for a row of zeros") as string },
    ],
  });
  expect([await system.predictions(), await system.deadLetters(), worker.exit]).toEqual([[], [], null]);
  // Its partitions are free for a worker that can do better.
  await worker.logged("no deployment works here: the group is left, so that other workers get the partitions");
  await system.deploy("fine@1");
  await system.consumed();
  expect((await system.predictions()).map(({ prediction }) => prediction.amount)).toEqual([1, 2, 3]);
});

it(
  "goes on with the deployment before when a champion hangs, fails or has no score for payments " +
    "without attributes",
  async () => {
    const system = await openSystem();
    const risk = numberFeature("risk");
    for (const [id, model] of [
      ["good@1", logistic()],
      ["hangs@1", hangsAbove(1_000)],
      ["needy@1", weighted([amountFeature, risk], [0.01, 1])],
    ] as const)
      await system.register(id, model);
    const good = await system.deploy("good@1");
    const hangs = await system.deploy("hangs@1", ["good@1"]);
    const worker = system.startWorker({ MODEL_TIMEOUT_MS: "700" });
    await system.publishTo(0, amounts([25]));
    await system.consumed();
    await system.publishTo(0, amounts([36, 2_000, 49]));
    await system.consumed();
    await system.publishTo(0, amounts([64, 3_000]));
    await system.consumed();
    const told = async (from = 0): Promise<[string, number, number][]> =>
      (await system.predictions())
        .slice(from)
        .map(({ prediction: { model, epoch, amount } }) => [model, epoch, amount]);
    expect(await told()).toEqual([
      ["hangs@1", hangs, 25],
      ...[36, 2_000, 49, 64, 3_000].map((amount) => ["good@1", good, amount]),
    ]);
    expect((await system.heartbeat("that it is refused", ({ refused }) => refused.length === 1)).refused).toMatchObject(
      [{ epoch: hangs, model: "hangs@1", reason: "the model gave no answer within 0.7 s" }],
    );

    // Deployed once more it is tried once more; as a shadow it is dropped, and costs nobody a prediction.
    const again = await system.deploy("good@1", ["hangs@1"]);
    await system.heartbeat("that the newer epoch is in force", at(again));
    await system.publishTo(0, amounts([5_000, 1]));
    await system.heartbeat(
      "that the shadow is dropped",
      says(/^shadow hangs@1 of epoch \d+ is dropped: the model gave no answer/),
    );
    await system.consumed();
    expect(await told(6)).toEqual([
      ["good@1", again, 5_000],
      ["good@1", again, 1],
    ]);

    // An artifact of an older version, which no check has seen without attributes: not one payment is lost to it.
    const needy = await system.deploy("needy@1");
    await system.heartbeat("that the needy one is in force", at(needy));
    await system.publishTo(0, amounts([10]));
    await system.heartbeat("that it is refused, too", ({ refused }) =>
      refused.some(({ model }) => model === "needy@1"),
    );
    await system.consumed();
    expect(await told(8)).toEqual([["good@1", again, 10]]);
    expect([await system.deadLetters(), worker.exit]).toEqual([[], null]);
  },
);

it("leaves payments to workers that can score: a worker without files joins once it has them", async () => {
  const system = await openSystem(2);
  await system.register("good@1", logistic());
  const epoch = await system.deploy("good@1");
  const elsewhere = `${system.artifacts}-elsewhere`;
  onTestFinished(() => rm(elsewhere, { recursive: true, force: true }));
  const [able, unable] = [system.startWorker(), system.startWorker({ ARTIFACTS: elsewhere })];
  await unable.logged("no deployment can be loaded: the group is not joined until one can");
  const refused = await system.heartbeat("what it lacks", (beat) => beat.refused.length === 1, unable);
  expect(refused).toMatchObject({
    partitions: [],
    refused: [{ epoch, model: "good@1", reason: expect.stringContaining("there is no") as string }],
  });
  await system.publish(
    Array.from({ length: 20 }, (_, i) =>
      transactionRecord(transaction(i, { transaction_id: `u${i}`, card_id: `card-${i}` })),
    ),
  );
  await system.consumed();
  expect(await system.predictions()).toHaveLength(20);
  expect(
    (await system.heartbeat("that it has both partitions", (beat) => beat.partitions.length === 2, able)).partitions,
  ).toHaveLength(2);
  await cp(system.artifacts, elsewhere, { recursive: true });
  const joined = await system.heartbeat("that it has joined", (beat) => beat.partitions.length === 1, unable);
  expect(joined.refused).toEqual([]);
});

it("refuses a deployment that it can't load, says why, and continues with the old one", async () => {
  const system = await openSystem();
  await system.register("good@1", logistic());
  const broken = async (
    id: string,
    change: (manifest: Manifest) => Manifest,
    onnx: Uint8Array | null = logistic().onnx,
  ): Promise<void> =>
    system.registerFiles(id, await writeArtifact(system.artifacts, change(manifestOf(id, logistic())), onnx));
  await broken("other-file@1", (manifest) => manifest, nanForRefunds().onnx);
  await broken("no-file@1", (manifest) => manifest, null);
  await broken("two-features@1", (manifest) =>
    manifestOf(manifest.model, { features: [amountFeature, numberFeature("risk")], onnx: logistic().onnx }),
  );
  await broken("hash@1", (manifest) => ({ ...manifest, feature_hash: "0".repeat(64) }));
  await broken("feature@1", (manifest) => ({
    ...manifest,
    features: [{ ...amountFeature, source: { kind: "phase-of-moon" } as never }],
  }));
  await broken("output@1", (manifest) => ({ ...manifest, output: "nothing" }));
  await broken(
    "garbage@1",
    (manifest) => manifestOf(manifest.model, { features: [amountFeature], onnx: Buffer.from("no model") }),
    Buffer.from("no model"),
  );
  await system.registerFiles("other-manifest@1", "0".repeat(64));
  await writeArtifact(system.artifacts, manifestOf("other-manifest@1", logistic()), logistic().onnx);
  const good = await system.deploy("good@1");
  const worker = system.startWorker();
  await system.heartbeat("that the good one is in force", at(good));
  const refused: [id: string, reason: RegExp][] = [
    ["other-file@1", /model\.onnx has sha256/],
    ["no-file@1", /there is no .*model\.onnx/],
    ["two-features@1", /inputs are float32 \[N, 1\]|expected float32 \[N, 2\]/],
    ["hash@1", /features have hash/],
    ["feature@1", /features\[0\] is of the kind "phase-of-moon"/],
    ["output@1", /outputs are/],
    ["garbage@1", /not a model/],
    ["other-manifest@1", /manifest\.json has sha256/],
  ];
  let epoch = -1;
  for (const [id, reason] of refused) {
    epoch = await system.deploy(id);
    const beat = await system.heartbeat(
      `why ${id} is refused`,
      says(new RegExp(`^epoch ${epoch} can't be loaded: .*(${reason.source})`)),
    );
    expect(beat.partitions).toEqual([{ partition: 0, epoch: good }]);
  }
  // What the registry would not let pass, written down by somebody else.
  const unknown = {
    "fraudstream.Deployed": { champion: { model: "nobody@1", review: 0.5, decline: 0.9 }, shadows: [] },
  };
  epoch = await system.control.append(system.producer, { key: "deployment", who: "system:test", event: unknown });
  await system.heartbeat(
    "that the model is unknown",
    says(new RegExp(`^epoch ${epoch} can't be loaded: nobody@1 is not registered`)),
  );
  await system.publishTo(0, amounts([1]));
  await system.consumed();
  expect((await system.predictions()).map(({ prediction }) => prediction.epoch)).toEqual([good]);

  // A worker that starts now takes the newest that it can load.
  await worker.stop();
  const second = system.startWorker();
  const beat = await system.heartbeat("what a new worker has taken", at(good), second);
  expect(beat.problems).toHaveLength(refused.length + 1);
  await system.publishTo(0, amounts([2]));
  await system.consumed();
  expect((await system.predictions()).map(({ prediction }) => prediction.epoch)).toEqual([good, good]);
});

it("consumes nothing without a champion", async () => {
  const system = await openSystem();
  await system.register("good@1", logistic());
  await system.publishTo(0, amounts([1, 2]));
  const worker = system.startWorker();
  const consumedUpTo = (): Promise<number | null> =>
    committedOffset(system.cluster, system.group, { topic: system.topics.transactions.name, partition: 0 });
  await worker.logged("scoring");
  const { next } = await system.heartbeats();
  await system.heartbeat(
    "that the worker still waits",
    (beat) => ((beat as { offset?: number }).offset as number) > next + 1 && beat.partitions.length === 0,
  );
  expect([await consumedUpTo(), await system.predictions()]).toEqual([null, []]);
  await system.deploy("good@1");
  await system.consumed();
  expect(await system.predictions()).toHaveLength(2);

  const withdrawn = await system.deploy(null);
  await system.heartbeat("that the champion is withdrawn", at(withdrawn));
  await system.publishTo(0, amounts([3]));
  const then = (await system.heartbeats()).next;
  await system.heartbeat(
    "that the worker waits again",
    (beat) => ((beat as { offset?: number }).offset as number) > then + 1,
  );
  expect([await consumedUpTo().then((offset) => offset === 2), (await system.predictions()).length]).toEqual([true, 2]);
  const stopped = await worker.stop();
  expect(stopped).toEqual({ code: 0, signal: null });
});

it("swaps models while streaming: once all partitions have reported an epoch, no older one is written", async () => {
  const system = await openSystem(3);
  for (const id of ["a@1", "b@1"]) await system.register(id, logistic());
  let epoch = await system.deploy("a@1", ["b@1"]);
  system.startWorker();
  system.startWorker();
  await system.consumed();
  let streaming = true;
  let published = 0;
  const stream = (async () => {
    for (; streaming; await sleep(2)) {
      await system.publish(
        Array.from({ length: 30 }, (_, i) =>
          transactionRecord(transaction(published + i, { transaction_id: `s${published + i}` })),
        ),
      );
      published += 30;
    }
  })();
  const ends = async (): Promise<number[]> => {
    const list: number[] = [];
    for (let partition = 0; partition < 3; partition++) {
      const reader = new PartitionReader(system.cluster, system.topics.predictions.name, partition);
      list.push(await reader.endOffset());
      await reader.close();
    }
    return list;
  };
  // Where each partition of the predictions ended (for readers of committed records) when its epoch was first reported.
  const reported: { epoch: number; partition: number; end: number }[] = [];
  let seen = 0;
  for (let round = 0; round < 4; round++) {
    epoch = await system.deploy(round % 2 === 0 ? "b@1" : "a@1", round % 3 === 0 ? [] : ["a@1"]);
    const missing = new Set([0, 1, 2]);
    for (const deadline = Date.now() + 30_000; missing.size > 0;) {
      const { beats, next } = await system.heartbeats(seen);
      seen = next;
      const at = await ends();
      for (const { partition, epoch: of } of beats.flatMap(({ partitions }) => partitions))
        if (of >= epoch && missing.delete(partition)) reported.push({ epoch, partition, end: at[partition] });
      if (Date.now() > deadline) throw new Error(`epoch ${epoch} was never reported for all partitions`);
      await sleep(20);
    }
  }
  streaming = false;
  await stream;
  await system.consumed();
  const predictions = await system.predictions();
  expect(predictions).toHaveLength(published);
  for (const { epoch: of, partition, end } of reported)
    expect(
      predictions.filter(
        (record) => record.partition === partition && record.offset >= end && record.prediction.epoch < of,
      ),
    ).toEqual([]);
  for (let partition = 0; partition < 3; partition++) {
    const epochs = predictions
      .filter((record) => record.partition === partition)
      .map(({ prediction }) => prediction.epoch);
    expect(epochs).toEqual([...epochs].sort((a, b) => a - b));
    expect(new Set(epochs).size).toBeGreaterThan(2);
  }
  expect(await system.deadLetters()).toEqual([]);
});
