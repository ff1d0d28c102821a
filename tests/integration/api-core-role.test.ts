import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { createServer as createHttpServer } from "node:http";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SchemaRegistry } from "@kafkajs/confluent-schema-registry";
import { SignJWT, exportJWK, generateKeyPair } from "jose";
import { describe, expect, onTestFinished, test } from "vitest";
import { ensureSecrets } from "../../infra/local/secrets.js";
import { compiledModule } from "../../infra/package-root.js";
import { ADMIN_PASSWORD, JWT_SECRET, startTestApi } from "../support/api.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "../support/engines.js";
import { eventually } from "../support/eventually.js";

/** The role as a process of its own. */
function startRole(settings: Record<string, string>): {
  child: ChildProcess;
  log: () => string;
  ended: Promise<[number | null, string | null]>;
} {
  const env = {
    ...process.env,
    KAFKA_BROKERS: kafkaConfig().brokers.join(","),
    CLICKHOUSE_URL: clickhouseConfig("default").url,
    TOPIC_PARTITIONS: "2",
    HOST: "127.0.0.1",
    PORT: "0",
    ...settings,
  };
  const child = spawn(process.execPath, [compiledModule("api/main")], { stdio: ["ignore", "pipe", "pipe"], env });
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  const ended = once(child, "close") as Promise<[number | null, string | null]>;
  onTestFinished(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await ended;
  });
  return { child, log: () => text, ended };
}

const addressIn = (log: string): string | undefined => /"address":"(http[^"]+)"/.exec(log)?.[1];

describe("node dist/api/main.js", () => {
  test("refuses to start, with one line that says what is missing", async () => {
    const prefix = uniquePrefix();
    const cases: [Record<string, string>, RegExp][] = [
      [{ TOPIC_PREFIX: prefix, ADMIN_PASSWORD }, /^neither JWT_SECRET nor JWKS_URL is set.*\n$/],
      [{ TOPIC_PREFIX: prefix, JWT_SECRET }, /^there is no admin who is enabled: set ADMIN_PASSWORD.*\n$/],
      [{ TOPIC_PREFIX: prefix, JWT_SECRET, ADMIN_PASSWORD, KAFKA_BROKERS: "" }, /^KAFKA_BROKERS is not set.*\n$/],
    ];
    for (const [settings, line] of cases) {
      const { ended, log } = startRole({ LOG_LEVEL: "error", ...settings });
      expect((await ended)[0]).toBe(1);
      expect(log()).toMatch(line);
    }
  });

  test("a port in use is reported in one line", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const { ended, log } = startRole({
      TOPIC_PREFIX: uniquePrefix(),
      JWT_SECRET,
      ADMIN_PASSWORD,
      PORT: String(port),
      LOG_LEVEL: "error",
    });
    expect((await ended)[0]).toBe(1);
    expect(log()).toBe(`PORT ${port} on 127.0.0.1 is taken by another process: stop it, or set PORT to a free one\n`);
  });

  test("starts with secrets from files, serves, finishes requests under way when told to stop, and exits", async () => {
    const folder = mkdtempSync(join(tmpdir(), "fraudstream-api-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const { jwtSecretFile, adminPasswordFile } = ensureSecrets(folder);
    const { child, ended, log } = startRole({
      TOPIC_PREFIX: uniquePrefix(),
      JWT_SECRET_FILE: jwtSecretFile,
      ADMIN_PASSWORD_FILE: adminPasswordFile,
    });
    const address = await eventually("the API listens", () => addressIn(log()));
    expect(await (await fetch(`${address}/api/v1/status`)).text()).toBe('{"status":"success","message":"pong!"}');
    expect(await (await fetch(`${address}/health/live`)).json()).toEqual({ status: "live" });
    expect((await fetch(`${address}/health/ready`)).status).toBe(503);
    const metrics = async (): Promise<string> => (await fetch(`${address}/metrics`)).text();
    expect(await metrics()).toContain(
      'fraudstream_http_requests_total{method="GET",route="/api/v1/status",status="200"} 1\n',
    );
    // A cluster that was just made has no group coordinator yet.
    await eventually("the lag is told", async () => (await metrics()).includes('transactions",partition="1"} 0\n'));

    // The head of a request is in, its body comes after the signal.
    const socket = connect(Number(new URL(address).port), "127.0.0.1");
    await once(socket, "connect");
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    const body = JSON.stringify({ username: "admin", password: "wrong password" });
    socket.write(
      `POST /api/v1/tokens HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: ` +
        `application/json\r\ncontent-length: ${body.length}\r\n\r\n`,
    );
    await eventually("the request has begun", () => text.includes("100 Continue"));
    child.kill("SIGTERM");
    await eventually("no new request is taken", () =>
      fetch(`${address}/api/v1/status`).then(
        ({ status }) => status === 503,
        () => true,
      ),
    );
    socket.write(body);
    await once(socket, "close");
    expect(text).toMatch(/HTTP\/1\.1 401 [^]*wrong_credentials/);
    expect(await ended).toEqual([0, null]);
    await expect(fetch(`${address}/api/v1/status`)).rejects.toThrow();
  });
});

test("a setting closes /metrics", async () => {
  const api = await startTestApi({ settings: { METRICS_OPEN: "false" } });
  expect((await api.inject(null, { url: "/metrics" })).json()).toMatchObject({ status: 404, code: "not_found" });
});

describe("tokens of an identity provider", () => {
  test("are checked with its keys and name a user, whom we can still disable; sign-in here is off", async () => {
    const { publicKey, privateKey } = await generateKeyPair("RS256", { extractable: true });
    const keys = { keys: [{ ...(await exportJWK(publicKey)), kid: "k1", alg: "RS256", use: "sig" }] };
    const provider = createHttpServer(
      (_request, response) => void response.setHeader("content-type", "application/json").end(JSON.stringify(keys)),
    ).listen(0, "127.0.0.1");
    await once(provider, "listening");
    onTestFinished(() => void provider.close());
    const url = `http://127.0.0.1:${(provider.address() as AddressInfo).port}/keys`;
    const settings = {
      JWT_SECRET: "",
      ADMIN_PASSWORD: "",
      ADMIN_USERNAME: "idp|root",
      JWKS_URL: url,
      JWT_ISSUER: "https://idp.example/",
      JWT_AUDIENCE: "fraud",
    };
    const api = await startTestApi({ settings });
    const token = (sub: string, change: { audience?: string; exp?: string; alg?: string } = {}) =>
      new SignJWT({ role: "admin" })
        .setProtectedHeader({ alg: "RS256", kid: "k1" })
        .setSubject(sub)
        .setIssuer("https://idp.example/")
        .setAudience(change.audience ?? "fraud")
        .setIssuedAt()
        .setExpirationTime(change.exp ?? "5m")
        .sign(privateKey);
    const get = async (path: string, text: string) =>
      (await api.app.inject({ url: path, headers: { authorization: `Bearer ${text}` } })).json<object>();

    expect(await get("/api/v1/users/me", await token("idp|root"))).toMatchObject({
      username: "idp|root",
      role: "admin",
    });
    expect(await get("/api/v1/users/me", await token("idp|nobody"))).toMatchObject({
      status: 401,
      code: "unknown_user",
    });
    expect(await get("/api/v1/users/me", await token("idp|root", { audience: "other" }))).toMatchObject({
      status: 401,
      code: "bad_token",
    });
    expect(await get("/api/v1/users/me", await token("idp|root", { exp: "-1m" }))).toMatchObject({
      status: 401,
      code: "token_expired",
    });
    const other = await generateKeyPair("RS256");
    const forged = await new SignJWT({})
      .setProtectedHeader({ alg: "RS256", kid: "k1" })
      .setSubject("idp|root")
      .setIssuer("https://idp.example/")
      .setAudience("fraud")
      .setExpirationTime("5m")
      .sign(other.privateKey);
    expect(await get("/api/v1/users/me", forged)).toMatchObject({ status: 401, code: "bad_token" });

    expect(
      (
        await api.inject(null, {
          method: "POST",
          url: "/api/v1/tokens",
          payload: { username: "idp|root", password: "x" },
        })
      ).json(),
    ).toMatchObject({ status: 403, code: "sign_in_off" });

    const made = await api.app.inject({
      method: "POST",
      url: "/api/v1/users",
      headers: { authorization: `Bearer ${await token("idp|root")}` },
      payload: { username: "idp|ann", password: "is never asked for", email: "a@b.example", role: "operator" },
    });
    const ann = await token("idp|ann");
    expect(await get("/api/v1/users/me", ann)).toMatchObject({ username: "idp|ann", role: "operator" });
    await api.app.inject({
      method: "PATCH",
      url: `/api/v1/users/${made.json<{ id: string }>().id}`,
      headers: { authorization: `Bearer ${await token("idp|root")}` },
      payload: { enabled: false },
    });
    expect(await get("/api/v1/users/me", ann)).toMatchObject({ status: 401, code: "user_disabled" });
  });

  test("a provider that can't be reached is a 503 that doesn't say where it is", async () => {
    const api = await startTestApi({
      settings: { JWT_SECRET: "", ADMIN_PASSWORD: "", ADMIN_USERNAME: "root", JWKS_URL: "http://127.0.0.1:9/keys" },
    });
    const { privateKey } = await generateKeyPair("RS256");
    const token = await new SignJWT({})
      .setProtectedHeader({ alg: "RS256", kid: "k1" })
      .setSubject("root")
      .setIssuer("fraudstream")
      .setAudience("fraudstream")
      .setExpirationTime("5m")
      .sign(privateKey);
    const answer = await api.app.inject({ url: "/api/v1/users/me", headers: { authorization: `Bearer ${token}` } });
    expect(answer.json()).toMatchObject({ status: 503, code: "jwks_unreachable" });
    expect(answer.body).not.toContain("127.0.0.1");
  });
});

test("a stock deserializer reads our records with the API as its registry", async () => {
  const api = await startTestApi();
  const address = await api.app.listen({ host: "127.0.0.1", port: 0 });
  const registry = new SchemaRegistry({ host: address });
  const label = { transaction_id: "t1", card_id: "c1", is_fraud: true, label_time: 1_700_000_000_000 };
  expect({ ...((await registry.decode(api.context.schemas.encode("labels", label))) as object) }).toMatchObject({
    transaction_id: "t1",
    is_fraud: true,
  });
  expect(await registry.getLatestSchemaId(`${api.prefix}labels-value`)).toBe(api.context.schemas.idOf("labels"));
  for (const [url, code] of [
    ["/schemas/ids/7", "unknown_schema"],
    ["/subjects/nothing/versions/latest", "unknown_subject"],
  ] as const)
    expect((await api.inject(null, { url })).json()).toMatchObject({ status: 404, code });
  for (const url of ["/schemas/ids/-1", "/schemas/ids/x", "/schemas/ids/1e99", "/schemas/ids/..%2f..%2f1"])
    expect((await api.inject(null, { url })).statusCode, url).toBe(400);
  expect(
    (
      await api.inject(null, {
        method: "POST",
        url: `/subjects/${api.prefix}labels-value/versions`,
        payload: { schema: "{}" },
      })
    ).statusCode,
  ).toBe(404);
  const withRegistry = await startTestApi({ settings: { SCHEMA_REGISTRY_URL: "http://127.0.0.1:9" } });
  expect((await withRegistry.inject(null, { url: "/schemas/ids/1000001" })).json()).toMatchObject({
    status: 404,
    code: "registry_elsewhere",
  });
});
