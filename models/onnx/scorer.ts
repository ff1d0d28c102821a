import { inSlices } from "../explain/pieces.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { seededRandom } from "../training/random.js";
import { ModelSession, type ModelIo } from "./session.js";
import { flatTrees, type FlatTrees } from "./tree-ensemble.js";
import { TreeKernel } from "./tree-kernel.js";

/** What scores with a model on the stream. */
export interface Scorer {
  /** `onnxruntime`, or `trees`: the model's trees, compiled. */
  readonly kind: "onnxruntime" | "trees";
  /**
   * @param features row by row; at least `rows` times as many as the model takes
   * @returns the probabilities of fraud, one a row
   * @throws FraudstreamError
   */
  run(features: Float32Array, rows: number): Promise<Float32Array>;
  /** It is of no use afterwards. */
  release(): Promise<void>;
}

/** The greatest difference from onnxruntime's scores with which compiled trees are taken. */
const TOLERANCE = 5e-7;
const COMPARED_ROWS = 512;

/**
 * Loads a model for the stream: as compiled trees where it is a tree ensemble and these give onnxruntime's scores on rows at and
 * beside the thresholds of all its trees; else in onnxruntime, which decides in any case whether the model is one that we can call.
 *
 * @throws FraudstreamError as `ModelSession.load`
 */
export async function loadScorer(onnx: Uint8Array, io: ModelIo, log: { warn(details: object, message: string): void }): Promise<Scorer> {
  const session = await ModelSession.load(onnx, io);
  const inOnnxruntime: Scorer = { kind: "onnxruntime", run: (features, rows) => session.run(features, rows), release: () => session.release() };
  try {
    const trees = await inSlices(flatTrees(onnx, io));
    const kernel = trees === null ? null : TreeKernel.of(trees, io.features);
    if (trees === null || kernel === null) return inOnnxruntime;
    const rows = rowsAtThresholds(trees, io.features);
    const expected = await session.run(rows, COMPARED_ROWS);
    const difference = kernel.score(rows, COMPARED_ROWS).reduce((greatest, score, row) => Math.max(greatest, Math.abs(score - expected[row])), 0);
    if (!(difference <= TOLERANCE)) {
      log.warn({ difference }, "compiled trees don't give onnxruntime's scores: the model is run by onnxruntime");
      return inOnnxruntime;
    }
    await session.release();
    return new CompiledTrees(kernel);
  } catch (error) {
    log.warn({}, `the model is run by onnxruntime, since its trees can't be compiled: ${messageOf(error)}`);
    return inOnnxruntime;
  }
}

class CompiledTrees implements Scorer {
  readonly kind = "trees";
  #kernel: TreeKernel | null;

  constructor(kernel: TreeKernel) {
    this.#kernel = kernel;
  }

  run(features: Float32Array, rows: number): Promise<Float32Array> {
    if (this.#kernel === null) return Promise.reject(new FraudstreamError("model_failed", "the model was released"));
    return Promise.resolve(this.#kernel.score(features, rows));
  }

  release(): Promise<void> {
    this.#kernel = null;
    return Promise.resolve();
  }
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
    return kind < 0.1 ? Number.NaN : kind < 0.4 ? value : value + (random() - 0.5) * Math.max(1e-3, Math.abs(value)) * (kind < 0.7 ? 1e-6 : 0.5);
  });
}
