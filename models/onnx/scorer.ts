import { inSlices } from "../explain/pieces.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { seededRandom } from "../training/random.js";
import { GuardedSession, type SessionLimits } from "./guarded-session.js";
import { linearParts, scoreLinear } from "./linear-model.js";
import { readGraph } from "./read-graph.js";
import { withoutRounding } from "./rounded-scores.js";
import { ModelSession, type ModelIo } from "./session.js";
import { flatTrees, type FlatTrees } from "./tree-ensemble.js";
import { TreeKernel } from "./tree-kernel.js";

/** What scores with a model on the stream. */
export interface Scorer {
  /** `trees` and `linear`: computed here, from what the model's file says; `onnxruntime`: by a process of its own. */
  readonly kind: "onnxruntime" | "trees" | "linear";
  /**
   * @param features row by row, at least `rows` times as many as the model takes; not to be changed before the answer
   * @returns the probabilities of fraud, one a row
   * @throws FraudstreamError `model_hung` and `model_died` (`GuardedSession`) and what the model fails with
   */
  run(features: Float32Array, rows: number): Promise<Float32Array>;
  /** It is of no use afterwards. */
  release(): Promise<void>;
}

/** The greatest difference from onnxruntime's scores with which what is computed here is taken. */
const TOLERANCE = 5e-7;
const COMPARED_ROWS = 512;
/**
 * Of a tree ensemble's graph, its conversions included: their cost follows from their inputs' sizes, so that
 * onnxruntime may run them here.
 */
const HARMLESS = new Set(["TreeEnsembleRegressor", "TreeEnsembleClassifier", "Sigmoid", "Identity", "Mul", "Cast"]);
const MOST_NODES = 16;

type Log = { warn(details: object, message: string): void };

/**
 * Loads a model for the stream. Tree ensembles and our own logistic regressions are computed here, where that gives
 * onnxruntime's scores on rows at and beside the thresholds of all trees; such a model can't hang. Every other one is
 * run by onnxruntime in a process of its own under limits, since nothing else stops a model that hangs or takes all
 * memory.
 *
 * @throws FraudstreamError as `GuardedSession.load`
 */
export async function loadScorer(onnx: Uint8Array, io: ModelIo, log: Log, limits: SessionLimits = {}): Promise<Scorer> {
  const computed = await computedHere(onnx, io, log);
  if (computed !== null) return computed;
  const session = await GuardedSession.load(onnx, io, limits);
  return {
    kind: "onnxruntime",
    run: (features, rows) => session.run(features, rows),
    release: () => session.release(),
  };
}

/** @returns null where onnxruntime must run the model */
async function computedHere(onnx: Uint8Array, io: ModelIo, log: Log): Promise<Scorer | null> {
  let found: { computation: Computation; rows: Float32Array } | null;
  try {
    found = await computationOf(onnx, io);
  } catch (error) {
    // What is wrong with a file is for onnxruntime to say.
    if (!(error instanceof FraudstreamError))
      log.warn({}, `the model is run by onnxruntime, since it can't be compiled: ${messageOf(error)}`);
    return null;
  }
  return found === null ? null : agreeing(found.computation, found.rows, onnx, io, log);
}

/**
 * How a model's scores come about, and rows to try it on; null: it is neither a tree ensemble nor a logistic regression
 * of ours.
 */
async function computationOf(
  onnx: Uint8Array,
  io: ModelIo,
): Promise<{ computation: Computation; rows: Float32Array } | null> {
  const graph = readGraph(onnx);
  const linear = linearParts(graph, io);
  if (linear !== null)
    return {
      computation: { kind: "linear", score: (features, rows) => scoreLinear(linear, features, rows) },
      rows: rowsAbout(linear.mean, io.features),
    };
  if (graph.nodes.length > MOST_NODES || graph.nodes.some(({ opType }) => !HARMLESS.has(opType))) return null;
  const trees = await inSlices(flatTrees(onnx, io));
  const kernel = trees === null ? null : TreeKernel.of(trees, io.features);
  if (trees === null || kernel === null) return null;
  return {
    computation: { kind: "trees", score: (features, rows) => kernel.score(features, rows) },
    rows: rowsAtThresholds(trees, io.features),
  };
}

interface Computation {
  kind: "trees" | "linear";
  score: (features: Float32Array, rows: number) => Float32Array;
}

/**
 * What is computed here, if it gives onnxruntime's scores. onnxruntime also decides whether the model is one that can
 * be called.
 */
async function agreeing(
  { kind, score }: Computation,
  rows: Float32Array,
  onnx: Uint8Array,
  io: ModelIo,
  log: Log,
): Promise<Scorer | null> {
  const session = await ModelSession.load(onnx, io);
  const expected = await session.run(rows, COMPARED_ROWS).finally(() => session.release());
  const difference = score(rows, COMPARED_ROWS).reduce(
    (greatest, each, row) => Math.max(greatest, Math.abs(each - expected[row])),
    0,
  );
  if (difference <= TOLERANCE) return new ComputedHere(kind, score);
  log.warn({ difference }, `the compiled ${kind} don't give onnxruntime's scores: the model is run by onnxruntime`);
  return null;
}

class ComputedHere implements Scorer {
  readonly kind: "trees" | "linear";
  #score: Computation["score"] | null;

  constructor(kind: "trees" | "linear", score: Computation["score"]) {
    this.kind = kind;
    this.#score = score;
  }

  run(features: Float32Array, rows: number): Promise<Float32Array> {
    if (this.#score === null) return Promise.reject(new FraudstreamError("model_failed", "the model was released"));
    return Promise.resolve(withoutRounding(this.#score(features, rows)));
  }

  release(): Promise<void> {
    this.#score = null;
    return Promise.resolve();
  }
}

/** Rows around the means, some values missing. */
function rowsAbout(mean: Float64Array, features: number): Float32Array {
  const random = seededRandom(1);
  return Float32Array.from({ length: COMPARED_ROWS * features }, (_, i) =>
    random() < 0.1 ? Number.NaN : mean[i % features] * 4 * random() + random() - 0.5,
  );
}

/** Rows of values that the trees compare with: exactly these, some a little above or below, some missing. */
function rowsAtThresholds({ feature, threshold, left }: FlatTrees, features: number): Float32Array {
  const values = Array.from({ length: features }, (): number[] => [0]);
  threshold.forEach((value, node) => left[node] !== node && values[feature[node]].push(value));
  const random = seededRandom(1);
  return Float32Array.from({ length: COMPARED_ROWS * features }, (_, i) => {
    const of = values[i % features];
    const value = of[Math.floor(random() * of.length)];
    const kind = random();
    return kind < 0.1
      ? Number.NaN
      : kind < 0.4
        ? value
        : value + (random() - 0.5) * Math.max(1e-3, Math.abs(value)) * (kind < 0.7 ? 1e-6 : 0.5);
  });
}
