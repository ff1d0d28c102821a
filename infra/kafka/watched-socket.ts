import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { ISocketFactory } from "kafkajs";

/**
 * Requests that a broker answers at once, by their number in the protocol: those about itself and the cluster, and
 * heartbeats.
 */
const AT_ONCE = new Set([3, 10, 12, 18]);
/** A live broker answers them, and the first request on a connection, within this time. */
const AT_ONCE_MS = 4_000;
/**
 * A broker that was silent before gets this long on a new connection: kafkajs tries it again and again while it looks
 * for another.
 */
const SILENT_BEFORE_MS = 2_000;
/** Other requests may wait for replicas, or for a group to gather. */
const ANSWER_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;
/** Requests and responses begin with their length; a request's API number follows. */
const LENGTH_BYTES = 4;

/**
 * Creates kafkajs' sockets, each of which closes when its broker is silent: kafkajs would otherwise ask the same broker
 * again, twenty times, since it does not take an unanswered request for a broken connection. When the connection
 * breaks, it moves on to the next broker.
 */
export function watchedSockets(
  heard: (broker: string, answered: boolean) => void,
  wasSilent: (broker: string) => boolean,
): ISocketFactory {
  return ({ host, port, ssl, onConnect }) => {
    const options = { host, port };
    const socket = ssl
      ? connectTls({ ...options, ...(isIP(host) === 0 ? { servername: host } : {}), ...(ssl as object) }, onConnect)
      : connect(options, onConnect);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const broker = `${host}:${port}`;
    watch(socket, (answered) => heard(broker, answered), wasSilent(broker) ? SILENT_BEFORE_MS : AT_ONCE_MS);
    return socket;
  };
}

/** A broker answers the requests of a connection in order: the oldest one is the one being waited for. */
export function watch(socket: Socket, heard: (answered: boolean) => void, firstMs = AT_ONCE_MS): void {
  /** How long each request without a complete response may wait, oldest first. */
  const waiting: number[] = [];
  const answers = new Frames(() => waiting.shift());
  let timer: NodeJS.Timeout | null = null;
  let first = true;
  const stop = (): void => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
  };
  const start = (): void => {
    const patience = waiting.at(0);
    if (timer !== null || patience === undefined) return;
    timer = setTimeout(() => {
      heard(false);
      socket.destroy(new Error(`the broker did not answer within ${patience} ms`));
    }, patience);
  };
  const write = socket.write.bind(socket);
  socket.write = ((...args: Parameters<typeof write>) => {
    waiting.push(first ? firstMs : isAnsweredAtOnce(args[0]) ? AT_ONCE_MS : ANSWER_MS);
    first = false;
    start();
    return write(...args);
  }) as typeof socket.write;
  socket.on("data", (bytes: Buffer) => {
    stop();
    answers.take(bytes);
    heard(true);
    start();
  });
  socket.on("close", stop);
}

/** kafkajs writes each request as one piece. */
function isAnsweredAtOnce(request: unknown): boolean {
  return (
    Buffer.isBuffer(request) && request.length > LENGTH_BYTES + 1 && AT_ONCE.has(request.readInt16BE(LENGTH_BYTES))
  );
}

/** Counts the complete responses in a stream of bytes. */
class Frames {
  readonly #onWhole: () => void;
  #head = Buffer.alloc(0);
  /** Bytes still missing from the response under way. */
  #left = 0;

  constructor(onWhole: () => void) {
    this.#onWhole = onWhole;
  }

  take(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#left === 0) {
        const head = bytes.subarray(at, at + LENGTH_BYTES - this.#head.length);
        this.#head = Buffer.concat([this.#head, head]);
        at += head.length;
        if (this.#head.length < LENGTH_BYTES) return;
        this.#left = Math.max(0, this.#head.readInt32BE(0));
        this.#head = Buffer.alloc(0);
      }
      const taken = Math.min(this.#left, bytes.length - at);
      this.#left -= taken;
      at += taken;
      if (this.#left === 0) this.#onWhole();
    }
  }
}
