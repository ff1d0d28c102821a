import { crc32 } from "node:zlib";
import { partitionOf } from "../../infra/kafka/batch-producer.js";
import { createClickHouse, type ClickHouse } from "../../infra/clickhouse/client.js";
import type { ControlEvent } from "../../schemas/generated.js";
import { allTopics } from "../../schemas/topics.js";
import { Buckets } from "./check-buckets.js";
import { StoredRows } from "./check-clickhouse.js";
import { checkControl, foldControl } from "./check-control.js";
import { Metrics, type MetricsAnswer } from "./check-metrics.js";
import { Outcomes, type Generation, type OutcomeCounts } from "./check-outcomes.js";
import type { Complaints } from "./complaints.js";
import type { Feed } from "./feed.js";
import type { Blocked, ForeignProducers } from "./foreign-transactions.js";
import type { FormerTopic } from "./former-topics.js";
import { LabelsReference, type Stored } from "./labels-reference.js";
import { LARGEST_VALUE, controlEventOf, entryOf, predictionOf, type Entry } from "./ledger.js";
import type { Acknowledged } from "./operators.js";
import { markEnds, readTopics, type Seen } from "./reading.js";
import { MODELS, PARTITIONS, type System } from "./system.js";
import { BucketsReference, MerchantSums } from "./windows-reference.js";

export interface CheckCounts extends OutcomeCounts {
  acknowledged: number;
  /** Records in the topic of transactions. */
  records: number;
  /** Of those that were acknowledged, or sent without an answer, and then sent again. */
  repeatedByProducer: number;
  replays: number;
  labels: number;
  buckets: number;
  /**
   * Transactions that were sent after their bucket had been sealed by the other partitions' clocks, and count in none.
   */
  afterSeal: number;
  deployments: number;
  jobs: number;
  /** Transactions whose last label was said over HTTP, or by a feed after that. */
  corrections: number;
  /** Somebody else's transactions that were left open for a while. */
  foreign: number;
  /** Predictions that were written and given up: what a fault hit in the middle of a transaction. */
  givenUp: number;
  clickhouse: Record<string, { rows: number; withRepeats: number }>;
}

export interface Checked {
  feed: Pick<Feed, "acknowledged" | "repeated">;
  acknowledged: Acknowledged;
  metrics: MetricsAnswer | null;
  complaints: Complaints;
  /** Topics that were deleted and created again, in the order of that. */
  formers?: readonly FormerTopic[];
  foreign?: Pick<ForeignProducers, "blocked" | "committed" | "uncertain">;
}

const NO_FOREIGN: Required<Checked>["foreign"] = { blocked: [], committed: [], uncertain: new Set() };

/** Counts what became of everything. To be called when all roles have settled and stopped, and the engines run. */
export async function check(system: System, checked: Checked): Promise<CheckCounts> {
  const clickhouse = createClickHouse(
    { url: system.clickhouse.direct, username: "default", password: "", database: system.database },
    { requestTimeoutMs: 300_000 },
  );
  return checkWith(system, clickhouse, checked).finally(() => clickhouse.close());
}

async function checkWith(
  system: System,
  clickhouse: ClickHouse,
  { feed, acknowledged, metrics: asked, complaints, formers = [], foreign = NO_FOREIGN }: Checked,
): Promise<CheckCounts> {
  const kafka = system.kafkaJs;
  const { topics } = system.test;
  await markEnds(
    kafka,
    allTopics(topics).map((topic) => system.current(topic)),
  );
  const stored = new StoredRows();
  const metrics = new Metrics();

  const { events, labels, generations } = await readInputs(system, formers, stored);
  const entries = generations.flatMap((generation) => generation.entries);
  for (const { transaction_id, card_id, is_fraud } of acknowledged.labels)
    if (!labels.has(card_id, transaction_id, is_fraud)) complaints.add("labels lost", transaction_id);
  labels.check(Math.max(0, ...entries.flatMap((partition) => partition.slice(-1).map(({ at }) => at))), complaints);
  const uncertain = labels.uncertainFrom(foreign.blocked);
  // Those that were not read before they were deleted count for nobody: which they are the table tells, before it is
  // compared.
  const verdictsAreKnown = !labels.isUncertain;
  await compareStored(labels, clickhouse, complaints);
  // Of a transaction the table keeps the label that was published last.
  const verdicts = labels.last();
  for (const { partition, offset, card, id, isFraud } of verdicts.values()) {
    stored.expect("labels", partition, offset, `${id}/${card}/${isFraud}`);
    metrics.label(card, id, isFraud);
  }
  if (verdictsAreKnown)
    for (const [key, isFraud] of acknowledged.finally)
      if (verdicts.get(key)?.isFraud !== isFraud)
        complaints.add("corrections", `${key} is ${verdicts.get(key)?.isFraud}, and was said to be ${isFraud} at last`);

  const control = foldControl(events);
  checkControl(control, acknowledged, Math.min(...control.deployments.keys()), complaints);
  const repeatedByProducer = checkPublished(entries, feed, acknowledged, foreign, complaints);

  const sums = new MerchantSums();
  const buckets = new Buckets(PARTITIONS, sums, complaints);
  await readTopics(kafka, [topics.merchantBuckets], (_, seen) => buckets.see(seen));
  const isFraud = (key: string): boolean => verdicts.get(key)?.isFraud ?? false;
  buckets.finish(
    generations.map(({ entries: partitions, deletedAt }) => ({
      deletedAt,
      reference: partitions.map((partition) => referenceOf(partition, isFraud, uncertain, foreign.blocked)),
    })),
  );

  const outcomes = new Outcomes(generations, { control, models: MODELS, merchants: sums, complaints });
  const letters = new Map<string, Seen>();
  await readTopics(kafka, [topics.predictions, topics.deadLetters], (topic, seen) => {
    if (topic === topics.predictions.name) {
      outcomes.prediction(seen);
      expectPrediction("predictions", "champion", seen);
    } else {
      outcomes.deadLetter(seen);
      letters.set(`${seen.partition}/${seen.offset}`, seen);
      stored.expect(
        "dead_letters",
        seen.partition,
        seen.offset,
        `${seen.headers["code"]}/${seen.headers["partition"]}/${seen.headers["offset"]}`,
      );
    }
  });
  await readTopics(kafka, [topics.shadowPredictions], (_, seen) => {
    outcomes.shadowPrediction(seen);
    expectPrediction("shadow_predictions", "shadow", seen);
  });
  outcomes.finish();
  checkReplays(entries, control.replayed, letters, complaints);
  if (asked === null) complaints.add("metrics", "the API gave none");
  else metrics.check(asked, complaints);

  const rows = await stored.check(clickhouse, complaints);
  const written = await readTopics(kafka, [topics.predictions], () => {}, { uncommitted: true });
  return {
    acknowledged: feed.acknowledged + acknowledged.transactions.length,
    records: entries.reduce((sum, partition) => sum + partition.length, 0),
    repeatedByProducer,
    ...outcomes.counts,
    replays: control.replayed.size,
    labels: labels.count,
    buckets: buckets.count,
    afterSeal: buckets.afterSeal,
    deployments: control.deployments.size,
    jobs: control.jobs.size,
    corrections: acknowledged.finally.size,
    foreign: foreign.blocked.length,
    givenUp: (written.get(topics.predictions.name) ?? 0) - outcomes.counts.predictions,
    clickhouse: rows,
  };

  function expectPrediction(
    table: "predictions" | "shadow_predictions",
    role: "champion" | "shadow",
    { partition, offset, value }: Seen,
  ): void {
    const { transaction_id, card_id, model, event_time, score, decision } = predictionOf(value).prediction;
    stored.expect(table, partition, offset, `${transaction_id}/${card_id}/${model}`);
    metrics.prediction(role, model, { card: card_id, id: transaction_id, time: event_time, score, decision });
  }
}

interface Inputs {
  events: { sequence: number; offset: number; event: ControlEvent }[];
  labels: LabelsReference;
  generations: Generation[];
}

/** What the roles have read: control events, and labels and transactions with those of topics that were deleted. */
async function readInputs(system: System, formers: readonly FormerTopic[], stored: StoredRows): Promise<Inputs> {
  const { control, labels: labelsTopic, transactions } = system.test.topics;
  const inputs: Inputs = { events: [], labels: new LabelsReference(PARTITIONS), generations: [] };
  const takeTransaction = (seen: Seen, { entries }: Generation, required: boolean): void => {
    const entry = entryOf(seen, PARTITIONS);
    entries[seen.partition].push(entry);
    if (entry.payment !== null)
      stored.expect(
        "transactions",
        seen.partition,
        seen.offset,
        `${entry.payment.id}/${entry.payment.card}/${entry.payment.merchant}`,
        required,
      );
  };
  for (const { topic, records, ends, drained, deletedAt } of formers) {
    if (topic === "labels") for (const seen of records) inputs.labels.see(seen, { drained, deletedAt, ends });
    else {
      const generation: Generation = { entries: ends.map(() => []), ends, required: drained, deletedAt };
      inputs.generations.push(generation);
      for (const seen of records) takeTransaction(seen, generation, drained);
    }
  }
  const present: Generation = {
    entries: Array.from({ length: system.current(transactions).partitions }, () => []),
    ends: [],
    required: true,
    deletedAt: Infinity,
  };
  inputs.generations.push(present);
  await readTopics(
    system.kafkaJs,
    [control, labelsTopic, transactions].map((topic) => system.current(topic)),
    (topic, seen) => {
      if (topic === control.name) {
        const event = controlEventOf(seen.value);
        inputs.events.push({
          sequence: Number(seen.headers["fraudstream-sequence"] ?? seen.offset),
          offset: seen.offset,
          event,
        });
        stored.expect("control_events", seen.partition, seen.offset, event.key);
      } else if (topic === labelsTopic.name) inputs.labels.see(seen);
      else takeTransaction(seen, present, true);
    },
  );
  return inputs;
}

async function compareStored(labels: LabelsReference, clickhouse: ClickHouse, complaints: Complaints): Promise<void> {
  const stored = await storedLabels(clickhouse);
  if (labels.hasFormer) labels.settleFormer(stored);
  labels.compare(stored, complaints);
}

/** Where each transaction's label stands that the table has, by `card id`. */
async function storedLabels(clickhouse: ClickHouse): Promise<Map<string, Stored>> {
  const rows = await clickhouse.query<{
    card_id: string;
    transaction_id: string;
    partition: number;
    offset: number;
    is_fraud: boolean;
  }>("SELECT card_id, transaction_id, partition, offset, is_fraud FROM labels FINAL");
  return new Map(
    rows.map(({ card_id, transaction_id, partition, offset, is_fraud }) => [
      `${card_id} ${transaction_id}`,
      { partition: Number(partition), offset: Number(offset), isFraud: Boolean(is_fraud) },
    ]),
  );
}

/**
 * What was acknowledged is in the topic, once unless it was sent again, and nothing else. @returns how many are there
 * more than once
 */
function checkPublished(
  entries: readonly Entry[][],
  feed: Pick<Feed, "acknowledged" | "repeated">,
  acknowledged: Acknowledged,
  foreign: Required<Checked>["foreign"],
  complaints: Complaints,
): number {
  const times = new Map<number, number>();
  const ids = new Set<string>();
  for (const { n, forwarded, attempt, payment, partition, offset, length, isLast } of entries.flat()) {
    // Bombs are the nemesis's.
    if (forwarded !== null || attempt > 0 || length > LARGEST_VALUE || isLast) continue;
    if (n >= 0) times.set(n, (times.get(n) ?? 0) + 1);
    else if (payment !== null && /^(api|foreign)-/.test(payment.id)) ids.add(payment.id);
    else complaints.add("records nobody sent", `${partition}/${offset}`);
  }
  const committed = new Set(foreign.committed);
  for (const id of ids)
    if (id.startsWith("foreign-") && !committed.has(id) && !foreign.uncertain.has(id))
      complaints.add("in the topic, though it was never committed", id);
  for (let n = 0; n < feed.acknowledged; n++)
    if (!times.has(n)) complaints.add("acknowledged, but not in the topic", `n ${n}`);
  for (const id of [...acknowledged.transactions, ...committed])
    if (!ids.has(id)) complaints.add("acknowledged, but not in the topic", id);
  let repeated = 0;
  for (const [n, count] of times) {
    if (count === 1) continue;
    repeated += 1;
    if (!feed.repeated.some(([from, to]) => n >= from && n < to))
      complaints.add("in the topic more than once", `n ${n}: ${count} times`);
  }
  return repeated;
}

/** The partition that a dead letter's record is sent to again: its own, or its key's where its own was added. */
function sentAgainTo({ headers, key }: Seen): number {
  const source = Number(headers["partition"]);
  if (source < PARTITIONS || key === "") return source % PARTITIONS;
  return partitionOf(Buffer.from(key), PARTITIONS);
}

/** What was decided to be sent again is in the topic again, once, byte for byte. */
function checkReplays(
  entries: readonly Entry[][],
  replayed: ReadonlySet<string>,
  letters: ReadonlyMap<string, Seen>,
  complaints: Complaints,
): void {
  const open = new Map<string, number>();
  const count = (key: string, by: number): void => void open.set(key, (open.get(key) ?? 0) + by);
  for (const coordinates of replayed) {
    const letter = letters.get(coordinates);
    if (letter === undefined) complaints.add("replays", `there is no dead letter ${coordinates}`);
    else
      count(
        `partition ${sentAgainTo(letter)}, attempt ${Number(letter.headers["attempt"]) + 1}, crc ` +
          `${crc32(letter.value)}`,
        1,
      );
  }
  for (const { partition, attempt, crc, forwarded } of entries.flat())
    if (attempt > 0 && forwarded === null) count(`partition ${partition}, attempt ${attempt}, crc ${crc}`, -1);
  for (const [key, left] of open)
    if (left !== 0) complaints.add("replays", `${key}: ${left > 0 ? `${left} not sent` : `${-left} too many`}`);
}

/** The buckets of one partition without faults. */
function referenceOf(
  partition: readonly Entry[],
  isFraud: (key: string) => boolean,
  uncertain: ReadonlyMap<string, number>,
  blocked: readonly Blocked[],
): BucketsReference {
  const reference = new BucketsReference();
  for (const { payment, home, partition: own, at } of partition) {
    if (payment === null || home !== own) continue;
    const key = `${payment.card} ${payment.id}`;
    const waits = blocked.filter(
      (each) => each.topic === "transactions" && each.partition === own && at >= each.from && at <= each.until,
    );
    reference.add(payment, {
      at,
      readable: Math.max(at, ...waits.map(({ until }) => until)),
      isFraud: isFraud(key),
      uncertainFrom: uncertain.get(key) ?? Infinity,
    });
  }
  return reference;
}
