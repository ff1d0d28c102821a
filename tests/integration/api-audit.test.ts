import { pino } from "pino";
import { expect, test } from "vitest";
import { startTestApi, type TestApi } from "../support/api.js";
import { eventually } from "../support/eventually.js";

const PASSWORD = "long enough, surely";
const WRONG = "a wrong one, quite";

interface Entry {
  changes: unknown;
  username: string;
  method: string;
  route: string;
  url: string;
  status: number;
  code: string;
  address: string;
  request_id: string;
}

test("a sign-in locked by one copy is locked in the other; the audit trail says who tried and did what", async () => {
  const lines: string[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => void lines.push(line) });
  const one = await startTestApi({ migrated: true, log });
  const two = await startTestApi({ prefix: one.prefix, database: one.database, log });
  const signIn = (api: TestApi, username: string, password: string, remoteAddress = "198.51.100.7") =>
    api.app.inject({ method: "POST", url: "/api/v1/tokens", payload: { username, password }, remoteAddress });
  const { id } = (
    await one.inject("admin", {
      method: "POST",
      url: "/api/v1/users",
      payload: { username: "ann", password: PASSWORD, email: "a@b.example" },
    })
  ).json<{ id: string }>();

  // A name that nobody has is treated alike.
  for (const name of ["ann", "nobody"]) {
    for (let i = 0; i < 5; i++)
      expect((await signIn(one, i % 2 === 0 ? name : name.toUpperCase(), WRONG)).statusCode).toBe(401);
    const locked = await signIn(one, name, PASSWORD);
    expect([locked.statusCode, Number(locked.headers["retry-after"]) > 5]).toEqual([429, true]);
    await eventually(
      "the other copy has heard of it",
      () => two.context.locks.waitOf({ name, address: "198.51.100.7" }) > 0,
    );
    expect((await signIn(two, name, PASSWORD)).statusCode).toBe(429);
  }
  await two.inject("admin", {
    method: "POST",
    url: "/api/v1/users",
    payload: { username: "bob", password: PASSWORD, email: "b@b.example" },
  });
  expect((await signIn(two, "bob", PASSWORD)).statusCode).toBe(200);
  expect(
    (await one.inject("admin", { method: "PATCH", url: `/api/v1/users/${id}`, payload: { enabled: false } }))
      .statusCode,
  ).toBe(200);
  expect(
    (
      await one.inject("analyst", {
        method: "POST",
        url: "/api/v1/training-jobs",
        payload: { dataset: "https://data.example/x.csv", algorithm: "logistic-regression" },
      })
    ).statusCode,
  ).toBe(403);
  const job = await one.inject("operator", {
    method: "POST",
    url: "/api/v1/training-jobs",
    payload: { dataset: "https://data.example/x.csv", algorithm: "logistic-regression" },
  });
  expect(job.statusCode).toBe(202);
  await one.inject("service", {
    method: "POST",
    url: "/api/v1/labels",
    payload: { transaction_id: "t", card_id: "c", is_fraud: true },
  });

  const trail = async (query: string): Promise<Entry[]> => {
    await Promise.all([one, two].map(({ context }) => context.requestLog.flush()));
    const answer = await one.inject("admin", { url: `/api/v1/audit?${query}` });
    expect(answer.statusCode, answer.body).toBe(200);
    return answer.json<{ entries: Entry[] }>().entries;
  };
  const all = await trail("limit=1000");
  const found = new Set(
    all.map(({ username, method, route, status, code }) =>
      `${username.replace(/-.*/, "")} ${method} ${route} ${status} ${code}`.trim(),
    ),
  );
  expect([...found].sort()).toEqual([
    "[unknown] POST /api/v1/tokens 401 wrong_credentials",
    "[unknown] POST /api/v1/tokens 429 too_many_requests",
    "admin PATCH /api/v1/users/:id 200",
    "admin POST /api/v1/users 201",
    "analyst POST /api/v1/training-jobs 403 forbidden",
    "ann POST /api/v1/tokens 401 wrong_credentials",
    "ann POST /api/v1/tokens 429 too_many_requests",
    "bob POST /api/v1/tokens 200",
    "operator POST /api/v1/training-jobs 202",
  ]);
  expect(all.find(({ method }) => method === "PATCH")?.url).toBe(`/api/v1/users/${id}`);
  expect((await trail("username=ANN&code=wrong_credentials")).map(({ address }) => address)).toEqual(
    Array(5).fill("198.51.100.7"),
  );
  expect(await trail("to=2001-01-01T00:00:00Z")).toEqual([]);
  // An operator sees what operators may do; a person's label is there with what it was before.
  await one.context.clickhouse.command(
    "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time) SELECT " +
      "'l', 0, 1, 't', 'c', true, now64(3)",
  );
  for (const is_fraud of [false, true])
    expect(
      (
        await one.inject("analyst", {
          method: "POST",
          url: "/api/v1/labels",
          payload: [
            { transaction_id: "t", card_id: "c", is_fraud },
            { transaction_id: "new", card_id: "4111.1111.1111.1111", is_fraud },
          ],
        })
      ).statusCode,
    ).toBe(202);
  await trail("");
  const seen = (await one.inject("operator", { url: "/api/v1/audit?limit=1000" })).json<{
    entries: Entry[];
    total: number;
  }>();
  expect(seen.entries.filter(({ route }) => route.startsWith("/api/v1/users") || route === "/api/v1/tokens")).toEqual(
    [],
  );
  expect([
    seen.total,
    seen.entries
      .filter(({ route }) => route === "/api/v1/labels")
      .map(({ username, changes }) => [username.slice(0, 7), changes]),
  ]).toEqual([
    seen.entries.length,
    [
      [
        "analyst",
        [
          { transaction_id: "t", before: true, after: true },
          { transaction_id: "new", before: null, after: true },
        ],
      ],
      [
        "analyst",
        [
          { transaction_id: "t", before: true, after: false },
          { transaction_id: "new", before: null, after: false },
        ],
      ],
    ],
  ]);
  // Page by page it is the same.
  const pages: Entry[] = [];
  for (let cursor: string | null = ""; cursor !== null;) {
    const page: { entries: Entry[]; total: number; next_cursor: string | null } = (
      await one.inject("operator", { url: `/api/v1/audit?limit=1${cursor === "" ? "" : `&cursor=${cursor}`}` })
    ).json();
    pages.push(...page.entries);
    cursor = page.next_cursor;
  }
  expect(pages).toEqual(seen.entries);
  expect((await one.inject("admin", { url: "/api/v1/audit?cursor=nonsense" })).statusCode).toBe(400);
  all.push(...seen.entries.filter(({ route }) => route === "/api/v1/labels"));
  for (const role of ["analyst", "service"] as const)
    expect((await one.inject(role, { url: "/api/v1/audit" })).statusCode).toBe(403);

  // The same in the log, where it stands when ClickHouse is away; no password anywhere.
  const logged = lines
    .map((line) => JSON.parse(line) as { msg: string; audit?: { request_id: string } })
    .flatMap(({ msg, audit }) => (msg === "audit" && audit !== undefined ? [audit.request_id] : []));
  expect(logged.sort()).toEqual(all.map(({ request_id }) => request_id).sort());
  const stored =
    JSON.stringify(await one.context.clickhouse.query("SELECT * FROM requests")) +
    JSON.stringify(await one.context.clickhouse.query("SELECT * FROM responses")) +
    lines.join("");
  for (const secret of [PASSWORD, WRONG, "nobody"]) expect(stored.toLowerCase()).not.toContain(secret);
});
