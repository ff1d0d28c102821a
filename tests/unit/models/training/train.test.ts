import { describe, expect, it } from "vitest";
import { sharedMatrix, type Matrix } from "../../../../models/training/matrix.js";
import { score, trainModel, type TrainRequest } from "../../../../models/training/train.js";
import { PLAIN, randomRows, raw, train } from "./rows.js";

const part = randomRows(2000, 5, 11);
const validation = randomRows(500, 5, 12);
const request: TrainRequest = {
  algorithm: "gradient-boosted-trees",
  params: { ...PLAIN, num_iterations: 20 },
  train: part.matrix,
  labels: part.labels,
  validation: null,
};
const silent = { onProgress: () => undefined };

describe("training in a thread", () => {
  it("gives the trees that the same training gives here, with its progress", async () => {
    const told: number[] = [];
    const model = await trainModel(request, { onProgress: ({ percent }) => told.push(percent) });
    expect(model.trees).toEqual(train(part, { num_iterations: 20 }));
    expect(model).toMatchObject({
      algorithm: "gradient-boosted-trees",
      iterations: 20,
      features: 5,
      params: { num_iterations: 20, max_bin: 1024 },
    });
    expect(model.seconds).toBeGreaterThan(0);
    expect(told).toEqual([...new Set(told)].sort((a, b) => a - b));
    expect(told.at(-1)).toBe(100);
    const expected = raw(train(part, { num_iterations: 20 }), validation);
    expect([...score(model, validation.matrix)]).toEqual(
      [...expected].map((value) => Math.fround(1 / (1 + Math.exp(-value)))),
    );
  });

  it("reads shared memory in place and leaves other arrays as they are", async () => {
    const shared: Matrix = sharedMatrix(2000, 5);
    shared.values.set(part.matrix.values);
    const here = await trainModel(request, silent);
    const there = await trainModel({ ...request, train: shared }, silent);
    expect(there.trees).toEqual(here.trees);
    expect(part.matrix.values.length).toBe(10_000);
  });

  it("stops early on the validation part", async () => {
    const model = await trainModel(
      { ...request, params: { num_iterations: 500, early_stopping_rounds: 5, learning_rate: 0.5 }, validation },
      silent,
    );
    expect(model.iterations).toBeLessThan(500);
    expect(model.trees?.trees.length).toBe(model.iterations);
  });

  it("fits a logistic regression", async () => {
    const model = await trainModel({ ...request, algorithm: "logistic-regression", params: {} }, silent);
    expect(model.linear?.weights.length).toBe(5);
    expect(score(model, validation.matrix).every((p) => p > 0 && p < 1)).toBe(true);
  });

  it("ends when its signal aborts, before or while it runs", async () => {
    await expect(trainModel(request, { ...silent, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "training_aborted",
    });
    const abort = new AbortController();
    const told: number[] = [];
    const running = trainModel(
      { ...request, params: { num_iterations: 10_000 } },
      {
        onProgress: ({ percent }) => {
          told.push(percent);
          abort.abort();
        },
        signal: abort.signal,
      },
    );
    await expect(running).rejects.toMatchObject({ code: "training_aborted" });
    expect(told.at(-1)).toBeLessThan(100);
  });
});

describe("data that can't be trained on is refused", () => {
  const none: Matrix = { rows: 0, features: 5, values: new Float32Array() };
  const withValue = (value: number): Matrix => ({ ...part.matrix, values: part.matrix.values.with(7, value) });
  it.each<[string, Partial<TrainRequest>, string, RegExp]>([
    ["no rows", { train: none, labels: new Uint8Array() }, "training_empty", /no rows/],
    ["only genuine rows", { labels: new Uint8Array(2000) }, "training_one_class", /genuine/],
    ["only frauds", { labels: new Uint8Array(2000).fill(1) }, "training_one_class", /fraud/],
    ["a label of 2", { labels: part.labels.with(3, 2) }, "training_shape", /label.*2/],
    ["too few labels", { labels: part.labels.subarray(1) }, "training_shape", /1999 labels/],
    ["infinity", { train: withValue(Infinity) }, "training_infinite", /row 1, feature 2/],
    ["minus infinity", { train: withValue(-Infinity) }, "training_infinite", /row 1, feature 2/],
    ["an unknown parameter", { params: { depth: 3 } }, "training_params", /depth/],
    [
      "early stopping without a validation part",
      { params: { early_stopping_rounds: 5 } },
      "training_params",
      /validation/,
    ],
    [
      "a validation part of one class",
      { params: { early_stopping_rounds: 5 }, validation: { ...validation, labels: new Uint8Array(500) } },
      "training_one_class",
      /validation/,
    ],
  ])("%s", async (_, change, code, message) => {
    await expect(trainModel({ ...request, ...change }, silent)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });
});
