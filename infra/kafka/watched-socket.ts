import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { ISocketFactory } from "kafkajs";

/** The first answer on a connection: a broker that lives gives it at once. */
const FIRST_ANSWER_MS = 4_000;
/** Later ones may wait for replicas, or for a group to gather. */
const ANSWER_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;

/**
 * Makes kafkajs' sockets, each of which ends when its broker is silent: kafkajs would ask the same one again, twenty times,
 * since a question without an answer is no broken connection to it. With one it goes to the next broker.
 */
export function watchedSockets(heard: (broker: string, answered: boolean) => void): ISocketFactory {
  return ({ host, port, ssl, onConnect }) => {
    const options = { host, port };
    const socket = ssl
      ? connectTls({ ...options, ...(isIP(host) === 0 ? { servername: host } : {}), ...(ssl as object) }, onConnect)
      : connect(options, onConnect);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    watch(socket, (answered) => heard(`${host}:${port}`, answered));
    return socket;
  };
}

function watch(socket: Socket, heard: (answered: boolean) => void): void {
  let timer: NodeJS.Timeout | null = null;
  let patience = FIRST_ANSWER_MS;
  const stop = (): void => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
  };
  const write = socket.write.bind(socket);
  socket.write = ((...args: Parameters<typeof write>) => {
    timer ??= setTimeout(() => {
      heard(false);
      socket.destroy(new Error(`the broker did not answer within ${patience} ms`));
    }, patience);
    return write(...args);
  }) as typeof socket.write;
  socket.on("data", () => {
    stop();
    patience = ANSWER_MS;
    heard(true);
  });
  socket.on("close", stop);
}
