/**
 * A process that has a local stack, as `npm start` is one, for tests that kill it: `node stack-process.js DATA_DIR`. It
 * tells its parent `{ready}` with both addresses, or `{refused}` with the code and text of an error.
 */
import { readConfig } from "../../infra/config/config.js";
import { runRole } from "../../infra/lifecycle/lifecycle.js";
import { startLocalStack } from "../../infra/local/stack.js";
import { createLogger } from "../../infra/logging.js";
import { FraudstreamError } from "../../schemas/errors.js";

const config = { ...readConfig({ ...process.env, DATA_DIR: process.argv[2] ?? "" }), kafka: null, clickhouse: null };
const log = createLogger({ logLevel: "silent" }, "stack-process");
await runRole(log, async (lifecycle) => {
  try {
    const stack = await startLocalStack({ config, log, progress: () => undefined, signal: lifecycle.signal });
    lifecycle.add("local stack", () => stack.stop());
    process.send?.({ ready: { kafka: stack.kafka.brokers[0], clickhouse: stack.clickhouse.url } });
  } catch (error) {
    if (error instanceof FraudstreamError) process.send?.({ refused: { code: error.code, message: error.message } });
    throw error;
  }
});
process.disconnect();
