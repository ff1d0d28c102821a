import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A web server of the test's own on 127.0.0.1. */
export interface StaticServer {
  /** `http://127.0.0.1:<port>` */
  origin: string;
  port: number;
  /** Paths that were asked for. */
  asked: string[];
}

/** Starts a web server with a page for each path; the end of the test stops it. */
export async function staticServer(
  pages: Readonly<Record<string, Handler | string | Uint8Array>>,
): Promise<StaticServer> {
  const asked: string[] = [];
  const server: Server = createServer((request, response) => {
    const path = request.url ?? "/";
    asked.push(path);
    const page = pages[path];
    if (typeof page === "function") page(request, response);
    else if (page === undefined) response.writeHead(404).end("no such page");
    else response.end(page);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return { origin: `http://127.0.0.1:${port}`, port, asked };
}

export function redirect(location: string, status = 302): Handler {
  return (_request, response) => void response.writeHead(status, { location }).end();
}

/** A page that is sent to its middle, and on once it is released, whichever comes first. */
export function heldPage(text: string): { page: Handler; release: () => void } {
  let release: () => void = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  const half = Math.floor(text.length / 2);
  return {
    release,
    page: (_request, response) => {
      response.writeHead(200, { "content-length": text.length, "content-type": "text/csv" });
      response.write(text.slice(0, half));
      void released.then(() => response.end(text.slice(half)));
    },
  };
}
