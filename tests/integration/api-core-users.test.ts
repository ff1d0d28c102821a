import { randomUUID } from "node:crypto";
import { Writable } from "node:stream";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { authenticate } from "../../api/plugins/authentication.js";
import { UserDirectory } from "../../api/users/user-directory.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { topicsFor } from "../../schemas/topics.js";
import { ADMIN_PASSWORD, startTestApi, type TestApi } from "../support/api.js";
import { eventually, until } from "../support/eventually.js";
import { silent, testKafka } from "../support/kafka-cluster.js";

const PASSWORD = "a password for tests";
let one: TestApi;
let two: TestApi;

beforeAll(async () => {
  one = await startTestApi();
  two = await startTestApi({ prefix: one.prefix, database: one.database });
});
afterAll(async () => {
  await two.close();
  await one.close();
});

const uniqueName = (): string => `user-${randomUUID().slice(0, 8)}`;
const post = (url: string, payload: object) => ({ method: "POST" as const, url, payload });
const make = (api: TestApi, username: string, more: object = {}) =>
  api.inject("admin", post("/api/v1/users", { username, password: PASSWORD, email: "user@example.com", ...more }));
const signIn = (api: TestApi, username: string, password = PASSWORD) =>
  api.inject(null, post("/api/v1/tokens", { username, password }));
const tokenOf = async (api: TestApi, username: string, password = PASSWORD): Promise<{ authorization: string }> => ({
  authorization: `Bearer ${(await signIn(api, username, password)).json<{ access_token: string }>().access_token}`,
});
const me = async (api: TestApi, headers: { authorization: string }) =>
  (await api.app.inject({ url: "/api/v1/users/me", headers })).json<{
    status?: number;
    code?: string;
    id: string;
    username: string;
    role: string;
  }>();

test("the status is exactly this, for everybody", async () => {
  expect((await one.inject(null, { url: "/api/v1/status" })).body).toBe('{"status":"success","message":"pong!"}');
});

describe("two copies", () => {
  test("the first admin was created once, and signs in on both", async () => {
    const { users } = (await one.inject("admin", { url: "/api/v1/users" })).json<{ users: { username: string }[] }>();
    expect(users.filter(({ username }) => username === "admin")).toHaveLength(1);
    for (const api of [one, two])
      expect(await me(api, await tokenOf(api, "admin", ADMIN_PASSWORD))).toMatchObject({
        username: "admin",
        role: "admin",
      });
  });

  test("a user created on one signs in on the other, at once and in any letter case", async () => {
    const username = uniqueName();
    const made = await make(one, username, { role: "operator" });
    expect(made.statusCode).toBe(201);
    expect(made.json()).toMatchObject({ username, role: "operator", enabled: true });
    const headers = await tokenOf(two, username.toUpperCase());
    expect(await me(two, headers)).toMatchObject({ username, role: "operator" });
    expect(await me(one, headers)).toMatchObject({ username, role: "operator" });
  });

  test("of many who claim a name at once on both, one gets it; the others get 409 and leave nothing", async () => {
    const username = uniqueName();
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        make(i % 2 === 0 ? one : two, i % 3 === 0 ? username.toUpperCase() : username),
      ),
    );
    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([201, ...Array<number>(9).fill(409)]);
    for (const answer of answers.filter(({ statusCode }) => statusCode === 409))
      expect(answer.json()).toMatchObject({ code: "username_taken" });
    const winner = answers.find(({ statusCode }) => statusCode === 201)?.json<{ id: string; username: string }>();
    for (const api of [one, two]) {
      const { users } = (await api.inject("admin", { url: "/api/v1/users" })).json<{
        users: { id: string; username: string }[];
      }>();
      expect(users.filter((user) => user.username.toLowerCase() === username)).toMatchObject([{ id: winner?.id }]);
    }
    // On the topic, the newest record of every loser is a tombstone.
    const newest = await newestRecords();
    const live = [...newest].filter(([, value]) => value?.toString("latin1").toLowerCase().includes(username));
    expect(live.map(([id]) => id)).toEqual([winner?.id]);
  });

  test(
    "a user who is disabled on one is refused by the other within a second; so is a removed one, and " + "roles follow",
    async () => {
      const username = uniqueName();
      const { id } = (await make(one, username, { role: "admin" })).json<{ id: string }>();
      const headers = await tokenOf(two, username);
      expect((await two.app.inject({ url: "/api/v1/users", headers })).statusCode).toBe(200);

      expect(
        (
          await one.inject("admin", { method: "PATCH", url: `/api/v1/users/${id}`, payload: { role: "analyst" } })
        ).json(),
      ).toMatchObject({ role: "analyst" });
      await eventually(
        "the role is another on both",
        async () => (await two.app.inject({ url: "/api/v1/users", headers })).statusCode === 403,
      );

      await one.inject("admin", { method: "PATCH", url: `/api/v1/users/${id}`, payload: { enabled: false } });
      await eventually(
        "the other copy refuses the token",
        async () => (await me(two, headers)).code === "user_disabled",
      );
      expect((await signIn(two, username)).statusCode).toBe(401);

      await two.inject("admin", { method: "PATCH", url: `/api/v1/users/${id}`, payload: { enabled: true } });
      await eventually(
        "the first copy takes the token again",
        async () => (await me(one, headers)).username === username,
      );

      expect((await one.inject("admin", { method: "DELETE", url: `/api/v1/users/${id}` })).statusCode).toBe(204);
      await eventually(
        "the other copy doesn't know the user",
        async () => (await me(two, headers)).code === "unknown_user",
      );
      expect((await one.inject("admin", { method: "DELETE", url: `/api/v1/users/${id}` })).statusCode).toBe(404);
      expect((await make(two, username)).statusCode).toBe(201);
    },
  );

  test("a new password ends the older tokens everywhere", async () => {
    const username = uniqueName();
    await make(one, username);
    const headers = await tokenOf(two, username);
    const change = (payload: object) => one.app.inject({ method: "PATCH", url: "/api/v1/users/me", headers, payload });
    expect((await change({ current_password: "wrong", password: "another password" })).json()).toMatchObject({
      status: 403,
      code: "wrong_password",
    });
    const changed = await change({ current_password: PASSWORD, password: "another password" });
    expect(changed.statusCode).toBe(200);
    // At once, wherever it is shown.
    expect(
      await me(two, { authorization: `Bearer ${changed.json<{ access_token: string }>().access_token}` }),
    ).toMatchObject({ username });
    await eventually("the old token is refused", async () => (await me(two, headers)).code === "token_revoked");
    expect((await signIn(two, username)).statusCode).toBe(401);
    expect((await signIn(two, username, "another password")).statusCode).toBe(200);
  });

  test(
    "an admin resets a forgotten password, which ends the older tokens; users come a page at a time, " + "in any order",
    async () => {
      const username = uniqueName();
      const { id } = (await make(one, username)).json<{ id: string }>();
      const headers = await tokenOf(one, username);
      const reset = (api: TestApi, role: "admin" | "operator", password: string) =>
        api.inject(role, { method: "PATCH", url: `/api/v1/users/${id}`, payload: { password } });
      expect((await reset(two, "operator", "a password that is new")).statusCode).toBe(403);
      expect((await reset(two, "admin", "short")).json()).toMatchObject({
        status: 400,
        errors: [{ field: "password" }],
      });
      expect((await reset(two, "admin", `it is ${username}!`)).json()).toMatchObject({
        status: 400,
        code: "weak_password",
      });
      expect((await reset(two, "admin", "a password that is new")).json()).toMatchObject({ username, enabled: true });
      await eventually("the old token is refused", async () => (await me(one, headers)).code === "token_revoked");
      expect([
        (await signIn(one, username)).statusCode,
        (await signIn(one, username, "a password that is new")).statusCode,
      ]).toEqual([401, 200]);

      type Page = { users: { id: string; username: string }[]; total: number; next_cursor: string | null };
      const list = async (query: string): Promise<Page> =>
        (await one.inject("admin", { url: `/api/v1/users?${query}` })).json<Page>();
      const all = await list("");
      expect([all.total, all.next_cursor]).toEqual([all.users.length, null]);
      for (const [sort, expected] of [
        ["created_at", all.users],
        ["-created_at", [...all.users].reverse()],
        ["username", [...all.users].sort((a, b) => a.username.localeCompare(b.username))],
      ] as const) {
        const found: object[] = [];
        for (let cursor: string | null = ""; cursor !== null;) {
          const page: Page = await list(`limit=2&sort=${sort}${cursor === "" ? "" : `&cursor=${cursor}`}`);
          expect(page.total).toBe(all.total);
          found.push(...page.users);
          cursor = page.next_cursor;
        }
        expect(found).toEqual(expected);
      }
      for (const query of ["page=2", "limit=0", "cursor=x", "sort=role"])
        expect((await one.inject("admin", { url: `/api/v1/users?${query}` })).statusCode, query).toBe(400);
    },
  );

  test("guessing the current password is locked out, also with many guesses at once", async () => {
    const username = uniqueName();
    await make(one, username);
    const headers = await tokenOf(one, username);
    const guess = (current: string) =>
      one.app.inject({
        method: "PATCH",
        url: "/api/v1/users/me",
        headers,
        payload: { current_password: current, password: "another password" },
      });
    const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => guess(`guess ${i}`)));
    const codes = answers.map(({ statusCode }) => statusCode);
    expect(codes.filter((code) => code === 403)).toHaveLength(5);
    expect(codes.filter((code) => code === 429)).toHaveLength(55);
    expect((await guess(PASSWORD)).json()).toMatchObject({ status: 429, code: "too_many_requests" });
  });

  test("of two changes made at once on two copies, neither silently undoes the other", async () => {
    const username = uniqueName();
    const { id } = (await make(one, username, { role: "analyst" })).json<{ id: string }>();
    for (let round = 0; round < 5; round++) {
      const enabled = round % 2 === 0;
      const answers = await Promise.all([
        one.inject("admin", { method: "PATCH", url: `/api/v1/users/${id}`, payload: { enabled } }),
        two.inject("admin", {
          method: "PATCH",
          url: `/api/v1/users/${id}`,
          payload: { role: enabled ? "operator" : "service" },
        }),
      ]);
      const [state, role] = answers.map(({ statusCode }) => statusCode === 200);
      expect(answers.every(({ statusCode }) => statusCode === 200 || statusCode === 409)).toBe(true);
      expect(state || role).toBe(true);
      const { users } = (await one.inject("admin", { url: "/api/v1/users" })).json<{
        users: { id: string; enabled: boolean; role: string }[];
      }>();
      const now = users.find((user) => user.id === id);
      if (state) expect(now?.enabled).toBe(enabled);
      if (role) expect(now?.role).toBe(enabled ? "operator" : "service");
    }
  });

  test("a copy that starts later has the same users", async () => {
    const three = await startTestApi({ prefix: one.prefix, database: one.database });
    await one.context.users.readToEnd();
    await three.context.users.readToEnd();
    expect(three.context.users.all()).toEqual(one.context.users.all());
  });
});

describe("what a user may be", () => {
  test("every invalid field is named; a password is never in the answer", async () => {
    const bad = await one.inject(
      "admin",
      post("/api/v1/users", {
        username: "a b",
        password: "short7x",
        email: "nobody",
        role: "root",
        id: "1",
        password_hash: "x",
      }),
    );
    expect(bad.statusCode).toBe(400);
    expect(
      bad
        .json<{ errors: { field: string }[] }>()
        .errors.map(({ field }) => field)
        .sort(),
    ).toEqual(["email", "id", "password", "password_hash", "role", "username"]);
    expect(bad.body).not.toContain("short7x");
    for (const username of [
      "",
      "a",
      "x".repeat(65),
      "../etc",
      "ann\u0000",
      "'; DROP TABLE users; --",
      "аdmin",
      " admin",
      "admin ",
    ])
      expect((await make(one, username)).statusCode, username).toBe(400);
    expect(
      (
        await one.inject(
          "admin",
          post("/api/v1/users", { username: "longname", password: "my LongName is it", email: "a@b.example" }),
        )
      ).json(),
    ).toMatchObject({ status: 400, code: "weak_password" });
  });

  test("no hash leaves the API", async () => {
    await make(one, uniqueName());
    const list = await one.inject("admin", { url: "/api/v1/users" });
    expect(list.body).not.toMatch(/argon2|hash/);
  });

  test("the last admin can't be removed", async () => {
    const alone = await startTestApi();
    const headers = await tokenOf(alone, "admin", ADMIN_PASSWORD);
    const { id } = await me(alone, headers);
    for (const payload of [{ enabled: false }, { role: "analyst" }])
      expect(
        (await alone.app.inject({ method: "PATCH", url: `/api/v1/users/${id}`, headers, payload })).json(),
      ).toMatchObject({ status: 409, code: "last_admin" });
    expect((await alone.app.inject({ method: "DELETE", url: `/api/v1/users/${id}`, headers })).json()).toMatchObject({
      status: 409,
      code: "last_admin",
    });
  });
});

describe("registration", () => {
  test("closed: an admin only", async () => {
    const body = post("/api/v1/users", { username: uniqueName(), password: PASSWORD, email: "a@b.example" });
    expect((await one.inject(null, body)).json()).toMatchObject({ status: 401, code: "no_token" });
    for (const role of ["service", "analyst", "operator"] as const)
      expect((await one.inject(role, body)).json()).toMatchObject({ status: 403, code: "forbidden" });
  });

  test("open: anybody, as an analyst, with a token; the body can't set another role", async () => {
    const lines: string[] = [];
    const log = pino(
      new Writable({ write: (chunk: Buffer, _encoding, done) => (lines.push(chunk.toString()), done()) }),
    );
    const open = await startTestApi({ settings: { REGISTRATION: "open" }, log });
    const body = (more: object) =>
      post("/api/v1/users", { username: uniqueName(), password: PASSWORD, email: "a@b.example", ...more });
    for (const role of ["admin", "operator", "service"]) {
      expect((await open.inject(null, body({ role }))).json()).toMatchObject({ status: 403, code: "forbidden" });
      expect((await open.inject("analyst", body({ role }))).json()).toMatchObject({ status: 403, code: "forbidden" });
    }
    const made = await open.inject(null, body({}));
    expect(made.statusCode).toBe(201);
    const {
      access_token: token,
      role,
      username,
    } = made.json<{ access_token: string; role: string; username: string }>();
    expect(role).toBe("analyst");
    expect(lines.filter((line) => line.includes('"audit"')).join("")).toContain(
      `"username":"${username}","role":"analyst"`,
    );
    const headers = { authorization: `Bearer ${token}` };
    expect(await me(open, headers)).toMatchObject({ role: "analyst" });
    expect((await open.app.inject({ url: "/api/v1/users", headers })).statusCode).toBe(403);
    expect(
      (await open.app.inject({ method: "PATCH", url: "/api/v1/users/me", headers, payload: { role: "admin" } }))
        .statusCode,
    ).toBe(400);
    expect((await open.inject("admin", body({ role: "operator" }))).json()).toMatchObject({ role: "operator" });
  });
});

test("a copy that has lost track of the users for too long lets nobody in, and recovers on its own", async () => {
  const { proxied, topic } = testKafka();
  const { proxy, cluster } = await proxied();
  const users = new UserDirectory({
    cluster,
    topic: await topic("users"),
    schemas: new Schemas({ schemaRegistryUrl: null, schemasDir: null }),
    log: silent,
    mostStaleMs: 1_000,
  });
  onTestFinished(() => users.close());
  const checkToken = authenticate({ users, tokens: one.context.tokens, log: silent }, {
    signedIn: () => Promise.resolve(),
    refusedToken: () => Promise.resolve(),
  } as never);
  const answer = (): Promise<unknown> =>
    checkToken({ headers: { authorization: "Bearer a.b.c" }, ip: "::1" } as never).catch((error: unknown) => error);
  users.follow((error) => expect.unreachable(String(error)));
  proxy.mode = "down";
  await until(() => users.stale);
  expect(await answer()).toMatchObject({ status: 503, code: "users_stale" });
  proxy.mode = "up";
  await until(() => !users.stale);
  expect(await answer()).toMatchObject({ status: 401 });
});

/** The newest record of each key of fraud.users. */
async function newestRecords(): Promise<Map<string, Buffer | null>> {
  const reader = new PartitionReader(one.context.cluster, topicsFor(one.prefix, 2).users.name, 0);
  const newest = new Map<string, Buffer | null>();
  const end = await reader.endOffset();
  for (let offset = 0; offset < end;) {
    const records = await reader.fetch(offset);
    for (let i = 0; i < records.count; i++) {
      const key = records.bytes.toString("utf8", records.keyAt[i], records.keyAt[i] + records.keyLength[i]);
      newest.set(
        key,
        records.valueLength[i] < 0
          ? null
          : Buffer.from(records.bytes.subarray(records.valueAt[i], records.valueAt[i] + records.valueLength[i])),
      );
    }
    offset = records.nextOffset;
  }
  await reader.close();
  return newest;
}
