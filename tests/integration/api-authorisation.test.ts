import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROLES, type Role } from "../../api/users/roles.js";
import { startTestApi, type TestApi } from "../support/api.js";

let api: TestApi;
beforeAll(async () => {
  api = await startTestApi({ migrated: true });
});
afterAll(() => api.close());

/** All that the API has, and who may: s(ervice), a(nalyst), o(perator), A(dmin); *: anybody. */
const WHO: Record<string, string> = {
  "GET /api/v1/status": "*",
  "GET /health/live": "*",
  "GET /health/ready": "*",
  "GET /metrics": "*",
  "GET /schemas/ids/{id}": "*",
  "GET /subjects/{subject}/versions/latest": "*",
  "POST /api/v1/tokens": "*",
  "POST /api/v1/users": "A",
  "GET /api/v1/users": "A",
  "PATCH /api/v1/users/{id}": "A",
  "DELETE /api/v1/users/{id}": "A",
  "GET /api/v1/audit": "oA",
  "GET /api/v1/users/me": "saoA",
  "PATCH /api/v1/users/me": "saoA",
  "POST /api/v1/datasets/look": "oA",
  "POST /api/v1/training-jobs": "oA",
  "DELETE /api/v1/training-jobs/{id}": "oA",
  "GET /api/v1/training-jobs": "aoA",
  "GET /api/v1/training-jobs/{id}": "aoA",
  "POST /api/v1/models": "oA",
  "PUT /api/v1/models/{id}/enabled": "oA",
  "PUT /api/v1/models/{id}/thresholds": "oA",
  "POST /api/v1/deployments/undo": "oA",
  "GET /api/v1/models": "aoA",
  "GET /api/v1/models/{id}": "aoA",
  "GET /api/v1/models/{id}/history": "aoA",
  "GET /api/v1/models/{id}/drift": "aoA",
  "GET /api/v1/models/compare": "aoA",
  "GET /api/v1/models/metrics": "aoA",
  "GET /api/v1/models/{id}/thresholds/curve": "aoA",
  "POST /api/v1/predictions": "sA",
  "GET /api/v1/predictions": "aoA",
  "GET /api/v1/predictions/{transaction_id}": "saoA",
  "POST /api/v1/labels": "saoA",
  "GET /api/v1/dead-letters": "oA",
  "POST /api/v1/dead-letters/replay": "oA",
  "POST /api/v1/dead-letters/{partition}/{offset}/mend": "oA",
};
const LETTERS: Record<Role, string> = { service: "s", analyst: "a", operator: "o", admin: "A" };

describe("functions", () => {
  test("there are no routes other than these, and each is open to these roles only", async () => {
    const { paths } = (await api.app.inject({ url: "/doc/json" })).json<{
      paths: Record<string, Record<string, unknown>>;
    }>();
    const documented = Object.entries(paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(documented.sort()).toEqual(Object.keys(WHO).sort());
    // Nothing is routed that the document doesn't tell of, but its own pages, and the way to them.
    expect(
      routesOf(api.app.printRoutes({ commonPrefix: false }))
        .filter((route) => !/^\w+ (\/doc|\/$)/.test(route))
        .sort(),
    ).toEqual(Object.keys(WHO).sort());

    for (const [operation, who] of Object.entries(WHO)) {
      const [method, path] = operation.split(" ") as ["GET", string];
      const url = path.replace(/\{\w+\}/g, "x-1");
      const found: string[] = [];
      for (const role of [null, ...ROLES]) {
        const { statusCode } = await api.inject(role, { method, url });
        if (role === null && who !== "*") expect(statusCode, `${operation} by nobody`).toBe(401);
        if (statusCode !== 401 && statusCode !== 403) found.push(role === null ? "*" : LETTERS[role]);
      }
      expect(found[0] === "*" ? "*" : found.join(""), operation).toBe(who);
    }
  });
});

describe("objects", () => {
  test("a service reads its own predictions and nobody else's, with or without their card", async () => {
    const users = await Promise.all(
      ["one", "two"].map((name) =>
        api.context.produce((producer) =>
          api.context.users.create(producer, {
            username: `${name}-${randomUUID().slice(0, 8)}`,
            email: "",
            role: "service",
            passwordHash: null,
            by: "system:test",
          }),
        ),
      ),
    );
    const [mine, others] = await Promise.all(
      users.map(async (user) => ({ authorization: `Bearer ${await api.context.tokens.issue(user)}` })),
    );
    const columns =
      "topic, partition, offset, transaction_id, card_id, merchant_id, amount, currency, event_time, " +
      "scored_at, scoring_ms, score, decision, model, epoch, features, source_topic, source_partition, " +
      "source_offset, reply_to";
    const row = (offset: number, replyTo: string): string =>
      `('p', 0, ${offset}, 't${offset}', 'c', 'm', 1, 'EUR', now64(3), now64(3), 1, 0.5, 'approve', 'm@1', ` +
      `1, [], 't', 0, ${offset}, '${replyTo}')`;
    await api.context.clickhouse.command(
      `INSERT INTO predictions (${columns}) VALUES ` +
        `${[row(1, `api-1/${users[0].id}/r/0`), row(2, ""), row(3, `${users[0].id}/x/r/0`)].join(",")}`,
    );
    const status = async (headers: { authorization: string }, path: string): Promise<number> =>
      (await api.app.inject({ url: `/api/v1/predictions/${path}`, headers })).statusCode;
    expect([await status(mine, "t1"), await status(mine, "t1?card_id=c")]).toEqual([200, 200]);
    // What comes from elsewhere, or only looks like one's own, is nobody's.
    for (const path of ["t2", "t3", "t2?card_id=c"]) expect(await status(mine, path), path).toBe(404);
    for (const path of ["t1", "t1?card_id=c", "t2", "t3"]) expect(await status(others, path), path).toBe(404);
    expect((await api.inject("analyst", { url: "/api/v1/predictions/t1" })).statusCode).toBe(200);
  });
});

describe("properties", () => {
  test("nothing is accepted that a request has no field for", async () => {
    const { id } = (await api.inject("analyst", { url: "/api/v1/users/me" })).json<{ id: string }>();
    const payment = {
      transaction_id: "t",
      event_time: Date.now(),
      card_id: "c",
      merchant_id: "m",
      amount: 1,
      currency: "EUR",
    };
    const attempts: [Role, "POST" | "PATCH" | "PUT", string, object][] = [
      [
        "analyst",
        "PATCH",
        "/api/v1/users/me",
        { current_password: "x", password: "long enough, surely", role: "admin" },
      ],
      ["admin", "PATCH", `/api/v1/users/${id}`, { role: "operator", password_hash: "x" }],
      ["admin", "PATCH", `/api/v1/users/${id}`, { token_version: 0, enabled: true }],
      [
        "admin",
        "POST",
        "/api/v1/users",
        { username: "ann", password: "long enough, surely", email: "a@b.example", id: "chosen", created_by: "x" },
      ],
      [
        "operator",
        "POST",
        "/api/v1/training-jobs",
        { dataset: "https://data.example/x.csv", algorithm: "logistic-regression", who: "system:start" },
      ],
      ["operator", "PUT", "/api/v1/models/x@1/thresholds", { review: 0.1, decline: 0.2, who: "x" }],
      ["service", "POST", "/api/v1/predictions", { ...payment, score: 0, decision: "approve" }],
      ["service", "POST", "/api/v1/labels", { transaction_id: "t", card_id: "c", is_fraud: true, offset: 9 }],
    ];
    for (const [role, method, url, payload] of attempts) {
      const answer = await api.inject(role, { method, url, payload });
      expect([answer.statusCode, answer.json<{ code: string }>().code], url).toEqual([400, "invalid_request"]);
    }
    expect((await api.inject("analyst", { url: "/api/v1/users/me" })).json()).toMatchObject({ id, role: "analyst" });
    // And of a user no more is shown than this.
    const [shown] = (await api.inject("admin", { url: "/api/v1/users" })).json<{ users: object[] }>().users;
    expect(Object.keys(shown).sort()).toEqual([
      "changed_at",
      "created_at",
      "email",
      "enabled",
      "id",
      "role",
      "username",
    ]);
  });
});

/** The routes of a printed tree, as the document writes them. */
function routesOf(tree: string): string[] {
  const above: string[] = [];
  return tree.split("\n").flatMap((line) => {
    const [, indent, part, methods] = /^((?:[│ ] {3})*)[├└]── (\S*)(?: \(([A-Z, ]+)\))?/.exec(line) ?? [];
    if (part === undefined) return [];
    above.splice(indent.length / 4, above.length, part);
    const path = above.join("").replace(/:(\w+)/g, "{$1}");
    return (methods ?? "")
      .split(", ")
      .filter((method) => method !== "" && method !== "HEAD")
      .map((method) => `${method} ${path}`);
  });
}
