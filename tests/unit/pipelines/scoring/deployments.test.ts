import { mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { Conditions } from "../../../../infra/health/conditions.js";
import { createLogger } from "../../../../infra/logging.js";
import { loadArtifact } from "../../../../models/artifacts.js";
import { ControlState } from "../../../../models/control/state.js";
import { ChampionHealth } from "../../../../pipelines/scoring/champion-health.js";
import { Deployments } from "../../../../pipelines/scoring/deployments.js";
import { logistic, manifestOf, writeArtifact } from "../../../support/models.js";

const log = createLogger({ logLevel: "silent" }, "test");

/** The deployments of one worker, a state to put decisions in, and how often it was told of a change. */
async function worker(...ids: string[]): Promise<{
  deployments: Deployments;
  state: ControlState;
  decide: (champion: string | null, shadows?: string[]) => number;
  artifacts: string;
  conditions: Conditions;
  changes: () => number;
}> {
  const artifacts = await mkdtemp(join(tmpdir(), "fraudstream-deployments-"));
  onTestFinished(() => rm(artifacts, { recursive: true, force: true }));
  const state = new ControlState();
  let offset = 0;
  const apply = (key: string, event: object): number => {
    const at = offset++;
    state.apply({ key, base: state.baseOf(key), at: 0, who: "test", event: event as never }, at);
    return at;
  };
  for (const id of ids) {
    const model = logistic();
    apply(`model:${id}`, {
      "fraudstream.ModelRegistered": {
        model: id,
        manifest_sha256: await writeArtifact(artifacts, manifestOf(id, model), model.onnx),
        job: null,
      },
    });
  }
  const deployed = (model: string): object => ({ model, review: 0.5, decline: 0.9 });
  const decide = (champion: string | null, shadows: string[] = []): number =>
    apply("deployment", {
      "fraudstream.Deployed": {
        champion: champion === null ? null : deployed(champion),
        shadows: shadows.map(deployed),
      },
    });
  let changes = 0;
  const conditions = new Conditions(log);
  const deployments = new Deployments({
    loadArtifact: (id, sha) => loadArtifact(artifacts, id, sha),
    log,
    conditions,
    onChange: () => (changes += 1),
  });
  onTestFinished(() => deployments.close());
  return { deployments, state, decide, artifacts, conditions, changes: () => changes };
}

const never = new AbortController().signal;

it("keeps a superseded model in memory for batches that still score with it", async () => {
  const { deployments, state, decide } = await worker("a@1", "b@1");
  decide("a@1");
  await deployments.settle(state);
  const held = await deployments.acquire(never);
  decide("b@1");
  await deployments.settle(state);
  expect(deployments.current?.champion.model).toBe("b@1");
  expect(await held.champion.scorer.run(Float32Array.of(0), 1)).toEqual(Float32Array.of(0.5));
  deployments.release(held);
  await expect(held.champion.scorer.run(Float32Array.of(0), 1)).rejects.toThrow();
});

it("does not free a model that is being deployed again when its last user releases it", async () => {
  const { deployments, state, decide } = await worker("a@1", "b@1", "c@1");
  decide("a@1");
  await deployments.settle(state);
  const held = await deployments.acquire(never);
  decide("b@1");
  await deployments.settle(state);
  // a@1 is only held by a batch under way; while c@1 is loaded for the newest deployment, that batch ends.
  decide("a@1", ["c@1"]);
  const settled = deployments.settle(state);
  await new Promise((resolve) => setImmediate(resolve));
  deployments.release(held);
  await settled;
  expect(deployments.current?.champion.model).toBe("a@1");
  expect(await deployments.current?.champion.scorer.run(Float32Array.of(0), 1)).toEqual(Float32Array.of(0.5));
});

it("frees a dropped shadow once no batch scores with its deployment", async () => {
  const { deployments, state, decide } = await worker("a@1", "b@1");
  decide("a@1", ["b@1"]);
  await deployments.settle(state);
  const held = await deployments.acquire(never);
  const [shadow] = held.shadows;
  deployments.dropShadow(held, shadow, "it failed");
  expect(held.shadows).toEqual([]);
  expect(deployments.problems).toEqual([expect.stringMatching(/^shadow b@1 of epoch \d+ is dropped: it failed$/)]);
  deployments.release(held);
  decide("a@1");
  await deployments.settle(state);
  expect(deployments.problems).toEqual([]);
  await expect(shadow.scorer.run(Float32Array.of(0), 1)).rejects.toThrow();
  expect(await deployments.current?.champion.scorer.run(Float32Array.of(0), 1)).toEqual(Float32Array.of(0.5));
});

it("uses the newest deployment that it can load at the start, and later keeps the one it has", async () => {
  const { deployments, state, decide, artifacts } = await worker("a@1", "b@1", "c@1");
  await rm(join(artifacts, "c@1"), { recursive: true });
  const first = decide("a@1");
  const second = decide("b@1");
  const broken = decide("c@1");
  await deployments.settle(state);
  expect(deployments.current).toMatchObject({ epoch: second, champion: { model: "b@1" } });
  expect(deployments.problems).toEqual([expect.stringContaining(`epoch ${broken} can't be loaded: c@1: there is no `)]);
  const brokenAgain = decide("c@1");
  await deployments.settle(state);
  expect(deployments.current?.epoch).toBe(second);
  expect(deployments.problems).toEqual([expect.stringContaining(`epoch ${brokenAgain} can't be loaded`)]);
  expect(first).toBeLessThan(second);
});

it("scores nothing after a champion was withdrawn, even if the next one can't be loaded", async () => {
  const { deployments, state, decide, artifacts } = await worker("a@1", "b@1");
  await rm(join(artifacts, "b@1"), { recursive: true });
  decide("a@1");
  await deployments.settle(state);
  const withdrawn = decide(null);
  await deployments.settle(state);
  expect([deployments.current, deployments.epoch]).toEqual([null, withdrawn]);
  decide("b@1");
  await deployments.settle(state);
  expect([deployments.current, deployments.epoch]).toEqual([null, withdrawn]);
  const waiting = deployments.acquire(never);
  const epoch = decide("a@1");
  await deployments.settle(state);
  expect((await waiting).epoch).toBe(epoch);
});

it("loads a deployment without a shadow that can't be loaded, and says so", async () => {
  const { deployments, state, decide, artifacts, changes } = await worker("a@1", "b@1", "c@1");
  await rm(join(artifacts, "b@1"), { recursive: true });
  decide("a@1", ["b@1", "c@1"]);
  await deployments.settle(state);
  expect(deployments.current?.shadows.map(({ model }) => model)).toEqual(["c@1"]);
  expect(deployments.problems).toEqual([expect.stringMatching(/^shadow b@1 of epoch \d+ can't be loaded/)]);
  expect(changes()).toBe(1);
});

it("stops waiting for a champion when the partition is revoked", async () => {
  const { deployments } = await worker();
  const abort = new AbortController();
  const waiting = deployments.acquire(abort.signal);
  abort.abort();
  await expect(waiting).rejects.toThrow();
});

it(
  "puts a champion out of force: the newest earlier deployment that works scores, and a new one of the same " +
    "model is tried anew",
  async () => {
    const { deployments, state, decide, conditions } = await worker("a@1", "b@1", "c@1");
    const first = decide("a@1", ["b@1", "c@1"]);
    decide("b@1");
    const third = decide("b@1", ["a@1"]);
    await deployments.settle(state);
    const failed = await deployments.acquire(never);
    expect(failed.epoch).toBe(third);
    // Of two partitions that find it out, the second has nothing left to do.
    expect(
      await Promise.all(
        [1, 2].map(() => deployments.putOutOfForce(failed, "the model gave no answer", { unconditionally: false })),
      ),
    ).toEqual([true, true]);
    expect(deployments.current).toMatchObject({ epoch: first, champion: { model: "a@1" } });
    expect(deployments.epoch).toBe(first);
    // What fails as champion is no shadow either.
    expect(deployments.current?.shadows.map(({ model }) => model)).toEqual(["c@1"]);
    expect(deployments.refused).toEqual([{ epoch: third, model: "b@1", reason: "the model gave no answer" }]);
    expect(deployments.problems[0]).toMatch(
      /^epoch \d+ is out of force here: b@1 failed: the model gave no answer; a@1 of epoch \d+ scores instead$/,
    );
    expect(conditions.list()).toMatchObject([{ code: "deployment_out_of_force", blocking: false }]);
    deployments.release(failed);
    // Nothing but a new decision changes that.
    await deployments.settle(state);
    await deployments.retry();
    expect(deployments.current?.epoch).toBe(first);
    const again = decide("b@1");
    await deployments.settle(state);
    expect([deployments.current?.epoch, deployments.refused, conditions.list()]).toEqual([again, [], []]);
  },
);

it("keeps a failing champion if no earlier deployment works, unless it scores nothing at all", async () => {
  const { deployments, state, decide, artifacts, conditions } = await worker("a@1", "b@1", "c@1");
  await rm(join(artifacts, "a@1"), { recursive: true });
  decide("a@1");
  const epoch = decide("b@1");
  await deployments.settle(state);
  const failed = await deployments.acquire(never);
  expect(await deployments.putOutOfForce(failed, "no scores", { unconditionally: false })).toBe(false);
  expect([deployments.current, deployments.refused, deployments.stuck]).toEqual([failed, [], false]);
  expect(conditions.list()).toMatchObject([{ code: "champion_fails", blocking: false }]);
  await deployments.retry(Date.now() + 60_000);
  expect(conditions.list()).toHaveLength(1);
  // It may have been the machine: what it hasn't done for a while it doesn't do any more.
  await deployments.retry(Date.now() + 600_000);
  expect(conditions.list()).toEqual([]);
  expect(await deployments.putOutOfForce(failed, "no scores", { unconditionally: true })).toBe(true);
  deployments.release(failed);
  expect([deployments.current, deployments.epoch, deployments.stuck]).toEqual([null, null, true]);
  expect(deployments.refused.map((refused) => refused.epoch)).toContain(epoch);
  expect(conditions.blocking).toBe(true);
  decide("c@1");
  await deployments.settle(state);
  expect([deployments.current?.champion.model, deployments.stuck, conditions.list()]).toEqual(["c@1", false, []]);
});

it("does not go back to before a withdrawal", async () => {
  const { deployments, state, decide } = await worker("a@1", "b@1");
  decide("a@1");
  decide(null);
  decide("b@1");
  await deployments.settle(state);
  const failed = await deployments.acquire(never);
  expect(await deployments.putOutOfForce(failed, "no scores", { unconditionally: false })).toBe(false);
  deployments.release(failed);
});

it("loads files that appear later, and reports what is missing once", async () => {
  const { deployments, state, decide, artifacts, conditions } = await worker("a@1", "b@1");
  const kept = join(artifacts, "kept");
  await rename(join(artifacts, "a@1"), kept);
  const epoch = decide("a@1");
  await deployments.settle(state);
  await deployments.retry();
  expect([deployments.stuck, deployments.refused.map(({ model }) => model)]).toEqual([true, ["a@1"]]);
  expect(conditions.list().map(({ code }) => code)).toEqual(["deployment_not_loaded", "no_deployment_works"]);
  await rename(kept, join(artifacts, "a@1"));
  await deployments.retry();
  expect([deployments.current?.epoch, deployments.stuck, conditions.list()]).toEqual([epoch, false, []]);
});

describe("a champion's health", () => {
  it("is not judged by a few payments without a score, nor by one in a hundred", () => {
    const health = new ChampionHealth();
    health.add(0, 7);
    expect(health.fault).toBeNull();
    for (let i = 0; i < 50; i++) health.add(99, 1);
    expect(health.fault).toBeNull();
  });

  it("is bad if most of the last payments get none, or more than a tenth of many", () => {
    const never = new ChampionHealth();
    never.add(0, 8);
    expect(never.fault).toBe("of its last 8 payments 8 got no score");
    const often = new ChampionHealth();
    often.add(70, 30);
    expect(often.fault).toMatch(/of its last 100 payments 30/);
    const lately = new ChampionHealth();
    for (let i = 0; i < 100; i++) lately.add(100, 0);
    for (let i = 0; i < 10; i++) lately.add(0, 20);
    expect(lately.fault).not.toBeNull();
  });

  it("remembers an interruption for a while", () => {
    const health = new ChampionHealth();
    expect([health.interrupted(0), health.interrupted(60_000), health.interrupted(10 * 60_000)]).toEqual([
      false,
      true,
      false,
    ]);
  });
});
