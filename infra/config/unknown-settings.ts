import { closestName } from "../../schemas/closest-name.js";
import type { Env } from "./settings.js";

/** Every variable that is read; a secret's also with _FILE behind it. */
export const SETTINGS = [
  "KAFKA_BROKERS",
  "KAFKA_SSL",
  "KAFKA_TLS_CA",
  "KAFKA_TLS_CERT",
  "KAFKA_TLS_KEY",
  "KAFKA_SASL_USERNAME",
  "KAFKA_SASL_PASSWORD",
  "KAFKA_SASL_MECHANISM",
  "CLICKHOUSE_URL",
  "CLICKHOUSE_USER",
  "CLICKHOUSE_PASSWORD",
  "CLICKHOUSE_TLS_CA",
  "CLICKHOUSE_DATABASE",
  "CARD_ID_KEY",
  "DATA_DIR",
  "ARTIFACTS",
  "TOPIC_PREFIX",
  "TOPIC_PARTITIONS",
  "SCHEMA_REGISTRY_URL",
  "SCHEMAS_DIR",
  "HOST",
  "PORT",
  "METRICS_PORT",
  "JWT_SECRET",
  "JWT_SECRET_ACCEPTED",
  "JWKS_URL",
  "JWT_ISSUER",
  "JWT_AUDIENCE",
  "TOKEN_SECONDS",
  "ADMIN_USERNAME",
  "ADMIN_PASSWORD",
  "REGISTRATION",
  "RATE_LIMIT",
  "SIGN_IN_RATE_LIMIT",
  "METRICS_OPEN",
  "CORS_ORIGINS",
  "TRUST_PROXY",
  "SCORING_LINGER_MS",
  "MERCHANT_WAIT_MS",
  "SNAPSHOT_EVERY",
  "LABEL_MATURITY_DAYS",
  "RETENTION_DAYS",
  "LOG_LEVEL",
  "DATASETS_ALLOW_PRIVATE",
  "DATASETS_MAX_BYTES",
  "DATASETS_MAX_UNPACKED_BYTES",
  "DATASETS_MAX_ROWS",
  "DATASETS_STALL_SECONDS",
  "DATASETS_DEADLINE_SECONDS",
  "TRAINER_SILENCE_SECONDS",
  "CLICKHOUSE_TAKE_OVER",
  "KAFKA_REPLICATION_FACTOR",
  "KAFKA_MIN_INSYNC_REPLICAS",
  "SCHEMA_REGISTRY_USERNAME",
  "SCHEMA_REGISTRY_PASSWORD",
  "SCHEMA_REGISTRY_TLS_CA",
  "TRANSACTIONS_ENVELOPE",
  "TRANSACTIONS_FIELDS",
  "LABELS_ENVELOPE",
  "LABELS_FIELDS",
  "ARTIFACTS_URL",
  "ARTIFACTS_TOKEN",
  "MODEL_MEMORY_MB",
  "MODEL_TIMEOUT_MS",
  "XDG_CACHE_HOME",
] as const;

/**
 * Beginnings that hardly any other program has: a variable that begins so is meant for us. Others may be somebody
 * else's.
 */
const OURS = /^(?:MERCHANTS?|SNAPSHOTS?|SCORING|DATASETS?|RETENTION|LABELS?|TRAINER|TOPICS?|CARDS?)_/;
/** Variables of so few letters are like many others. */
const LEAST_LETTERS = 6;

/** One line for each variable that looks like a setting and is none, with the one that it is nearest to. */
export function unknownSettings(env: Env = process.env, known: readonly string[] = SETTINGS): string[] {
  const all = known.flatMap((name) => [name, `${name}_FILE`]);
  const names = Object.keys(env).filter(
    (name) => !all.includes(name) && /^[A-Z][A-Z0-9_]*$/.test(name) && env[name] !== "",
  );
  return names.flatMap((name) => {
    const meant = name.length < LEAST_LETTERS ? null : closestName(name, known, { mostEdits: 3, lettersPerEdit: 5 });
    if (meant === null && !OURS.test(name)) return [];
    return [
      `${name} is not a setting and has no ` +
        `effect${meant === null ? "; infra/README.md lists the settings" : `: did you mean ${meant}?`}`,
    ];
  });
}
