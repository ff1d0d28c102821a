import { anySignal } from "../../../infra/async/abort-signals.js";
import { setTimeout as sleep } from "node:timers/promises";
import type { CardPseudonyms } from "../../../infra/privacy/card-pseudonyms.js";
import type { ClickHouse } from "../../../infra/clickhouse/client.js";
import { BatchProducer } from "../../../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../../../infra/kafka/cluster.js";
import type { Schemas } from "../../../infra/kafka/schemas.js";
import type { Topics } from "../../../schemas/topics.js";
import type { LabelSchedule, Rows } from "../replay/label-schedule.js";
import { Pace } from "../replay/pace.js";
import { replayTransactions, type Replayed } from "../replay/replay-transactions.js";
import type { LatencyHistogram } from "./latency.js";
import { Outcomes } from "./outcomes.js";
import { panelLines, plainLine, type Screen, type StreamView } from "./panel.js";
import { storedPredictions } from "./summary-queries.js";
import { TopicWatch } from "./topic-watch.js";

export interface StreamOptions {
  /** In a few words, for the panel. */
  source: string;
  rows: AsyncIterable<Rows>;
  schedule: LabelSchedule;
  /** More transactions will follow: labels that aren't due yet stay in the schedule. @default false */
  keepLabels?: boolean;
  rate: number | null;
  topics: Topics;
  schemas: Schemas;
  cluster: KafkaCluster;
  clickhouse: ClickHouse;
  screen: Screen;
  /** What scoring workers report now (livenessOf). */
  problems: () => readonly string[];
  /** Replaces card ids on the predictions topic; null: card ids are used as they are. */
  cards: CardPseudonyms | null;
  /** Ends the transactions; what was sent is still waited for. */
  enough: AbortSignal;
  /** Something has failed: nothing is waited for any more. */
  broken: AbortSignal;
}

export interface Streamed extends Replayed {
  seconds: number;
  outcomes: Outcomes;
  watch: TopicWatch;
}

const PANEL_EVERY_MS = 500;
const PLAIN_LINE_EVERY_MS = 5_000;
const QUERY_EVERY_MS = 1_000;
/** Rates and latencies are those of about this long. */
const LATELY_MS = 5_000;
/** Waiting for predictions ends when none has come for so long; sooner when dead letters explain what is missing. */
const PATIENCE_MS = 30_000;
const PATIENCE_WITH_DEAD_LETTERS_MS = 3_000;

/**
 * Publishes the transactions and shows what becomes of them, until they end or are ended; then waits until each that
 * was sent has come back. The watch goes on: its owner stops it.
 */
export async function stream(options: StreamOptions): Promise<Streamed> {
  const { cluster, topics, schemas, screen, cards, broken } = options;
  const outcomes = new Outcomes(cards === null ? undefined : (id) => cards.ofText(id));
  const failed = new AbortController();
  const watch = await TopicWatch.start(cluster, topics, schemas, outcomes, (error) => failed.abort(error));
  const stop = anySignal(broken, failed.signal);
  const producer = await BatchProducer.open(cluster);
  const started = performance.now();
  const counts = { labels: 0 };
  const display = new Display(options, outcomes, counts, started);
  try {
    const replayed = await replayTransactions({
      rows: options.rows,
      schedule: options.schedule,
      keepLabels: options.keepLabels === true,
      publisher: producer,
      topics: { transactions: topics.transactions.name, labels: topics.labels.name },
      encode: {
        transaction: (value) => schemas.encode("transactions", value),
        label: (value) => schemas.encode("labels", value),
      },
      pace: new Pace(options.rate),
      signal: anySignal(options.enough, stop),
      onSend: (rows, now) => outcomes.send(rows, now),
      onAcknowledged: (what, number) => {
        if (what === "labels") counts.labels += number;
      },
    });
    await settle(outcomes, stop);
    const seconds = (performance.now() - started) / 1000;
    if (failed.signal.aborted) throw failed.signal.reason;
    return { ...replayed, seconds, outcomes, watch };
  } catch (error) {
    await watch.stop();
    throw error;
  } finally {
    display.stop();
    screen.keep();
    await producer.close();
  }
}

/** Waits until every transaction has an outcome, or none has come for too long. */
async function settle(outcomes: Outcomes, stop: AbortSignal): Promise<void> {
  let last = { missing: outcomes.missing, at: Date.now() };
  for (;;) {
    const { missing, deadLetters } = outcomes;
    if (missing === 0 || stop.aborted) return;
    if (missing < last.missing) last = { missing, at: Date.now() };
    if (Date.now() - last.at > (missing <= deadLetters ? PATIENCE_WITH_DEAD_LETTERS_MS : PATIENCE_MS)) return;
    await sleep(20);
  }
}

/** Draws the panel, or writes a line now and then, until it is stopped. */
class Display {
  readonly #options: StreamOptions;
  readonly #outcomes: Outcomes;
  readonly #counts: { labels: number };
  readonly #started: number;
  readonly #timers: NodeJS.Timeout[];
  #samples: { at: number; sent: number }[] = [];
  #latency: LatencyHistogram;
  #stored: number | null = null;
  #asking = false;

  constructor(options: StreamOptions, outcomes: Outcomes, counts: { labels: number }, started: number) {
    this.#options = options;
    this.#outcomes = outcomes;
    this.#counts = counts;
    this.#started = started;
    this.#latency = outcomes.latency;
    const { screen } = options;
    const show = screen.isTerminal
      ? () => screen.panel(panelLines(this.#view()))
      : () => screen.line(plainLine(this.#view()));
    this.#timers = [
      setInterval(show, screen.isTerminal ? PANEL_EVERY_MS : PLAIN_LINE_EVERY_MS),
      setInterval(() => (this.#latency = outcomes.recentLatency()), LATELY_MS),
      setInterval(() => void this.#ask(), QUERY_EVERY_MS),
    ];
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer);
  }

  /** One question at a time: while ClickHouse is slow or away, there is no queue of them. */
  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      this.#stored = await storedPredictions(this.#options.clickhouse);
    } catch {
      this.#stored = null;
    } finally {
      this.#asking = false;
    }
  }

  #view(): StreamView {
    const outcomes = this.#outcomes;
    const now = performance.now();
    this.#samples.push({ at: now, sent: outcomes.sent });
    this.#samples = this.#samples.filter(({ at }, i, all) => now - at <= LATELY_MS || i === all.length - 2);
    const [first] = this.#samples;
    const span = now - first.at;
    return {
      source: this.#options.source,
      seconds: (now - this.#started) / 1000,
      sent: outcomes.sent,
      rate: span > 0 ? ((outcomes.sent - first.sent) / span) * 1000 : (outcomes.sent / (now - this.#started)) * 1000,
      p50: this.#latency.quantile(0.5),
      p99: this.#latency.quantile(0.99),
      decisions: outcomes.decisions,
      alerts: outcomes.alerts,
      labels: this.#counts.labels,
      deadLetters: outcomes.deadLetters,
      lastDeadLetter: outcomes.lastDeadLetter,
      stored: this.#stored,
      problems: this.#options.problems(),
      eventTime: outcomes.lastEventTime,
    };
  }
}
