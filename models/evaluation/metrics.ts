import type { OfflineMetrics } from "../manifest.js";
import { averagePrecision, rank, rocAuc } from "./ranking.js";

/** The metrics of alerts (the positive class): transactions that score at least a threshold. Null: 0 / 0. */
export type AlertMetrics = Pick<OfflineMetrics, "precision" | "recall" | "f1" | "accuracy" | "alert_rate">;

/**
 * @param labels 1: fraud, 0: genuine
 * @param scores one for each label
 */
export function alertMetrics(labels: Uint8Array, scores: Float32Array, threshold: number): AlertMetrics {
  let alerts = 0;
  let caught = 0;
  let frauds = 0;
  for (let row = 0; row < labels.length; row++) {
    const alert = scores[row] >= threshold ? 1 : 0;
    frauds += labels[row];
    alerts += alert;
    caught += alert & labels[row];
  }
  const rows = labels.length;
  return {
    precision: share(caught, alerts),
    recall: share(caught, frauds),
    f1: share(2 * caught, alerts + frauds),
    accuracy: share(rows - (alerts - caught) - (frauds - caught), rows),
    alert_rate: share(alerts, rows),
  };
}

/** How a model did on some rows, at its review threshold. */
export function evaluate(labels: Uint8Array, scores: Float32Array, reviewThreshold: number): OfflineMetrics {
  const ranking = rank(labels, scores);
  return {
    rows: ranking.rows,
    frauds: ranking.frauds,
    roc_auc: rocAuc(ranking),
    average_precision: averagePrecision(ranking),
    ...alertMetrics(labels, scores, reviewThreshold),
  };
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}
