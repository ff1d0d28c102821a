import { createRequire } from "node:module";
import { join } from "node:path";
import { rememberedPort, rememberPort } from "./data-dir.js";
import type { EngineStart, RunningEngine } from "./engine.js";
import { EngineProcess } from "./engine-process.js";

const START_MS = 60_000;
const STOP_MS = 20_000;

/**
 * Whether the optional package `chdb` was installed with the library for this system (it is left out of containers).
 */
export function canRunChdb(): boolean {
  const library = `@chdb/lib-${process.platform}-${process.arch}${process.platform === "linux" ? "-gnu" : ""}`;
  try {
    createRequire(createRequire(import.meta.url).resolve("chdb")).resolve(library);
    return true;
  } catch {
    return false;
  }
}

/**
 * ClickHouse as a process of its own over the `chdb` package, data in `DATA_DIR/clickhouse`, on the first free port
 * from 8123 on.
 */
export async function startChdb(start: EngineStart): Promise<RunningEngine> {
  const path = join(start.dataDir, "clickhouse");
  start.progress("Starting ClickHouse (chdb)");
  const server = await EngineProcess.start({
    name: "ClickHouse (chdb)",
    module: "infra/local/clickhouse-server",
    args: [path, String(rememberedPort(start.dataDir, "clickhouse", 8123))],
    logFile: join(start.dataDir, "logs/clickhouse.log"),
    // Each running query holds a thread of libuv's pool; spooling and compression need some, too.
    env: { UV_THREADPOOL_SIZE: "16" },
  });
  try {
    start.lock.addEngine(server.pid);
    const port = Number(await server.message("port", START_MS, start.signal));
    rememberPort(start.dataDir, "clickhouse", port);
    const address = `http://127.0.0.1:${port}`;
    return {
      address,
      how: `ClickHouse (chdb) on ${address}, data in ${path}`,
      ended: server.ended,
      failure: (what) => server.failure(what),
      stop: () => server.stop(STOP_MS),
    };
  } catch (error) {
    await server.stop(STOP_MS);
    throw error;
  }
}
