import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { basename } from "node:path";
import { pipeline } from "node:stream/promises";

/**
 * Serves one file on 127.0.0.1, as its bytes are, under a path that cannot be guessed. It keeps its port until it is
 * closed, also while there is nothing to serve: who may fetch from here may so never reach a server of somebody else.
 */
export class FileServer {
  readonly #server: Server;
  /** `127.0.0.1:<port>` */
  readonly address: string;
  #offered: { path: string; file: string } | null = null;

  private constructor(server: Server) {
    this.#server = server;
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on("request", (request, response) => {
      void this.#answer(request.method ?? "", request.url ?? "", response);
    });
  }

  static async listen(): Promise<FileServer> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
    return new FileServer(server);
  }

  /** @returns the link to the file, good until the server is closed, or offers another */
  offer(file: string): string {
    const path = `/${randomBytes(24).toString("base64url")}/${encodeURIComponent(basename(file))}`;
    this.#offered = { path, file };
    return `http://${this.address}${path}`;
  }

  async close(): Promise<void> {
    this.#offered = null;
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(method: string, path: string, response: ServerResponse): Promise<void> {
    const offered = this.#offered;
    if (offered === null || method !== "GET" || path !== offered.path) {
      response.writeHead(404, { connection: "close" }).end();
      return;
    }
    try {
      const { size } = await stat(offered.file);
      response.writeHead(200, {
        "content-type": "application/octet-stream",
        "content-length": size,
        connection: "close",
      });
      await pipeline(createReadStream(offered.file), response);
    } catch {
      // The file is gone, or the caller: a broken answer tells the one who is left.
      response.destroy();
    }
  }
}
