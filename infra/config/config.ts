import { isIP } from "node:net";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { UsageError } from "../../schemas/errors.js";
import type { RecordShape } from "../../schemas/record-shape.js";
import { DEFAULT_RETENTION, LONGEST_RETENTION_DAYS, type Retention } from "../clickhouse/tables.js";
import { isException } from "../download/addresses.js";
import { LABEL_NAMES, TRANSACTION_NAMES, recordShape } from "./record-shape-settings.js";
import { bad, duration, integer, key, matching, oneOf, pem, secret, text, url, type Env } from "./settings.js";

/** PEM texts of a TLS connection. */
interface TlsConfig {
  /** Whom to trust; absent: the authorities that Node trusts. */
  ca?: string;
  /** What this side shows of itself, where the server asks for it. */
  cert?: string;
  key?: string;
}

/** How to reach a Kafka cluster. */
export interface KafkaConfig {
  brokers: string[];
  ssl: boolean | TlsConfig;
  sasl: { mechanism: "plain" | "scram-sha-256" | "scram-sha-512"; username: string; password: string } | null;
  /** Copies of topics that are made. @default as many as suit the number of brokers */
  replication?: Replication;
}

/**
 * How many brokers keep each record, and how many must have it before it is acknowledged; null: see
 * infra/kafka/replication.ts.
 */
export interface Replication {
  factor: number | null;
  minInsync: number | null;
}

/** How to reach a ClickHouse server. */
export interface ClickHouseConfig {
  url: string;
  username: string;
  password: string;
  database: string;
  /** PEM text of whom to trust with an https URL; absent: the authorities that Node trusts. */
  tlsCa?: string;
}

/** What training jobs may fetch and read, and when a trainer counts as gone. */
export interface TrainingConfig {
  /**
   * Whether links to private, loopback and other special addresses are followed: always, never, or to these networks
   * (CIDR) and `address:port`.
   */
  allowPrivate: boolean | string[];
  /** Most bytes of a file as it travels, and unpacked. */
  maxBytes: number;
  maxUnpackedBytes: number;
  /** Most transactions of one data set. */
  maxRows: number;
  /** How long a download may bring nothing, and how long it may take, milliseconds. */
  stallMs: number;
  deadlineMs: number;
  /** How long a trainer may give no sign before its job is taken over, milliseconds. */
  silenceMs: number;
}

/** How scoring workers run models, and where they get them from when they aren't in `artifacts`. */
interface ModelsConfig {
  /** Of one run of a model that runs in a process of its own, milliseconds. */
  timeoutMs: number;
  /** That such a process may write to, bytes. */
  memoryBytes: number;
  /** Of an API whose artifacts are fetched; null: from nowhere. */
  artifactsUrl: string | null;
  /** What workers show the API for that, and what the API asks for; null: it gives none away. */
  artifactsToken: string | null;
}

/** How scoring workers keep what they know of cards, and wait for what is known of merchants. */
interface HistoryConfig {
  /** How long a batch waits for merchants' buckets before it is scored without the newest, milliseconds. */
  merchantWaitMs: number;
  /** Between two snapshots of a partition, milliseconds. */
  snapshotEveryMs: number;
}

/** Who may use the API, and how they show it. */
export interface AuthConfig {
  /** Signs and checks our own tokens (HS256), at least 32 bytes; null: JWKS_URL, or nobody can sign in. */
  jwtSecret: string | null;
  /** Tokens signed with it are taken, too, while the secret is changed; it signs none. */
  jwtSecretAccepted: string | null;
  /** The keys of an identity provider, whose tokens are then taken instead of our own. */
  jwksUrl: string | null;
  issuer: string;
  audience: string;
  /** How long a token of ours is good for, seconds. */
  tokenSeconds: number;
  /**
   * Who may make a user: an admin only, or anybody; null: nothing was said, which is `closed` but for `npm start` on
   * loopback.
   */
  registration: "closed" | "open" | null;
  /** Made at the start of the API when there is no such user; `admin` when only the password is given. */
  adminUsername: string | null;
  adminPassword: string | null;
}

/** How the API meets the network. */
export interface HttpConfig {
  /** Whether /metrics answers. */
  metricsOpen: boolean;
  /** Origins whose pages may call the API from a browser; none: CORS is closed. */
  corsOrigins: string[];
  /** Addresses of the proxies in front, whose word on a client's address is taken. */
  trustProxy: string[];
  /** Requests a minute that a signed-in user may make of one copy. */
  rateLimit: number;
  /** Sign-ins and registrations a minute from one address, of one copy. */
  signInRateLimit: number;
}

/** Every setting of every role. */
export interface Config {
  /** Null: no cluster was named, `npm start` and the tests bring their own (infra/local). */
  kafka: KafkaConfig | null;
  /** Null: no server was named, as above. */
  clickhouse: ClickHouseConfig | null;
  clickhouseDatabase: string;
  /** Name of the owner of the database whose place this one takes (infra/clickhouse/owner.ts); null: nobody's. */
  clickhouseTakeOver: string | null;
  /** Days that each table keeps its rows, counted from their insertion; 0: forever. */
  retention: Retention;
  schemaRegistryUrl: string | null;
  schemaRegistryAuth: { username: string; password: string } | null;
  /** PEM text of whom to trust with an https registry; null: the authorities that Node trusts. */
  schemaRegistryTlsCa: string | null;
  /** How producers' records hold our fields. */
  recordShapes: { transactions: RecordShape; labels: RecordShape };
  /** Extra writer schemas, `<id>.avsc`, for producers without a registry. */
  schemasDir: string | null;
  /** The directory of model artifacts, which the roles share. */
  artifacts: string;
  /** Where the local stack and `npm start` keep their things. */
  dataDir: string;
  /** What can be fetched again: the jars of the local Kafka. */
  cacheDir: string;
  topicPrefix: string;
  topicPartitions: number;
  host: string;
  port: number;
  /**
   * Where scoring, sink and training serve their metrics and probes; null: nowhere. The API has them beside its routes.
   */
  metricsPort: number | null;
  auth: AuthConfig;
  http: HttpConfig;
  training: TrainingConfig;
  history: HistoryConfig;
  models: ModelsConfig;
  /** How long a partition's next batch may fill up, milliseconds; 0: it is scored as soon as there is anything. */
  scoringLingerMs: number;
  /** The key of the hash that stands for card ids in all that is stored; null: card ids stand for themselves. */
  cardIdKey: string | null;
  /** How many days old a transaction without a label must be to count as genuine. */
  labelMaturityDays: number;
  logLevel: "fatal" | "error" | "warn" | "info" | "debug" | "trace" | "silent";
}

/**
 * The configuration in an environment; the only reader of it.
 *
 * @throws UsageError `bad_setting` with one line that names the setting, its value (unless secret) and what it may be
 */
export function readConfig(env: Env = process.env): Config {
  const dataDir = resolve(text(env, "DATA_DIR") ?? ".data");
  const clickhouseDatabase = matching(
    env,
    "CLICKHOUSE_DATABASE",
    "fraud",
    /^[A-Za-z_][A-Za-z0-9_]{0,63}$/,
    "a name of letters, digits and _",
  );
  return {
    kafka: kafkaConfig(env),
    clickhouse: clickhouseConfig(env, clickhouseDatabase),
    clickhouseDatabase,
    clickhouseTakeOver: text(env, "CLICKHOUSE_TAKE_OVER") ?? null,
    retention: retention(env),
    ...registryConfig(env),
    recordShapes: {
      transactions: recordShape(env, "TRANSACTIONS", TRANSACTION_NAMES, true),
      labels: recordShape(env, "LABELS", LABEL_NAMES, false),
    },
    schemasDir: text(env, "SCHEMAS_DIR") ?? null,
    artifacts: resolve(text(env, "ARTIFACTS") ?? `${dataDir}/artifacts`),
    dataDir,
    cacheDir: join(text(env, "XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "fraudstream"),
    topicPrefix: matching(
      env,
      "TOPIC_PREFIX",
      "fraud.",
      /^[A-Za-z0-9._-]{0,100}$/,
      "letters, digits, '.', '_' and '-'",
    ),
    topicPartitions: integer(env, "TOPIC_PARTITIONS", 4, 1, 10_000),
    host: text(env, "HOST") ?? "127.0.0.1",
    port: integer(env, "PORT", 3000, 0, 65_535),
    metricsPort: integer(env, "METRICS_PORT", 0, 0, 65_535) || null,
    auth: authConfig(env),
    http: httpConfig(env),
    training: trainingConfig(env),
    scoringLingerMs: integer(env, "SCORING_LINGER_MS", 0, 0, 10_000),
    history: {
      merchantWaitMs: integer(env, "MERCHANT_WAIT_MS", 2_000, 0, 30_000),
      snapshotEveryMs: duration(env, "SNAPSHOT_EVERY", "PT5M"),
    },
    models: modelsConfig(env),
    cardIdKey: key(env, "CARD_ID_KEY", LEAST_SECRET_BYTES),
    labelMaturityDays: integer(env, "LABEL_MATURITY_DAYS", 30, 0, 3_650),
    logLevel: oneOf(env, "LOG_LEVEL", "info", ["fatal", "error", "warn", "info", "debug", "trace", "silent"]),
  };
}

function kafkaConfig(env: Env): KafkaConfig | null {
  const brokers = text(env, "KAFKA_BROKERS");
  if (brokers === undefined) return null;
  const list = brokers.split(",").map((broker) => broker.trim());
  for (const broker of list) {
    const [, port] = /^(?:[^\s:/@[\]]+|\[[0-9a-fA-F:]+\]):(\d{1,5})$/.exec(broker) ?? [];
    if (port === undefined || Number(port) < 1 || Number(port) > 65_535)
      throw bad("KAFKA_BROKERS", broker, "a comma-separated list of host:port, with ports from 1 to 65535");
  }
  const ssl = kafkaTls(env);
  const sasl = saslConfig(env);
  if (sasl?.mechanism === "plain" && ssl === false)
    throw new UsageError(
      "bad_setting",
      "KAFKA_SASL_MECHANISM is plain, which shows the password to whoever listens: set KAFKA_SSL or KAFKA_TLS_CA",
    );
  const replication = {
    factor: count(env, "KAFKA_REPLICATION_FACTOR"),
    minInsync: count(env, "KAFKA_MIN_INSYNC_REPLICAS"),
  };
  if (replication.factor !== null && (replication.minInsync ?? 0) > replication.factor)
    throw new UsageError(
      "bad_setting",
      `KAFKA_MIN_INSYNC_REPLICAS is ${replication.minInsync}, but KAFKA_REPLICATION_FACTOR is ` +
        `${replication.factor}: nothing could be written`,
    );
  return { brokers: list, ssl, sasl, replication };
}

/** A number of brokers; null where it isn't set. */
function count(env: Env, name: string): number | null {
  return text(env, name) === undefined ? null : integer(env, name, 1, 1, 100);
}

function kafkaTls(env: Env): KafkaConfig["ssl"] {
  const ca = pem(env, "KAFKA_TLS_CA", "CERTIFICATE");
  const cert = pem(env, "KAFKA_TLS_CERT", "CERTIFICATE");
  const privateKey = pem(env, "KAFKA_TLS_KEY", "PRIVATE KEY");
  const given = ca !== undefined || cert !== undefined || privateKey !== undefined;
  const wanted = oneOf(env, "KAFKA_SSL", given ? "true" : "false", ["true", "false"]) === "true";
  if (given && !wanted)
    throw new UsageError("bad_setting", "KAFKA_SSL is false, but KAFKA_TLS_CA, KAFKA_TLS_CERT or KAFKA_TLS_KEY is set");
  if ((cert === undefined) !== (privateKey === undefined))
    throw new UsageError("bad_setting", "of KAFKA_TLS_CERT and KAFKA_TLS_KEY one is set and the other is not");
  return given
    ? {
        ...(ca === undefined ? {} : { ca }),
        ...(cert === undefined || privateKey === undefined ? {} : { cert, key: privateKey }),
      }
    : wanted;
}

function saslConfig(env: Env): KafkaConfig["sasl"] {
  const username = text(env, "KAFKA_SASL_USERNAME");
  const password = secret(env, "KAFKA_SASL_PASSWORD");
  if (username === undefined && password === undefined) return null;
  if (username === undefined)
    throw new UsageError("bad_setting", "KAFKA_SASL_PASSWORD is set but KAFKA_SASL_USERNAME is not");
  if (password === undefined)
    throw new UsageError("bad_setting", "KAFKA_SASL_USERNAME is set but KAFKA_SASL_PASSWORD is not");
  const mechanism = oneOf(env, "KAFKA_SASL_MECHANISM", "scram-sha-512", ["plain", "scram-sha-256", "scram-sha-512"]);
  return { mechanism, username, password };
}

function clickhouseConfig(env: Env, database: string): ClickHouseConfig | null {
  const address = url(env, "CLICKHOUSE_URL");
  if (address === null) return null;
  const tlsCa = pem(env, "CLICKHOUSE_TLS_CA", "CERTIFICATE");
  if (tlsCa !== undefined && !address.startsWith("https:"))
    throw new UsageError("bad_setting", "CLICKHOUSE_TLS_CA is set, but CLICKHOUSE_URL is not https");
  return {
    url: address,
    username: text(env, "CLICKHOUSE_USER") ?? "default",
    password: secret(env, "CLICKHOUSE_PASSWORD") ?? "",
    database,
    ...(tlsCa === undefined ? {} : { tlsCa }),
  };
}

const LEAST_SECRET_BYTES = 32;
const LEAST_PASSWORD = 12;
/** The longest password and name that anybody can sign in with, in characters. */
export const LONGEST_PASSWORD = 1_000;
export const LONGEST_SIGN_IN_NAME = 200;

function modelsConfig(env: Env): ModelsConfig {
  const artifactsUrl = url(env, "ARTIFACTS_URL");
  const artifactsToken = key(env, "ARTIFACTS_TOKEN", LEAST_SECRET_BYTES);
  if (artifactsUrl !== null && artifactsToken === null)
    throw new UsageError(
      "bad_setting",
      "ARTIFACTS_URL is set, but ARTIFACTS_TOKEN is not: the API gives models only to whoever has it",
    );
  return {
    timeoutMs: integer(env, "MODEL_TIMEOUT_MS", 5_000, 100, 60_000),
    memoryBytes: integer(env, "MODEL_MEMORY_MB", 1_024, 128, 1_048_576) * 1024 ** 2,
    artifactsUrl,
    artifactsToken,
  };
}

function authConfig(env: Env): AuthConfig {
  const jwtSecret = key(env, "JWT_SECRET", LEAST_SECRET_BYTES);
  const jwtSecretAccepted = key(env, "JWT_SECRET_ACCEPTED", LEAST_SECRET_BYTES);
  const jwksUrl = url(env, "JWKS_URL");
  if (jwtSecret !== null && jwksUrl !== null)
    throw new UsageError(
      "bad_setting",
      "JWT_SECRET and JWKS_URL are both set: tokens are either ours or an identity provider's",
    );
  if (jwtSecretAccepted !== null && jwtSecret === null)
    throw new UsageError("bad_setting", "JWT_SECRET_ACCEPTED is set, but JWT_SECRET is not");
  if (jwtSecretAccepted !== null && jwtSecretAccepted === jwtSecret)
    throw new UsageError("bad_setting", "JWT_SECRET_ACCEPTED is the same as JWT_SECRET");
  const adminPassword = secret(env, "ADMIN_PASSWORD") ?? null;
  if (adminPassword !== null && adminPassword.length < LEAST_PASSWORD)
    throw new UsageError(
      "bad_setting",
      `ADMIN_PASSWORD has ${adminPassword.length} characters; it must have at least ${LEAST_PASSWORD}`,
    );
  if (adminPassword !== null && adminPassword.length > LONGEST_PASSWORD)
    throw new UsageError(
      "bad_setting",
      `ADMIN_PASSWORD has ${adminPassword.length} characters; nobody can sign in with more than ${LONGEST_PASSWORD}`,
    );
  const adminUsername = text(env, "ADMIN_USERNAME") ?? null;
  if (jwksUrl === null && adminUsername !== null && adminUsername.length > LONGEST_SIGN_IN_NAME)
    throw new UsageError(
      "bad_setting",
      `ADMIN_USERNAME has ${adminUsername.length} characters; nobody can sign in with more than ` +
        `${LONGEST_SIGN_IN_NAME}`,
    );
  return {
    jwtSecret,
    jwtSecretAccepted,
    jwksUrl,
    issuer: text(env, "JWT_ISSUER") ?? "fraudstream",
    audience: text(env, "JWT_AUDIENCE") ?? "fraudstream",
    tokenSeconds: integer(env, "TOKEN_SECONDS", 3_600, 60, 30 * 24 * 3_600),
    registration:
      text(env, "REGISTRATION") === undefined ? null : oneOf(env, "REGISTRATION", "closed", ["closed", "open"]),
    adminUsername,
    adminPassword,
  };
}

/** An address, or a network with as many bits as its addresses have at most. */
function isNetwork(text: string): boolean {
  const [, address, bits = "0"] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const version = isIP(address ?? "");
  return version !== 0 && Number(bits) <= (version === 4 ? 32 : 128);
}

function httpConfig(env: Env): HttpConfig {
  const list = (name: string): string[] =>
    (text(env, name) ?? "")
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "");
  const corsOrigins = list("CORS_ORIGINS");
  for (const origin of corsOrigins)
    if (!URL.canParse(origin) || new URL(origin).origin !== origin)
      throw bad("CORS_ORIGINS", origin, "a comma-separated list of origins such as https://desk.example");
  const trustProxy = list("TRUST_PROXY");
  for (const proxy of trustProxy)
    if (!isNetwork(proxy))
      throw bad("TRUST_PROXY", proxy, "a comma-separated list of addresses or networks such as 10.0.0.0/8");
  return {
    metricsOpen: oneOf(env, "METRICS_OPEN", "true", ["true", "false"]) === "true",
    corsOrigins,
    trustProxy,
    rateLimit: integer(env, "RATE_LIMIT", 600_000, 1, 1_000_000_000),
    signInRateLimit: integer(env, "SIGN_IN_RATE_LIMIT", 20, 1, 1_000_000),
  };
}

function registryConfig(env: Env): Pick<Config, "schemaRegistryUrl" | "schemaRegistryAuth" | "schemaRegistryTlsCa"> {
  const schemaRegistryUrl = url(env, "SCHEMA_REGISTRY_URL");
  const username = text(env, "SCHEMA_REGISTRY_USERNAME");
  const password = secret(env, "SCHEMA_REGISTRY_PASSWORD");
  const tlsCa = pem(env, "SCHEMA_REGISTRY_TLS_CA", "CERTIFICATE") ?? null;
  if (schemaRegistryUrl === null && (username !== undefined || password !== undefined || tlsCa !== null)) {
    throw new UsageError(
      "bad_setting",
      "SCHEMA_REGISTRY_USERNAME, SCHEMA_REGISTRY_PASSWORD or SCHEMA_REGISTRY_TLS_CA is set, but " +
        "SCHEMA_REGISTRY_URL is not",
    );
  }
  if ((username === undefined) !== (password === undefined))
    throw new UsageError(
      "bad_setting",
      "of SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD one is set and the other is not",
    );
  if (tlsCa !== null && schemaRegistryUrl?.startsWith("https:") === false)
    throw new UsageError("bad_setting", "SCHEMA_REGISTRY_TLS_CA is set, but SCHEMA_REGISTRY_URL is not https");
  if (schemaRegistryUrl !== null && new URL(schemaRegistryUrl).username !== "") {
    throw new UsageError(
      "bad_setting",
      "SCHEMA_REGISTRY_URL holds a user name: set SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD instead",
    );
  }
  return {
    schemaRegistryUrl,
    schemaRegistryAuth: username === undefined || password === undefined ? null : { username, password },
    schemaRegistryTlsCa: tlsCa,
  };
}

/**
 * `RETENTION_DAYS`: `transactions=365,dead_letters=30`, or one number for every table, or for all those that aren't
 * named.
 */
function retention(env: Env): Retention {
  const named = new Map<string, number>();
  const tables = Object.keys(DEFAULT_RETENTION) as (keyof Retention)[];
  const days = `a whole number of days from 0 (forever) to ${LONGEST_RETENTION_DAYS}`;
  for (const entry of (text(env, "RETENTION_DAYS") ?? "").split(",").filter((part) => part !== "")) {
    const [, name = "", number] = /^(?:(\w+)=)?(\d+)$/.exec(entry.trim()) ?? [];
    if (number === undefined || (name !== "" && !tables.some((table) => table === name))) {
      throw bad("RETENTION_DAYS", entry, `${days}, or table=days with a table of ${tables.join(", ")}`);
    }
    if (Number(number) > LONGEST_RETENTION_DAYS)
      throw bad("RETENTION_DAYS", entry, `${days}, the longest that ClickHouse can count`);
    if (named.has(name))
      throw new UsageError(
        "bad_setting",
        `RETENTION_DAYS gives ${name === "" ? "a number for every table" : name} twice: ${named.get(name)} ` +
          `and ${number} days`,
      );
    named.set(name, Number(number));
  }
  const kept = { ...DEFAULT_RETENTION };
  for (const table of tables) kept[table] = named.get(table) ?? named.get("") ?? DEFAULT_RETENTION[table];
  return kept;
}

function trainingConfig(env: Env): TrainingConfig {
  return {
    allowPrivate: allowedAddresses(env),
    maxBytes: integer(env, "DATASETS_MAX_BYTES", 4 * 1024 ** 3, 1, Number.MAX_SAFE_INTEGER),
    maxUnpackedBytes: integer(env, "DATASETS_MAX_UNPACKED_BYTES", 16 * 1024 ** 3, 1, Number.MAX_SAFE_INTEGER),
    maxRows: integer(env, "DATASETS_MAX_ROWS", 10_000_000, 1, 1_000_000_000),
    stallMs: integer(env, "DATASETS_STALL_SECONDS", 30, 1, 86_400) * 1000,
    deadlineMs: integer(env, "DATASETS_DEADLINE_SECONDS", 7_200, 1, 1_000_000) * 1000,
    silenceMs: integer(env, "TRAINER_SILENCE_SECONDS", 10, 2, 3_600) * 1000,
  };
}

function allowedAddresses(env: Env): boolean | string[] {
  const value = text(env, "DATASETS_ALLOW_PRIVATE") ?? "false";
  if (value === "true" || value === "false") return value === "true";
  const exceptions = value.split(",").map((exception) => exception.trim());
  if (!exceptions.every(isException))
    throw bad(
      "DATASETS_ALLOW_PRIVATE",
      value,
      "true, false, or a list of networks and addresses with a port, such as 10.1.0.0/16,127.0.0.1:8080",
    );
  return exceptions;
}
