import type { Topics } from "../schemas/topics.js";

type TopicKey = keyof Topics;

/** What a role is to the rest of the system. */
export interface RoleSpec {
  /** Its entry point, from the repository's root, without an extension. */
  readonly module: string;
  /** The topics that it reads and writes, and nothing else that Kafka would have to allow it. */
  readonly reads: readonly TopicKey[];
  readonly writes: readonly TopicKey[];
  /** The consumer group that it is a member of, behind the topic prefix; null: none. */
  readonly group: string | null;
  /** Groups of others whose offsets it looks at. */
  readonly watches: readonly string[];
  /** The transactional id that it produces under, behind the topic prefix; `prefixed`: all that begin with it. */
  readonly transactional: { readonly name: string; readonly prefixed?: true } | null;
  /** Whether it serves metrics and probes on METRICS_PORT; the API has them on its own port. */
  readonly hasMetricsPort: boolean;
}

/** The processes that fraudstream consists of, a row each. */
export const ROLES = {
  // Sends a transaction on that stands in another partition than its card's; reads what was refused when it folds
  // again, and both when Kafka has forgotten where it stood.
  scoring: {
    module: "pipelines/scoring/main",
    reads: ["transactions", "merchantBuckets", "control", "deadLetters", "predictions"],
    writes: ["predictions", "shadowPredictions", "deadLetters", "transactions", "workers"],
    group: "scoring",
    watches: [],
    transactional: { name: "scoring-", prefixed: true },
    hasMetricsPort: true,
  },
  // Labels that can't be stored become dead letters.
  sink: {
    module: "pipelines/sink/main",
    reads: ["transactions", "predictions", "shadowPredictions", "labels", "deadLetters", "control"],
    writes: ["deadLetters"],
    group: "sink",
    watches: [],
    transactional: null,
    hasMetricsPort: true,
  },
  // Sends a label on that stands in another partition than its card's.
  merchants: {
    module: "pipelines/merchants/main",
    reads: ["transactions", "labels", "merchantBuckets"],
    writes: ["merchantBuckets", "labels"],
    group: "merchants",
    watches: [],
    transactional: { name: "merchants-", prefixed: true },
    hasMetricsPort: true,
  },
  training: {
    module: "pipelines/training/main",
    reads: ["control", "workers"],
    writes: ["control", "workers"],
    group: null,
    watches: [],
    transactional: null,
    hasMetricsPort: true,
  },
  // Publishes what comes over HTTP, waits for its outcome, sends dead letters again to where they came from, and tells
  // other copies which sign-ins are locked. /metrics tells of lag.
  api: {
    module: "api/main",
    reads: ["control", "users", "workers", "predictions", "deadLetters"],
    writes: ["control", "users", "transactions", "labels", "workers"],
    group: null,
    watches: ["scoring", "sink"],
    transactional: { name: "replay" },
    hasMetricsPort: false,
  },
} as const satisfies Readonly<Record<string, RoleSpec>>;

export type Role = keyof typeof ROLES;

/** In the order in which they are started. */
export const ROLE_NAMES = Object.keys(ROLES) as readonly Role[];
