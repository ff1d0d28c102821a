import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** What a proxy does to the bytes that pass it. */
export type ProxyMode =
  | { kind: "up" }
  /** Connections are cut, and new ones too, as soon as they are made. */
  | { kind: "down" }
  /** Nothing passes and nobody is told, as when packets are dropped; afterwards everything arrives. */
  | { kind: "silent" }
  /** Everything comes later, and no faster than this. */
  | { kind: "slow"; delayMs: number; bytesPerSecond: number };

/** Bytes that may wait in one direction before the sender is held back. */
const MOST_WAITING = 256 * 1024;

/** A TCP proxy on loopback between one role and one engine. */
export class Proxy {
  readonly port: number;
  readonly #server: Server;
  readonly #links = new Set<Link>();
  readonly #target: { port: number };
  #mode: ProxyMode = { kind: "up" };

  private constructor(server: Server, target: { port: number }) {
    this.#server = server;
    this.#target = target;
    this.port = (server.address() as AddressInfo).port;
    server.on("connection", (client) => this.#accept(client));
  }

  /** @param target its port may change, and may be known later */
  static async open(target: { port: number }): Promise<Proxy> {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Proxy(server, target);
  }

  get mode(): ProxyMode {
    return this.#mode;
  }

  set mode(mode: ProxyMode) {
    this.#mode = mode;
    for (const link of [...this.#links]) {
      if (mode.kind === "down") link.cut();
      else link.changed();
    }
  }

  async close(): Promise<void> {
    for (const link of [...this.#links]) link.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(client: Socket): void {
    client.on("error", () => client.destroy());
    if (this.#mode.kind === "down") {
      client.destroy();
      return;
    }
    const link = new Link(
      client,
      connect(this.#target.port, "127.0.0.1"),
      () => this.#mode,
      () => this.#links.delete(link),
    );
    this.#links.add(link);
  }
}

/** One connection through the proxy. */
class Link {
  readonly #directions: Direction[];
  readonly #sockets: Socket[];
  #cut = false;
  readonly #onEnd: () => void;

  constructor(client: Socket, server: Socket, mode: () => ProxyMode, onEnd: () => void) {
    this.#sockets = [client, server];
    this.#onEnd = onEnd;
    this.#directions = [new Direction(client, server, mode), new Direction(server, client, mode)];
    for (const socket of this.#sockets) {
      socket.setNoDelay(true);
      socket.on("error", () => this.cut()).on("close", () => this.cut());
    }
    this.changed();
  }

  changed(): void {
    for (const direction of this.#directions) direction.changed();
  }

  cut(): void {
    if (this.#cut) return;
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
    this.#onEnd();
  }
}

/** Bytes one way, in their order whatever the mode. */
class Direction {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #mode: () => ProxyMode;
  readonly #waiting: { bytes: Buffer | null; at: number }[] = [];
  #waitingBytes = 0;
  #readyAt = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(from: Socket, to: Socket, mode: () => ProxyMode) {
    this.#from = from;
    this.#to = to;
    this.#mode = mode;
    from.on("data", (bytes: Buffer) => this.#take(bytes)).on("end", () => this.#take(null));
    to.on("drain", () => this.#flow());
  }

  changed(): void {
    this.#readyAt = 0;
    if (this.#mode().kind !== "slow") for (const each of this.#waiting) each.at = 0;
    this.#pass();
    this.#flow();
  }

  #take(bytes: Buffer | null): void {
    const mode = this.#mode();
    const now = performance.now();
    if (mode.kind === "slow")
      this.#readyAt =
        Math.max(this.#readyAt, now) +
        (this.#readyAt > now ? 0 : mode.delayMs) +
        ((bytes?.length ?? 0) / mode.bytesPerSecond) * 1_000;
    this.#waiting.push({ bytes, at: mode.kind === "slow" ? this.#readyAt : 0 });
    this.#waitingBytes += bytes?.length ?? 0;
    this.#pass();
    this.#flow();
  }

  /** Writes what is due; what was sent first goes first. */
  #pass(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#mode().kind === "silent") return;
    for (const now = performance.now(); this.#waiting.length > 0 && this.#waiting[0].at <= now;) {
      const [{ bytes }] = this.#waiting.splice(0, 1);
      this.#waitingBytes -= bytes?.length ?? 0;
      if (this.#to.destroyed) continue;
      if (bytes === null) this.#to.end();
      else this.#to.write(bytes);
    }
    if (this.#waiting.length > 0) {
      this.#timer = setTimeout(
        () => {
          this.#pass();
          this.#flow();
        },
        Math.max(1, this.#waiting[0].at - performance.now()),
      );
    }
  }

  #flow(): void {
    if (this.#mode().kind === "silent" || this.#waitingBytes > MOST_WAITING || this.#to.writableNeedDrain)
      this.#from.pause();
    else this.#from.resume();
  }
}
