/** The topics of the system, and how each is kept. The only place that names them. */

import type { SubjectName } from "./wire-format.js";

export interface TopicSpec {
  name: string;
  partitions: number;
  /** Kafka's own topic settings. */
  settings: Record<string, string>;
}

export interface Topics {
  transactions: TopicSpec;
  predictions: TopicSpec;
  shadowPredictions: TopicSpec;
  labels: TopicSpec;
  deadLetters: TopicSpec;
  merchantBuckets: TopicSpec;
  control: TopicSpec;
  users: TopicSpec;
  workers: TopicSpec;
}

/** Largest record value, in bytes, that `transactions` takes; larger ones are dead-lettered by their coordinates. */
export const MAX_TRANSACTION_BYTES = 4 * 1024 * 1024;
/** Room for the headers that a dead letter adds. */
export const MAX_DEAD_LETTER_BYTES = MAX_TRANSACTION_BYTES + 64 * 1024;

const DAY_MS = 24 * 60 * 60 * 1000;
/**
 * The merchants role folds the unsealed week, and a day more for repeats, from these topics when it has no snapshot;
 * the rest is for the time in which it doesn't run. Card histories are longer: they have snapshots, and ClickHouse
 * beyond.
 */
const REREAD_MS = 14 * DAY_MS;
/** Longer than what they are about: a scoring worker that reads transactions again must know which were refused. */
const DEAD_LETTERS_MS = 2 * REREAD_MS;
/**
 * A worker that starts reads 30 days of buckets, each published a week after its hour; two weeks more for a worker that
 * lies behind. Compaction alone would keep every hour of every merchant for ever: no key comes twice.
 */
const BUCKETS_MS = 45 * DAY_MS;

/**
 * @param prefix put before every name, `fraud.` by default
 * @param partitions of transactions and of everything that is partitioned like them
 */
export function topicsFor(prefix: string, partitions: number): Topics {
  const keep = { "cleanup.policy": "delete" };
  const compact = { "cleanup.policy": "compact" };
  const reread = { ...keep, "retention.ms": String(REREAD_MS), "retention.bytes": "-1" };
  const buckets = { "cleanup.policy": "compact,delete", "retention.ms": String(BUCKETS_MS), "retention.bytes": "-1" };
  const forever = { "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1" };
  return {
    transactions: {
      name: `${prefix}transactions`,
      partitions,
      settings: { ...reread, "max.message.bytes": String(MAX_TRANSACTION_BYTES + 1024) },
    },
    predictions: { name: `${prefix}predictions`, partitions, settings: keep },
    shadowPredictions: { name: `${prefix}shadow-predictions`, partitions, settings: keep },
    labels: { name: `${prefix}labels`, partitions, settings: reread },
    deadLetters: {
      name: `${prefix}dead-letters`,
      partitions,
      settings: {
        ...keep,
        "retention.ms": String(DEAD_LETTERS_MS),
        "retention.bytes": "-1",
        "max.message.bytes": String(MAX_DEAD_LETTER_BYTES + 1024),
      },
    },
    merchantBuckets: { name: `${prefix}merchant-buckets`, partitions, settings: buckets },
    control: { name: `${prefix}control`, partitions: 1, settings: forever },
    users: { name: `${prefix}users`, partitions: 1, settings: compact },
    workers: { name: `${prefix}workers`, partitions: 1, settings: { ...keep, "retention.ms": String(DAY_MS) } },
  };
}

/** The topic whose values have each of our schemas (shadow predictions share the predictions' one). */
export function subjectTopics(topics: Topics): Record<SubjectName, string> {
  const { transactions, predictions, labels, control, workers, users, merchantBuckets } = topics;
  return {
    transactions: transactions.name,
    predictions: predictions.name,
    labels: labels.name,
    control: control.name,
    workers: workers.name,
    users: users.name,
    merchantBuckets: merchantBuckets.name,
  };
}

/** Every topic of the system. */
export function allTopics(topics: Topics): TopicSpec[] {
  return Object.values(topics) as TopicSpec[];
}

export function topicNames(topics: Topics): string[] {
  return allTopics(topics).map(({ name }) => name);
}
