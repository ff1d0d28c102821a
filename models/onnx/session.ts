import { InferenceSession, Tensor } from "onnxruntime-node";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { withoutRounding } from "./rounded-scores.js";

/** What a model's graph is called from outside. */
export interface ModelIo {
  input: string;
  output: string;
  features: number;
  /** Rows of every run, where the graph takes a fixed number; absent: any number. */
  batch?: number | undefined;
}

/**
 * One thread: onnxruntime blocks the caller's thread in any case, and workers scale by process. Its pool would spin
 * between calls. Warnings about a graph are of no use to its user.
 */
const OPTIONS: InferenceSession.SessionOptions = {
  executionProviders: ["cpu"],
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  executionMode: "sequential",
  graphOptimizationLevel: "all",
  logSeverityLevel: 3,
};

/** An ONNX model in memory, ready to score. */
export class ModelSession {
  readonly #session: InferenceSession;
  readonly #io: ModelIo;

  private constructor(session: InferenceSession, io: ModelIo) {
    this.#session = session;
    this.#io = io;
  }

  /**
   * Loads a model whose input is float32 [N, features] (or [batch, features]) and whose output is float32 [N], [N, 1]
   * or [N, 2] (the second column is then the probability of fraud), and tries it on one row.
   *
   * @throws FraudstreamError `model_invalid` when onnxruntime refuses the file, `model_shape` when its input or output
   *   is another, `model_failed` when it can't score
   */
  static async load(onnx: Uint8Array, io: ModelIo): Promise<ModelSession> {
    let session: InferenceSession;
    try {
      session = await InferenceSession.create(onnx, OPTIONS);
    } catch (error) {
      throw new FraudstreamError("model_invalid", `not a model that onnxruntime can run: ${messageOf(error)}`, {
        cause: error,
      });
    }
    const loaded = new ModelSession(session, io);
    try {
      checkInput(session.inputMetadata, io);
      checkOutput(session.outputMetadata, io);
      await loaded.run(new Float32Array(io.features), 1);
    } catch (error) {
      await session.release();
      throw error;
    }
    return loaded;
  }

  /**
   * @param features row by row; at least `rows` times as many as the model takes
   * @returns the probabilities of fraud, one a row
   * @throws FraudstreamError `model_shape`, `model_failed`
   */
  async run(features: Float32Array, rows: number): Promise<Float32Array> {
    const { features: width, batch } = this.#io;
    if (rows === 0) return new Float32Array();
    if (features.length < rows * width)
      throw new FraudstreamError("model_shape", `${features.length} values are not ${rows} rows of ${width} features`);
    return batch === undefined ? this.#runOnce(features, rows) : this.#runInBatches(features, rows, batch);
  }

  async #runOnce(features: Float32Array, rows: number): Promise<Float32Array> {
    const { input, output, features: width } = this.#io;
    // onnxruntime reads the array in place, but not from shared memory.
    const values =
      features.buffer instanceof SharedArrayBuffer
        ? features.slice(0, rows * width)
        : features.subarray(0, rows * width);
    let result: Tensor;
    try {
      result = (await this.#session.run({ [input]: new Tensor("float32", values, [rows, width]) }, [output]))[output];
    } catch (error) {
      throw new FraudstreamError("model_failed", `the model failed: ${messageOf(error)}`, { cause: error });
    }
    const { data, dims } = result;
    if (!(data instanceof Float32Array) || dims[0] !== rows || (data.length !== rows && data.length !== 2 * rows)) {
      throw new FraudstreamError(
        "model_shape",
        `output ${output} is ${result.type} [${dims.join(", ")}] for ${rows} rows`,
      );
    }
    if (data.length === rows) return withoutRounding(data);
    const probabilities = new Float32Array(rows);
    for (let row = 0; row < rows; row++) probabilities[row] = data[2 * row + 1];
    return withoutRounding(probabilities);
  }

  /** As many rows at a time as the graph takes; the last batch is filled up with its last row. */
  async #runInBatches(features: Float32Array, rows: number, batch: number): Promise<Float32Array> {
    const { features: width } = this.#io;
    const scores = new Float32Array(rows);
    const values = new Float32Array(batch * width);
    for (let from = 0; from < rows; from += batch) {
      for (let row = 0; row < batch; row++) {
        const at = Math.min(from + row, rows - 1) * width;
        values.set(features.subarray(at, at + width), row * width);
      }
      scores.set((await this.#runOnce(values, batch)).subarray(0, rows - from), from);
    }
    return scores;
  }

  /** The session is of no use afterwards. */
  release(): Promise<void> {
    return this.#session.release();
  }
}

type Metadata = readonly InferenceSession.ValueMetadata[];

function checkInput(inputs: Metadata, { input, features, batch }: ModelIo): void {
  const [only] = inputs;
  if (inputs.length !== 1 || only.name !== input) refuse("inputs", inputs, input);
  const [rows, width] = only.isTensor ? only.shape : [];
  // An unknown size is a name, or not above zero.
  const isFixed = (size: number | string): boolean => typeof size === "number" && size > 0;
  const fits =
    only.isTensor &&
    only.type === "float32" &&
    only.shape.length === 2 &&
    (batch === undefined ? !isFixed(rows) : rows === batch) &&
    (!isFixed(width) || width === features);
  if (!fits) refuse("inputs", inputs, `float32 [${batch ?? "N"}, ${features}] ${input}`);
}

function checkOutput(outputs: Metadata, { output }: ModelIo): void {
  const found = outputs.find(({ name }) => name === output);
  if (found === undefined) refuse("outputs", outputs, output);
  const width = found.isTensor && found.shape.length === 2 ? found.shape[1] : 1;
  if (!found.isTensor || found.type !== "float32" || found.shape.length > 2 || (typeof width === "number" && width > 2))
    refuse("outputs", outputs, `float32 [N], [N, 1] or [N, 2] ${output}`);
}

function refuse(what: "inputs" | "outputs", found: Metadata, expected: string): never {
  const names = found.map((each) =>
    each.isTensor ? `${each.type} [${each.shape.join(", ")}] ${each.name}` : `${each.name}, not a tensor`,
  );
  throw new FraudstreamError("model_shape", `the model's ${what} are ${names.join("; ")}; expected ${expected}`);
}
