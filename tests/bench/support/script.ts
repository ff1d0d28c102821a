import { spawn } from "node:child_process";
import { once } from "node:events";
import { compiledModule } from "../../../infra/package-root.js";
import type { BenchContext } from "./context.js";

/** A benchmark that is a program of its own, so that its CPU time is its own; what it prints is passed on. */
export function script(module: string, ...args: string[]): (context: BenchContext) => Promise<void> {
  return async ({ clickhouse, kafka }) => {
    const env = {
      ...process.env,
      CLICKHOUSE_URL: clickhouse.url,
      CLICKHOUSE_USER: clickhouse.username,
      CLICKHOUSE_PASSWORD: clickhouse.password,
      KAFKA_BROKERS: kafka.brokers.join(","),
    };
    const child = spawn(process.execPath, [compiledModule(module), ...args], {
      env,
      stdio: ["ignore", "inherit", "inherit"],
    });
    const [code] = (await once(child, "exit")) as [number | null];
    if (code !== 0) throw new Error(`${module} ended with ${code ?? "a signal"}`);
  };
}
