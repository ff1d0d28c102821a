import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../../schemas/errors.js";
import { eventually } from "../support/eventually.js";
import { check, type CheckCounts } from "./check.js";
import { askMetrics, type MetricsAnswer } from "./check-metrics.js";
import { Complaints } from "./complaints.js";
import { Feed } from "./feed.js";
import { ForeignProducers } from "./foreign-transactions.js";
import { Gate } from "./gate.js";
import { Nemesis, pause, type NemesisReport } from "./nemesis.js";
import { Operators } from "./operators.js";
import { planOf } from "./plan.js";
import { settled } from "./settle.js";
import { PARTITIONS, type System } from "./system.js";
import { checkReports } from "./check-reports.js";
import { LABEL_AFTER, SECOND_LABEL_AFTER, Traffic } from "./traffic.js";

const DAY_MS = 86_400_000;
/** Event time that passes while the faults go on: longer than the longest that is kept of a card (38 days). */
const SPAN_DAYS = 60;
/**
 * A busy machine needs longer than was planned, and what lies ahead of the present is refused: the stream ends so long
 * ago.
 */
const BEHIND_DAYS = 120;
/** On a machine that is busy with other things, the processes of a run need a minute or two to start. */
const START_PATIENCE_MS = 400_000;
const SETTLE_PATIENCE_MS = 600_000;
/** A transaction that asks for its score over HTTP, and a label, this often. */
const ASK_EVERY_MS = 400;

export interface RunOptions {
  system: System;
  seed: number;
  minutes: number;
  /** Transactions a second. */
  rate: number;
  dir: string;
  signal: AbortSignal;
  say: (line: string) => void;
}

export interface RunResult {
  seed: number;
  minutes: number;
  rate: number;
  verdict: "held" | "failed";
  wrong: string[];
  seconds: { faults: number; settling: number; checking: number };
  faults: NemesisReport;
  counts: CheckCounts | null;
  /** Copies that ended by themselves and were started again. */
  fell: string[];
  refused: Record<string, number>;
  unanswered: Record<string, number>;
}

/** One seed: an empty system, traffic and faults for some minutes, then everything is restored, settled and counted. */
export async function runSeed({ system, seed, minutes, rate, dir, signal, say }: RunOptions): Promise<RunResult> {
  const durationMs = minutes * 60_000;
  const complaints = new Complaints();
  const prefix = `faults-${seed}.`;
  await system.prepare({ prefix, database: `faults_${seed}` });
  system.startAll();
  const operators = new Operators([...system.apiPorts.values()]);
  const stepMs = (SPAN_DAYS * DAY_MS) / ((durationMs / 1_000) * rate);
  const from = Date.now() - (SPAN_DAYS + BEHIND_DAYS) * DAY_MS;
  const traffic = new Traffic({ seed, partitions: PARTITIONS, from, stepMs });
  try {
    await eventually(
      "the API answers",
      async () => {
        signal.throwIfAborted();
        return (await operators.call("GET", "/models"))?.status === 200;
      },
      START_PATIENCE_MS,
    );
    say("everything runs; faults begin");
    const gate = new Gate();
    const topics = { transactions: system.test.topics.transactions.name, labels: system.test.topics.labels.name };
    const feed = new Feed(system.kafkaJs, topics, traffic, { perSecond: rate, gate });
    const foreign = new ForeignProducers(() => system.kafkaJs, { topics, traffic, prefix });
    const startedAt = Date.now();
    const predicting = new AbortController();
    const predictions = Promise.all([
      ask(
        (i) => gate.pass(() => operators.predict(traffic.timeOf(feed.acknowledged), `api-card-${i % 20}`)),
        predicting.signal,
      ),
      ask((i) => gate.pass(() => correct(operators, traffic, feed, i)), predicting.signal),
    ]);
    const nemesis = new Nemesis({
      system,
      operators,
      feed,
      gate,
      foreign,
      complaints,
      logFile: join(dir, `actions-${seed}.jsonl`),
      signal,
    });
    let faults: NemesisReport;
    try {
      faults = await nemesis.run(planOf(seed, durationMs), durationMs);
    } finally {
      predicting.abort();
      await predictions;
      system.restore();
      await feed.stop();
    }
    signal.throwIfAborted();
    const restoredAt = Date.now();
    say(`${feed.acknowledged} transactions are acknowledged, everything is restored; waiting until it has settled`);
    // What an operator has given up waiting for may still be under way in a copy of the API: sending dead letters
    // again.
    for (const { name, exit } of await system.stopAll([...system.apiPorts.keys()]))
      if (exit !== null) complaints.addExit(system.slot(name), exit);
    system.startAll();
    const behind = await settled(system, SETTLE_PATIENCE_MS, signal);
    for (const each of behind) complaints.add("never settled", each);
    await jobsEnded(operators, complaints, signal);
    const metrics = await metricsAnswer(operators, from, traffic.timeOf(feed.acknowledged));
    const settledAt = Date.now();
    for (const { name, exit } of await system.stopAll()) complaints.addExit(system.slot(name), exit);
    say("settled and stopped; counting");
    checkReports(system, nemesis.formers, complaints);
    const counts = await check(system, {
      feed,
      acknowledged: operators.acknowledged,
      metrics,
      complaints,
      formers: nemesis.formers,
      foreign,
    });
    const wrong = complaints.lines;
    return {
      seed,
      minutes,
      rate,
      verdict: wrong.length === 0 ? "held" : "failed",
      wrong,
      seconds: {
        faults: inSeconds(restoredAt - startedAt),
        settling: inSeconds(settledAt - restoredAt),
        checking: inSeconds(Date.now() - settledAt),
      },
      faults,
      counts,
      fell: system.slots.flatMap(({ fell }) => fell),
      refused: Object.fromEntries(operators.refused),
      unanswered: Object.fromEntries(operators.unanswered),
    };
  } catch (error) {
    if (!signal.aborted)
      appendFileSync(
        join(dir, `actions-${seed}.jsonl`),
        `${JSON.stringify({ at: new Date().toISOString(), run: messageOf(error) })}\n`,
      );
    throw error;
  } finally {
    operators.close();
    await system.discard();
  }
}

/** Asks something again and again, whether or not the answers before have come. */
async function ask(question: (i: number) => Promise<void>, signal: AbortSignal): Promise<void> {
  const asking = new Set<Promise<void>>();
  for (let i = 0; !signal.aborted; i++) {
    const asked: Promise<void> = question(i).finally(() => asking.delete(asked));
    asking.add(asked);
    await pause(ASK_EVERY_MS, signal);
  }
  await Promise.all(asking);
}

/** How many transactions are looked at for one that has a label of the kind that is wanted. */
const LOOKED_AT = 300;

/** In turn the last word about a transaction is said over HTTP, and one that a feed corrects then. */
async function correct(operators: Operators, traffic: Traffic, feed: Feed, i: number): Promise<void> {
  const kind = i % 2 === 0 ? "last" : "between";
  const newest = feed.acknowledged - (kind === "last" ? SECOND_LABEL_AFTER : LABEL_AFTER) - 2;
  for (let about = newest; about > Math.max(0, newest - LOOKED_AT); about--) {
    const label = traffic.correction(about, kind);
    if (label === null || operators.isCorrected(label)) continue;
    const isCorrectedLater = (): boolean | null =>
      feed.reached <= about + SECOND_LABEL_AFTER ? !label.is_fraud : null;
    return operators.correct(label, kind === "last" ? () => label.is_fraud : isCorrectedLater);
  }
}

/** Every job that was acknowledged comes to an end. */
async function jobsEnded(operators: Operators, complaints: Complaints, signal: AbortSignal): Promise<void> {
  await eventually(
    "every job has ended",
    async () => {
      signal.throwIfAborted();
      const answer = await operators.call("GET", "/training-jobs?limit=1000");
      const jobs = (answer?.body["jobs"] ?? null) as { id: string; status: string }[] | null;
      return jobs?.every(({ status }) => status !== "pending" && status !== "processing");
    },
    180_000,
  ).catch((error: unknown) => complaints.add("jobs", messageOf(error)));
}

async function metricsAnswer(operators: Operators, from: number, to: number): Promise<MetricsAnswer | null> {
  for (let tries = 0; tries < 5; tries++) {
    const answer = await askMetrics(operators, from + DAY_MS, to - DAY_MS);
    if (answer !== null) return answer;
  }
  return null;
}

const inSeconds = (ms: number): number => Math.round(ms / 1_000);
