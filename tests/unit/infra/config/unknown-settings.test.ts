import { expect, test } from "vitest";
import { readConfig } from "../../../../infra/config/config.js";
import { SETTINGS, unknownSettings } from "../../../../infra/config/unknown-settings.js";

test("names a variable that is nearly a setting, with the likely one; ignores others' variables", () => {
  expect(unknownSettings({ MERCHANT_WAITS_MS: "5" })).toEqual([
    "MERCHANT_WAITS_MS is not a setting and has no effect: did you mean MERCHANT_WAIT_MS?",
  ]);
  expect(unknownSettings({ KAFKA_BROKER: "k:1" })).toEqual([
    "KAFKA_BROKER is not a setting and has no effect: did you mean KAFKA_BROKERS?",
  ]);
  for (const [wrong, right] of [
    ["RETENTION_DAY", "RETENTION_DAYS"],
    ["CLICKHOUSE_PASWORD", "CLICKHOUSE_PASSWORD"],
    ["TOPICS_PREFIX", "TOPIC_PREFIX"],
    ["DATADIR", "DATA_DIR"],
    ["SNAPHSOT_EVERY", "SNAPSHOT_EVERY"],
  ]) {
    expect(unknownSettings({ [wrong]: "x" })).toEqual([expect.stringContaining(`did you mean ${right}?`)]);
  }
  expect(unknownSettings({ DATASETS_LIMIT: "5" })).toEqual([
    "DATASETS_LIMIT is not a setting and has no effect; infra/README.md lists the settings",
  ]);
  const others = {
    PATH: "/bin",
    HOME: "/root",
    HOSTNAME: "h",
    KAFKA_HEAP_OPTS: "x",
    KAFKA_PORT: "tcp://1",
    CLICKHOUSE_SERVICE_HOST: "h",
    npm_config_x: "y",
    PORTS: "1",
    LOGNAME: "n",
    LOG_FORMAT: "json",
    MERCHANT_WAITS_MS: "",
  };
  expect(unknownSettings(others)).toEqual([]);
  expect(
    unknownSettings(
      Object.fromEntries(
        SETTINGS.flatMap((name) => [
          [name, "x"],
          [`${name}_FILE`, "y"],
        ]),
      ),
    ),
  ).toEqual([]);
});

test("every variable that the configuration reads is known", () => {
  // Some are read only beside another one.
  const given: Record<string, string> = {
    KAFKA_BROKERS: "k:1",
    CLICKHOUSE_URL: "http://c:1",
    SCHEMA_REGISTRY_URL: "http://r:1",
  };
  const read = new Set<string>();
  readConfig(new Proxy(given, { get: (env, name: string) => (read.add(name), env[name]) }));
  expect(read.size).toBeGreaterThan(60);
  const known = SETTINGS.flatMap((name) => [name, `${name}_FILE`]);
  expect([...read].filter((name) => !known.includes(name))).toEqual([]);
});
