import { connect } from "node:net";
import { UsageError } from "../schemas/errors.js";
import type { Config } from "./config.js";

/** What the configuration names, as far as it does. */
type Named = Pick<Config, "kafka" | "clickhouse">;

/**
 * Asks each server that the configuration names whether anybody is there, before anything waits for it.
 *
 * @throws UsageError `unreachable` with the address and the setting that names it
 */
export async function checkReachable({ kafka, clickhouse }: Named, withinMs: number): Promise<void> {
  const hosts = (kafka?.brokers ?? []).map((broker) => {
    const colon = broker.lastIndexOf(":");
    return { host: broker.slice(0, colon).replace(/^\[(.*)\]$/, "$1"), port: Number(broker.slice(colon + 1)) };
  });
  const why = await Promise.all(hosts.map((address) => whyNot(address, withinMs)));
  if (hosts.length > 0 && why.every((reason) => reason !== null)) {
    throw new UsageError("unreachable", `KAFKA_BROKERS is ${(kafka?.brokers ?? []).join(",")}, where nobody answers (${[...new Set(why)].join(", ")}): is Kafka running there, and is the address right?`);
  }
  if (clickhouse === null) return;
  const { hostname, port, protocol } = new URL(clickhouse.url);
  const reason = await whyNot({ host: hostname.replace(/^\[(.*)\]$/, "$1"), port: Number(port === "" ? (protocol === "https:" ? 443 : 80) : port) }, withinMs);
  if (reason !== null) throw new UsageError("unreachable", `CLICKHOUSE_URL is ${clickhouse.url.replace(/\/\/[^/@]*@/, "//…@")}, where nobody answers (${reason}): is ClickHouse running there, and is the address right?`);
}

/** Null: somebody listens there. */
function whyNot({ host, port }: { host: string; port: number }, withinMs: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (why: string | null): void => {
      socket.destroy();
      resolve(why);
    };
    socket.setTimeout(withinMs, () => end(`no answer within ${withinMs / 1000} s`));
    socket.once("connect", () => end(null));
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
}
