import { loadArtifact, type Artifact } from "../../models/artifacts.js";
import type { BuiltModel } from "../../models/build-model.js";
import type { Dataset } from "../../models/datasets/dataset.js";
import { evaluate } from "../../models/evaluation/metrics.js";
import { operandColumn } from "../../models/features/dataset-slots.js";
import { slotsOf, type FeatureSpec } from "../../models/features/plan.js";
import { featureMatrix } from "../../models/features/feature-matrix.js";
import { modelIo, type Manifest, type OfflineMetrics } from "../../models/manifest.js";
import { loadScorer } from "../../models/onnx/scorer.js";
import type { Comparison } from "../../models/control/training-request.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { Incumbent } from "./job-messages.js";

const ROWS_AT_ONCE = 1_024;
/** Of one run of a model that isn't computed here. */
const RUN_MS = 30_000;

/**
 * Judges a new model beside the champion, on the rows of its test part that are later than everything that either was
 * made with. Both score as they are served, through ONNX; F1 is that of each at its own review threshold. Where the two
 * can't be compared, the champion stays, and `reason` says why; where there is none, the new model is better.
 */
export async function compareWithChampion(
  dataset: Dataset,
  { manifest, onnx, split }: BuiltModel,
  {
    incumbent: { epoch, champion },
    artifactsDir,
    metric,
  }: { incumbent: Incumbent; artifactsDir: string; metric: Comparison["metric"] },
): Promise<Comparison> {
  const none = {
    metric,
    champion: champion?.model ?? null,
    epoch,
    rows: 0,
    frauds: 0,
    candidate_value: null,
    champion_value: null,
  };
  if (champion === null) return { ...none, better: true, reason: "no champion is deployed" };
  let artifact: Artifact;
  try {
    artifact = await loadArtifact(artifactsDir, champion.model, champion.manifestSha256);
  } catch (error) {
    if (!(error instanceof FraudstreamError)) throw error;
    return { ...none, better: false, reason: `the champion can't be loaded: ${error.code}` };
  }
  // An uploaded model's author need not state it; rows that the model may have memorised prove nothing.
  if (artifact.manifest.training.to === 0)
    return {
      ...none,
      better: false,
      reason:
        "the champion's manifest doesn't say until when it was trained (training.to), so no rows are known " +
        "to be new to it",
    };
  const missing = artifact.manifest.features.find((feature) => !has(dataset, feature));
  if (missing !== undefined)
    return {
      ...none,
      better: false,
      reason: `the champion can't be judged on this data set: it has nothing for its feature ${missing.name}`,
    };

  const seen = Math.max(manifest.training.to, artifact.manifest.training.to);
  const rows = split.test.filter((row) => dataset.eventTime[row] > seen);
  const labels = Uint8Array.from(rows, (row) => dataset.label[row]);
  const judge = async (model: { manifest: Manifest; onnx: Uint8Array }, review: number): Promise<OfflineMetrics> =>
    evaluate(labels, await scoresOf(model, dataset, rows), review);
  const measured = { ...none, rows: rows.length, frauds: labels.reduce((sum, label) => sum + label, 0) };
  if (measured.frauds === 0)
    return {
      ...measured,
      better: false,
      reason: `no fraud is later than what the models were made with (${new Date(seen).toISOString()})`,
    };
  const candidate = await judge({ manifest, onnx }, manifest.thresholds.review);
  let current: OfflineMetrics;
  try {
    current = await judge(artifact, champion.review);
  } catch (error) {
    // It was checked by another version, or on other rows: that it hangs or fails must not hold up the job.
    if (!(error instanceof FraudstreamError)) throw error;
    return {
      ...measured,
      candidate_value: candidate[metric],
      candidate_metrics: candidate,
      better: false,
      reason: `the champion can't be judged on this data set: ${error.message}`,
    };
  }
  const [ours, theirs] = [candidate[metric], current[metric]];
  const better = ours !== null && theirs !== null && ours > theirs;
  return {
    ...measured,
    candidate_value: ours,
    champion_value: theirs,
    candidate_metrics: candidate,
    champion_metrics: current,
    better,
    reason: better ? "it does better than the champion" : "it does no better than the champion",
  };
}

/** A card or merchant that was made up, one a row, has no history. */
function has(dataset: Dataset, feature: FeatureSpec): boolean {
  const { hasCards, hasMerchants } = dataset;
  if (feature.source.kind === "card") return hasCards;
  if (feature.source.kind === "merchant") return hasMerchants;
  return slotsOf([[feature]]).every(({ attribute, field }) => {
    if (field === true) return attribute === "card_id" ? hasCards : hasMerchants;
    return operandColumn(dataset, attribute) !== undefined;
  });
}

async function scoresOf(
  { manifest, onnx }: { manifest: Manifest; onnx: Uint8Array },
  dataset: Dataset,
  rows: Uint32Array,
): Promise<Float32Array> {
  const { values, features } = featureMatrix(dataset, manifest.features, rows);
  const scorer = await loadScorer(onnx, modelIo(manifest), { warn: () => undefined }, { timeoutMs: RUN_MS });
  const scores = new Float32Array(rows.length);
  try {
    for (let from = 0; from < rows.length; from += ROWS_AT_ONCE) {
      const count = Math.min(ROWS_AT_ONCE, rows.length - from);
      scores.set(await scorer.run(values.subarray(from * features, (from + count) * features), count), from);
    }
  } finally {
    await scorer.release();
  }
  const without = scores.findIndex((score) => !(score >= 0 && score <= 1));
  if (without >= 0)
    throw new FraudstreamError(
      "no_score",
      `${manifest.model} gives ${scores[without]} instead of a score from 0 to 1 for one of the rows`,
    );
  return scores;
}
