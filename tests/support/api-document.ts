import { createApp } from "../../api/app.js";
import { wireApi } from "../../api/wiring.js";
import { readConfig } from "../../infra/config/config.js";
import { createLogger } from "../../infra/logging.js";

/** The API's OpenAPI document. Nothing is started, so no engine is asked for anything. */
export async function apiDocument(settings: Record<string, string> = {}): Promise<Record<string, unknown>> {
  const config = readConfig({
    KAFKA_BROKERS: "127.0.0.1:9",
    CLICKHOUSE_URL: "http://127.0.0.1:9",
    JWT_SECRET: "x".repeat(32),
    ...settings,
  });
  const { kafka, clickhouse } = config;
  if (kafka === null || clickhouse === null) throw new Error("the addresses above are settings");
  const { context } = wireApi({
    config,
    kafka,
    clickhouse,
    clientId: "document",
    log: createLogger({ logLevel: "silent" }, "document"),
    stopping: new AbortController().signal,
  });
  const app = await createApp(context);
  const document = app.swagger();
  await app.close();
  await context.clickhouse.close();
  return document as unknown as Record<string, unknown>;
}
