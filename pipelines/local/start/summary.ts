import { setTimeout as sleep } from "node:timers/promises";
import type { ClickHouseReader } from "../../../infra/clickhouse/client.js";
import { messageOf } from "../../../schemas/errors.js";
import type { Outcomes } from "./outcomes.js";
import { count } from "./panel.js";
import { countPredictions, hasLabels, runMetrics, type RunMetrics, type TopicWindow } from "./summary-queries.js";

/** What became of a run, counted independently on the topic and in ClickHouse. */
export interface RunCounts {
  published: number;
  /** Predictions on the topic for transactions of this run; twice for one counts as doubled. */
  predicted: number;
  doubled: number;
  stale: number;
  /** Predictions for transactions that others published meanwhile. */
  others: number;
  othersStale?: number;
  deadLetters: number;
  lastDeadLetter: { code: string; reason: string } | null;
  /** Of the run's part of the predictions topic: rows in ClickHouse, and different transactions among them. */
  stored: { rows: number; transactions: number } | null;
}

export interface Summary {
  counts: RunCounts;
  metrics: RunMetrics | null;
  labels: number;
  seconds: number;
  p50: number | null;
  p99: number | null;
}

export interface SummaryOptions {
  clickhouse: ClickHouseReader;
  outcomes: Outcomes;
  /** The run's parts of the topics. */
  predictions: TopicWindow;
  labels: TopicWindow;
  labelsPublished: number;
  seconds: number;
  broken: AbortSignal;
}

/** Waiting for ClickHouse ends when nothing has changed for so long. */
const PATIENCE_MS = 30_000;

/** Waits for the sink to catch up, then has ClickHouse count and measure. */
export async function summarise({
  clickhouse,
  outcomes,
  predictions,
  labels,
  labelsPublished,
  seconds,
  broken,
}: SummaryOptions): Promise<Summary> {
  const { predicted, doubled, stale, others, othersStale, deadLetters, lastDeadLetter, latency, sent } = outcomes;
  const expected = predicted + doubled + others;
  let stored: RunCounts["stored"] = null;
  let metrics: RunMetrics | null = null;
  await until(broken, async () => {
    stored = await countPredictions(clickhouse, predictions);
    return { done: stored.rows >= expected, progress: stored.rows };
  });
  await until(broken, async () => ({ done: await hasLabels(clickhouse, labels), progress: 0 }));
  if (!broken.aborted && stored !== null)
    metrics = await runMetrics(clickhouse, predictions, {
      from: outcomes.firstEventTime ?? 0,
      to: (outcomes.lastEventTime ?? 0) + 1,
    });
  const counts = {
    published: sent,
    predicted,
    doubled,
    stale,
    others,
    othersStale,
    deadLetters,
    lastDeadLetter,
    stored,
  };
  return { counts, metrics, labels: labelsPublished, seconds, p50: latency.quantile(0.5), p99: latency.quantile(0.99) };
}

/** Repeats a look at ClickHouse until it is done, or shows no progress for too long. */
async function until(broken: AbortSignal, look: () => Promise<{ done: boolean; progress: number }>): Promise<void> {
  let last = { progress: -1, at: Date.now() };
  while (!broken.aborted && Date.now() - last.at < PATIENCE_MS) {
    try {
      const { done, progress } = await look();
      if (done) return;
      if (progress > last.progress) last = { progress, at: Date.now() };
    } catch (error) {
      if (Date.now() - last.at + 1_000 > PATIENCE_MS)
        throw new Error(`ClickHouse does not answer: ${messageOf(error)}`, { cause: error });
    }
    await sleep(200);
  }
}

/** Why a run is not what it should be: each transaction with one prediction, on the topic and in ClickHouse. */
export function problemsOf({
  published,
  predicted,
  doubled,
  others,
  deadLetters,
  lastDeadLetter,
  stored,
}: RunCounts): string[] {
  const problems: string[] = [];
  // Dead letters alone are no problem: somebody else's records may be among the transactions.
  const reason =
    lastDeadLetter === null
      ? ""
      : `; there are ${count(deadLetters)} dead letters, the last because of ${lastDeadLetter.code}: ` +
        `${lastDeadLetter.reason}`;
  if (predicted < published)
    problems.push(`without a prediction: ${count(published - predicted)} of ${count(published)} transactions${reason}`);
  if (doubled > 0) problems.push(`with a second prediction: ${count(doubled)} transactions`);
  const expected = predicted + doubled + others;
  if (stored === null) problems.push("ClickHouse did not say what it has");
  else if (stored.rows !== expected)
    problems.push(`ClickHouse has ${count(stored.rows)} rows for ${count(expected)} predictions on the topic`);
  else if (stored.transactions !== expected - doubled)
    problems.push(
      `the rows in ClickHouse are for ${count(stored.transactions)} transactions, those on the topic for ` +
        `${count(expected - doubled)}`,
    );
  return problems;
}

/** The summary for people. */
export function summaryLines({ counts, metrics, labels, seconds, p50, p99 }: Summary): string[] {
  const { published, predicted, doubled, stale, others, othersStale = 0, deadLetters, stored } = counts;
  const row = (name: string, value: string): string => `  ${name.padEnd(34)}${value.padStart(12)}`;
  const share = (value: number | null | undefined): string =>
    value === null || value === undefined ? "-" : value.toFixed(4);
  const ms = (value: number | null): string => (value === null ? "-" : `${value.toFixed(0)} ms`);
  return [
    `${count(published)} transactions in ${seconds.toFixed(1)} s ` +
      `(${count(Math.round(published / Math.max(seconds, 0.001)))} a second), end to end p50 ${ms(p50)}, ` +
      `p99 ${ms(p99)}`,
    row("published", count(published)),
    row("predictions on the topic", count(predicted + doubled)),
    ...(others > 0
      ? [
          row("and of others' transactions", count(others)),
          ...(othersStale > 0 ? [row("  of those with stale features", count(othersStale))] : []),
        ]
      : []),
    ...(stale > 0 ? [row("with stale features", count(stale))] : []),
    row("rows in ClickHouse", stored === null ? "-" : count(stored.rows)),
    row("dead letters", count(deadLetters)),
    row("labels published", count(labels)),
    "Computed by ClickHouse from stored predictions and labels:",
    row(
      "labelled transactions, frauds",
      metrics === null ? "-" : `${count(metrics.labelled)}, ${count(metrics.frauds)}`,
    ),
    row("alerts", metrics === null ? "-" : count(metrics.alerts)),
    row("ROC AUC", share(metrics?.roc_auc)),
    row("average precision", share(metrics?.average_precision)),
    row("precision", share(metrics?.precision)),
    row("recall", share(metrics?.recall)),
  ];
}
