import { describe, expect, it } from "vitest";
import { attribute, node } from "../../../models/onnx/graph.js";
import type { CheckRequest } from "../../../models/uploads/check-model.js";
import { checkInProcess } from "../../../models/uploads/check-in-process.js";
import { featuresOf, samplesOf } from "../../../models/uploads/upload.js";
import { endless, fixtures, graphOf, mean, memoryBomb } from "../../support/uploads.js";

const ROWS = 100;
/** Rows of two features from 0 to 1; the expected score is their mean. */
function request(onnx: Uint8Array, changed: { score?: (row: number, mean: number) => number; features?: number } = {}): CheckRequest {
  const values = Float32Array.from({ length: ROWS * (changed.features ?? 2) }, (_, i) => (i % 11) / 16);
  const scores = Float64Array.from({ length: ROWS }, (_, row) => (values[2 * row] + values[2 * row + 1]) / 2);
  return { onnx, features: changed.features ?? 2, samples: { rows: ROWS, values, scores: scores.map((score, row) => changed.score?.(row, score) ?? score) } };
}

it("takes every exported model, and scores it as its library does", async () => {
  for (const { name, onnx, manifest, samples } of fixtures()) {
    const features = featuresOf(manifest);
    const checked = await checkInProcess({ onnx, input: manifest.input, output: manifest.output, features: features.length, samples: samplesOf(samples, features) });
    expect([name, checked.greatestDifference < 1e-6]).toEqual([name, true]);
  }
});

it("refuses scores that differ, in a batch or alone, and inputs of another width", async () => {
  expect((await checkInProcess(request(mean()))).greatestDifference).toBeLessThan(1e-7);
  await expect(checkInProcess(request(mean(), { score: (row, score) => (row === 7 ? score + 2e-5 : score) }))).rejects.toThrow(/1 of 100 sample rows .* row 7 /);
  await expect(checkInProcess(request(mean(), { features: 3 }))).rejects.toMatchObject({ code: "model_shape" });
  // Right in a batch of all rows, wrong alone: each row's score leans on the others.
  const total = graphOf([node("ReduceMean", ["x"], "mean", [attribute.ints("axes", [1])]), node("Softmax", ["mean"], "y", [attribute.int("axis", 0)])]);
  const means = request(mean()).samples.scores;
  const sum = means.reduce((all, value) => all + Math.exp(value), 0);
  await expect(checkInProcess(request(total, { score: (row) => Math.exp(means[row]) / sum }))).rejects.toThrow("one by one");
  await expect(checkInProcess(request(graphOf([node("ReduceSum", ["x"], "y")])))).rejects.toMatchObject({ code: "model_shape" });
  await expect(checkInProcess(request(graphOf([node("NoSuchOperator", ["x"], "y")])))).rejects.toMatchObject({ code: "model_invalid" });
});

it("outlives a model that never ends", async () => {
  await expect(checkInProcess(request(endless()), { timeoutMs: 3_000 })).rejects.toMatchObject({ code: "model_too_slow" });
});

// Elsewhere the operating system knows no limit that a process could be given.
describe.runIf(process.platform === "linux")("memory", () => {
  it("is bounded: a model that asks for more is refused", async () => {
    await expect(checkInProcess(request(memoryBomb(1e6)))).resolves.toMatchObject({ output: "y" });
    await expect(checkInProcess(request(memoryBomb(4e8)))).rejects.toThrow("Failed to allocate memory");
  });

  it("may end the process, but not whoever asked", async () => {
    await expect(checkInProcess(request(mean()), { memoryBytes: 64 * 1024 ** 2 })).rejects.toMatchObject({ code: "model_died" });
  });
});

it("ends the process when nobody wants the answer any more", async () => {
  const gone = new AbortController();
  const checking = checkInProcess(request(endless()), {}, gone.signal);
  gone.abort(new Error("the caller is gone"));
  await expect(checking).rejects.toThrow("the caller is gone");
});
