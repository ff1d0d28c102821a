import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { once } from "node:events";
import { spawn } from "node:child_process";
import { expect, it, onTestFinished, vi } from "vitest";
import { compiledModule, packageRoot } from "../../../../infra/package-root.js";
import { attribute, model, node } from "../../../../models/onnx/graph.js";
import { loadScorer } from "../../../../models/onnx/scorer.js";
import { ModelSession, type ModelIo } from "../../../../models/onnx/session.js";
import { INPUT, OUTPUT, writeOnnx } from "../../../../models/onnx/write.js";
import { seededRandom } from "../../../../models/training/random.js";
import { trainModel } from "../../../../models/training/train.js";
import { hangsAbove } from "../../../support/models.js";
import { mean, memoryBomb } from "../../../support/uploads.js";
import { randomRows } from "../training/rows.js";

const WARNED = { warn: (_: object, message: string) => expect.unreachable(message) };

/**
 * The greatest difference between how the stream scores and onnxruntime, over rows of numbers and missing values in
 * many sizes of batch.
 */
async function difference(
  onnx: Uint8Array,
  io: ModelIo,
  rows: Float32Array,
): Promise<{ kind: string; greatest: number; spread: number }> {
  const [scorer, session] = [await loadScorer(onnx, io, WARNED), await ModelSession.load(onnx, io)];
  let greatest = 0;
  const all: number[] = [];
  for (let from = 0, size = 1; from < rows.length / io.features; from += size, size = (size * 3) % 401) {
    const count = Math.min(size, rows.length / io.features - from);
    const part = rows.subarray(from * io.features, (from + count) * io.features);
    const [ours, theirs] = [await scorer.run(part, count), await session.run(part, count)];
    expect(ours).toHaveLength(count);
    ours.forEach((score, i) => (greatest = Math.max(greatest, Math.abs(score - theirs[i]))));
    all.push(...ours);
  }
  await session.release();
  return { kind: scorer.kind, greatest, spread: Math.max(...all) - Math.min(...all) };
}

function rowsOf(count: number, features: number): Float32Array {
  const random = seededRandom(5);
  return Float32Array.from({ length: count * features }, () => (random() < 0.1 ? Number.NaN : 6 * random() - 3));
}

it.each([{ max_depth: 6 }, { grow_policy: "leafwise", boost_from_average: true }, { max_depth: 1 }])(
  "our trees are compiled, and score as in onnxruntime: %j",
  async (params) => {
    const { matrix, labels } = randomRows(3000, 5, 21);
    const trained = await trainModel(
      {
        algorithm: "gradient-boosted-trees",
        params: { num_iterations: 40, ...params },
        train: matrix,
        labels,
        validation: null,
      },
      { onProgress: () => undefined },
    );
    const found = await difference(
      writeOnnx(trained, ["a", "b", "c", "d", "e"]),
      { input: INPUT, output: OUTPUT, features: 5 },
      rowsOf(3000, 5),
    );
    expect(found.kind).toBe("trees");
    expect(found.greatest).toBeLessThan(5e-7);
    expect(found.spread).toBeGreaterThan(0.1);
  },
);

it("so is a classifier written by LightGBM's converter", async () => {
  const file = join(packageRoot(), "tests/bench/peers/model/model.onnx");
  const found = await difference(
    await readFile(file),
    { input: "features", output: "probabilities", features: 29 },
    rowsOf(3000, 29),
  );
  expect(found.kind).toBe("trees");
  expect(found.greatest).toBeLessThan(5e-7);
  expect(found.spread).toBeGreaterThan(0.1);
});

const IO = { input: "x", output: "y", features: 2 };
const LEAVES = { treeids: [0, 0], nodeids: [1, 2], ids: [0, 0] };

/** One tree of one split over x [N, 2], and a Sigmoid. */
function stump(changed: { mode?: string; aggregate?: string; feature?: number } = {}): Uint8Array {
  const tree = node(
    "TreeEnsembleRegressor",
    ["x"],
    "sum",
    [
      attribute.string("aggregate_function", changed.aggregate ?? "SUM"),
      attribute.int("n_targets", 1),
      attribute.string("post_transform", "NONE"),
      attribute.ints("nodes_treeids", [0, 0, 0]),
      attribute.ints("nodes_nodeids", [0, 1, 2]),
      attribute.strings("nodes_modes", [changed.mode ?? "BRANCH_LEQ", "LEAF", "LEAF"]),
      attribute.ints("nodes_featureids", [changed.feature ?? 1, 0, 0]),
      attribute.floats("nodes_values", [0.5, 0, 0]),
      attribute.ints("nodes_truenodeids", [1, 0, 0]),
      attribute.ints("nodes_falsenodeids", [2, 0, 0]),
      attribute.ints("target_treeids", LEAVES.treeids),
      attribute.ints("target_nodeids", LEAVES.nodeids),
      attribute.ints("target_ids", LEAVES.ids),
      attribute.floats("target_weights", [-1, 2]),
    ],
    "ai.onnx.ml",
  );
  return model({
    name: "test",
    input: { name: "x", features: 2 },
    output: "y",
    nodes: [tree, node("Sigmoid", ["sum"], "y")],
    constants: [],
    metadata: {},
  });
}

it("a tree by hand: at its threshold a row goes left, a missing value right unless stated otherwise", async () => {
  const scorer = await loadScorer(stump(), IO, WARNED);
  expect(scorer.kind).toBe("trees");
  const sigmoid = (x: number): number => Math.fround(1 / (1 + Math.exp(-x)));
  expect([...(await scorer.run(Float32Array.of(9, 0.5, 9, 0.50001, 9, Number.NaN), 3))]).toEqual([
    sigmoid(-1),
    sigmoid(2),
    sigmoid(2),
  ]);
  await scorer.release();
  await expect(scorer.run(Float32Array.of(0, 0), 1)).rejects.toMatchObject({ code: "model_failed" });
});

it("models that split or add up differently, or are not trees, stay with onnxruntime", async () => {
  const greater = model({
    name: "test",
    input: { name: "x", features: 2 },
    output: "y",
    nodes: [node("ReduceMax", ["x"], "y", [attribute.ints("axes", [1])])],
    constants: [],
    metadata: {},
  });
  for (const onnx of [stump({ mode: "BRANCH_LT" }), stump({ aggregate: "MAX" }), greater]) {
    const scorer = await loadScorer(onnx, IO, WARNED);
    expect(scorer.kind).toBe("onnxruntime");
    expect(await scorer.run(Float32Array.of(0, 0.5), 1)).toHaveLength(1);
    await scorer.release();
  }
  await expect(loadScorer(Uint8Array.of(1, 2, 3), IO, WARNED)).rejects.toMatchObject({ code: "model_invalid" });
});

it("our logistic regressions are computed as onnxruntime does, missing and infinite values included", async () => {
  const { matrix, labels } = randomRows(2000, 5, 22);
  const trained = await trainModel(
    { algorithm: "logistic-regression", params: {}, train: matrix, labels, validation: null },
    { onProgress: () => undefined },
  );
  const found = await difference(
    writeOnnx(trained, ["a", "b", "c", "d", "e"]),
    { input: INPUT, output: OUTPUT, features: 5 },
    rowsOf(2000, 5).map((value, i) => (i % 97 === 0 ? 1e30 : value)),
  );
  expect(found.kind).toBe("linear");
  expect(found.greatest).toBeLessThan(5e-7);
  expect(found.spread).toBeGreaterThan(0.1);
});

/** The square root of 36 × 0.01 in float32. */
const SIX_TENTHS = 0.5999999642372131;

it("a model that hangs on one row is stopped in time; other callers and the next one get their scores", async () => {
  const { onnx } = hangsAbove(1_000);
  const scorer = await loadScorer(onnx, { input: "features", output: "probability", features: 1 }, WARNED, {
    timeoutMs: 500,
  });
  onTestFinished(() => scorer.release());
  expect([...(await scorer.run(Float32Array.of(25, 36), 2))]).toEqual([0.5, SIX_TENTHS]);
  const [hung, innocent, another] = await Promise.allSettled([
    scorer.run(Float32Array.of(25, 2_000), 2),
    scorer.run(Float32Array.of(25), 1),
    scorer.run(Float32Array.of(36), 1),
  ]);
  expect(hung).toMatchObject({ status: "rejected", reason: { code: "model_hung" } });
  expect([innocent, another]).toMatchObject([
    { status: "fulfilled", value: Float32Array.of(0.5) },
    { status: "fulfilled", value: Float32Array.of(SIX_TENTHS) },
  ]);
});

it("a model's process dies alone, whether out of memory or killed", async () => {
  const io = { input: "x", output: "y", features: 2 };
  const scorer = await loadScorer(mean(), io, WARNED);
  onTestFinished(() => scorer.release());
  const children = (await readFile(`/proc/${process.pid}/task/${process.pid}/children`, "utf8"))
    .trim()
    .split(" ")
    .map(Number);
  const running = scorer.run(new Float32Array(2 * 200_000), 200_000);
  for (const pid of children)
    if ((await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).includes("session-process"))
      process.kill(pid, "SIGKILL");
  await expect(running).rejects.toMatchObject({ code: "model_died" });
  expect([...(await scorer.run(Float32Array.of(0.5, 0.25), 1))]).toEqual([0.375]);
  // The least that MODEL_MEMORY_MB takes is enough for a model.
  const small = await loadScorer(mean(), io, WARNED, { memoryBytes: 128 * 1024 ** 2 });
  onTestFinished(() => small.release());
  expect(await small.run(new Float32Array(2 * 2_000), 2_000)).toHaveLength(2_000);
  await expect(loadScorer(memoryBomb(4e8), io, WARNED, { memoryBytes: 512 * 1024 ** 2 })).rejects.toThrow(
    "Failed to allocate memory",
  );
});

it("a hanging model process does not outlive the process that started it", async () => {
  const script = `
    const { GuardedSession } = await import(${JSON.stringify(compiledModule("models/onnx/guarded-session"))});
    const io = { input: "features", output: "probability", features: 1 };
    const session = await GuardedSession.load(Buffer.from(process.argv[1], "base64"), io, { timeoutMs: 600000 });
    void session.run(Float32Array.of(2000), 1);
    setInterval(() => undefined, 1000);
    process.stdout.write("running");
  `;
  const parent = spawn(
    process.execPath,
    ["--input-type=module", "-e", script, Buffer.from(hangsAbove(1_000).onnx).toString("base64")],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  await once(parent.stdout, "data");
  const child = Number((await readFile(`/proc/${parent.pid}/task/${parent.pid}/children`, "utf8")).trim());
  parent.kill("SIGKILL");
  await vi.waitFor(() => expect(() => process.kill(child, 0)).toThrow("ESRCH"), { timeout: 8_000, interval: 100 });
}, 20_000);
