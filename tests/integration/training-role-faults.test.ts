import { execFileSync } from "node:child_process";
import { mkdtemp, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { readConfig } from "../../infra/config/config.js";
import type { BatchProducer } from "../../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { FraudstreamError } from "../../schemas/errors.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { createLogger } from "../../infra/logging.js";
import { ControlLog } from "../../models/control/log.js";
import { jobKey } from "../../models/control/events.js";
import { registerModel } from "../../models/control/decisions.js";
import { Producing } from "../../pipelines/training/producing.js";
import { Trainer } from "../../pipelines/training/trainer.js";
import { TrainerSigns } from "../../pipelines/training/trainer-signs.js";
import { heldPage, staticServer } from "../support/static-server.js";
import { TrainingSystem } from "../support/training-system.js";
import { eventually } from "../support/eventually.js";
import { ulbCsv } from "../unit/models/datasets/csv-files.js";

vi.setConfig({ testTimeout: 150_000 });

const quick = { algorithm: "gradient-boosted-trees", params: { num_iterations: 5, max_depth: 3 } } as const;
/** A second or more of training: enough to be killed in. */
const slow = { algorithm: "gradient-boosted-trees", params: { num_iterations: 250, max_depth: 8 } } as const;
const log = createLogger({ logLevel: "silent" }, "test");

/** Every claim and every end of a job that was accepted, in order. */
function storyOf(system: TrainingSystem, id: string): string[] {
  return system.system.control.state.history
    .filter(({ key }) => key === jobKey(id))
    .map(({ event }) => {
      const [kind, body] = Object.entries(event)[0] as [string, { attempt?: number }];
      return `${kind.replace("fraudstream.", "")}${body.attempt === undefined ? "" : ` ${body.attempt}`}`;
    });
}

/** One job, one model: registered once, by the attempt that finished, its artifact in place. */
async function expectOneModel(system: TrainingSystem, id: string, attempt: number): Promise<void> {
  const job = await system.ended(id);
  await system.registered(id);
  expect(job).toMatchObject({ status: "processed", attempt });
  expect((await system.modelsOf(id)).map(({ model }) => model)).toEqual([job.model]);
  expect(await readdir(system.system.artifacts)).toContain(job.model);
}

function childrenOf(pid: number): number[] {
  const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
  return lines
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([, parent]) => parent === pid)
    .map(([child]) => child);
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe("trainers as processes", () => {
  test("when one is killed while it trains, another finishes the next attempt", async () => {
    const system = await TrainingSystem.open();
    const { origin } = await staticServer({ "/x.csv": ulbCsv(4_000) });
    const first = system.startTrainer();
    const id = await system.request({ ...slow, dataset: `${origin}/x.csv` });
    await system.inPhase(id, "boosting");
    const folders = await system.leftovers();
    const [job] = childrenOf(first.pid);
    await first.kill();
    await eventually("the job's process ends with its trainer", () => !isRunning(job));
    const second = system.startTrainer();
    await expectOneModel(system, id, 2);
    expect((await system.job(id)).worker).toContain(`-${second.pid}-`);
    expect(storyOf(system, id)).toEqual(["JobRequested", "JobClaimed 1", "JobClaimed 2", "JobFinished 2"]);
    expect(folders).toEqual([`${id}.1`]);
    await eventually(
      "what the killed one had downloaded is removed",
      async () => (await system.leftovers()).length === 0,
    );
  });

  test(
    "one is stopped while it trains, and wakes with its model when another has the job: it is refused " + "and goes on",
    async () => {
      const system = await TrainingSystem.open();
      const text = ulbCsv(4_000);
      const { page, release } = heldPage(text);
      let downloads = 0;
      const { origin } = await staticServer({
        "/x.csv": (request, response) => {
          downloads += 1;
          if (downloads === 1) response.end(text);
          else page(request, response);
        },
        "/y.csv": text,
      });
      const first = system.startTrainer();
      const id = await system.request({ ...slow, dataset: `${origin}/x.csv`, enable: "if_better" });
      await system.inPhase(id, "boosting");
      first.send("SIGSTOP");
      const second = system.startTrainer();
      expect(await system.inPhase(id, "downloading", 2)).toBe(second);
      // The second has the job and is held up; the first wakes. Its job's process may have trained to the end by now.
      first.send("SIGCONT");
      await first.logged("training ended: the job was cancelled or taken over by another trainer");
      const other = await system.request({ ...quick, dataset: `${origin}/y.csv` });
      await expectOneModel(system, other, 1);
      expect((await system.job(other)).worker).toContain(`-${first.pid}-`);
      expect(await system.modelsOf(id)).toEqual([]);
      release();
      await expectOneModel(system, id, 2);
      expect((await system.job(id)).worker).toContain(`-${second.pid}-`);
      expect(storyOf(system, id)).toEqual(["JobRequested", "JobClaimed 1", "JobClaimed 2", "JobFinished 2"]);
      await eventually("its model is deployed", () =>
        system.system.control.readToEnd().then(() => system.system.control.state.deployments.length === 1),
      );
    },
  );

  test("a job whose process is killed, as when memory runs out, fails; the trainer continues", async () => {
    const system = await TrainingSystem.open();
    const { origin } = await staticServer({
      "/held.csv": (_request, response) => void response.write("amount,label\n"),
      "/x.csv": ulbCsv(400),
    });
    const trainer = system.startTrainer();
    const id = await system.request({ ...quick, dataset: `${origin}/held.csv` });
    const next = await system.request({ ...quick, dataset: `${origin}/x.csv` });
    await system.inPhase(id, "downloading");
    process.kill(childrenOf(trainer.pid)[0], "SIGKILL");
    expect(await system.ended(id)).toMatchObject({ status: "error", code: "training_killed", attempt: 1 });
    await expectOneModel(system, next, 1);
  });

  test("a trainer that is asked to stop leaves its job to another, at once", async () => {
    const system = await TrainingSystem.open();
    const text = ulbCsv(500);
    let held = true;
    const { origin } = await staticServer({
      "/x.csv": (_request, response) => void (held ? response.write(text.slice(0, 500)) : response.end(text)),
    });
    // Silence alone would not hand the job over within this test.
    const patient = { TRAINER_SILENCE_SECONDS: "3000" };
    const [first, second] = [system.startTrainer(patient), system.startTrainer(patient)];
    await Promise.all([first, second].map((trainer) => trainer.logged("waiting for training jobs")));
    const id = await system.request({ ...quick, dataset: `${origin}/x.csv` });
    const holder = await system.inPhase(id, "downloading");
    held = false;
    expect(await holder?.stop()).toEqual({ code: 0, signal: null });
    await expectOneModel(system, id, 2);
  });

  test("two trainers share jobs, each of which is claimed once", async () => {
    const system = await TrainingSystem.open();
    const { origin } = await staticServer({ "/x.csv": ulbCsv(400) });
    const trainers = [system.startTrainer(), system.startTrainer()];
    await Promise.all(trainers.map((trainer) => trainer.logged("waiting for training jobs")));
    const ids: string[] = [];
    for (let job = 0; job < 4; job++)
      ids.push(await system.request({ ...quick, dataset: `${origin}/x.csv`, name: "same" }));
    for (const id of ids) await expectOneModel(system, id, 1);
    expect([...system.system.control.state.models.keys()].sort()).toEqual(["same@1", "same@2", "same@3", "same@4"]);
    for (const id of ids) expect(storyOf(system, id)).toEqual(["JobRequested", "JobClaimed 1", "JobFinished 1"]);
  });
});

/**
 * A trainer's producer that does something else at one of its calls: 1 claims, 2 ends the job, 3 registers, 4 deploys.
 */
class FaultyProducing extends Producing {
  calls = 0;
  readonly #at: (call: number) => Promise<void>;
  readonly #refused: (call: number, code: string) => void;

  constructor(
    cluster: KafkaCluster,
    at: (call: number) => Promise<void>,
    refused: (call: number, code: string) => void,
  ) {
    super(cluster);
    this.#at = at;
    this.#refused = refused;
  }

  override async run<T>(work: (producer: BatchProducer) => Promise<T>): Promise<T> {
    this.calls += 1;
    const call = this.calls;
    await this.#at(call);
    return super.run(work).catch((error: unknown) => {
      this.#refused(call, error instanceof FraudstreamError ? error.code : String(error));
      throw error;
    });
  }
}

/** A trainer within the test, that sends no heartbeats. */
async function trainerInside(
  { system, dataDir }: TrainingSystem,
  worker: string,
  at: (call: number) => Promise<void>,
  refused: (call: number, code: string) => void = () => {},
): Promise<Trainer> {
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  const control = new ControlLog({ cluster: system.cluster, topic: system.topics.control.name, schemas, log });
  const signs = new TrainerSigns({
    cluster: system.cluster,
    topic: system.topics.workers.name,
    schemas,
    silenceMs: 3_600_000,
  });
  const producing = new FaultyProducing(system.cluster, at, refused);
  const stop = new AbortController();
  await control.readToEnd();
  const trainer = new Trainer({
    control,
    signs,
    producing,
    log,
    worker,
    artifactsDir: system.artifacts,
    workDir: await mkdtemp(join(tmpdir(), "fraudstream-jobs-")),
    clickhouse: null,
    limits: readConfig({ DATASETS_ALLOW_PRIVATE: "127.0.0.1/32", DATA_DIR: dataDir }).training,
    maturityMs: 0,
    onChange: () => {},
  });
  control.follow(
    () => trainer.changed(),
    () => {},
  );
  void trainer.run(stop.signal).catch(() => {});
  onTestFinished(async () => {
    stop.abort();
    await signs.close();
    await control.close();
    await producing.close();
  });
  return trainer;
}

describe("a trainer that dies between two of its decisions", () => {
  /**
   * Starts a trainer that never makes its `call`-th decision, as if it were killed there, and waits until it is there.
   */
  async function deadAt(system: TrainingSystem, call: number): Promise<void> {
    let dead: () => void = () => {};
    const died = new Promise<void>((resolve) => (dead = resolve));
    await trainerInside(system, `dead-${call}`, (now) => {
      if (now < call) return Promise.resolve();
      dead();
      return new Promise(() => {});
    });
    await died;
  }

  test("registers one model per job, whichever decision was its last", async () => {
    const system = await TrainingSystem.open();
    const { origin } = await staticServer({ "/x.csv": ulbCsv(400) });
    const ids: string[] = [];
    for (const call of [2, 3, 4]) {
      ids.push(
        await system.request({
          ...quick,
          dataset: `${origin}/x.csv`,
          name: `died-${call}`,
          enable: call === 4 ? "if_better" : "never",
        }),
      );
      await deadAt(system, call);
    }
    // Stored but not finished; finished but not registered; registered but not deployed.
    expect((await readdir(system.system.artifacts)).sort()).toEqual(["died-2@1", "died-3@1", "died-4@1"]);
    await system.system.control.readToEnd();
    const { state } = system.system.control;
    expect(ids.map((id) => state.jobs.get(id)?.status)).toEqual(["processing", "processed", "processed"]);
    expect([...state.models.keys()]).toEqual(["died-4@1"]);
    expect(state.deployments).toEqual([]);

    system.startTrainer();
    await expectOneModel(system, ids[0], 2);
    await expectOneModel(system, ids[1], 1);
    await expectOneModel(system, ids[2], 1);
    // A version is given once: the one that nobody knows of isn't given again.
    expect([...state.models.keys()].sort()).toEqual(["died-2@2", "died-3@1", "died-4@1"]);
    await eventually("the model that was better than none is deployed", () =>
      system.system.control.readToEnd().then(() => state.deployments.length > 0),
    );
    expect(state.deployments.map(({ champion }) => champion?.model)).toEqual(["died-4@1"]);
  });

  test("an attempt or a cancellation right before a job ends removes its artifact, and registers nothing", async () => {
    const system = await TrainingSystem.open();
    const { control, producer } = system.system;
    const { origin } = await staticServer({ "/x.csv": ulbCsv(400) });
    const taken = await system.request({ ...quick, dataset: `${origin}/x.csv` });
    const cancelled = await system.request({ ...quick, dataset: `${origin}/x.csv` });
    const beforeEnd: (() => Promise<unknown>)[] = [
      () =>
        control.readToEnd().then(() =>
          control.append(producer, {
            key: jobKey(taken),
            who: "system:train",
            event: { "fraudstream.JobClaimed": { attempt: 2, worker: "rival" } },
          }),
        ),
      () => system.cancel(cancelled),
    ];
    let stored: string[] = [];
    await trainerInside(system, "late", async (call) => {
      if (call !== 2 && call !== 4) return;
      stored = [...stored, ...(await readdir(system.system.artifacts))];
      await beforeEnd.shift()?.();
    });
    await eventually(
      "both artifacts were stored and withdrawn",
      async () => stored.length === 2 && (await readdir(system.system.artifacts)).length === 0,
    );
    expect(await system.job(taken)).toMatchObject({ status: "processing", attempt: 2, worker: "rival" });
    expect(await system.job(cancelled)).toMatchObject({ status: "cancelled", model: null });
    expect(control.state.models.size).toBe(0);
    expect(storyOf(system, taken)).toEqual(["JobRequested", "JobClaimed 1", "JobClaimed 2"]);
  });

  test("an operator who deploys while a better model is on its way wins", async () => {
    const system = await TrainingSystem.open();
    const { control, producer } = system.system;
    const refusals: string[] = [];
    const { origin } = await staticServer({ "/x.csv": ulbCsv(400) });
    await registerModel(control, { who: "user:test", producer }, { model: "chosen@1", manifestSha256: "0" });
    const id = await system.request({ ...quick, dataset: `${origin}/x.csv`, enable: "if_better" });
    const deployFirst = async (call: number): Promise<void> => {
      if (call !== 4) return;
      await control.readToEnd();
      await system.system.deploy("chosen@1");
    };
    await trainerInside(system, "late", deployFirst, (call, code) => void refusals.push(`${call} ${code}`));
    await expectOneModel(system, id, 1);
    await eventually("the trainer's deployment was refused", () => refusals.includes("4 conflict"));
    await control.readToEnd();
    expect(control.state.deployments.map(({ champion }) => champion?.model)).toEqual(["chosen@1"]);
  });
});

test("a job that loses trainer after trainer is given up", async () => {
  const system = await TrainingSystem.open();
  const { control, producer } = system.system;
  const id = await system.request({ ...quick, dataset: "http://127.0.0.1:1/" });
  for (let attempt = 1; attempt <= 5; attempt++)
    await control.append(producer, {
      key: jobKey(id),
      who: "system:train",
      event: { "fraudstream.JobClaimed": { attempt, worker: "lost" } },
    });
  system.startTrainer();
  expect(await system.ended(id)).toMatchObject({ status: "error", code: "training_abandoned", attempt: 5 });
});
