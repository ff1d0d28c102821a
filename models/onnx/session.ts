import { InferenceSession, Tensor } from "onnxruntime-node";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";

/** What a model is called with and what it answers. */
export interface ModelIo { input: string; output: string; features: number }

/**
 * A model in memory. One thread: onnxruntime blocks the caller's thread in any case, and workers scale by process. The
 * options are those that tests/bench/onnx.ts found quickest.
 */
export class ModelSession {
  readonly #session: InferenceSession;
  readonly #io: ModelIo;

  private constructor(session: InferenceSession, io: ModelIo) {
    this.#session = session;
    this.#io = io;
  }

  /** @throws FraudstreamError `model_invalid`, `model_shape` */
  static async load(onnx: Uint8Array, io: ModelIo): Promise<ModelSession> {
    let session: InferenceSession;
    try {
      session = await InferenceSession.create(onnx, {
        executionProviders: ["cpu"], graphOptimizationLevel: "all", executionMode: "sequential",
        intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3,
      });
    } catch (cause) {
      throw new FraudstreamError("model_invalid", `onnxruntime does not take the model: ${messageOf(cause)}`, { cause });
    }
    const loaded = new ModelSession(session, io);
    try {
      if (!session.inputNames.includes(io.input)) throw new FraudstreamError("model_shape", `the model has no input ${io.input}; it has ${session.inputNames.join(", ")}`);
      if (!session.outputNames.includes(io.output)) throw new FraudstreamError("model_shape", `the model has no output ${io.output}; it has ${session.outputNames.join(", ")}`);
      await loaded.run(new Float32Array(io.features), 1);
    } catch (error) {
      await session.release();
      throw error;
    }
    return loaded;
  }

  /**
   * Scores rows.
   *
   * @param features `features[row * io.features + feature]`
   * @returns the probability of fraud of each row
   * @throws FraudstreamError `model_failed`, `model_shape`
   */
  async run(features: Float32Array, rows: number): Promise<Float32Array> {
    const { input, output, features: width } = this.#io;
    let answer: InferenceSession.OnnxValueMapType;
    try {
      answer = await this.#session.run({ [input]: new Tensor("float32", features, [rows, width]) }, [output]);
    } catch (cause) {
      throw new FraudstreamError("model_failed", messageOf(cause), { cause });
    }
    const { data, dims } = answer[output];
    if (!(data instanceof Float32Array)) throw new FraudstreamError("model_shape", `the model's output ${output} is not of floats`);
    if (data.length === rows) return data;
    // Two classes: the second is fraud.
    if (dims.length === 2 && dims[0] === rows && dims[1] === 2) return Float32Array.from({ length: rows }, (_, row) => data[row * 2 + 1]);
    throw new FraudstreamError("model_shape", `the model's output ${output} has the shape [${dims.join(", ")}] for ${rows} rows`);
  }

  release(): Promise<void> {
    return this.#session.release();
  }
}
