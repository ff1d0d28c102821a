import { describe, expect, test } from "vitest";
import { DEPLOYMENT_KEY, deadLetterKey, jobKey, modelKey, type EventBody } from "../../../../models/control/events.js";
import { ControlState } from "../../../../models/control/state.js";
import { RandomSource } from "../../../support/random-source.js";

const deployed = (model: string | null): EventBody => ({
  "fraudstream.Deployed": { champion: model === null ? null : { model, review: 0.5, decline: 0.9 }, shadows: [] },
});
const registered = (model: string): EventBody => ({
  "fraudstream.ModelRegistered": { model, manifest_sha256: "f".repeat(64), job: null },
});
const requested: EventBody = { "fraudstream.JobRequested": { request: "{}" } };
const claimed = (attempt: number): EventBody => ({ "fraudstream.JobClaimed": { attempt, worker: `w${attempt}` } });
const finished = (attempt: number, code: string | null): EventBody => ({
  "fraudstream.JobFinished": { attempt, model: code === null ? "m@1" : null, code, reason: code, metrics: null },
});

/** Applies events with the time of their offset; true: accepted. */
function fold(): {
  state: ControlState;
  apply: (key: string, base: number, offset: number, event: EventBody) => boolean;
} {
  const state = new ControlState();
  return {
    state,
    apply: (key, base, offset, event) => state.apply({ key, base, at: offset * 10, who: "ada", event }, offset),
  };
}

test("the initial state has no decisions", () => {
  const { state } = fold();
  expect([state.deployment, state.deployments, state.models.size, state.baseOf(DEPLOYMENT_KEY)]).toEqual([
    null,
    [],
    0,
    -1,
  ]);
});

describe("the base", () => {
  test("must be newer than that of the key's last accepted event, separately for each key", () => {
    const { state, apply } = fold();
    expect(apply(DEPLOYMENT_KEY, 0, 3, deployed("a@1"))).toBe(false);
    expect(apply(DEPLOYMENT_KEY, -1, 4, deployed("a@1"))).toBe(true);
    expect(apply(DEPLOYMENT_KEY, -1, 5, deployed("b@1"))).toBe(false);
    expect(apply(modelKey("b@1"), -1, 6, registered("b@1"))).toBe(true);
    expect(apply(DEPLOYMENT_KEY, -1, 7, deployed("b@1"))).toBe(false);
    expect(apply(DEPLOYMENT_KEY, 4, 9, deployed("b@1"))).toBe(true);
    expect(apply(DEPLOYMENT_KEY, 4, 10, deployed("c@1"))).toBe(false);
    expect([state.baseOf(DEPLOYMENT_KEY), state.baseOf(modelKey("b@1")), state.baseOf(modelKey("c@1"))]).toEqual([
      9, 6, -1,
    ]);
    expect(state.deployments.map(({ epoch, champion }) => [epoch, champion?.model])).toEqual([
      [4, "a@1"],
      [9, "b@1"],
    ]);
    expect(state.deployment?.epoch).toBe(9);
  });

  test("decides as the original did in a copy whose offsets have no gaps", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = new RandomSource(seed);
      const { state, apply } = fold();
      const log: { key: string; base: number; event: EventBody }[] = [];
      for (let offset = random.int(50); log.length < 60; offset += 1 + random.int(4)) {
        const key = random.pick([DEPLOYMENT_KEY, jobKey("1"), modelKey("m@1")]);
        const base = state.baseOf(key);
        // Sometimes several authors know the same state.
        for (let authors = 1 + random.int(3); authors > 0; authors--) {
          const event = key === DEPLOYMENT_KEY ? deployed(`m${log.length}@1`) : registered(`m${log.length}@1`);
          apply(key, base, offset++, event);
          log.push({ key, base, event });
        }
      }
      const copy = new ControlState();
      log.forEach(({ key, base, event }, offset) =>
        copy.apply({ key, base, at: offset * 10, who: "ada", event }, offset),
      );
      expect(
        copy.history.map(({ event }) => event),
        `seed ${seed}`,
      ).toEqual(state.history.map(({ event }) => event));
      expect(copy.deployments.map(({ champion }) => champion?.model)).toEqual(
        state.deployments.map(({ champion }) => champion?.model),
      );
      const epochs = copy.deployments.map(({ epoch }) => epoch);
      expect(epochs).toEqual([...epochs].sort((a, b) => a - b));
      expect(new Set(epochs).size).toBe(epochs.length);
      // Authors go on in the copy.
      const next = copy.baseOf(DEPLOYMENT_KEY);
      expect(
        copy.apply({ key: DEPLOYMENT_KEY, base: next, at: 0, who: "ada", event: deployed("new@1") }, log.length),
      ).toBe(true);
      expect(
        copy.apply({ key: DEPLOYMENT_KEY, base: next, at: 0, who: "ada", event: deployed("late@1") }, log.length + 1),
      ).toBe(false);
      expect([copy.deployment?.champion?.model, copy.unexplainedRefusal]).toEqual(["new@1", null]);
    }
  });

  test("keeps the epoch that its author gave a deployment, wherever the event is, and epochs grow", () => {
    const state = new ControlState();
    const at = (base: number, offset: number, sequence: number | null, model: string): boolean =>
      state.apply({ key: DEPLOYMENT_KEY, base, at: 0, who: "ada", event: deployed(model) }, offset, sequence);
    expect([at(-1, 0, 40, "a@1"), at(40, 1, 57, "b@1")]).toEqual([true, true]);
    expect(state.deployment?.epoch).toBe(57);
    expect(state.nextSequence(DEPLOYMENT_KEY, 2)).toBe(58);
    // An author of an older version, who gives no number.
    expect(at(state.baseOf(DEPLOYMENT_KEY), 2, null, "c@1")).toBe(true);
    expect(state.deployment?.epoch).toBe(58);
    expect(state.nextSequence(DEPLOYMENT_KEY, 90)).toBe(90);
  });

  test("that nothing in the log explains is reported, until a later deployment decides", () => {
    const { state, apply } = fold();
    expect(apply(DEPLOYMENT_KEY, 17, 0, deployed("a@1"))).toBe(false);
    expect(state.unexplainedRefusal).toEqual({ offset: 0, at: 0, who: "ada" });
    apply(DEPLOYMENT_KEY, -1, 1, deployed("b@1"));
    expect(state.unexplainedRefusal).toBeNull();
    // Lost a race; a mirror delivered it twice; of another log.
    apply(DEPLOYMENT_KEY, -1, 2, deployed("c@1"));
    apply(DEPLOYMENT_KEY, -1, 100_000, deployed("b@1"));
    expect(state.unexplainedRefusal).toBeNull();
    apply(DEPLOYMENT_KEY, -1, 100_001, deployed("d@1"));
    expect(state.unexplainedRefusal).toMatchObject({ offset: 100_001 });
  });

  test("if refused, changes nothing", () => {
    const { state, apply } = fold();
    apply(modelKey("a@1"), -1, 0, registered("a@1"));
    const before = structuredClone({ models: state.models, history: state.history });
    expect(apply(modelKey("a@1"), -1, 1, registered("a@1"))).toBe(false);
    expect({ models: state.models, history: state.history }).toEqual(before);
    expect(state.baseOf(modelKey("a@1"))).toBe(0);
  });

  test("lets exactly one of several who knew the same state decide, whatever their order", () => {
    const random = new RandomSource(3);
    const { state, apply } = fold();
    const keys = [DEPLOYMENT_KEY, modelKey("a@1"), jobKey("1")];
    const accepted: number[] = [];
    for (let offset = 0; offset < 3_000;) {
      // Several authors look, then all of them write.
      const key = random.pick(keys);
      const base = state.baseOf(key);
      const authors = 1 + random.int(4);
      const results = Array.from({ length: authors }, () => apply(key, base, offset++, deployed(null)));
      expect(results).toEqual(results.map((_, i) => i === 0));
      accepted.push(offset - authors);
    }
    expect(state.history.map(({ offset }) => offset)).toEqual(accepted);
  });
});

test("a deployment without a champion takes the previous one out of force", () => {
  const { state, apply } = fold();
  apply(DEPLOYMENT_KEY, -1, 0, deployed("a@1"));
  apply(DEPLOYMENT_KEY, 0, 1, deployed(null));
  expect(state.deployment).toEqual({ epoch: 1, champion: null, shadows: [] });
});

test("a model's record says who registered it and when", () => {
  const { state, apply } = fold();
  apply(modelKey("a@1"), -1, 7, registered("a@1"));
  expect(state.models.get("a@1")).toEqual({
    model: "a@1",
    manifestSha256: "f".repeat(64),
    registeredAt: 70,
    registeredBy: "ada",
    job: null,
  });
});

describe("a job", () => {
  test("is requested, claimed more than once, and finished once", () => {
    const { state, apply } = fold();
    apply(jobKey("j"), -1, 0, requested);
    expect(state.jobs.get("j")).toMatchObject({ id: "j", status: "pending", attempt: 0, worker: null });
    expect(apply(jobKey("j"), 0, 1, claimed(1))).toBe(true);
    expect(apply(jobKey("j"), 0, 2, claimed(1))).toBe(false);
    expect(apply(jobKey("j"), 1, 3, claimed(2))).toBe(true);
    expect(state.jobs.get("j")).toMatchObject({ status: "processing", attempt: 2, worker: "w2", claimedAt: 30 });
    // The first worker comes back: it only knew its own claim.
    expect(apply(jobKey("j"), 1, 4, finished(1, null))).toBe(false);
    expect(apply(jobKey("j"), 3, 5, finished(2, null))).toBe(true);
    expect(apply(jobKey("j"), 3, 6, { "fraudstream.JobCancelled": {} })).toBe(false);
    expect(state.jobs.get("j")).toMatchObject({ status: "processed", model: "m@1", finishedAt: 50 });
  });

  test("fails with a code, or is cancelled", () => {
    const { state, apply } = fold();
    apply(jobKey("j"), -1, 0, requested);
    apply(jobKey("j"), 0, 1, finished(1, "empty_dataset"));
    expect(state.jobs.get("j")).toMatchObject({ status: "error", code: "empty_dataset", model: null });
    apply(jobKey("k"), -1, 2, requested);
    apply(jobKey("k"), 2, 3, { "fraudstream.JobCancelled": {} });
    expect(state.jobs.get("k")).toMatchObject({ status: "cancelled", finishedAt: 30 });
    // Of a job that nobody requested there is nothing to say.
    expect(apply(jobKey("x"), -1, 4, claimed(1))).toBe(true);
    expect(state.jobs.has("x")).toBe(false);
  });
});

test("a dead letter is sent again only once", () => {
  const { state, apply } = fold();
  const key = deadLetterKey("fraud.transactions", 3, 17);
  const event: EventBody = {
    "fraudstream.DeadLetterReplayed": { topic: "fraud.transactions", partition: 3, offset: 17 },
  };
  expect(apply(key, -1, 0, event)).toBe(true);
  expect(apply(key, -1, 1, event)).toBe(false);
  expect(state.replayed.get(key)).toEqual({ at: 0, who: "ada" });
});
