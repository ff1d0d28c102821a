import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { createLogger } from "../../../infra/logging.js";
import { ControlState } from "../../../models/registry/control-state.js";
import { Deployments } from "../../../pipelines/scoring/deployments.js";
import { logistic, manifestOf, writeArtifact } from "../../support/models.js";

const log = createLogger({ logLevel: "silent" }, "test");

/** The deployments of one worker, a state to put decisions in, and how often it was told of a change. */
async function worker(...ids: string[]): Promise<{ deployments: Deployments; state: ControlState; decide: (champion: string | null, shadows?: string[]) => number; artifacts: string; changes: () => number }> {
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
    apply(`model:${id}`, { "fraudstream.ModelRegistered": { model: id, manifest_sha256: await writeArtifact(artifacts, manifestOf(id, model), model.onnx), job: null } });
  }
  const deployed = (model: string): object => ({ model, review: 0.5, decline: 0.9 });
  const decide = (champion: string | null, shadows: string[] = []): number =>
    apply("deployment", { "fraudstream.Deployed": { champion: champion === null ? null : deployed(champion), shadows: shadows.map(deployed) } });
  let changes = 0;
  const deployments = new Deployments({ artifactsDir: artifacts, log, onChange: () => (changes += 1) });
  onTestFinished(() => deployments.close());
  return { deployments, state, decide, artifacts, changes: () => changes };
}

const never = new AbortController().signal;

it("keeps a superseded model in memory for those who still score with it", async () => {
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

it("does not free a model that is being deployed again when its last user lets go of it", async () => {
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

it("frees a dropped shadow once nobody scores with its deployment", async () => {
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

it("takes the newest deployment that it can load at the start, and keeps what it has later", async () => {
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

it("scores nothing after a champion was withdrawn, also when the next one can't be loaded", async () => {
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

it("gives up waiting for a champion when the partition goes", async () => {
  const { deployments } = await worker();
  const abort = new AbortController();
  const waiting = deployments.acquire(abort.signal);
  abort.abort();
  await expect(waiting).rejects.toThrow();
});
