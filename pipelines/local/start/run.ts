import { cardPseudonyms } from "../../../infra/privacy/card-pseudonyms.js";
import { withTimeLimit } from "../../../infra/async/abort-signals.js";
import type { Heartbeats } from "../../../models/control/liveness.js";
import type { Context, System } from "./bring-up.js";
import type { StartOptions } from "./options.js";
import { count } from "./panel.js";
import type { Source } from "./source.js";
import { stream, type StreamOptions } from "./stream.js";
import { problemsOf, summarise, summaryLines } from "./summary.js";
import { endOffsets } from "./topic-watch.js";

/**
 * Streams the source's history, then the source until it ends, the time is over or Ctrl-C, waits for what is under way,
 * and writes the summary, which leaves the history out. The exit code becomes 1 when not every transaction has exactly
 * one prediction.
 */
export async function run(
  options: StartOptions,
  source: Source,
  { config, lifecycle, screen }: Context,
  { topics, cluster, clickhouse, schemas }: System,
  workers: Heartbeats,
): Promise<void> {
  const { signal } = lifecycle;
  const broken = new AbortController();
  signal.addEventListener("abort", () => {
    if (lifecycle.failure !== null) broken.abort(lifecycle.failure);
  });
  const reported = (): string[] => [...new Set(workers.alive("scoring").flatMap(({ problems }) => problems))];
  const common = {
    problems: reported,
    schedule: source.schedule,
    topics,
    schemas,
    cluster,
    clickhouse,
    screen,
    cards: cardPseudonyms(config),
    broken: broken.signal,
  };
  await streamHistory(source, common, signal);
  const enough = withTimeLimit(signal, options.forMs);
  const labelStarts = await endOffsets(cluster, topics.labels);
  const { outcomes, watch, seconds, labels, until } = await stream({
    ...common,
    source: source.title,
    rows: source.rows(enough),
    rate: options.rate,
    enough,
  });
  try {
    await source.finish(until);
    const labelWindow = {
      topic: topics.labels.name,
      starts: labelStarts,
      ends: await endOffsets(cluster, topics.labels),
    };
    const summary = await summarise({
      clickhouse,
      outcomes,
      predictions: watch.window,
      labels: labelWindow,
      labelsPublished: labels,
      seconds,
      broken: broken.signal,
    });
    if (broken.signal.aborted) return;
    for (const line of ["", ...summaryLines(summary), ...reported().map((problem) => `scoring reports: ${problem}`)])
      screen.line(line);
    const problems = problemsOf(summary.counts);
    if (problems.length === 0)
      screen.line("Every transaction has exactly one prediction, on the topic and in ClickHouse.");
    else process.exitCode = 1;
    for (const problem of problems) screen.line(`NOT RIGHT: ${problem}`);
  } finally {
    await watch.stop();
  }
}

/** As fast as possible; what is counted begins when all of it has come back. */
async function streamHistory(
  source: Source,
  common: Omit<StreamOptions, "source" | "rows" | "rate" | "enough" | "keepLabels">,
  signal: AbortSignal,
): Promise<void> {
  const { outcomes, watch, seconds, transactions } = await stream({
    ...common,
    source: `history of ${source.title}`,
    rows: source.history(signal),
    keepLabels: true,
    rate: null,
    enough: signal,
  });
  await watch.stop();
  if (transactions > 0)
    common.screen.line(
      `history: ${count(transactions)} transactions before those that count, ${count(outcomes.predicted)} ` +
        `scored, in ${seconds.toFixed(1)} s`,
    );
}
