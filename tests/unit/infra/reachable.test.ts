import { once } from "node:events";
import { createServer as createHttp } from "node:http";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { checkReachable, waitUntilReachable } from "../../../infra/reachable.js";

const kafkaAt = (...brokers: string[]) => ({ kafka: { brokers, ssl: false, sasl: null }, clickhouse: null });
const overTls = (...brokers: string[]) => ({ kafka: { brokers, ssl: true, sasl: null }, clickhouse: null });
const clickhouseAt = (url: string) => ({
  kafka: null,
  clickhouse: { url, username: "default", password: "", database: "fraud" },
});

async function listening(server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  const open = new Set<Socket>();
  server.on("connection", (socket: Socket) => open.add(socket.on("error", () => undefined)));
  server.on("tlsClientError", () => undefined);
  onTestFinished(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
  await once(server, "listening");
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Answers as a broker does: the length, and the correlation id of the question. */
const broker = () =>
  createServer((socket) =>
    socket.on("data", (question: Buffer) =>
      socket.write(Buffer.concat([Buffer.from([0, 0, 0, 10]), question.subarray(8, 12), Buffer.alloc(6)])),
    ),
  );
const http = (status: number, text: string) =>
  createHttp((_request, response) => void response.writeHead(status).end(text));
const said = (text: RegExp) => ({ code: "unreachable", message: expect.stringMatching(text) as string });

test("one broker that answers is enough, and a ping to ClickHouse", async () => {
  await checkReachable(kafkaAt("127.0.0.1:1", await listening(broker())), 1_000);
  await checkReachable(clickhouseAt(`http://${await listening(http(200, "Ok.\n"))}`), 1_000);
});

test("names the address and the setting at once if nobody answers", async () => {
  await expect(checkReachable(kafkaAt("127.0.0.1:1", "127.0.0.1:2"), 1_000)).rejects.toMatchObject(
    said(
      new RegExp(
        "^KAFKA_BROKERS is 127\\.0\\.0\\.1:1,127\\.0\\.0\\.1:2, where no Kafka broker can be reached " +
          "\\(ECONNREFUSED: nothing listens on that port\\)",
      ),
    ),
  );
  await expect(checkReachable(clickhouseAt("http://u:hidden@127.0.0.1:1"), 1_000)).rejects.toMatchObject(
    said(/^CLICKHOUSE_URL is http:\/\/…@127\.0\.0\.1:1, where no ClickHouse can be reached \(ECONNREFUSED/),
  );
  await expect(checkReachable(clickhouseAt("http://nowhere.invalid:8123"), 3_000)).rejects.toMatchObject(
    said(/http:\/\/nowhere\.invalid:8123, .*(no such host is known|looked up)/),
  );
  await expect(checkReachable(kafkaAt("nowhere.invalid:9092"), 3_000)).rejects.toMatchObject(
    said(/^KAFKA_BROKERS is nowhere\.invalid:9092, .*(no such host is known|looked up)/),
  );
});

test("a server that accepts connections and sends nothing is not waited for", async () => {
  const silent = await listening(createServer());
  await expect(checkReachable(kafkaAt(silent), 200)).rejects.toMatchObject(said(/no answer within 0\.2 s/));
  await expect(checkReachable(clickhouseAt(`http://${silent}`), 200)).rejects.toMatchObject(
    said(/no answer within 0\.2 s/),
  );
});

test("says which other protocol a port speaks", async () => {
  await expect(checkReachable(kafkaAt(await listening(http(400, "no"))), 2_000)).rejects.toMatchObject(
    said(/it answers in HTTP: that is no Kafka broker/),
  );
  await expect(
    checkReachable(
      kafkaAt(await listening(createServer((socket) => socket.write("220 mail.example ESMTP\r\n")))),
      2_000,
    ),
  ).rejects.toMatchObject(said(/it does not answer as a Kafka broker does/));
  await expect(
    checkReachable(kafkaAt(await listening(createServer((socket) => socket.on("data", () => socket.end())))), 2_000),
  ).rejects.toMatchObject(said(/it closes the connection; it may expect TLS: then set KAFKA_SSL=true/));
  await expect(
    checkReachable(clickhouseAt(`http://${await listening(http(404, "not here"))}`), 2_000),
  ).rejects.toMatchObject(said(/it answers with HTTP status 404, not as ClickHouse does/));
  const native = http(400, "Port 9000 is for clickhouse-client program\r\nYou must use port 8123 for HTTP.\r\n");
  await expect(checkReachable(clickhouseAt(`http://${await listening(native)}`), 2_000)).rejects.toMatchObject(
    said(/that is the port of clickhouse-client: name the one for HTTP/),
  );
  await expect(
    checkReachable(
      clickhouseAt(`http://${await listening(createServer((socket) => socket.on("data", () => socket.end())))}`),
      2_000,
    ),
  ).rejects.toMatchObject(said(/it closes the connection; it may be no ClickHouse/));
});

test("says if TLS is expected, and if it is not", async () => {
  await expect(checkReachable(kafkaAt(await listening(createTls({}))), 2_000)).rejects.toMatchObject(
    said(/it (expects TLS: set KAFKA_SSL=true|closes the connection; it may expect TLS)/),
  );
  await expect(checkReachable(clickhouseAt(`http://${await listening(createTls({}))}`), 2_000)).rejects.toMatchObject(
    said(/write https:\/\/ where it expects TLS|it closes the connection/),
  );
  await expect(checkReachable(overTls(await listening(http(400, "no"))), 2_000)).rejects.toMatchObject(
    said(/it does not answer in TLS: is KAFKA_SSL \(or KAFKA_TLS_CA\) right/),
  );
  await expect(
    checkReachable(clickhouseAt(`https://${await listening(http(200, "Ok.\n"))}`), 2_000),
  ).rejects.toMatchObject(said(/^CLICKHOUSE_URL is https:.*it does not answer in TLS: write http:\/\//));
});

test("a role keeps trying, reports it periodically, and ends with one line", async () => {
  const lines: string[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
  const { signal } = new AbortController();
  const away = clickhouseAt("http://127.0.0.1:1");
  await expect(
    waitUntilReachable(away, { log, signal, forMs: 300, sayEveryMs: 10_000, againMs: 20 }),
  ).rejects.toMatchObject(said(/CLICKHOUSE_URL is http:\/\/127\.0\.0\.1:1, .* It was tried for 0 s$/));
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("It is tried again");

  // What a role can do without is missed in a line, and not waited for.
  await waitUntilReachable({ kafka: null, clickhouse: null }, { log, signal, without: away });
  await expect.poll(() => lines.length).toBe(2);
  expect(lines[1]).toContain("This role goes on without it for now");
});

test("a role's wait ends as soon as the server is up, or the role is stopped", async () => {
  const log = pino({ level: "silent" });
  const free = createServer();
  const address = await listening(free);
  const port = Number(address.split(":")[1]);
  await new Promise((resolve) => free.close(resolve));
  const waiting = waitUntilReachable(kafkaAt(address), {
    log,
    signal: new AbortController().signal,
    forMs: 20_000,
    againMs: 20,
  });
  const later = broker().listen(port, "127.0.0.1");
  onTestFinished(() => void later.close());
  await waiting;

  const stop = new AbortController();
  const stopped = waitUntilReachable(kafkaAt("127.0.0.1:1"), {
    log,
    signal: stop.signal,
    forMs: 20_000,
    againMs: 10_000,
  });
  setTimeout(() => stop.abort(), 50);
  await expect(stopped).rejects.toMatchObject({ name: "AbortError" });
});
