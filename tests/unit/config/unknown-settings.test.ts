import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { readConfig } from "../../../infra/config.js";
import { SETTINGS, unknownSettings } from "../../../infra/unknown-settings.js";

test("a variable that is nearly a setting is named, with the one that was meant; others' variables are left alone", () => {
  expect(unknownSettings({ MERCHANT_WAITS_MS: "5" })).toEqual(["MERCHANT_WAITS_MS is not a setting and has no effect: did you mean MERCHANT_WAIT_MS?"]);
  expect(unknownSettings({ KAFKA_BROKER: "k:1" })).toEqual(["KAFKA_BROKER is not a setting and has no effect: did you mean KAFKA_BROKERS?"]);
  for (const [wrong, right] of [["RETENTION_DAY", "RETENTION_DAYS"], ["CLICKHOUSE_PASWORD", "CLICKHOUSE_PASSWORD"], ["TOPICS_PREFIX", "TOPIC_PREFIX"], ["DATADIR", "DATA_DIR"], ["SNAPHSOT_EVERY", "SNAPSHOT_EVERY"]]) {
    expect(unknownSettings({ [wrong]: "x" })).toEqual([expect.stringContaining(`did you mean ${right}?`)]);
  }
  expect(unknownSettings({ DATASETS_LIMIT: "5" })).toEqual(["DATASETS_LIMIT is not a setting and has no effect; README lists the settings"]);
  const others = { PATH: "/bin", HOME: "/root", HOSTNAME: "h", KAFKA_HEAP_OPTS: "x", KAFKA_PORT: "tcp://1", CLICKHOUSE_SERVICE_HOST: "h", npm_config_x: "y", PORTS: "1", LOGNAME: "n", LOG_FORMAT: "json", MERCHANT_WAITS_MS: "" };
  expect(unknownSettings(others)).toEqual([]);
  expect(unknownSettings(Object.fromEntries(SETTINGS.flatMap((name) => [[name, "x"], [`${name}_FILE`, "y"]])))).toEqual([]);
});

test("every variable that the configuration reads is known", () => {
  const source = readFileSync(new URL("../../../infra/config.ts", import.meta.url), "utf8");
  const read = new Set([...source.matchAll(/(?:env, |list\()"([A-Z][A-Z0-9_]+)"/g)].map(([, name]) => name));
  expect(read.size).toBeGreaterThan(40);
  expect([...read].filter((name) => !(SETTINGS as readonly string[]).includes(name))).toEqual([]);
  expect(readConfig({})).toBeDefined();
});
