import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createHmac, randomUUID } from "node:crypto";
import { Writable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ADMIN_PASSWORD, JWT_SECRET, startTestApi, type TestApi } from "../support/api.js";

let api: TestApi;
const logged: string[] = [];

beforeAll(async () => {
  const out = new Writable({
    write(chunk: Buffer, _encoding, done) {
      logged.push(chunk.toString());
      done();
    },
  });
  api = await startTestApi({ log: pino({ level: "trace" }, out) });
});
afterAll(() => api.close());

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const signedBy = (secret: string, head: object, claims: object): string => {
  const text = `${part(head)}.${part(claims)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
};
const withToken = (token: string) =>
  api.app.inject({ url: "/api/v1/users/me", headers: { authorization: `Bearer ${token}` } });
const json = { "content-type": "application/json" };

describe("tokens", () => {
  test("forged, expired, future, foreign or missing tokens: 401 with a code and a challenge", async () => {
    const [admin] = api.context.users.all();
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      sub: admin.id,
      ver: admin.token_version,
      iss: "fraudstream",
      aud: "fraudstream",
      iat: now,
      nbf: now,
      exp: now + 60,
    };
    const head = { alg: "HS256", typ: "JWT" };
    expect((await withToken(signedBy(JWT_SECRET, head, claims))).json()).toMatchObject({
      username: "admin",
      role: "admin",
    });
    const cases: [string, string][] = [
      [signedBy("some other secret of at least 32 bytes", head, claims), "bad_token"],
      [`${part({ alg: "none", typ: "JWT" })}.${part(claims)}.`, "bad_token"],
      [signedBy(JWT_SECRET, { ...head, alg: "HS512" }, claims), "bad_token"],
      [signedBy(JWT_SECRET, { ...head, alg: "RS256" }, claims), "bad_token"],
      [signedBy(JWT_SECRET, head, { ...claims, exp: now - 60 }), "token_expired"],
      [signedBy(JWT_SECRET, head, { ...claims, nbf: now + 60 }), "token_not_yet_valid"],
      [signedBy(JWT_SECRET, head, { ...claims, iat: now + 60 }), "token_not_yet_valid"],
      [signedBy(JWT_SECRET, head, { ...claims, iss: "other" }), "bad_token"],
      [signedBy(JWT_SECRET, head, { ...claims, aud: "other" }), "bad_token"],
      [signedBy(JWT_SECRET, head, { ...claims, sub: randomUUID() }), "unknown_user"],
      [signedBy(JWT_SECRET, head, { ...claims, ver: admin.token_version + 1 }), "token_revoked"],
      // What a token says of a role is not asked for.
      [signedBy(JWT_SECRET, head, { ...claims, sub: "admin", role: "admin" }), "unknown_user"],
    ];
    for (const [token, code] of cases) {
      const answer = await withToken(token);
      expect(answer.json()).toMatchObject({ status: 401, code });
      expect(answer.headers["www-authenticate"]).toContain("Bearer");
      expect(answer.body).not.toContain(token);
    }
    for (const authorization of ["", "Bearer", "Basic YWRtaW46YWRtaW4=", "Bearer a b", `Bearer ${"a".repeat(5_000)}`]) {
      expect((await api.app.inject({ url: "/api/v1/users/me", headers: { authorization } })).statusCode).toBe(401);
    }
  });

  test("every route except the public ones asks for a token, also for odd paths and methods", async () => {
    for (const [method, url] of [
      ["GET", "/api/v1/users"],
      ["PATCH", "/api/v1/users/1"],
      ["DELETE", "/api/v1/users/1"],
      ["GET", "/api/v1/users/me"],
      ["HEAD", "/api/v1/users"],
      ["POST", "/api/v1/users"],
    ] as const) {
      expect((await api.app.inject({ method, url })).statusCode, `${method} ${url}`).toBe(401);
    }
    for (const url of [
      "/api/v1/status/../users",
      "//api/v1/users",
      "/api/v1/users/",
      "/api/v1/Users",
      "/api/v1/users%2f",
      "/api/v1/users;x",
      "/doc/../api/v1/users",
      "/health/../api/v1/users",
      "/api/v1/%2e%2e/users",
    ]) {
      expect((await api.app.inject({ url })).statusCode, url).toBeGreaterThanOrEqual(400);
    }
  });
});

describe("passwords", () => {
  test(
    "thousands of wrong ones are told to wait, for the name and for the address; who has signed in from an " +
      "address before comes in all the same",
    async () => {
      const strict = await startTestApi({ settings: { SIGN_IN_RATE_LIMIT: "30" } });
      const attempt = (password: string, remoteAddress: string, username = "admin") =>
        strict.app.inject({ method: "POST", url: "/api/v1/tokens", payload: { username, password }, remoteAddress });
      expect((await attempt(ADMIN_PASSWORD, "203.0.113.9")).statusCode).toBe(200);
      const counts = new Map<number, number>();
      for (let i = 0; i < 3_000; i++) {
        const { statusCode, headers } = await attempt(`wrong ${i}`, "198.51.100.1");
        counts.set(statusCode, (counts.get(statusCode) ?? 0) + 1);
        if (statusCode === 429) expect(Number(headers["retry-after"])).toBeGreaterThan(0);
        // `inject` alone would leave the sockets of Kafka no turn.
        if (i % 20 === 0) await nextTurn();
      }
      expect([...counts.keys()].sort()).toEqual([401, 429]);
      expect(counts.get(401)).toBeLessThanOrEqual(15);
      expect((await attempt(ADMIN_PASSWORD, "198.51.100.1")).json()).toMatchObject({
        status: 429,
        code: "too_many_requests",
      });
      // From other addresses, too; and all names from one.
      const last = [];
      for (let i = 0; i < 60; i++)
        last.push(
          (await attempt(`wrong ${i}`, `198.51.100.${2 + i}`)).statusCode,
          (await attempt("wrong", "203.0.113.9", `user-${i}`)).statusCode,
        );
      expect(last.slice(-2)).toEqual([429, 429]);
      expect((await attempt(ADMIN_PASSWORD, "203.0.113.10")).statusCode).toBe(429);
      expect((await attempt(ADMIN_PASSWORD, "203.0.113.9")).statusCode).toBe(200);
      // Right ones count nothing.
      for (let i = 0; i < 40; i++) expect((await attempt(ADMIN_PASSWORD, "203.0.113.9")).statusCode).toBe(200);
    },
    180_000,
  );

  test("an unknown user, a disabled user and a wrong password get the same answer", async () => {
    const attempt = (username: string, password: string) =>
      api.app.inject({ method: "POST", url: "/api/v1/tokens", payload: { username, password } });
    const { id, username } = (
      await api.inject("admin", {
        method: "POST",
        url: "/api/v1/users",
        payload: { username: "sleeper", password: "long enough, surely", email: "a@b.example" },
      })
    ).json<{ id: string; username: string }>();
    await api.inject("admin", { method: "PATCH", url: `/api/v1/users/${id}`, payload: { enabled: false } });
    const bodies = await Promise.all([
      attempt("nobody-at-all", "x"),
      attempt("admin", "wrong"),
      attempt(username, "long enough, surely"),
    ]);
    expect(new Set(bodies.map((answer) => JSON.stringify({ ...answer.json<object>(), request_id: "" }))).size).toBe(1);
    expect(bodies[0].statusCode).toBe(401);
  });

  test("an address that sends only refused tokens is told to wait; a valid token from there is served", async () => {
    const own = await startTestApi();
    let last = 0;
    for (let i = 0; i < 601; i++)
      last = (await own.app.inject({ url: "/api/v1/users/me", headers: { authorization: "Bearer a.b.c" } })).statusCode;
    expect(last).toBe(429);
    expect((await own.inject("analyst", { url: "/api/v1/users/me" })).statusCode).toBe(200);
  });

  test("a user's requests are limited, with Retry-After", async () => {
    const own = await startTestApi({ settings: { RATE_LIMIT: "5" } });
    const codes: number[] = [];
    for (let i = 0; i < 7; i++) codes.push((await own.inject("analyst", { url: "/api/v1/users/me" })).statusCode);
    expect(codes).toEqual([200, 200, 200, 200, 200, 429, 429]);
    const answer = await own.inject("analyst", { url: "/api/v1/users/me" });
    expect(answer.json()).toMatchObject({ code: "too_many_requests" });
    expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
    expect((await own.inject("operator", { url: "/api/v1/users/me" })).statusCode).toBe(200);
  });
});

describe("bodies", () => {
  const send = (payload: string, headers: Record<string, string> = json) =>
    api.app.inject({ method: "POST", url: "/api/v1/tokens", payload, headers });

  test("bodies that are oversized, nested, broken or of another type: each with its code", async () => {
    expect((await send(`{"username":"${"a".repeat(2_000_000)}","password":"x"}`)).json()).toMatchObject({
      status: 413,
      code: "body_too_large",
    });
    expect((await send("[".repeat(500_000))).json()).toMatchObject({ status: 400, code: "too_deep" });
    expect((await send('{"a":'.repeat(100_000))).json()).toMatchObject({ status: 400, code: "too_deep" });
    expect((await send(`${"[".repeat(40)}${"]".repeat(40)}`)).json()).toMatchObject({ status: 400, code: "too_deep" });
    for (const broken of ["{", '{"username":"hunter2', "{'a':1}", "NaN", "\u0000", '{"a":1}}']) {
      const answer = await send(broken);
      expect(answer.json(), broken).toMatchObject({ status: 400, code: "bad_json" });
      expect(answer.body).not.toContain("hunter2");
    }
    expect((await send("")).json()).toMatchObject({ status: 400, code: "empty_body" });
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "application/jsonx",
      "multipart/form-data; boundary=x",
      "",
    ])
      expect((await send("a", { "content-type": type })).json(), type).toMatchObject({
        status: 415,
        code: "unsupported_media_type",
      });
    for (const body of ["null", "1", '"a"', "[]", "true"])
      expect((await send(body)).json(), body).toMatchObject({ status: 400, code: "invalid_request" });
  });

  test("prototypes can't be polluted", async () => {
    for (const body of [
      '{"__proto__":{"role":"admin"},"username":"a","password":"b"}',
      '{"username":"a","password":"b","constructor":{"prototype":{"role":"admin"}}}',
    ]) {
      expect((await send(body)).statusCode).toBe(400);
    }
    expect(({} as { role?: string }).role).toBeUndefined();
  });

  test("many invalid fields don't make a long answer", async () => {
    const body = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`field${i}${"x".repeat(20)}`, i]));
    const answer = await send(JSON.stringify(body));
    expect(answer.statusCode).toBe(400);
    expect(answer.body.length).toBeLessThan(20_000);
  });
});

describe("paths", () => {
  test("bad escapes, long ids, traversal and SQL in ids are 4xx problems", async () => {
    const headers = await api.as("admin");
    const ids = [
      "%zz",
      "%00",
      "..%2f..%2fetc%2fpasswd",
      "%2e%2e",
      "'%20OR%201=1--",
      "x".repeat(501),
      "x".repeat(65),
      "%F0%9F%92%A9",
      "{id}",
      "1;DROP%20TABLE%20requests",
    ];
    for (const id of ids) {
      const answer = await api.app.inject({ method: "DELETE", url: `/api/v1/users/${id}`, headers });
      expect([400, 404, 414], id).toContain(answer.statusCode);
      expect(answer.headers["content-type"], id).toMatch(/^application\/problem\+json/);
      expect(answer.json(), id).toMatchObject({
        code: expect.any(String) as string,
        request_id: expect.any(String) as string,
      });
    }
    expect((await api.app.inject({ url: "/nowhere" })).json()).toMatchObject({
      type: "about:blank",
      status: 404,
      code: "not_found",
    });
    expect(
      (await api.app.inject({ url: "/doc/static/..%2f..%2f..%2fpackage.json" })).statusCode,
    ).toBeGreaterThanOrEqual(400);
  });

  test("a request id sent by the caller is not used", async () => {
    const answer = await api.app.inject({
      url: "/api/v1/status",
      headers: { "x-request-id": "mine", "request-id": "mine" },
    });
    expect(answer.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  });
});

test("responses carry strict security headers, and other origins get no CORS headers", async () => {
  const answer = await api.app.inject({ url: "/api/v1/status", headers: { origin: "https://evil.example" } });
  expect(answer.headers).toMatchObject({
    "x-content-type-options": "nosniff",
    "strict-transport-security": expect.any(String) as string,
    "content-security-policy": expect.stringContaining("default-src 'none'") as string,
  });
  expect(answer.headers).not.toHaveProperty("access-control-allow-origin");
  expect(answer.headers).not.toHaveProperty("x-powered-by");
  const open = await startTestApi({ settings: { CORS_ORIGINS: "https://desk.example" } });
  const allowed = (origin: string) =>
    open.app
      .inject({ url: "/api/v1/status", headers: { origin } })
      .then(({ headers }) => headers["access-control-allow-origin"]);
  expect(await allowed("https://desk.example")).toBe("https://desk.example");
  expect(await allowed("https://desk.example.evil.example")).toBeUndefined();
  expect((await open.app.inject({ url: "/doc/" })).statusCode).toBe(200);
});

describe("slow and broken requests", () => {
  async function dial(patience: { headersMs: number; requestMs: number }): Promise<Socket> {
    return dialTo(await listening(patience));
  }

  async function listening(patience: { headersMs: number; requestMs: number }): Promise<number> {
    const own = await startTestApi({ patience });
    return Number(new URL(await own.app.listen({ host: "127.0.0.1", port: 0 })).port);
  }

  async function dialTo(port: number): Promise<Socket> {
    const socket = connect(port, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    await once(socket, "connect");
    return socket;
  }

  async function answerTo(socket: Socket): Promise<string> {
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    await once(socket, "close");
    return text;
  }

  test("headers that never end, and a body that never comes, are cut off with a 408", async () => {
    for (const begin of [
      "GET /api/v1/status HTTP/1.1\r\nhost: x\r\nx-slow: ",
      "POST /api/v1/tokens HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
    ]) {
      const socket = await dial({ headersMs: 300, requestMs: 300 });
      const drip = setInterval(() => socket.write("a"), 100);
      onTestFinished(() => clearInterval(drip));
      socket.on("error", () => {});
      socket.write(begin);
      const text = await answerTo(socket);
      clearInterval(drip);
      expect(text).toMatch(/^HTTP\/1\.1 408 /);
      expect(text).toContain("request_timeout");
    }
  });

  test("a duplicate header is a 400, whichever of the two a proxy believed", async () => {
    const port = await listening({ headersMs: 5_000, requestMs: 5_000 });
    for (const twice of [
      "host: a\r\nhost: b",
      "Host: a\r\nhost: a",
      "host: a\r\nauthorization: Bearer a\r\nauthorization: Bearer b",
      "host: a\r\ncontent-type: application/json\r\ncontent-type: text/plain",
      'host: a\r\nif-match: "1"\r\nif-match: "2"',
      "host: a\r\ncontent-length: 0\r\ncontent-length: 0",
      "x: y",
    ]) {
      for (const path of ["/api/v1/status", "/nowhere", "/metrics"]) {
        const socket = await dialTo(port);
        socket.on("error", () => {});
        socket.write(`GET ${path} HTTP/1.1\r\n${twice}\r\n\r\n`);
        expect(await answerTo(socket), twice).toMatch(/^HTTP\/1\.1 400 /);
        if (twice !== "host: a\r\nhost: b") break;
      }
    }
  });

  test("requests that are not HTTP, and headers without an end, are 4xx problems", async () => {
    for (const [bytes, status] of [
      ["\u0016\u0003\u0001 hello\r\n\r\n", 400],
      [`GET / HTTP/1.1\r\nhost: x\r\nx: ${"a".repeat(100_000)}\r\n\r\n`, 431],
    ] as const) {
      const socket = await dial({ headersMs: 5_000, requestMs: 5_000 });
      socket.on("error", () => {});
      socket.write(bytes);
      expect(await answerTo(socket)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [^]*application/problem\\+json`));
    }
  });
});

test("neither the log nor any answer to all this contains a password, a token or a card number", async () => {
  const secret = "a very secret password";
  const card = "4111111111111111";
  const username = `user-${randomUUID().slice(0, 8)}`;
  const { authorization } = await api.as("admin");
  const answers = [
    await api.inject("admin", {
      method: "POST",
      url: "/api/v1/users",
      payload: { username, password: secret, email: "a@b.example" },
    }),
    await api.inject("admin", {
      method: "POST",
      url: "/api/v1/users",
      payload: { username, password: secret, email: "a@b.example" },
    }),
    await api.inject("admin", {
      method: "POST",
      url: "/api/v1/users",
      payload: { username: 5, password: secret, card },
    }),
    await api.app.inject({ method: "POST", url: "/api/v1/tokens", payload: { username, password: `${secret}!` } }),
    await api.app.inject({ method: "POST", url: "/api/v1/tokens", payload: { username: secret, password: secret } }),
    await api.app.inject({ method: "POST", url: "/api/v1/tokens", payload: `{"password":"${secret}`, headers: json }),
    await api.app.inject({
      method: "POST",
      url: `/api/v1/tokens?password=${encodeURIComponent(secret)}`,
      payload: { username, password: secret, x: card },
    }),
    await api.app.inject({ url: `/api/v1/users/me?card=${card}`, headers: { authorization: `${authorization}x` } }),
    await api.inject("admin", { method: "DELETE", url: `/api/v1/users/${card}` }),
  ];
  const signedIn = await api.app.inject({
    method: "POST",
    url: "/api/v1/tokens",
    payload: { username, password: secret },
  });
  expect(signedIn.headers["cache-control"]).toBe("no-store");
  const { access_token: token } = signedIn.json<{ access_token: string }>();
  const everything = [...answers.map(({ body, headers }) => body + JSON.stringify(headers)), logged.join("")].join(
    "\n",
  );
  expect(logged.length).toBeGreaterThan(0);
  for (const text of [secret, card, token, authorization.slice(7), ADMIN_PASSWORD, JWT_SECRET, "$argon2"])
    expect(everything.includes(text), text.slice(0, 8)).toBe(false);
});

test("warns once of a proxy that TRUST_PROXY does not name; takes the client's address from one it names", async () => {
  const lines: string[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
  const ask = (own: TestApi, remoteAddress: string, headers: Record<string, string>) =>
    own.app.inject({ url: "/api/v1/status", remoteAddress, headers });
  const plain = await startTestApi({ log });
  await ask(plain, "10.0.0.1", {});
  expect(lines).toEqual([]);
  for (let i = 0; i < 3; i++) await ask(plain, "10.0.0.1", { "x-forwarded-for": "192.0.2.1" });
  expect(lines.filter((line) => line.includes("TRUST_PROXY"))).toHaveLength(1);
  const behind = await startTestApi({ log, settings: { TRUST_PROXY: "10.0.0.0/8" } });
  await ask(behind, "10.0.0.1", { "x-forwarded-for": "192.0.2.1" });
  expect(lines).toHaveLength(1);
  await ask(behind, "172.16.0.1", { "x-forwarded-for": "192.0.2.1" });
  expect(lines).toHaveLength(2);
});
