import type { Kafka } from "kafkajs";
import type { CardPseudonyms } from "../infra/privacy/card-pseudonyms.js";
import type { Config, KafkaConfig } from "../infra/config/config.js";
import type { ClickHouse } from "../infra/clickhouse/client.js";
import type { Conditions } from "../infra/health/conditions.js";
import type { BatchProducer } from "../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../infra/kafka/cluster.js";
import type { Schemas } from "../infra/kafka/schemas.js";
import type { Logger } from "../infra/logging.js";
import type { ControlLog } from "../models/control/log.js";
import type { Topics } from "../schemas/topics.js";
import type { WorkerHeartbeat } from "../schemas/generated.js";
import type { SignInLocks } from "./users/sign-in-locks.js";
import type { UserDirectory } from "./users/user-directory.js";
import type { PasswordHasher } from "./users/passwords.js";
import type { Tokens } from "./users/tokens.js";
import type { RequestLog } from "./request-log/request-log.js";
import type { ApiMetrics } from "./metrics.js";
import type { QueryDesk } from "./queries/query-desk.js";
import type { ReplyListener } from "./predictions/reply-listener.js";

/** The latest heartbeat of every process that has sent one recently. */
interface WorkerBoard {
  /** Heartbeats of a role that are younger than `maxAgeMs`. */
  alive(role: string, maxAgeMs?: number): WorkerHeartbeat[];
  /** Resolves at the next heartbeat of anybody, or when the signal aborts. */
  changed(signal?: AbortSignal): Promise<void>;
}

/** What routes are made of; `main.ts` wires it, and tests do. */
export interface ApiContext {
  config: Config;
  kafkaConfig: KafkaConfig;
  log: Logger;
  cluster: KafkaCluster;
  kafka: Kafka;
  topics: Topics;
  schemas: Schemas;
  clickhouse: ClickHouse;
  /** Asks ClickHouse what requests ask for. */
  queries: QueryDesk;
  control: ControlLog;
  workers: WorkerBoard;
  /** Answers from the stream to what this copy has published. */
  replies: ReplyListener;
  users: UserDirectory;
  /** Replaces card ids; null: card ids are used as they are. */
  cards: CardPseudonyms | null;
  passwords: PasswordHasher;
  /** Which names and addresses have to wait before they sign in. */
  locks: SignInLocks;
  tokens: Tokens;
  /** Where requests and their answers are written down. */
  requestLog: RequestLog;
  metrics: ApiMetrics;
  /** What keeps the API, or the system around it, from its work now. */
  conditions: Conditions;
  /** Runs work with the process's producer; one that has failed is replaced for the next call. */
  produce: <T>(work: (producer: BatchProducer) => Promise<T>) => Promise<T>;
}
