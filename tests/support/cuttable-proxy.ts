import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/** A TCP proxy on loopback in front of a real server, whose connections a test can cut. */
export interface CuttableProxy {
  port: number;
  /**
   * `up`: passes everything. `down`: refuses and cuts. `deaf`: passes requests on, but cuts before the answer comes
   * back. `dying`: the same before the second piece of an answer that a connection gets. `silent`: accepts connections
   * and requests, and passes nothing on.
   */
  mode: "up" | "down" | "deaf" | "dying" | "silent";
  /** Connections that were cut before an answer. */
  readonly cuts: number;
  close(): Promise<void>;
}

export async function cuttableProxy(target: { host: string; port: number }): Promise<CuttableProxy> {
  const sockets = new Set<Socket>();
  let mode: CuttableProxy["mode"] = "up";
  let cuts = 0;
  const server = createServer((client) => {
    if (mode === "down") {
      client.destroy();
      return;
    }
    const upstream = connect(target.port, target.host);
    const end = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", end).on("close", () => (sockets.delete(socket), end()));
    }
    client.on("data", (bytes) => mode === "silent" || upstream.write(bytes));
    let answered = false;
    upstream.on("data", (bytes) => {
      if (mode === "silent") return;
      if (mode === "deaf" || (mode === "dying" && answered)) {
        cuts += 1;
        return end();
      }
      answered = true;
      client.write(bytes);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    get cuts() {
      return cuts;
    },
    get mode() {
      return mode;
    },
    set mode(next) {
      mode = next;
      if (next === "down") for (const socket of sockets) socket.destroy();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
