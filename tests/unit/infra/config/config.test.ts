import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { DEFAULT_RETENTION } from "../../../../infra/clickhouse/tables.js";
import { readConfig } from "../../../../infra/config/config.js";
import { UsageError } from "../../../../schemas/errors.js";

/** The one line that a wrong environment is answered with. */
function complaint(env: Record<string, string>): string {
  try {
    readConfig(env);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    expect(error.code).toBe("bad_setting");
    expect(error.message).not.toContain("\n");
    return error.message;
  }
  return "";
}

function fileWith(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), "fraudstream-config-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "secret");
  writeFileSync(file, text);
  return file;
}

const BROKERS = { KAFKA_BROKERS: "k1:9092" };

test("an empty environment", () => {
  expect(readConfig({})).toMatchObject({
    kafka: null,
    clickhouse: null,
    clickhouseDatabase: "fraud",
    retention: DEFAULT_RETENTION,
    schemaRegistryUrl: null,
    schemasDir: null,
    artifacts: resolve(".data/artifacts"),
    dataDir: resolve(".data"),
    cacheDir: join(homedir(), ".cache/fraudstream"),
    topicPrefix: "fraud.",
    topicPartitions: 4,
    host: "127.0.0.1",
    port: 3000,
    logLevel: "info",
  });
});

test("every setting", () => {
  const config = readConfig({
    KAFKA_BROKERS: "k1:9092, 10.0.0.1:1,[::1]:65535",
    KAFKA_SSL: "true",
    KAFKA_SASL_USERNAME: "u",
    KAFKA_SASL_PASSWORD: "p",
    KAFKA_SASL_MECHANISM: "plain",
    CLICKHOUSE_URL: "https://ch:8443/",
    CLICKHOUSE_USER: "writer",
    CLICKHOUSE_PASSWORD: "q",
    CLICKHOUSE_DATABASE: "other",
    RETENTION_DAYS: "10,labels=0, predictions=25000",
    SCHEMA_REGISTRY_URL: "http://registry:8081/ccompat//",
    SCHEMAS_DIR: "schemas",
    ARTIFACTS: "/models",
    DATA_DIR: "/data",
    XDG_CACHE_HOME: "/cache",
    TOPIC_PREFIX: "a.b_c-",
    TOPIC_PARTITIONS: "10000",
    KAFKA_REPLICATION_FACTOR: "5",
    KAFKA_MIN_INSYNC_REPLICAS: "3",
    HOST: "::",
    PORT: "0",
    METRICS_PORT: "9464",
    LOG_LEVEL: "silent",
  });
  expect(config).toMatchObject({
    kafka: {
      brokers: ["k1:9092", "10.0.0.1:1", "[::1]:65535"],
      ssl: true,
      sasl: { mechanism: "plain", username: "u", password: "p" },
      replication: { factor: 5, minInsync: 3 },
    },
    clickhouse: { url: "https://ch:8443", username: "writer", password: "q", database: "other" },
    clickhouseDatabase: "other",
    retention: {
      transactions: 10,
      predictions: 25_000,
      shadow_predictions: 10,
      labels: 0,
      dead_letters: 10,
      control_events: 10,
    },
    schemaRegistryUrl: "http://registry:8081/ccompat",
    schemasDir: "schemas",
    artifacts: "/models",
    dataDir: "/data",
    cacheDir: "/cache/fraudstream",
    topicPrefix: "a.b_c-",
    topicPartitions: 10_000,
    host: "::",
    port: 0,
    logLevel: "silent",
  });
});

test("an empty value counts as unset, except for the prefix, which may be empty", () => {
  const names = [
    "KAFKA_BROKERS",
    "KAFKA_SSL",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SASL_PASSWORD_FILE",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_REPLICATION_FACTOR",
    "KAFKA_MIN_INSYNC_REPLICAS",
    "CLICKHOUSE_URL",
    "CLICKHOUSE_USER",
    "CLICKHOUSE_PASSWORD",
    "CLICKHOUSE_DATABASE",
    "RETENTION_DAYS",
    "SCHEMA_REGISTRY_URL",
    "SCHEMAS_DIR",
    "ARTIFACTS",
    "DATA_DIR",
    "XDG_CACHE_HOME",
    "TOPIC_PARTITIONS",
    "HOST",
    "PORT",
    "METRICS_PORT",
    "LOG_LEVEL",
  ];
  expect(readConfig(Object.fromEntries(names.map((name) => [name, ""])))).toEqual(readConfig({}));
  expect(readConfig({ TOPIC_PREFIX: "" }).topicPrefix).toBe("");
});

test("artifacts are stored under the data directory unless configured otherwise", () => {
  expect(readConfig({ DATA_DIR: "/data" }).artifacts).toBe("/data/artifacts");
});

describe("a wrong value names its setting", () => {
  test.each<[string, string]>([
    ["KAFKA_BROKERS", "k1"],
    ["KAFKA_BROKERS", "k1:9092,"],
    ["KAFKA_BROKERS", "k1:port"],
    ["KAFKA_BROKERS", "k1:0"],
    ["KAFKA_BROKERS", "k1:65536"],
    ["KAFKA_BROKERS", "k1 :9092"],
    ["KAFKA_BROKERS", "http://k1:9092"],
    ["KAFKA_BROKERS", "::1:9092"],
    ["KAFKA_SSL", "yes"],
    ["CLICKHOUSE_URL", "ch:8123"],
    ["CLICKHOUSE_URL", "tcp://ch:9000"],
    ["CLICKHOUSE_DATABASE", "a-b"],
    ["CLICKHOUSE_DATABASE", "1a"],
    ["CLICKHOUSE_DATABASE", "a".repeat(65)],
    ["RETENTION_DAYS", "week"],
    ["RETENTION_DAYS", "-1"],
    ["RETENTION_DAYS", "nothing=5"],
    ["RETENTION_DAYS", "labels="],
    ["RETENTION_DAYS", "labels=100000"],
    ["RETENTION_DAYS", "25001"],
    ["RETENTION_DAYS", "36500"],
    ["RETENTION_DAYS", "99999999999999999999"],
    ["SCHEMA_REGISTRY_URL", "registry"],
    ["TOPIC_PREFIX", "a b"],
    ["TOPIC_PREFIX", "a/"],
    ["TOPIC_PREFIX", "x".repeat(101)],
    ["TOPIC_PARTITIONS", "0"],
    ["TOPIC_PARTITIONS", "10001"],
    ["TOPIC_PARTITIONS", "4.0"],
    ["TOPIC_PARTITIONS", "0x4"],
    ["TOPIC_PARTITIONS", " 4"],
    ["PORT", "65536"],
    ["METRICS_PORT", "65536"],
    ["METRICS_PORT", "on"],
    ["PORT", "-1"],
    ["PORT", "1e3"],
    ["PORT", "99999999999999999999"],
    ["TRUST_PROXY", "10.0.0.0/33"],
    ["TRUST_PROXY", "::1/129"],
    ["TRUST_PROXY", "10.0.0.0/"],
    ["TRUST_PROXY", "/8"],
    ["TRUST_PROXY", "true"],
    ["LOG_LEVEL", "loud"],
    ["LOG_LEVEL", "INFO"],
  ])("%s=%s", (name, value) => {
    const line = complaint({ ...BROKERS, [name]: value });
    expect(line.startsWith(`${name} `)).toBe(true);
    expect(line).toContain("it must be");
  });

  test("that is given twice, or for a misspelt name", () => {
    expect(complaint({ RETENTION_DAYS: "labels=30,predictions=3, labels=30" })).toBe(
      "RETENTION_DAYS gives labels twice: 30 and 30 days",
    );
    expect(complaint({ RETENTION_DAYS: "10,20" })).toBe(
      "RETENTION_DAYS gives a number for every table twice: 10 and 20 days",
    );
    // Whatever their order.
    for (const days of ["labels=0,10", "10,labels=0"])
      expect(readConfig({ RETENTION_DAYS: days }).retention).toMatchObject({ labels: 0, predictions: 10 });
    expect(complaint({ TRANSACTIONS_FIELDS: "amout=total" })).toContain(
      "TRANSACTIONS_FIELDS names amout: did you mean amount?",
    );
    expect(complaint({ TRANSACTIONS_FIELDS: "card_id=pan,event_tmie=at" })).toContain("did you mean event_time?");
    expect(complaint({ LABELS_FIELDS: "is_fruad=x" })).toContain("LABELS_FIELDS");
    expect(
      readConfig({ TRANSACTIONS_FIELDS: "amount=total,amounts=all,risk=x" }).recordShapes.transactions.fields.size,
    ).toBe(3);
  });

  test("of SASL", () => {
    expect(complaint({ ...BROKERS, KAFKA_SASL_USERNAME: "u" })).toContain("KAFKA_SASL_PASSWORD");
    expect(complaint({ ...BROKERS, KAFKA_SASL_PASSWORD: "hidden" })).toContain("KAFKA_SASL_USERNAME");
    expect(
      complaint({ ...BROKERS, KAFKA_SASL_USERNAME: "u", KAFKA_SASL_PASSWORD: "p", KAFKA_SASL_MECHANISM: "gssapi" }),
    ).toContain("KAFKA_SASL_MECHANISM");
    // A password in the clear.
    expect(
      complaint({ ...BROKERS, KAFKA_SASL_USERNAME: "u", KAFKA_SASL_PASSWORD: "p", KAFKA_SASL_MECHANISM: "plain" }),
    ).toContain("KAFKA_SSL");
  });

  test("of TLS and keys", () => {
    const pem = "-----BEGIN CERTIFICATE-----";
    expect(complaint({ ...BROKERS, KAFKA_TLS_CA: "/etc/ca.pem" })).toBe(
      "KAFKA_TLS_CA holds no PEM text with a CERTIFICATE",
    );
    expect(complaint({ ...BROKERS, KAFKA_TLS_CA: pem, KAFKA_SSL: "false" })).toContain("KAFKA_SSL is false");
    expect(complaint({ ...BROKERS, KAFKA_TLS_CERT: pem })).toContain("KAFKA_TLS_KEY");
    expect(complaint({ CLICKHOUSE_URL: "http://ch", CLICKHOUSE_TLS_CA: pem })).toContain("CLICKHOUSE_URL is not https");
    expect(complaint({ CARD_ID_KEY: "short" })).toBe("CARD_ID_KEY has 5 bytes; it must have at least 32");
  });
});

describe("secrets", () => {
  test("come from a file, without its last line break", () => {
    const file = fileWith("top secret\n");
    expect(readConfig({ ...BROKERS, KAFKA_SASL_USERNAME: "u", KAFKA_SASL_PASSWORD_FILE: file }).kafka?.sasl).toEqual({
      mechanism: "scram-sha-512",
      username: "u",
      password: "top secret",
    });
    expect(
      readConfig({ CLICKHOUSE_URL: "http://ch", CLICKHOUSE_PASSWORD: "other", CLICKHOUSE_PASSWORD_FILE: file })
        .clickhouse?.password,
    ).toBe("top secret");
  });

  test("each have a _FILE variant with the same effect", () => {
    const ca = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----";
    const key = "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----";
    const secrets: Record<string, string> = {
      KAFKA_SASL_PASSWORD: "p",
      KAFKA_TLS_CA: ca,
      KAFKA_TLS_CERT: ca,
      KAFKA_TLS_KEY: key,
      CLICKHOUSE_PASSWORD: "q",
      CLICKHOUSE_TLS_CA: ca,
      JWT_SECRET: "s".repeat(32),
      JWT_SECRET_ACCEPTED: "t".repeat(32),
      ADMIN_PASSWORD: "a".repeat(12),
      CARD_ID_KEY: "k".repeat(32),
    };
    const others = { ...BROKERS, KAFKA_SASL_USERNAME: "u", CLICKHOUSE_URL: "https://ch" };
    const config = readConfig({ ...others, ...secrets });
    expect(config).toMatchObject({
      kafka: { ssl: { ca, cert: ca, key }, sasl: { password: "p" } },
      clickhouse: { password: "q", tlsCa: ca },
      cardIdKey: "k".repeat(32),
      auth: { jwtSecret: "s".repeat(32), jwtSecretAccepted: "t".repeat(32), adminPassword: "a".repeat(12) },
    });
    expect(
      readConfig({
        ...others,
        ...Object.fromEntries(Object.entries(secrets).map(([name, text]) => [`${name}_FILE`, fileWith(`${text}\n`)])),
      }),
    ).toEqual(config);
  });

  test("a file that can't be read is named", () => {
    const line = complaint({ CLICKHOUSE_URL: "http://ch", CLICKHOUSE_PASSWORD_FILE: "/nowhere/secret" });
    expect(line).toContain("CLICKHOUSE_PASSWORD_FILE");
    expect(line).toContain("/nowhere/secret");
  });

  test("are never shown", () => {
    const environments: Record<string, string>[] = [
      { ...BROKERS, KAFKA_SASL_PASSWORD: "hidden" },
      { ...BROKERS, KAFKA_SASL_PASSWORD: "hidden", KAFKA_SASL_USERNAME: "u", KAFKA_SASL_MECHANISM: "x" },
      { CLICKHOUSE_URL: "tcp://u:hidden@ch:9000" },
      { CLICKHOUSE_URL: "u:hidden@ch" },
      { CLICKHOUSE_URL: "htp://u:hid@hidden@ch" },
      { SCHEMA_REGISTRY_URL: "u:hidden@registry" },
      { KAFKA_BROKERS: "u:hidden@k1:9092" },
    ];
    for (const env of environments) {
      const line = complaint(env);
      expect(line).not.toBe("");
      expect(line).not.toContain("hid");
    }
  });
});

test("reading models from an API requires its token", () => {
  expect(complaint({ ...BROKERS, ARTIFACTS_URL: "http://api:3000" })).toContain("ARTIFACTS_TOKEN is not");
  expect(complaint({ ...BROKERS, ARTIFACTS_TOKEN: "short" })).toContain("ARTIFACTS_TOKEN");
  expect(complaint({ ...BROKERS, MODEL_TIMEOUT_MS: "0" })).toContain("MODEL_TIMEOUT_MS");
  expect(
    readConfig({
      ...BROKERS,
      ARTIFACTS_URL: "http://api:3000",
      ARTIFACTS_TOKEN: "x".repeat(32),
      MODEL_MEMORY_MB: "512",
    }).models,
  ).toMatchObject({ timeoutMs: 5_000, memoryBytes: 512 * 1024 ** 2, artifactsToken: "x".repeat(32) });
});
