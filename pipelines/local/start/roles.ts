import { join } from "node:path";
import type { Config } from "../../../infra/config/config.js";
import type { Lifecycle } from "../../../infra/lifecycle/lifecycle.js";
import { EngineProcess } from "../../../infra/local/engine-process.js";
import type { LocalStack } from "../../../infra/local/stack.js";
import { ROLES, type Role } from "../../../infra/roles.js";
import { UsageError } from "../../../schemas/errors.js";

/** How long a role may take to finish the batch in hand before it is killed. */
const GRACE_MS = 15_000;

/**
 * Starts a role as a process of its own, with the addresses in use. It has its own process group, so that Ctrl-C in a
 * terminal reaches it only through `lifecycle`, and it ends when this process is gone, however it went. Its log is
 * DATA_DIR/logs/<role>.log. When it ends by itself, so does this process, with the end of that log.
 */
export async function startRole(
  role: Role,
  config: Config,
  stack: LocalStack,
  lifecycle: Lifecycle,
  env: Record<string, string> = {},
): Promise<void> {
  const { kafka, clickhouse } = stack;
  const logFile = join(config.dataDir, "logs", `${role}.log`);
  const child = await EngineProcess.start({
    name: role,
    module: ROLES[role].module,
    args: [],
    logFile,
    env: {
      KAFKA_BROKERS: kafka.brokers.join(","),
      CLICKHOUSE_URL: clickhouse.url,
      CLICKHOUSE_USER: clickhouse.username,
      DATA_DIR: config.dataDir,
      ...env,
    },
  });
  let stopping = false;
  lifecycle.add(role, () => {
    stopping = true;
    return child.stop(GRACE_MS);
  });
  void child.ended.then((how) => {
    if (!stopping)
      lifecycle.fail(
        new UsageError(
          "role_ended",
          `The ${role} process has ended (${how}). The end of ${logFile}:\n${child.logTail()}`,
        ),
      );
  });
}
