import { Agent, request as httpRequest, type IncomingHttpHeaders } from "node:http";

/** What came back; status 0: nothing did, within the time. */
export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  ms: number;
}

const NOTHING = 0;

/** Asks roles over HTTP. Never throws: that nothing came back is an answer that is counted, too. */
export class HttpClient {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 512 });
  token = "";

  ask(
    port: number,
    method: "GET" | "POST" | "PUT",
    path: string,
    { body, timeoutMs = 10_000 }: { body?: unknown; timeoutMs?: number } = {},
  ): Promise<Answer> {
    const text = body === undefined ? "" : JSON.stringify(body);
    const headers = {
      ...(this.token === "" ? {} : { authorization: `Bearer ${this.token}` }),
      ...(body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
    };
    const started = performance.now();
    return new Promise((resolve) => {
      const done = (status: number, answered: IncomingHttpHeaders = {}, content = ""): void => {
        clearTimeout(timer);
        resolve({ status, headers: answered, text: content, ms: performance.now() - started });
      };
      const request = httpRequest(
        { agent: this.#agent, host: "127.0.0.1", port, method, path, headers },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk)).on("error", () => done(NOTHING));
          response.on("end", () =>
            done(response.statusCode ?? NOTHING, response.headers, Buffer.concat(chunks).toString()),
          );
        },
      );
      const timer = setTimeout(() => request.destroy(new Error("late")), timeoutMs);
      request.on("error", () => done(NOTHING)).end(text);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
