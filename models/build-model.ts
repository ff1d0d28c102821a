import { FraudstreamError } from "../schemas/errors.js";
import { sha256 } from "./artifacts.js";
import type { Dataset } from "./datasets/dataset.js";
import { splitDataset, type Split, type SplitOptions } from "./datasets/split.js";
import { driftReference } from "./evaluation/drift-reference.js";
import { leakWarnings } from "./evaluation/leak-warnings.js";
import { alertMetrics, evaluate, type AlertMetrics } from "./evaluation/metrics.js";
import { rank } from "./evaluation/ranking.js";
import { checkThresholdOptions, chooseThresholds, type ThresholdOptions } from "./evaluation/thresholds.js";
import type { FeatureEntry } from "./features/features-file.js";
import { featureHash, type FeatureSpec } from "./features/plan.js";
import { fillingMs } from "./features/history-plan.js";
import { featureMatrices, repeatedRows } from "./features/feature-matrix.js";
import { featuresNamed, selectFeatures } from "./features/select.js";
import type { Manifest } from "./manifest.js";
import { TOLERANCE, verifyOnnx } from "./onnx/verify.js";
import { INPUT, OUTPUT, writeOnnx } from "./onnx/write.js";
import { sharedMatrix, type Matrix } from "./training/matrix.js";
import { readParams } from "./training/params.js";
import { score, trainModel, type Algorithm, type TrainedModel } from "./training/train.js";

/**
 * Rows of each part that both score for the comparison: enough to reach every leaf that matters, in a second or two.
 */
const COMPARED_ROWS = 50_000;

export interface BuildOptions extends SplitOptions, ThresholdOptions {
  /** name@version */
  model: string;
  /** @default "gradient-boosted-trees" */
  algorithm?: Algorithm;
  /** The trainer's; see models/training/params.ts. */
  params?: Readonly<Record<string, unknown>>;
  /** By name, or by what they are made of: see `featuresNamed`. @default what `selectFeatures` finds */
  features?: readonly FeatureEntry[];
  /** Whether card ids are pseudonyms where the model scores (CARD_ID_KEY). @default false */
  hidesCards?: boolean;
}

export interface BuildProgress {
  onProgress?: (progress: { phase: string; percent: number }) => void;
  signal?: AbortSignal;
}

export interface BuiltModel {
  manifest: Manifest;
  onnx: Uint8Array;
  /** What the decline threshold does, beside the manifest's metrics at the review threshold. */
  atDecline: { validation: AlertMetrics; test: AlertMetrics | null };
  /** Which rows were for what. */
  split: Split;
  /** How the rows were split, for people; the warnings, too. */
  notes: string[];
  /** What is too good to be true: see `leakWarnings`. */
  warnings: string[];
}

/**
 * From labelled transactions to a model that may be stored: leaves out repeats, splits, trains, chooses thresholds (and
 * the number of trees) on the validation part, trains again with that part, writes ONNX, reads it back and compares it,
 * and measures on the test part. Percent is of the whole.
 *
 * @throws RequestError `too_few_rows`, `bad_threshold`, `unknown_feature`, `training_params`
 * @throws FraudstreamError `onnx_differs`, those of `trainModel`; the signal's reason when it aborts
 */
export async function buildModel(
  dataset: Dataset,
  options: BuildOptions,
  { onProgress, signal }: BuildProgress = {},
): Promise<BuiltModel> {
  const { algorithm = "gradient-boosted-trees", params = {} } = options;
  const enter = (phase: string, percent: number): void => {
    signal?.throwIfAborted();
    onProgress?.({ phase, percent });
  };
  checkThresholdOptions(options);
  const { notes: paramNotes } = readParams(algorithm, params);

  enter("features", 0);
  const offering = { ...dataset, hidesCards: options.hidesCards === true };
  const features =
    options.features === undefined ? selectFeatures(offering) : featuresNamed(offering, options.features);
  const { rows, notes } = usableRows(dataset);
  const split = splitDataset(dataset, { ...options, rows });
  const [first, validation, test] = partsOf(dataset, features, split);

  // Thresholds need rows that the model hasn't seen; the model that is kept needs the newest rows most of all.
  enter("training", 5);
  const train = trainerOf(algorithm, onProgress, signal);
  const early = await train(first, { params, validation }, 5, 42);
  const seen = joined(first, validation);
  const trained = await train(seen, { params: keptParams(early), validation: null }, 42, 85);

  enter("onnx", 85);
  const onnx = writeOnnx(
    trained,
    features.map(({ name }) => name),
  );
  for (const { matrix } of test === null ? [validation] : [validation, test])
    refuseDifference(await verifyOnnx(onnx, trained, head(matrix, COMPARED_ROWS)));

  enter("evaluation", 95);
  const scores = score(early, validation.matrix);
  const { note, ...thresholds } = chooseThresholds(rank(validation.labels, scores), options);
  const testScores = test === null ? null : score(trained, test.matrix);
  const validationMetrics = evaluate(validation.labels, scores, thresholds.review);
  const manifest: Manifest = {
    format: 1,
    model: options.model,
    algorithm,
    input: INPUT,
    output: OUTPUT,
    features,
    feature_hash: featureHash(features),
    sha256: sha256(onnx),
    thresholds,
    training: {
      source: dataset.source,
      rows: seen.labels.length,
      frauds: seen.labels.reduce((sum, label) => sum + label, 0),
      ...timesOf(dataset, split),
      params: { ...trained.params, ...earlyStopping(early) },
      seconds: Math.round((early.seconds + trained.seconds) * 1000) / 1000,
    },
    validation: validationMetrics,
    test: test === null || testScores === null ? null : evaluate(test.labels, testScores, thresholds.review),
    drift: driftReference(seen.matrix, score(trained, seen.matrix), settledRows(dataset, features, split)),
    created_at: new Date().toISOString(),
  };
  const atDecline = {
    validation: alertMetrics(validation.labels, scores, thresholds.decline),
    test: test === null || testScores === null ? null : alertMetrics(test.labels, testScores, thresholds.decline),
  };
  const warnings = leakWarnings(
    test === null || manifest.test === null
      ? { name: "validation", metrics: validationMetrics, ...validation }
      : { name: "test", metrics: manifest.test, ...test },
    features,
  );
  enter("done", 100);
  const told = [...paramNotes, ...notes, ...split.notes, note, ...warnings];
  return { manifest, onnx, atDecline, split, notes: told, warnings };
}

type Train = (
  part: Part,
  request: { params: Readonly<Record<string, unknown>>; validation: Part | null },
  from: number,
  to: number,
) => Promise<TrainedModel>;

/** Trains on a part, and reports percent of the whole, `from` to `to`. */
function trainerOf(algorithm: Algorithm, onProgress: BuildProgress["onProgress"], signal?: AbortSignal): Train {
  return (part, { params, validation }, from, to) =>
    trainModel(
      { algorithm, params, train: part.matrix, labels: part.labels, validation },
      {
        onProgress: ({ phase, percent }) => onProgress?.({ phase, percent: from + (percent * (to - from)) / 100 }),
        ...(signal === undefined ? {} : { signal }),
      },
    );
}

/** Event times of the first and the last row that a model was made with. */
function timesOf({ eventTime }: Dataset, { train, validation }: Split): { from: number; to: number } {
  const parts = [train, validation];
  return {
    from: Math.min(...parts.map((rows) => eventTime[rows[0]])),
    to: Math.max(...parts.map((rows) => eventTime[rows[rows.length - 1]])),
  };
}

/**
 * @param difference greatest, of a score by onnxruntime and the trainer's; NaN where one is no number
 * @throws FraudstreamError `onnx_differs`
 */
export function refuseDifference(difference: number): void {
  if (difference < TOLERANCE) return;
  throw new FraudstreamError(
    "onnx_differs",
    `the ONNX model's scores differ from the trainer's by up to ${difference}; they must by less than ${TOLERANCE}`,
  );
}

interface Part {
  matrix: Matrix;
  /** 1: fraud. */
  labels: Uint8Array;
}

function partsOf(
  dataset: Dataset,
  features: readonly FeatureSpec[],
  { train, validation, test }: Split,
): [train: Part, validation: Part, test: Part | null] {
  const sets = [train, validation, test];
  const [first, second, third] = featureMatrices(dataset, features, sets).map((matrix, i) => ({
    matrix,
    labels: Uint8Array.from(sets[i], (row) => dataset.label[row]),
  }));
  return [first, second, test.length === 0 ? null : third];
}

/** Rows that may be trained and tested on: no mere history, labelled, no repeats, which the stream refuses. */
function usableRows(dataset: Dataset): { rows: Uint32Array; notes: string[] } {
  const refused = new Set(repeatedRows(dataset));
  const rows = Uint32Array.from(
    { length: dataset.length - dataset.historyRows },
    (_, i) => dataset.historyRows + i,
  ).filter((row) => !refused.has(row) && dataset.unlabelled?.[row] !== 1);
  return {
    rows,
    notes:
      refused.size === 0
        ? []
        : [
            `left out: ${refused.size} rows that repeat a transaction of their card within a day, as the ` +
              "stream leaves them out",
          ],
  };
}

/** So much of the newest is drift's reference at least: a whole week, whose days differ. */
const LEAST_REFERENCE_MS = 7 * 86_400_000;

/**
 * Rows of training and validation, as they are joined, for drift to compare with: what came while windows were still
 * filling is unlike what follows.
 */
function settledRows(
  { eventTime }: Dataset,
  features: readonly FeatureSpec[],
  { train, validation }: Split,
): Uint32Array {
  const rows = [...train, ...validation];
  const last = rows.reduce((latest, row) => Math.max(latest, eventTime[row]), Number.NEGATIVE_INFINITY);
  const full = eventTime[0] + Math.max(...features.map(({ source }) => fillingMs(source)));
  const from = Math.min(full, last - LEAST_REFERENCE_MS);
  return Uint32Array.from(rows.keys()).filter((at) => eventTime[rows[at]] >= from);
}

function joined(a: Part, b: Part): Part {
  const { features } = a.matrix;
  const matrix = sharedMatrix(a.matrix.rows + b.matrix.rows, features);
  matrix.values.set(a.matrix.values);
  matrix.values.set(b.matrix.values, a.matrix.values.length);
  const labels = new Uint8Array(matrix.rows);
  labels.set(a.labels);
  labels.set(b.labels, a.labels.length);
  return { matrix, labels };
}

/** What a model was trained with, for the same on more rows: as many trees as early stopping has kept. */
function keptParams(model: TrainedModel): Record<string, number | string | boolean> {
  if (model.algorithm === "logistic-regression") return model.params;
  return { ...model.params, num_iterations: Math.max(1, model.trees.trees.length), early_stopping_rounds: 0 };
}

/** As it was asked for. */
function earlyStopping({ algorithm, params }: TrainedModel): Record<string, number | string | boolean> {
  return algorithm === "logistic-regression" ? {} : { early_stopping_rounds: params["early_stopping_rounds"] };
}

function head({ rows, features, values }: Matrix, most: number): Matrix {
  const taken = Math.min(rows, most);
  return { rows: taken, features, values: values.subarray(0, taken * features) };
}
