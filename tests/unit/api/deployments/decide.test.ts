import { describe, expect, it } from "vitest";
import { disabled, enabled, lastThresholds, roleOf, withThresholds } from "../../../../api/deployments/decide.js";
import { historyOf } from "../../../../api/deployments/history.js";
import { DEPLOYMENT_KEY, modelKey } from "../../../../models/control/events.js";
import { ControlState, type Deployment } from "../../../../models/control/state.js";
import { livenessOf, refusalsOf, waitUntilLive } from "../../../../models/control/liveness.js";
import type { DeployedModel, WorkerHeartbeat } from "../../../../schemas/generated.js";

const of = (model: string, review = 0.5, decline = 0.9): DeployedModel => ({ model, review, decline });
const deployment = (champion: DeployedModel | null, shadows: DeployedModel[] = []): Deployment => ({
  epoch: 5,
  champion,
  shadows,
});
const refused = (code: string): Error => expect.objectContaining({ status: 409, code }) as Error;

describe("a decision", () => {
  const present = deployment(of("a@1"), [of("b@1"), of("c@1")]);

  it("replaces the champion, which is then no longer a shadow", () => {
    expect(enabled(null, of("a@1"), "champion")).toEqual({ champion: of("a@1"), shadows: [] });
    expect(enabled(present, of("b@1", 0.1, 0.2), "champion")).toEqual({
      champion: of("b@1", 0.1, 0.2),
      shadows: [of("c@1")],
    });
    expect(enabled(present, of("d@1"), "champion")).toEqual({ champion: of("d@1"), shadows: [of("b@1"), of("c@1")] });
  });

  it("adds shadows only beside a champion", () => {
    expect(enabled(present, of("d@1"), "shadow")).toEqual({
      champion: of("a@1"),
      shadows: [of("b@1"), of("c@1"), of("d@1")],
    });
    expect(() => enabled(present, of("a@1"), "shadow")).toThrow(refused("is_champion"));
    expect(() => enabled(deployment(null), of("a@1"), "shadow")).toThrow(refused("no_champion"));
    expect(() => enabled(null, of("a@1"), "shadow")).toThrow(refused("no_champion"));
  });

  it("takes out an enabled model, in the role that is named", () => {
    expect(disabled(present, "b@1")).toEqual({ champion: of("a@1"), shadows: [of("c@1")] });
    expect(disabled(present, "a@1", "champion")).toEqual({ champion: null, shadows: [of("b@1"), of("c@1")] });
    expect(disabled(present, "a@1", "shadow")).toBeNull();
    expect(disabled(present, "d@1")).toBeNull();
    expect(disabled(null, "a@1")).toBeNull();
  });

  it("is not made if nothing would change", () => {
    expect(enabled(present, of("a@1", 0.1, 0.2), "champion")).toBeNull();
    expect(enabled(present, of("c@1"), "shadow")).toBeNull();
    expect(withThresholds(present, "a@1", { review: 0.5, decline: 0.9 })).toBeNull();
  });

  it("sets thresholds only of enabled models", () => {
    expect(withThresholds(present, "b@1", { review: 0.2, decline: 2 })).toEqual({
      champion: of("a@1"),
      shadows: [of("b@1", 0.2, 2), of("c@1")],
    });
    expect(withThresholds(present, "a@1", { review: 0.2, decline: 2 })?.champion).toEqual(of("a@1", 0.2, 2));
    expect(() => withThresholds(present, "d@1", { review: 0, decline: 1 })).toThrow(refused("not_enabled"));
    expect(() => withThresholds(null, "d@1", { review: 0, decline: 1 })).toThrow(refused("not_enabled"));
  });

  it("distinguishes roles", () => {
    expect(["a@1", "b@1", "d@1"].map((model) => roleOf(present, model))).toEqual(["champion", "shadow", null]);
  });
});

describe("history", () => {
  const state = new ControlState();
  const deploy = (offset: number, who: string, champion: DeployedModel | null, shadows: DeployedModel[] = []): void => {
    state.apply(
      {
        key: DEPLOYMENT_KEY,
        base: state.baseOf(DEPLOYMENT_KEY),
        at: offset * 1000,
        who,
        event: { "fraudstream.Deployed": { champion, shadows } },
      },
      offset,
    );
  };
  state.apply(
    {
      key: modelKey("a@1"),
      base: -1,
      at: 0,
      who: "ann",
      event: { "fraudstream.ModelRegistered": { model: "a@1", manifest_sha256: "", job: "j1" } },
    },
    0,
  );
  deploy(1, "bob", of("b@1"), [of("a@1", 0.3, 0.4)]);
  deploy(2, "bob", of("b@1", 0.7), [of("a@1", 0.3, 0.4)]);
  deploy(3, "cem", of("a@1", 0.3, 0.4));
  deploy(4, "dee", of("a@1", 0.2, 0.4));
  deploy(5, "eve", of("b@1"));

  it("says who did what to a model, and leaves out what was done to others", () => {
    const none = { role: null, review: null, decline: null };
    expect(historyOf(state, "a@1")).toEqual([
      { action: "registered", at: 0, who: "ann", epoch: null, ...none, job: "j1" },
      { action: "enabled", at: 1000, who: "bob", epoch: 1, role: "shadow", review: 0.3, decline: 0.4, job: null },
      { action: "enabled", at: 3000, who: "cem", epoch: 3, role: "champion", review: 0.3, decline: 0.4, job: null },
      { action: "thresholds", at: 4000, who: "dee", epoch: 4, role: "champion", review: 0.2, decline: 0.4, job: null },
      { action: "disabled", at: 5000, who: "eve", epoch: 5, ...none, job: null },
    ]);
    expect(historyOf(state, "x@1")).toEqual([]);
  });

  it("remembers a model's last thresholds", () => {
    expect(lastThresholds(state, "a@1")).toEqual({ review: 0.2, decline: 0.4 });
    expect(lastThresholds(state, "x@1")).toBeNull();
  });
});

describe("liveness", () => {
  const beat = (
    worker: string,
    partitions: [partition: number, epoch: number][],
    problems: string[] = [],
    refused: WorkerHeartbeat["refused"] = [],
  ): WorkerHeartbeat => ({
    worker,
    role: "scoring",
    at: 0,
    partitions: partitions.map(([partition, epoch]) => ({ partition, epoch })),
    problems,
    refused,
    job: null,
    sign_in_locks: [],
  });

  it("needs every partition at the epoch or a later one", () => {
    const board = (beats: WorkerHeartbeat[]) => ({ alive: () => beats, changed: () => Promise.resolve() });
    expect(livenessOf(board([]), 5, 3)).toEqual({ live: false, missing: [0, 1, 2], refused: [], problems: [] });
    expect(
      livenessOf(
        board([
          beat(
            "w1",
            [
              [0, 5],
              [1, 4],
            ],
            ["bad file"],
          ),
          beat("w2", [[2, 9]]),
        ]),
        5,
        3,
      ),
    ).toEqual({ live: false, missing: [1], refused: [], problems: [{ worker: "w1", problem: "bad file" }] });
    // While a partition moves, its old owner may still list it.
    expect(
      livenessOf(
        board([
          beat("w1", [
            [0, 5],
            [1, 4],
          ]),
          beat("w2", [
            [1, 5],
            [2, 5],
          ]),
        ]),
        5,
        3,
      ).live,
    ).toBe(true);
  });

  it("is not waited for if every worker refuses the deployment, and says who does and why", async () => {
    const refused = [{ epoch: 5, model: "b@1", reason: "the model gave no answer within 5 s" }];
    let beats = [beat("w1", [[0, 3]], [], refused), beat("w2", [[1, 5]])];
    const board = { alive: () => beats, changed: () => new Promise<void>((resolve) => setTimeout(resolve, 5)) };
    const waiting = await waitUntilLive(board, 5, { partitions: 2, timeoutMs: 50 });
    expect(waiting).toEqual({ live: false, missing: [0], refused: [{ worker: "w1", ...refused[0] }], problems: [] });
    beats = [beat("w1", [[0, 3]], [], refused), beat("w2", [[1, 3]], [], refused)];
    const startedAt = performance.now();
    expect(
      (await waitUntilLive(board, 5, { partitions: 2, timeoutMs: 60_000 })).refused.map(({ worker }) => worker),
    ).toEqual(["w1", "w2"]);
    expect(performance.now() - startedAt).toBeLessThan(30_000);
    expect(refusalsOf(board)).toHaveLength(2);
    expect((await waitUntilLive(board, 3, { partitions: 2, timeoutMs: 60_000 })).live).toBe(true);
  });

  it("is waited for until it is reached, or nobody waits any more", async () => {
    let beats: WorkerHeartbeat[] = [];
    let wake = (): void => {};
    const board = {
      alive: () => beats,
      changed: (signal?: AbortSignal) =>
        new Promise<void>((resolve) => {
          wake = resolve;
          signal?.addEventListener("abort", () => resolve());
        }),
    };
    const waiting = waitUntilLive(board, 5, { partitions: 1, timeoutMs: 60_000 });
    beats = [beat("w", [[0, 4]])];
    wake();
    await Promise.resolve();
    beats = [beat("w", [[0, 5]])];
    wake();
    await expect(waiting).resolves.toMatchObject({ live: true });
    const gone = new AbortController();
    const given = waitUntilLive(board, 6, { partitions: 1, timeoutMs: 60_000, signal: gone.signal });
    gone.abort();
    await expect(given).resolves.toMatchObject({ live: false, missing: [0] });
    await expect(waitUntilLive(board, 6, { partitions: 1, timeoutMs: 0 })).resolves.toMatchObject({ live: false });
  });
});
