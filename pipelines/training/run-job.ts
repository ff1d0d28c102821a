import { basename, join } from "node:path";
import { addressPolicy } from "../../infra/download/addresses.js";
import { download } from "../../infra/download/download.js";
import { loadArtifact, modelNameOf } from "../../models/artifacts.js";
import { buildModel, type BuildOptions } from "../../models/build-model.js";
import type { Dataset } from "../../models/datasets/dataset.js";
import { readCsv } from "../../models/datasets/read-csv.js";
import { toReadingOptions } from "../../models/datasets/reading-request.js";
import { readStored } from "../../models/datasets/read-stored.js";
import { operandAttributes, parseFeatures } from "../../models/features/features-file.js";
import { slotsOf } from "../../models/features/plan.js";
import { sliceDataset } from "../../models/datasets/split.js";
import { DEFAULT_DECLINE_PRECISION, DEFAULT_REVIEW_CAPACITY } from "../../models/evaluation/thresholds.js";
import {
  checkTrainingRequest,
  eventTimes,
  type Comparison,
  type TrainingRequest,
} from "../../models/control/training-request.js";
import { FraudstreamError, RequestError, UsageError, messageOf } from "../../schemas/errors.js";
import { parseTime } from "../../schemas/time-text.js";
import { compareWithChampion } from "./compare-with-champion.js";
import type { Incumbent, JobProgress, JobResult, JobSpec } from "./job-messages.js";
import { inRequestWords } from "../../models/control/request-words.js";

export interface RunJobDeps {
  report: (progress: JobProgress) => void;
  /** What is deployed by now. */
  incumbent: () => Promise<Incumbent>;
}

/** Where each part of a job ends, in percent of the whole. */
const DOWNLOADED = 20;
const READ = 35;
const BUILT = 95;

const REPORT_EVERY_MS = 200;

/**
 * One training job, from its request to a model that could be registered: fetches, reads, builds and compares. Stores
 * and decides nothing.
 *
 * @throws FraudstreamError those of `download`, `readCsv`, `readStored` and `buildModel`; `no_clickhouse`,
 *   `unknown_feature`
 */
export async function runJob(spec: JobSpec, { report, incumbent }: RunJobDeps): Promise<JobResult> {
  const { request } = spec;
  checkTrainingRequest(request);
  const tell = throttled(report);
  const operands = operandsOf(request);
  if (request.enable === "if_better") operands.push(...(await championOperands(await incumbent(), spec.artifactsDir)));
  const dataset = rowsBefore(await readDataset(spec, operands, tell), request.before);
  const name =
    request.name ?? (typeof request.dataset === "string" ? modelNameOf(fileName(request.dataset), "fraud") : "stored");
  const built = await buildModel(
    dataset,
    { ...buildOptions(request), hidesCards: spec.hidesCards, model: `${name}@1` },
    {
      onProgress: ({ phase, percent }) =>
        tell({ phase, percent: READ + (percent * (BUILT - READ)) / 100, rows: dataset.length }),
    },
  );
  let comparison: JobResult["metrics"]["comparison"] = null;
  if (request.enable === "if_better") {
    tell({ phase: "comparing", percent: BUILT, rows: dataset.length });
    comparison = unlessSuspicious(
      await compareWithChampion(dataset, built, {
        incumbent: await incumbent(),
        artifactsDir: spec.artifactsDir,
        metric: request.metric ?? "average_precision",
      }),
      request.accept_warnings === true ? [] : built.warnings,
    );
  }
  const { manifest, onnx } = built;
  return {
    name,
    manifest,
    onnx,
    metrics: {
      rows: dataset.length - dataset.historyRows - unlabelledRows(dataset),
      frauds: dataset.label.subarray(dataset.historyRows).reduce((sum, label) => sum + label, 0),
      training_seconds: manifest.training.seconds,
      features: manifest.features.length,
      thresholds: manifest.thresholds,
      review_capacity: request.review_capacity ?? DEFAULT_REVIEW_CAPACITY,
      decline_precision: request.decline_precision ?? DEFAULT_DECLINE_PRECISION,
      validation: manifest.validation,
      test: manifest.test,
      warnings: built.warnings.map(inRequestWords),
      notes: [...dataset.notes, ...built.notes].map(inRequestWords),
      comparison,
    },
  };
}

/** A model that is too good to be true is not enabled unless the request says that it may be. */
function unlessSuspicious(comparison: Comparison, warnings: readonly string[]): Comparison {
  if (warnings.length === 0 || !comparison.better) return comparison;
  return {
    ...comparison,
    better: false,
    reason: `${comparison.reason}, but it is too good to be true (see warnings): "accept_warnings": true enables it`,
  };
}

function unlabelledRows({ unlabelled, historyRows }: Dataset): number {
  return unlabelled?.subarray(historyRows).reduce((sum, value) => sum + value, 0) ?? 0;
}

/** The rows before a time. That the rest was there shows only in the types of columns, and in which texts they hold. */
function rowsBefore(dataset: Dataset, before: string | undefined): Dataset {
  if (before === undefined) return dataset;
  const time = parseTime(before);
  const end = dataset.eventTime.findIndex((at) => at >= time);
  return end < 0 ? dataset : sliceDataset(dataset, { start: 0, end });
}

async function readDataset(
  spec: JobSpec,
  operands: readonly string[],
  tell: (progress: JobProgress) => void,
): Promise<Dataset> {
  const { request, limits } = spec;
  if (typeof request.dataset === "string") return readLink(request.dataset, spec, operands, tell);
  if (spec.clickhouse === null)
    throw new UsageError("no_clickhouse", "this trainer has no CLICKHOUSE_URL: it can't read stored transactions");
  return readStored(spec.clickhouse, {
    ...eventTimes(request.dataset, "dataset"),
    maturityMs: spec.maturityMs,
    now: Date.now(),
    maxRows: limits.maxRows,
    operands,
    onProgress: (percent, rows) => tell({ phase: "reading", percent: (percent * READ) / 100, rows }),
  });
}

async function readLink(
  link: string,
  { request, folder, limits }: JobSpec,
  operands: readonly string[],
  tell: (progress: JobProgress) => void,
): Promise<Dataset> {
  const file = join(folder, fileName(link));
  tell({ phase: "downloading", percent: 0, rows: 0 });
  await download(link, file, {
    policy: addressPolicy(limits.allowPrivate),
    maxBytes: limits.maxBytes,
    stallMs: limits.stallMs,
    deadlineMs: limits.deadlineMs,
    onProgress: (bytes, total) =>
      tell({ phase: "downloading", percent: total === null ? 0 : (DOWNLOADED * bytes) / total, rows: 0 }),
  });
  try {
    return await readCsv(file, {
      ...toReadingOptions(request),
      operands,
      limits: { bytes: limits.maxUnpackedBytes, rows: limits.maxRows },
      onProgress: (percent, rows) =>
        tell({ phase: "reading", percent: DOWNLOADED + (percent * (READ - DOWNLOADED)) / 100, rows }),
    });
  } catch (error) {
    // The job's requester knows the file by its link, not by its local path.
    if (error instanceof FraudstreamError)
      throw new RequestError(error.code, messageOf(error).replaceAll(file, basename(file)), { cause: error });
    throw error;
  }
}

/** The attributes that the champion's features read: without them it could not be compared. */
async function championOperands({ champion }: Incumbent, artifactsDir: string): Promise<string[]> {
  if (champion === null) return [];
  try {
    const { manifest } = await loadArtifact(artifactsDir, champion.model, champion.manifestSha256);
    return slotsOf([manifest.features]).flatMap(({ attribute, field }) => (field === true ? [] : [attribute]));
  } catch {
    return []; // the comparison says what is wrong with it
  }
}

/** The columns that the features which were asked for are made of. */
function operandsOf({ features }: TrainingRequest): string[] {
  return features === undefined ? [] : operandAttributes(parseFeatures(features));
}

function buildOptions(request: TrainingRequest): Omit<BuildOptions, "model"> {
  const { algorithm, params = {}, seed, features, train, test, review_capacity, decline_precision } = request;
  const seeded =
    algorithm === "logistic-regression" || ["seed", "random_state", "random_seed"].some((name) => name in params);
  return {
    algorithm,
    params: seed === undefined || seeded ? params : { ...params, seed },
    ...(seed === undefined ? {} : { seed }),
    ...(features === undefined ? {} : { features: parseFeatures(features) }),
    ...(review_capacity === undefined ? {} : { reviewCapacity: review_capacity }),
    ...(decline_precision === undefined ? {} : { declinePrecision: decline_precision }),
    ...(train === undefined ? {} : { train: eventTimes(train, "train") }),
    ...(test === undefined ? {} : test === null ? { testFraction: 0 } : { test: eventTimes(test, "test") }),
  };
}

/** The last part of a link's path, as a file's name that leads nowhere. */
function fileName(link: string): string {
  const last = new URL(link).pathname.split("/").at(-1) ?? "";
  return (
    last
      .replace(/%[0-9a-f]{2}/gi, "_")
      .replace(/[^A-Za-z0-9._-]/g, "_")
      .replace(/^[.]+/, "")
      .slice(-100) || "dataset.csv"
  );
}

/** Passes a report on when its phase is new, or a while after the last one. */
function throttled(report: (progress: JobProgress) => void): (progress: JobProgress) => void {
  let last = { phase: "", at: 0 };
  return (progress) => {
    const now = performance.now();
    if (progress.phase === last.phase && now - last.at < REPORT_EVERY_MS) return;
    last = { phase: progress.phase, at: now };
    report(progress);
  };
}
