import { onTestFinished } from "vitest";
import { type ClickHouse, createClickHouse } from "../../infra/clickhouse/client.js";
import { migrate } from "../../infra/clickhouse/migrate.js";
import { createLogger } from "../../infra/logging.js";
import { clickhouseConfig, uniquePrefix } from "./engines.js";

/** A migrated database of the test's own, which goes with the test. */
export async function clickhouseDatabase(): Promise<ClickHouse> {
  const config = clickhouseConfig(`${uniquePrefix("_")}db`);
  const clickhouse = createClickHouse(config);
  onTestFinished(async () => {
    await clickhouse.command(`DROP DATABASE IF EXISTS ${config.database}`);
    await clickhouse.close();
  });
  await migrate(config, createLogger({ logLevel: "silent" }, "test"));
  return clickhouse;
}
