/**
 * The local ClickHouse server, a process of its own: `node clickhouse-server.js DATA-PATH PORT`, started by
 * clickhouse-chdb.ts. It takes the first free port from PORT on, tells its parent `{port}`, and ends on SIGTERM or when
 * its parent is gone.
 */
import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { messageOf } from "../../schemas/errors.js";
import { ClickHouseEngine } from "./clickhouse-engine.js";
import { createClickHouseHttp } from "./clickhouse-http.js";
import { isFree } from "./ports.js";

/** Queries at a time; clickhouse-chdb.ts gives libuv more threads than that. */
const MAX_RUNNING = 8;
const GRACE_MS = 10_000;

async function main(path: string, firstPort: number): Promise<void> {
  // In a terminal Ctrl-C reaches the whole process group; the one who started this server decides when it ends.
  process.on("SIGINT", () => undefined);
  let end = (): void => process.exit(0);
  process.on("SIGTERM", () => end());
  process.on("disconnect", () => end());
  // The parent may be gone already.
  if (process.connected === false) end();

  mkdirSync(path, { recursive: true });
  const engine = await openEngine(path);
  const spoolFolder = `${path}-spool`;
  // The path's lock is ours now, so what is in the folder comes from a server that was killed.
  rmSync(spoolFolder, { recursive: true, force: true });
  mkdirSync(spoolFolder, { mode: 0o700 });
  const timezone = Buffer.from(
    (await engine.run({ sql: "SELECT timezone()", format: "TabSeparatedRaw", database: null, settings: [] }, 1 << 20))
      .bytes,
  )
    .toString()
    .trim();
  const server = createClickHouseHttp({
    engine,
    timezone,
    spoolFolders: ["/dev/shm", spoolFolder],
    maxStatementBytes: 16 << 20,
    maxResultBytes: 256 << 20,
  });
  const port = await listen(server, firstPort);

  end = () => {
    end = () => undefined;
    // Requests in hand are finished; one that never ends does not hold up the end.
    setTimeout(() => process.exit(0), GRACE_MS).unref();
    server.close(() => {
      engine.close();
      process.exit(0);
    });
    // A connection is idle only once its answer is sent.
    setInterval(() => server.closeIdleConnections(), 50);
  };
  process.send?.({ port });
}

/** A process that was just killed may hold the path's lock for another second. */
async function openEngine(path: string): Promise<ClickHouseEngine> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return new ClickHouseEngine(path, MAX_RUNNING);
    } catch (error) {
      if (attempt >= 40 || !/lock/i.test(messageOf(error))) throw error;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

async function listen(server: Server, firstPort: number): Promise<number> {
  for (let port = firstPort; ; port += 1) {
    if (port !== 0 && !(await isFree(port))) continue;
    try {
      server.listen(port, "127.0.0.1");
      await once(server, "listening");
      return (server.address() as AddressInfo).port;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    }
  }
}

const [path, port] = process.argv.slice(2);
await main(path, Number(port));
