import { describe, expect, it } from "vitest";
import { attribute, doubles, node } from "../../../../models/onnx/graph.js";
import type { CheckRequest } from "../../../../models/uploads/check-model.js";
import { checkInProcess } from "../../../../models/uploads/check-in-process.js";
import { columnOfFeature, type ModelColumn } from "../../../../models/uploads/columns.js";
import { uploadedColumns } from "../../../../models/uploads/upload.js";
import { samplesOf } from "../../../../models/uploads/samples.js";
import { endless, fixture, fixtures, graphOf, mean, meanNodes, memoryBomb, slow } from "../../../support/uploads.js";

const ROWS = 100;
const columns = (count: number, missing: number | null = null): ModelColumn[] =>
  Array.from({ length: count }, (_, i) =>
    columnOfFeature({
      name: `f${i}`,
      type: "number",
      source: { kind: "attribute", attribute: `f${i}` },
      default: missing,
    }),
  );
/** Rows of two features from 0 to 1; the expected score is their mean. */
function request(
  onnx: Uint8Array,
  changed: { score?: (row: number, mean: number) => number; features?: number } = {},
): CheckRequest {
  const values = Float32Array.from({ length: ROWS * (changed.features ?? 2) }, (_, i) => (i % 11) / 16);
  const scores = Float64Array.from({ length: ROWS }, (_, row) => (values[2 * row] + values[2 * row + 1]) / 2);
  return {
    onnx,
    columns: columns(changed.features ?? 2),
    samples: { rows: ROWS, values, scores: scores.map((score, row) => changed.score?.(row, score) ?? score) },
  };
}

it("accepts every exported model, and scores it as its library does", async () => {
  for (const { name, onnx, manifest, samples } of fixtures()) {
    const columns = uploadedColumns(manifest);
    const checked = await checkInProcess({
      onnx,
      words: manifest,
      columns,
      samples: samplesOf(samples, columns),
    });
    expect([name, checked.greatestDifference < 1e-6]).toEqual([name, true]);
  }
});

it("refuses scores that differ, in a batch or alone, and inputs of another width", async () => {
  expect((await checkInProcess(request(mean()))).greatestDifference).toBeLessThan(1e-7);
  await expect(
    checkInProcess(request(mean(), { score: (row, score) => (row === 7 ? score + 2e-5 : score) })),
  ).rejects.toThrow(/1 of 100 sample rows .* row 7 /);
  await expect(checkInProcess(request(mean(), { features: 3 }))).rejects.toMatchObject({ code: "model_shape" });
  // Right in a batch of all rows, wrong alone: each row's score leans on the others.
  const total = graphOf([
    node("ReduceMean", ["x"], "mean", [attribute.ints("axes", [1])]),
    node("Softmax", ["mean"], "y", [attribute.int("axis", 0)]),
  ]);
  const means = request(mean()).samples.scores;
  const sum = means.reduce((all, value) => all + Math.exp(value), 0);
  await expect(checkInProcess(request(total, { score: (row) => Math.exp(means[row]) / sum }))).rejects.toThrow(
    "one by one",
  );
  await expect(checkInProcess(request(graphOf([node("ReduceSum", ["x"], "y")])))).rejects.toMatchObject({
    code: "model_shape",
  });
  await expect(checkInProcess(request(graphOf([node("Gemm", ["x"], "y")])))).rejects.toMatchObject({
    code: "model_invalid",
  });
});

it("refuses a model whose work depends on the payment, though its samples never show it", async () => {
  await expect(checkInProcess(request(endless()))).rejects.toThrow(/operator "Loop" \(node "y"\) is control flow/);
});

describe("a model without a score for values that the stream may bring", () => {
  it("is refused where a payment comes without its attributes, and accepted with defaults for them", async () => {
    const { onnx, manifest, samples } = fixture("sklearn-logistic");
    const check = (changed: ModelColumn[]) =>
      checkInProcess({
        onnx,
        words: manifest,
        columns: changed,
        samples: samplesOf(samples, changed),
      });
    const withDefaults = uploadedColumns(manifest);
    const withoutDefault = (column: ModelColumn): ModelColumn =>
      columnOfFeature({ ...column.features[0], default: null });
    expect((await check(withDefaults)).warnings).toEqual([]);
    await expect(check(withDefaults.map(withoutDefault))).rejects.toThrow(
      /gives NaN .* for a payment without "distance", "card_present".*SimpleImputer.*default in the manifest/,
    );
    const lacking = check(withDefaults.map((column) => (column.name === "distance" ? withoutDefault(column) : column)));
    await expect(lacking).rejects.toMatchObject({ code: "model_no_score" });
  });

  it("is refused where refunds or large amounts leave 0 to 1", async () => {
    const unbounded = graphOf([node("ReduceMean", ["x"], "y", [attribute.ints("axes", [1])])]);
    await expect(checkInProcess({ ...request(unbounded), columns: columns(2, 0) })).rejects.toThrow(
      /gives -1 instead of a score from 0 to 1 .* a row of -1 everywhere.*Clip/,
    );
  });

  it("is accepted with a warning where only values beyond float32's half range are meant", async () => {
    // (x / 1e30) × 1e30 is beyond float32 at its end: infinite, and minus itself no number.
    const nodes = [
      ...meanNodes("mean"),
      node("Mul", ["x", "ten32"], "large"),
      node("Sub", ["large", "large"], "nothing"),
      node("ReduceSum", ["nothing"], "sum", [attribute.int("keepdims", 1)]),
      node("Add", ["mean", "sum"], "y"),
    ];
    const model = graphOf(
      [node("Cast", ["ten"], "ten32", [attribute.int("to", 1)]), ...nodes],
      [doubles("ten", [], [1e10]), doubles("lower", [], [0]), doubles("upper", [], [1])],
    );
    const { warnings } = await checkInProcess({
      ...request(model),
      columns: columns(2, 0),
    });
    expect(warnings[0]).toMatch(/gives NaN .* whose "f0" is 3.4e\+38/);
  });
});

it("outlives a model that never ends", async () => {
  await expect(checkInProcess(request(slow()), { timeoutMs: 3_000 })).rejects.toMatchObject({ code: "model_too_slow" });
});

// Elsewhere the operating system knows no limit that a process could be given.
describe.runIf(process.platform === "linux")("memory", () => {
  it("is bounded: a model that asks for more is refused", async () => {
    await expect(checkInProcess(request(memoryBomb(1e6)))).resolves.toMatchObject({ output: "y" });
    await expect(checkInProcess(request(memoryBomb(4e8)))).rejects.toThrow("Failed to allocate memory");
  });

  it("may end the process, but not its caller", async () => {
    await expect(checkInProcess(request(mean()), { memoryBytes: 16 * 1024 ** 2 })).rejects.toMatchObject({
      code: "model_died",
    });
  });
});

it("ends the process when nobody wants the answer any more", async () => {
  const gone = new AbortController();
  const checking = checkInProcess(request(slow()), {}, gone.signal);
  gone.abort(new Error("the caller is gone"));
  await expect(checking).rejects.toThrow("the caller is gone");
});
