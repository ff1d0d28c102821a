/**
 * What a model costs as it grows: processor time a row of compiled trees (models/onnx/tree-kernel.ts) and of
 * onnxruntime, in turn, over the number of trees, their depth and the number of features, in batches and one row at a
 * time. Complete random trees.
 *
 *     npm run bench -- models
 */
import { loadScorer, type Scorer } from "../../models/onnx/scorer.js";
import { ModelSession } from "../../models/onnx/session.js";
import { INPUT, OUTPUT, writeOnnx } from "../../models/onnx/write.js";
import { seededRandom } from "../../models/training/random.js";
import type { Tree } from "../../models/training/trees.js";

const ROWS = 20_000;
const BATCH = 1_024;
const SINGLE_ROWS = 500;
const RUNS = 5;
const CASES = [
  [10, 6, 30],
  [50, 6, 30],
  [100, 6, 30],
  [200, 6, 30],
  [500, 6, 30],
  [100, 4, 30],
  [100, 8, 30],
  [100, 6, 10],
  [100, 6, 100],
  [100, 6, 200],
];

for (const [trees, depth, features] of CASES) {
  const random = seededRandom(trees + depth + features);
  const names = Array.from({ length: features }, (_, i) => `feature ${i}`);
  const ensemble = {
    baseScore: -3,
    features,
    trees: Array.from({ length: trees }, () => randomTree(random, depth, features)),
  };
  const onnx = writeOnnx(
    { algorithm: "gradient-boosted-trees", features, trees: ensemble } as Parameters<typeof writeOnnx>[0],
    names,
  );
  const io = { input: INPUT, output: OUTPUT, features };
  const before = process.cpuUsage();
  const compiled = await loadScorer(onnx, io, {
    warn: (_, message) => {
      throw new Error(message);
    },
  });
  const load = process.cpuUsage(before);
  if (compiled.kind !== "trees") throw new Error("the trees were not compiled");
  const session = await ModelSession.load(onnx, io);
  const rows = Float32Array.from({ length: ROWS * features }, () => 2 * random() - 1);
  const expected = await scoreAll(session, rows, features, BATCH, ROWS);
  const costs = {
    compiled: [] as number[],
    onnxruntime: [] as number[],
    compiledSingle: [] as number[],
    onnxruntimeSingle: [] as number[],
  };
  for (let run = 0; run < RUNS; run++) {
    costs.compiled.push(
      await microseconds(async () => check(await scoreAll(compiled, rows, features, BATCH, ROWS), expected), ROWS),
    );
    costs.onnxruntime.push(await microseconds(() => scoreAll(session, rows, features, BATCH, ROWS), ROWS));
    costs.compiledSingle.push(
      await microseconds(() => scoreAll(compiled, rows, features, 1, SINGLE_ROWS), SINGLE_ROWS),
    );
    costs.onnxruntimeSingle.push(
      await microseconds(() => scoreAll(session, rows, features, 1, SINGLE_ROWS), SINGLE_ROWS),
    );
  }
  const of = (values: number[], digits: number): string => values.toSorted((a, b) => a - b)[RUNS >> 1].toFixed(digits);
  process.stdout.write(
    `${trees} trees of depth ${depth}, ${features} features, ${Math.round(onnx.length / 1024)} KB: µs a row ` +
      `in batches ${of(costs.compiled, 2)} (onnxruntime ${of(costs.onnxruntime, 2)}), alone ` +
      `${of(costs.compiledSingle, 0)} (${of(costs.onnxruntimeSingle, 0)}); loaded in ` +
      `${((load.user + load.system) / 1000).toFixed(0)} ms of CPU\n`,
  );
  await session.release();
}

async function scoreAll(
  scorer: Pick<Scorer, "run">,
  rows: Float32Array,
  features: number,
  batch: number,
  total: number,
): Promise<Float32Array> {
  const scores = new Float32Array(total);
  for (let from = 0; from < total; from += batch) {
    const count = Math.min(batch, total - from);
    scores.set(await scorer.run(rows.subarray(from * features, (from + count) * features), count), from);
  }
  return scores;
}

function check(scores: Float32Array, expected: Float32Array): void {
  scores.forEach((score, row) => {
    if (!(Math.abs(score - expected[row]) <= 1e-6))
      throw new Error(`row ${row} scores ${score}, in onnxruntime ${expected[row]}`);
  });
}

async function microseconds(work: () => Promise<unknown>, rows: number): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / rows;
}

function randomTree(random: () => number, depth: number, features: number): Tree {
  const inner = 2 ** depth - 1;
  const nodes = 2 * inner + 1;
  return {
    feature: Int32Array.from({ length: nodes }, (_, i) => (i < inner ? Math.floor(random() * features) : 0)),
    threshold: Float32Array.from({ length: nodes }, (_, i) => (i < inner ? 2 * random() - 1 : 0)),
    left: Int32Array.from({ length: nodes }, (_, i) => (i < inner ? 2 * i + 1 : -1)),
    right: Int32Array.from({ length: nodes }, (_, i) => (i < inner ? 2 * i + 2 : -1)),
    missingLeft: new Uint8Array(nodes),
    value: Float32Array.from({ length: nodes }, (_, i) => (i < inner ? 0 : (random() - 0.5) / 20)),
    cover: new Uint32Array(nodes).fill(1),
  };
}
