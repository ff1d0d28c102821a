import { Worker } from "node:worker_threads";
import { compiledModule } from "../../infra/package-root.js";
import type { ErrorCode } from "../../schemas/error-codes.js";
import { FraudstreamError, RequestError } from "../../schemas/errors.js";
import { sigmoid } from "./gradients.js";
import { predictLinear, type LinearModel } from "./logistic.js";
import { checkLabelled, toShared, type Matrix } from "./matrix.js";
import { resolveLogisticParams, resolveTreeParams } from "./params.js";
import { predictRaw, type TreeEnsemble } from "./trees.js";

export type Algorithm = "gradient-boosted-trees" | "logistic-regression";

/** What to train on. Matrices and labels in shared memory (see `sharedMatrix`) are read in place, others are copied. */
export interface TrainRequest {
  algorithm: Algorithm;
  /** LightGBM's names: see `TreeParams` and `LogisticParams`. What is absent takes its default. */
  params: Readonly<Record<string, unknown>>;
  train: Matrix;
  /** 1: fraud. */
  labels: Uint8Array;
  /** What early stopping looks at, if it is on. */
  validation: { matrix: Matrix; labels: Uint8Array } | null;
}

interface Trained {
  /** With every default filled in. */
  params: Record<string, number | string | boolean>;
  features: number;
  /** Trees that were kept, or Newton steps that were taken. */
  iterations: number;
  seconds: number;
  /** Of the whole process while the training ran. */
  cpuSeconds: number;
}

export type TrainedModel =
  | (Trained & { algorithm: "gradient-boosted-trees"; trees: TreeEnsemble; linear?: undefined })
  | (Trained & { algorithm: "logistic-regression"; linear: LinearModel; trees?: undefined });

export interface TrainOptions {
  /** Percent of the whole, never less than before; 100 once, at the end. */
  onProgress(progress: { phase: string; percent: number }): void;
  signal?: AbortSignal;
}

/** What the training thread sends. */
export type FromWorker =
  | { kind: "progress"; phase: string; percent: number }
  | { kind: "trained"; model: TrainedModel }
  | { kind: "failed"; code: ErrorCode; message: string };

/**
 * Trains in a thread of its own.
 *
 * @throws RequestError `training_params`
 * @throws FraudstreamError `training_empty`, `training_one_class`, `training_shape`, `training_infinite`,
 *   `training_diverged`, `training_failed`; `training_aborted` when the signal aborts
 */
export async function trainModel(request: TrainRequest, options: TrainOptions): Promise<TrainedModel> {
  const { signal } = options;
  if (signal?.aborted === true) throw aborted();
  checkRequest(request);
  const { algorithm, params, train, labels, validation } = request;
  const share = (matrix: Matrix): Matrix => ({ ...matrix, values: toShared(matrix.values) });
  const workerData: TrainRequest = {
    algorithm,
    params,
    train: share(train),
    labels: toShared(labels),
    validation: validation === null ? null : { matrix: share(validation.matrix), labels: toShared(validation.labels) },
  };
  const worker = new Worker(compiledModule("models/training/worker"), { workerData });
  let onAbort = (): void => undefined;
  try {
    return await new Promise<TrainedModel>((resolve, reject) => {
      onAbort = () => reject(aborted());
      signal?.addEventListener("abort", onAbort, { once: true });
      worker.once("error", (error) =>
        reject(new FraudstreamError("training_failed", `training failed: ${error.message}`, { cause: error })),
      );
      worker.once("exit", (code) =>
        reject(new FraudstreamError("training_failed", `the training thread ended with code ${code}`)),
      );
      worker.on("message", (message: FromWorker) => {
        if (message.kind === "progress") options.onProgress({ phase: message.phase, percent: message.percent });
        else if (message.kind === "trained") resolve(message.model);
        else reject(new FraudstreamError(message.code, message.message));
      });
    });
  } finally {
    signal?.removeEventListener("abort", onAbort);
    await worker.terminate();
  }
}

function aborted(): FraudstreamError {
  return new FraudstreamError("training_aborted", "training was cancelled");
}

function checkRequest({ algorithm, params, train, labels, validation }: TrainRequest): void {
  checkLabelled("training", train, labels);
  if (algorithm === "logistic-regression") resolveLogisticParams(params);
  else if (resolveTreeParams(params).early_stopping_rounds > 0) {
    if (validation === null) throw new RequestError("training_params", "early_stopping_rounds needs a validation part");
    checkLabelled("validation", validation.matrix, validation.labels);
    if (validation.matrix.features !== train.features)
      throw new FraudstreamError("training_shape", "the validation part has other features than the training part");
  }
}

/** The model's probabilities of fraud, one a row, in float32 as it is served. */
export function score(model: TrainedModel, matrix: Matrix): Float32Array {
  if (matrix.features !== model.features)
    throw new FraudstreamError("model_shape", `the model takes ${model.features} features, not ${matrix.features}`);
  const raw = new Float64Array(matrix.rows);
  if (model.algorithm === "gradient-boosted-trees") predictRaw(model.trees, matrix, raw);
  else predictLinear(model.linear, matrix, raw);
  const probabilities = new Float32Array(matrix.rows);
  for (let row = 0; row < matrix.rows; row++) probabilities[row] = sigmoid(raw[row]);
  return probabilities;
}
