import { once } from "node:events";
import { connect, createServer } from "node:net";

/** Whether a port of this machine's loopback address is free. */
export async function isFree(port: number): Promise<boolean> {
  // Asked first: on some systems one can listen on 127.0.0.1 beside another process that has all addresses.
  if (await answers(port)) return false;
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return true;
  } catch {
    return false;
  } finally {
    if (server.listening) {
      server.close();
      await once(server, "close");
    }
  }
}

/** The first free `count` neighbouring ports from `first` on, in steps of `count`. */
export async function freePorts(first: number, count: number): Promise<number> {
  for (let port = first; port + count <= 65_536; port += count) {
    const free = await Promise.all(Array.from({ length: count }, (_, index) => isFree(port + index)));
    if (free.every(Boolean)) return port;
  }
  throw new Error(`no free port from ${first} on`);
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(500, () => done(true));
    socket.once("connect", () => done(true)).once("error", () => done(false));
  });
}
