import { randomUUID } from "node:crypto";
import { Writable } from "node:stream";
import { pino } from "pino";
import { describe, expect, onTestFinished, test } from "vitest";
import { RequestLog, type LoggedRequest } from "../../api/request-log/request-log.js";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { createLogger } from "../../infra/logging.js";
import { deploy, registerModel } from "../../models/control/decisions.js";
import { until } from "../support/eventually.js";
import { ADMIN_PASSWORD, startTestApi } from "../support/api.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import { cuttableProxy, type CuttableProxy } from "../support/cuttable-proxy.js";
import { clickhouseConfig } from "../support/engines.js";

interface RequestRow {
  request_id: string;
  user_id: string;
  username: string;
  role: string;
  method: string;
  route: string;
  url: string;
  body: string;
}
interface ResponseRow {
  request_id: string;
  user_id: string;
  route: string;
  status: number;
  code: string;
  ms: number;
  body: string;
}

async function proxied(): Promise<{ proxy: CuttableProxy; url: string }> {
  const target = new URL(clickhouseConfig("default").url);
  const proxy = await cuttableProxy({ host: target.hostname, port: Number(target.port) });
  onTestFinished(() => proxy.close());
  return { proxy, url: `http://127.0.0.1:${proxy.port}` };
}

test(
  "every authenticated request and its answer is a row of each, masked and cut, and so are failed sign-ins; " +
    "others are none",
  async () => {
    const api = await startTestApi({ migrated: true });
    onTestFinished(() => api.context.clickhouse.command(`DROP DATABASE IF EXISTS ${api.database}`));
    const secret = "a secret that nobody sees";
    const card = "4111111111111111";
    const username = `user-${randomUUID().slice(0, 8)}`;
    const requests = [
      await api.inject("analyst", { url: "/api/v1/users/me?card=4111+1111+1111+1111&clientSecret=abc" }),
      await api.inject("analyst", { url: "/api/v1/users" }),
      await api.inject("admin", {
        method: "POST",
        url: "/api/v1/users",
        payload: { username, password: secret, email: "a@b.example" },
      }),
      await api.inject("admin", {
        method: "POST",
        url: "/api/v1/users",
        payload: { username: `pay ${card}`, password: secret, note: "x".repeat(20_000) },
      }),
      await api.inject("admin", { method: "DELETE", url: `/api/v1/users/${card}` }),
      await api.inject("admin", { url: "/api/v1/users" }),
    ];
    await api.inject(null, { url: "/api/v1/users" });
    await api.inject(null, { url: "/api/v1/status" });
    const failed = await api.inject(null, {
      method: "POST",
      url: "/api/v1/tokens",
      payload: { username, password: `${secret}!` },
    });
    const signIn = await api.inject(null, {
      method: "POST",
      url: "/api/v1/tokens",
      payload: { username, password: secret },
    });
    requests.push(signIn, failed);
    await api.context.requestLog.flush();

    const asked = await api.context.clickhouse.query<RequestRow>("SELECT * FROM requests ORDER BY at, request_id");
    const answered = await api.context.clickhouse.query<ResponseRow>("SELECT * FROM responses ORDER BY at, request_id");
    const ids = requests.map(({ headers }) => headers["x-request-id"] as string);
    expect(asked.map(({ request_id }) => request_id).sort()).toEqual([...ids].sort());
    expect(answered.map(({ request_id }) => request_id).sort()).toEqual([...ids].sort());
    const request = (index: number): RequestRow | undefined =>
      asked.find(({ request_id }) => request_id === ids[index]);
    const response = (index: number): ResponseRow | undefined =>
      answered.find(({ request_id }) => request_id === ids[index]);
    expect(request(0)).toMatchObject({
      role: "analyst",
      method: "GET",
      route: "/api/v1/users/me",
      url: "/api/v1/users/me?card=[card number]&clientSecret=[hidden]",
      body: "",
    });
    expect(requests[0].json()).toMatchObject({
      code: "invalid_request",
      errors: [{ in: "query", field: "card", message: "is not a parameter of this route" }, { field: "clientSecret" }],
    });
    expect(response(0)).toMatchObject({
      status: 400,
      code: "invalid_request",
      route: "/api/v1/users/me",
      user_id: request(0)?.user_id,
    });
    expect(response(1)).toMatchObject({ status: 403, code: "forbidden" });
    expect(JSON.parse(response(1)?.body ?? "")).toMatchObject({ code: "forbidden", request_id: ids[1] });
    expect(JSON.parse(request(2)?.body ?? "")).toEqual({ username, password: "[hidden]", email: "a@b.example" });
    expect(response(2)).toMatchObject({ status: 201 });
    expect(response(3)).toMatchObject({ status: 400, code: "invalid_request" });
    expect(request(3)?.body.length).toBeLessThan(8_000);
    expect(request(4)).toMatchObject({ url: "/api/v1/users/[card number]", route: "/api/v1/users/:id" });
    // A sign-in that succeeds is that user's request; of one that fails there is no body.
    expect(request(6)).toMatchObject({ username, role: "analyst", route: "/api/v1/tokens" });
    expect(JSON.parse(request(6)?.body ?? "")).toEqual({ username, password: "[hidden]" });
    expect([request(7), response(7)]).toMatchObject([
      { username, body: "" },
      { status: 401, code: "wrong_credentials" },
    ]);
    expect(JSON.parse(response(6)?.body ?? "")).toMatchObject({ access_token: "[hidden]" });
    for (const { ms } of answered) expect(ms).toBeGreaterThan(0);
    const everything = JSON.stringify([asked, answered]);
    for (const text of [
      secret,
      card,
      "1111+1111",
      "Secret=abc",
      "argon2",
      (await api.as("admin")).authorization.slice(7),
      signIn.json<{ access_token: string }>().access_token,
    ])
      expect(everything.includes(text), text.slice(0, 12)).toBe(false);
  },
);

describe("without ClickHouse", () => {
  test("sign-in and authentication work, and the API reports itself ready", async () => {
    const { proxy, url } = await proxied();
    proxy.mode = "down";
    const api = await startTestApi({ clickhouseUrl: url });
    const answer = await api.inject(null, {
      method: "POST",
      url: "/api/v1/tokens",
      payload: { username: "admin", password: ADMIN_PASSWORD },
    });
    expect(answer.statusCode).toBe(200);
    const headers = { authorization: `Bearer ${answer.json<{ access_token: string }>().access_token}` };
    expect((await api.app.inject({ url: "/api/v1/users/me", headers })).statusCode).toBe(200);
    expect((await api.app.inject({ url: "/health/ready" })).json()).toMatchObject({
      status: "not ready",
      kafka: "up",
      deployment: "none",
      clickhouse: "down",
      conditions: [{ code: "clickhouse_down", blocking: false }],
    });
  });
});

test("an API whose decisions or users no longer match their topics is not ready, and says what to do", async () => {
  const { context, app } = await startTestApi();
  const { control, kafka, topics, produce } = context;
  await produce(async (producer) => {
    const author = { who: "ada", producer };
    await registerModel(control, author, { model: "a@1", manifestSha256: "f".repeat(64) });
    await deploy(control, author, { champion: { model: "a@1", review: 0.5, decline: 0.9 }, shadows: [] });
  });
  const ready = () => app.inject({ url: "/health/ready" });
  expect((await ready()).statusCode).toBe(200);

  const admin = kafka.admin();
  await admin.connect();
  onTestFinished(() => admin.disconnect());
  const names = [topics.control.name, topics.users.name];
  await admin.deleteTopics({ topics: names });
  await until(async () =>
    admin.createTopics({ topics: names.map((name) => ({ topic: name, numPartitions: 1 })) }).then(
      () => true,
      () => false,
    ),
  );
  await until(() => control.replaced !== null && context.users.replaced !== null);
  const answer = await ready();
  expect([answer.statusCode, answer.json()]).toMatchObject([
    503,
    { status: "not ready", kafka: "up", deployment: "in force" },
  ]);
  const replaced = answer
    .json<{ conditions: { code: string; message: string; blocking: boolean }[] }>()
    .conditions.filter(({ code }) => code === "log_replaced");
  expect(
    replaced
      .map(({ message, blocking }) => [
        names.find((name) => message.includes(name)),
        /restart (?:every role|the API)/.exec(message)?.[0],
        blocking,
      ])
      .sort(),
  ).toEqual([
    [names[0], "restart every role", true],
    [names[1], "restart the API", true],
  ]);
});

describe("the request log", () => {
  const request = (i: number): LoggedRequest => ({
    requestId: `r${i}`,
    at: Date.UTC(2027, 0, 1) + i,
    userId: "u",
    username: "ann",
    role: "admin",
    method: "GET",
    route: "/x",
    url: "/x",
    address: "::1",
    body: "",
    status: 200,
    code: "",
    ms: 1,
    answer: "{}",
  });

  test("an outage is waited out and a batch whose answer was lost is stored once", async () => {
    const direct = await clickhouseDatabase();
    const { proxy, url } = await proxied();
    const clickhouse = createClickHouse({ ...clickhouseConfig(direct.database), url });
    const requestLog = new RequestLog({ clickhouse, log: createLogger({ logLevel: "silent" }, "test"), everyMs: 20 });
    proxy.mode = "deaf";
    for (let i = 0; i < 100; i++) requestLog.add(request(i));
    await requestLog.flush();
    expect(requestLog.waiting).toBe(100);
    proxy.mode = "down";
    for (let i = 100; i < 150; i++) requestLog.add(request(i));
    await requestLog.flush();
    proxy.mode = "up";
    while (requestLog.waiting > 0) await requestLog.flush();
    for (const table of ["requests", "responses"]) {
      expect(await direct.query(`SELECT count() AS rows, uniqExact(request_id) AS ids FROM ${table}`)).toEqual([
        { rows: 150, ids: 150 },
      ]);
    }
    expect(requestLog.dropped).toBe(0);
    await requestLog.close();
    await clickhouse.close();
  });

  test("what doesn't fit is dropped, counted and reported; nobody waits", async () => {
    const lines: string[] = [];
    const log = pino(
      new Writable({ write: (chunk: Buffer, _encoding, done) => (lines.push(chunk.toString()), done()) }),
    );
    const clickhouse = createClickHouse({ ...clickhouseConfig("default"), url: "http://127.0.0.1:9" });
    const requestLog = new RequestLog({ clickhouse, log, mostWaiting: 10, everyMs: 60_000 });
    for (let i = 0; i < 25; i++) requestLog.add(request(i));
    expect(requestLog.waiting).toBe(10);
    expect(requestLog.dropped).toBe(15);
    expect(lines.join("")).toContain("not written to the request log");
    await requestLog.close();
    expect(requestLog.dropped).toBe(25);
    await clickhouse.close();
  });
});
