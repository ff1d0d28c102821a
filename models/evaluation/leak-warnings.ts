import { averagePrecision } from "../training/average-precision.js";
import type { FeatureSpec } from "../features/plan.js";
import type { OfflineMetrics } from "../manifest.js";
import type { Matrix } from "../training/matrix.js";

/** Fewer frauds prove nothing. */
const LEAST_FRAUDS = 10;
/** Average precision from here on is too good, as a share of the way from guessing (0) to finding all (1). */
const TOO_GOOD = 0.98;
/** The same of one feature by itself, without a model. */
const ALONE = 0.85;
/** Area under the ROC curve that goes with such a one only. */
const TOO_GOOD_AUC = 0.9995;
/** Rows that single features are tried on: evenly chosen ones of more. */
const MOST_ROWS = 50_000;
const LOWEST = -Number.MAX_VALUE;

/** What a model was measured on. */
export interface MeasuredPart {
  /** "test" or "validation". */
  name: string;
  metrics: OfflineMetrics;
  matrix: Matrix;
  /** 1: fraud. */
  labels: Uint8Array;
}

/**
 * What is too good to be true of a model: metrics that no fraud model has, or one feature that finds the frauds by
 * itself. Either means that a feature tells the label, which is not known when a payment is scored. A line each, for
 * people; none: nothing is.
 */
export function leakWarnings(part: MeasuredPart, features: readonly FeatureSpec[]): string[] {
  const { name, metrics } = part;
  if (metrics.frauds < LEAST_FRAUDS || metrics.average_precision === null || metrics.roc_auc === null) return [];
  const base = metrics.frauds / metrics.rows;
  const skill = skillOf(metrics.average_precision, base);
  const warnings: string[] = [];
  if (skill >= TOO_GOOD || (metrics.roc_auc >= TOO_GOOD_AUC && skill >= ALONE))
    warnings.push(
      `WARNING: ROC AUC ${metrics.roc_auc.toFixed(4)} and average precision ${metrics.average_precision.toFixed(4)} ` +
        `on the ${name} part are too good to be true: a feature may tell the label`,
    );
  for (const { feature, alone } of decisive(part)) {
    const { name: called, source } = features[feature];
    const column = source.kind === "attribute" ? source.attribute : null;
    warnings.push(
      `WARNING: feature ${JSON.stringify(called)} by itself finds the frauds ` +
        `(average precision ${alone.toFixed(4)}): is it known when a payment is scored?` +
        (column === null ? "" : ` If not, leave it out with --drop ${JSON.stringify(column)}`),
    );
  }
  return warnings;
}

/** 0: no better than guessing, 1: all frauds before all others. */
function skillOf(precision: number, base: number): number {
  return (precision - base) / (1 - base);
}

/** Features whose value by itself, the greatest or the least first, ranks the frauds. */
function decisive({ matrix, labels }: MeasuredPart): { feature: number; alone: number }[] {
  const step = Math.max(1, Math.ceil(matrix.rows / MOST_ROWS));
  const rows = Array.from({ length: Math.ceil(matrix.rows / step) }, (_, i) => i * step);
  const chosen = Uint8Array.from(rows, (row) => labels[row]);
  const frauds = chosen.reduce((sum, label) => sum + label, 0);
  if (frauds < LEAST_FRAUDS) return [];
  const base = frauds / rows.length;
  const found: { feature: number; alone: number }[] = [];
  for (let feature = 0; feature < matrix.features; feature++) {
    const values = Float64Array.from(rows, (row) => {
      const value = matrix.values[row * matrix.features + feature];
      return Number.isNaN(value) ? LOWEST : value;
    });
    const up = averagePrecision(values, chosen);
    const alone = Math.max(
      up,
      averagePrecision(
        values.map((value) => -value),
        chosen,
      ),
    );
    if (skillOf(alone, base) >= ALONE) found.push({ feature, alone });
  }
  return found.sort((a, b) => b.alone - a.alone).slice(0, 3);
}
