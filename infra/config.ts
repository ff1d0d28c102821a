import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { UsageError } from "../schemas/errors.js";
import { DEFAULT_RETENTION, type Retention } from "./clickhouse/tables.js";
import { isException } from "./download/addresses.js";

/** How to reach a Kafka cluster. */
export interface KafkaConfig {
  brokers: string[];
  ssl: boolean;
  sasl: { mechanism: "plain" | "scram-sha-256" | "scram-sha-512"; username: string; password: string } | null;
}

/** How to reach a ClickHouse server. */
export interface ClickHouseConfig {
  url: string;
  username: string;
  password: string;
  database: string;
}

/** What training jobs may fetch and read, and when a trainer counts as gone. */
export interface TrainingConfig {
  /** Whether links to private, loopback and other special addresses are followed: always, never, or to these networks (CIDR) and `address:port`. */
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

/** How scoring workers keep what they know of cards, and wait for what is known of merchants. */
export interface HistoryConfig {
  /** How long a batch waits for merchants' buckets before it is scored without the newest, milliseconds. */
  merchantWaitMs: number;
  /** Between two snapshots of a partition, milliseconds. */
  snapshotEveryMs: number;
}

/** Who may use the API, and how they show it. */
export interface AuthConfig {
  /** Signs and checks our own tokens (HS256), at least 32 bytes; null: JWKS_URL, or nobody can sign in. */
  jwtSecret: string | null;
  /** The keys of an identity provider, whose tokens are then taken instead of our own. */
  jwksUrl: string | null;
  issuer: string;
  audience: string;
  /** How long a token of ours is good for, seconds. */
  tokenSeconds: number;
  /** Who may make a user: an admin only, or anybody. */
  registration: "closed" | "open";
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
  /** Days that each table keeps its rows, counted from their insertion; 0: forever. */
  retention: Retention;
  schemaRegistryUrl: string | null;
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
  /** Where scoring, sink and training serve their metrics and probes; null: nowhere. The API has them beside its routes. */
  metricsPort: number | null;
  auth: AuthConfig;
  http: HttpConfig;
  training: TrainingConfig;
  history: HistoryConfig;
  /** How many days old a transaction without a label must be to count as genuine. */
  labelMaturityDays: number;
  logLevel: "fatal" | "error" | "warn" | "info" | "debug" | "trace" | "silent";
}

type Env = Record<string, string | undefined>;

/**
 * The configuration in an environment; the only reader of it.
 *
 * @throws UsageError `bad_setting` with one line that names the setting, its value (unless secret) and what it may be
 */
export function readConfig(env: Env = process.env): Config {
  const dataDir = resolve(text(env, "DATA_DIR") ?? ".data");
  const clickhouseDatabase = matching(env, "CLICKHOUSE_DATABASE", "fraud", /^[A-Za-z_][A-Za-z0-9_]{0,63}$/, "a name of letters, digits and _");
  return {
    kafka: kafkaConfig(env),
    clickhouse: clickhouseConfig(env, clickhouseDatabase),
    clickhouseDatabase,
    retention: retention(env),
    schemaRegistryUrl: url(env, "SCHEMA_REGISTRY_URL"),
    schemasDir: text(env, "SCHEMAS_DIR") ?? null,
    artifacts: resolve(text(env, "ARTIFACTS") ?? `${dataDir}/artifacts`),
    dataDir,
    cacheDir: join(text(env, "XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "fraudstream"),
    topicPrefix: matching(env, "TOPIC_PREFIX", "fraud.", /^[A-Za-z0-9._-]{0,100}$/, "letters, digits, '.', '_' and '-'"),
    topicPartitions: integer(env, "TOPIC_PARTITIONS", 4, 1, 10_000),
    host: text(env, "HOST") ?? "127.0.0.1",
    port: integer(env, "PORT", 3000, 0, 65_535),
    metricsPort: integer(env, "METRICS_PORT", 0, 0, 65_535) || null,
    auth: authConfig(env),
    http: httpConfig(env),
    training: trainingConfig(env),
    history: { merchantWaitMs: integer(env, "MERCHANT_WAIT_MS", 2_000, 0, 30_000), snapshotEveryMs: duration(env, "SNAPSHOT_EVERY", "PT5M") },
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
    if (port === undefined || Number(port) < 1 || Number(port) > 65_535) throw bad("KAFKA_BROKERS", broker, "a comma-separated list of host:port");
  }
  return { brokers: list, ssl: oneOf(env, "KAFKA_SSL", "false", ["true", "false"]) === "true", sasl: saslConfig(env) };
}

function saslConfig(env: Env): KafkaConfig["sasl"] {
  const username = text(env, "KAFKA_SASL_USERNAME");
  const password = secret(env, "KAFKA_SASL_PASSWORD");
  if (username === undefined && password === undefined) return null;
  if (username === undefined) throw new UsageError("bad_setting", "KAFKA_SASL_PASSWORD is set but KAFKA_SASL_USERNAME is not");
  if (password === undefined) throw new UsageError("bad_setting", "KAFKA_SASL_USERNAME is set but KAFKA_SASL_PASSWORD is not");
  const mechanism = oneOf(env, "KAFKA_SASL_MECHANISM", "scram-sha-512", ["plain", "scram-sha-256", "scram-sha-512"]);
  return { mechanism, username, password };
}

function clickhouseConfig(env: Env, database: string): ClickHouseConfig | null {
  const address = url(env, "CLICKHOUSE_URL");
  if (address === null) return null;
  return { url: address, username: text(env, "CLICKHOUSE_USER") ?? "default", password: secret(env, "CLICKHOUSE_PASSWORD") ?? "", database };
}

const LEAST_SECRET_BYTES = 32;
const LEAST_PASSWORD = 12;

function authConfig(env: Env): AuthConfig {
  const jwtSecret = secret(env, "JWT_SECRET") ?? null;
  const jwksUrl = url(env, "JWKS_URL");
  if (jwtSecret !== null && jwksUrl !== null) throw new UsageError("bad_setting", "JWT_SECRET and JWKS_URL are both set: tokens are either ours or an identity provider's");
  if (jwtSecret !== null && Buffer.byteLength(jwtSecret) < LEAST_SECRET_BYTES) throw new UsageError("bad_setting", `JWT_SECRET has ${Buffer.byteLength(jwtSecret)} bytes; it must have at least ${LEAST_SECRET_BYTES}`);
  const adminPassword = secret(env, "ADMIN_PASSWORD") ?? null;
  if (adminPassword !== null && adminPassword.length < LEAST_PASSWORD) throw new UsageError("bad_setting", `ADMIN_PASSWORD has ${adminPassword.length} characters; it must have at least ${LEAST_PASSWORD}`);
  return {
    jwtSecret,
    jwksUrl,
    issuer: text(env, "JWT_ISSUER") ?? "fraudstream",
    audience: text(env, "JWT_AUDIENCE") ?? "fraudstream",
    tokenSeconds: integer(env, "TOKEN_SECONDS", 3_600, 60, 30 * 24 * 3_600),
    registration: oneOf(env, "REGISTRATION", "closed", ["closed", "open"]),
    adminUsername: text(env, "ADMIN_USERNAME") ?? null,
    adminPassword,
  };
}

function httpConfig(env: Env): HttpConfig {
  const list = (name: string): string[] => (text(env, name) ?? "").split(",").map((part) => part.trim()).filter((part) => part !== "");
  const corsOrigins = list("CORS_ORIGINS");
  for (const origin of corsOrigins) if (!URL.canParse(origin) || new URL(origin).origin !== origin) throw bad("CORS_ORIGINS", origin, "a comma-separated list of origins such as https://desk.example");
  const trustProxy = list("TRUST_PROXY");
  for (const proxy of trustProxy) if (isIP(proxy.replace(/\/\d{1,3}$/, "")) === 0) throw bad("TRUST_PROXY", proxy, "a comma-separated list of addresses or networks such as 10.0.0.0/8");
  return {
    metricsOpen: oneOf(env, "METRICS_OPEN", "true", ["true", "false"]) === "true",
    corsOrigins,
    trustProxy,
    rateLimit: integer(env, "RATE_LIMIT", 600_000, 1, 1_000_000_000),
    signInRateLimit: integer(env, "SIGN_IN_RATE_LIMIT", 20, 1, 1_000_000),
  };
}

/** `RETENTION_DAYS`: `transactions=365,dead_letters=30`, or one number for every table. */
function retention(env: Env): Retention {
  const days = { ...DEFAULT_RETENTION };
  const tables = Object.keys(days) as (keyof Retention)[];
  for (const entry of (text(env, "RETENTION_DAYS") ?? "").split(",").filter((part) => part !== "")) {
    const [, name = "", number] = /^(?:(\w+)=)?(\d{1,5})$/.exec(entry.trim()) ?? [];
    const meant = tables.filter((table) => name === "" || name === table);
    if (number === undefined || meant.length === 0) throw bad("RETENTION_DAYS", entry, `a number of days, or table=days with a table of ${tables.join(", ")}`);
    for (const table of meant) days[table] = Number(number);
  }
  return days;
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
  if (!exceptions.every(isException)) throw bad("DATASETS_ALLOW_PRIVATE", value, "true, false, or a list of networks and addresses with a port, such as 10.1.0.0/16,127.0.0.1:8080");
  return exceptions;
}

/** An empty value counts as unset, as compose files and CI systems pass it. */
function text(env: Env, name: string): string | undefined {
  return env[name] === "" ? undefined : env[name];
}

/** A secret stands in NAME, or in the file that NAME_FILE names. */
function secret(env: Env, name: string): string | undefined {
  const file = text(env, `${name}_FILE`);
  if (file === undefined) return text(env, name);
  try {
    return readFileSync(file, "utf8").trimEnd();
  } catch (cause) {
    throw new UsageError("bad_setting", `${name}_FILE names ${file}, which cannot be read`, { cause });
  }
}

function url(env: Env, name: string): string | null {
  const value = text(env, name);
  if (value === undefined) return null;
  if (!URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol)) throw bad(name, value, "an http or https URL");
  return value.replace(/\/+$/, "");
}

function integer(env: Env, name: string, fallback: number, least: number, most: number): number {
  const value = text(env, name);
  if (value === undefined) return fallback;
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < least || number > most) throw bad(name, value, `a whole number from ${least} to ${most}`);
  return number;
}

/** Milliseconds of an ISO 8601 duration of at most a day. */
function duration(env: Env, name: string, fallback: string): number {
  const value = text(env, name) ?? fallback;
  const [, hours = "0", minutes = "0", seconds = "0"] = /^PT(?=.)(?:(\d{1,2})H)?(?:(\d{1,4})M)?(?:(\d{1,5})S)?$/.exec(value) ?? [];
  const ms = (Number(hours) * 3_600 + Number(minutes) * 60 + Number(seconds)) * 1_000;
  if (ms === 0 || ms > 86_400_000) throw bad(name, value, "an ISO 8601 duration from PT1S to PT24H, such as PT5M");
  return ms;
}

function matching(env: Env, name: string, fallback: string, pattern: RegExp, meaning: string): string {
  // An empty prefix means something, an empty database name doesn't.
  const value = env[name] === "" && pattern.test("") ? "" : (text(env, name) ?? fallback);
  if (!pattern.test(value)) throw bad(name, value, meaning);
  return value;
}

function oneOf<const T extends string>(env: Env, name: string, fallback: NoInfer<T>, values: readonly T[]): T {
  const value = text(env, name) ?? fallback;
  const found = values.find((candidate) => candidate === value);
  if (found === undefined) throw bad(name, value, `one of ${values.join(", ")}`);
  return found;
}

/** Whatever stands before an @ may be a password. */
function bad(name: string, value: string, meaning: string): UsageError {
  return new UsageError("bad_setting", `${name} is ${JSON.stringify(value.replace(/^.*@/s, "…@"))}; it must be ${meaning}`);
}
