import { createRequire } from "node:module";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Validator } from "@seriousme/openapi-schema-validator";
import argon2 from "argon2";
import Fastify from "fastify";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { HttpProblem, problems, toProblem } from "../../../api/plugins/errors.js";
import { depthOf } from "../../../api/plugins/json-body.js";
import { validation } from "../../../api/plugins/validation.js";
import { permissions } from "../../../api/plugins/permissions.js";
import { countedAddress, SignInLocks } from "../../../api/users/sign-in-locks.js";
import { PasswordHasher } from "../../../api/users/passwords.js";
import { PERMISSIONS, can } from "../../../api/users/roles.js";
import { ensureSecrets } from "../../../infra/local/secrets.js";
import { FraudstreamError, RequestError, UsageError } from "../../../schemas/errors.js";
import { apiDocument } from "../../support/api-document.js";

test("depthOf skips strings and escapes", () => {
  expect(depthOf("1")).toBe(0);
  expect(depthOf('{"a":[1,{"b":[]}]}')).toBe(4);
  expect(depthOf('"[[[["')).toBe(0);
  expect(depthOf('{"a\\"[[[":"\\\\","b":[]}')).toBe(2);
  expect(depthOf("[".repeat(100_000))).toBe(100_000);
  expect(depthOf('"\\')).toBe(0);
});

describe("toProblem", () => {
  test("the system's errors have their status", () => {
    expect(toProblem(new FraudstreamError("conflict", "x"))).toMatchObject({ status: 409, code: "conflict" });
    expect(toProblem(new FraudstreamError("unknown_model", "x"))).toMatchObject({ status: 404 });
    expect(toProblem(new RequestError("weak_password", "x"))).toMatchObject({
      status: 400,
      code: "weak_password",
      detail: "x",
    });
    expect(toProblem(new RequestError("dataset_empty", "x"))).toMatchObject({
      status: 400,
      code: "dataset_empty",
      detail: "x",
    });
    expect(toProblem(new FraudstreamError("kafka_network", "x"))).toMatchObject({
      status: 503,
      code: "kafka_network",
      headers: { "retry-after": "1" },
    });
    // A wrong setting, and a stored file that is wrong, are not the caller's fault.
    expect(toProblem(new UsageError("bad_setting", "x"))).toMatchObject({ status: 500, code: "internal" });
    expect(toProblem(new FraudstreamError("manifest_invalid", "x"))).toMatchObject({ status: 500, code: "internal" });
    expect(toProblem(new FraudstreamError("kafka_closed", "x"))).toMatchObject({ status: 500, code: "internal" });
    for (const thrown of [new Error("x"), "x", null, undefined, { statusCode: 200 }, { statusCode: 502 }])
      expect(toProblem(thrown)).toMatchObject({ status: 500, code: "internal" });
  });

  test("5xx answers hide what happened", async () => {
    const app = Fastify();
    problems(app);
    app.get("/error", () => {
      throw new Error("secret detail");
    });
    app.get("/problem", () => {
      throw new HttpProblem("kafka_network", "secret detail", { status: 503 });
    });
    for (const url of ["/error", "/problem"]) {
      const answer = await app.inject({ url });
      expect(answer.headers["content-type"]).toMatch(/^application\/problem\+json/);
      expect(answer.body).not.toContain("secret detail");
    }
    await app.close();
  });
});

describe("validation", () => {
  const item = {
    type: "object",
    properties: { amount: { type: "number", minimum: 0 }, kind: { anyOf: [{ const: "a" }, { const: "b" }] } },
    required: ["amount"],
    additionalProperties: false,
  };
  const body = {
    type: "object",
    properties: { name: { type: "string" }, rows: { type: "array", items: item } },
    required: ["name"],
    additionalProperties: false,
  };
  const querystring = {
    type: "object",
    properties: { limit: { type: "integer" }, all: { type: "boolean" } },
    additionalProperties: false,
  };

  async function errorsOf(payload: unknown, query = ""): Promise<unknown> {
    const app = Fastify();
    problems(app);
    validation(app);
    app.post("/x", { schema: { body, querystring } }, (request) => ({ body: request.body, query: request.query }));
    const answer = await app.inject({
      method: "POST",
      url: `/x${query}`,
      payload: JSON.stringify(payload),
      headers: { "content-type": "application/json" },
    });
    await app.close();
    return answer.statusCode === 400 ? answer.json<{ errors: unknown }>().errors : answer.json();
  }

  test("every invalid field is named, nothing is coerced, and no value is repeated", async () => {
    expect(await errorsOf({ nme: 1, rows: [{ amount: "1" }, { amount: -1, kind: "c", more: 1 }, null, {}] })).toEqual([
      { in: "body", field: "name", code: "required", message: "is missing" },
      { in: "body", field: "nme", code: "additionalProperties", message: "is not a field of this request" },
      { in: "body", field: "rows[0].amount", code: "type", message: "must be number" },
      { in: "body", field: "rows[1].more", code: "additionalProperties", message: "is not a field of this request" },
      { in: "body", field: "rows[1].amount", code: "minimum", message: "must be >= 0" },
      { in: "body", field: "rows[1].kind", code: "enum", message: 'must be one of "a", "b"' },
      { in: "body", field: "rows[2]", code: "type", message: "must be object" },
      { in: "body", field: "rows[3].amount", code: "required", message: "is missing" },
    ]);
    for (const name of [1, true, null, ["a"], {}])
      expect(await errorsOf({ name })).toMatchObject([{ field: "name", code: "type" }]);
  });

  test("queries are parsed as numbers and booleans, once each", async () => {
    expect(await errorsOf({ name: "a" }, "?limit=5&all=true")).toMatchObject({ query: { limit: 5, all: true } });
    expect(await errorsOf({ name: "a" }, "?limit=5x&all=yes&b=1")).toMatchObject([
      { in: "query", field: "b" },
      { field: "limit" },
      { field: "all" },
    ]);
    expect(await errorsOf({ name: "a" }, "?limit=5&limit=6")).toMatchObject([
      { in: "query", field: "limit", code: "type" },
    ]);
    expect(await errorsOf({ name: "a" }, "?limit=")).toMatchObject([{ field: "limit" }]);
  });

  test("a route with an open schema doesn't start", async () => {
    const app = Fastify();
    validation(app);
    expect(() =>
      app.post(
        "/x",
        {
          schema: {
            body: {
              type: "object",
              properties: { a: { type: "object", properties: {} } },
              additionalProperties: false,
            },
          },
        },
        () => null,
      ),
    ).toThrow(/body\.properties\.a doesn't say additionalProperties/);
    await app.close();
  });
});

describe("permissions", () => {
  test("are those of the design, and not inherited", () => {
    expect(Object.keys(PERMISSIONS)).toEqual(["service", "analyst", "operator", "admin"]);
    expect(
      can("service", "predictions:write") && can("service", "predictions:read-own") && can("service", "labels:write"),
    ).toBe(true);
    for (const role of ["analyst", "operator"] as const)
      expect(can(role, "predictions:write", "audit:read", "users:read", "users:write")).toBe(false);
    expect(
      can("analyst", "jobs:write", "models:write", "deployments:write", "dead-letters:read", "dead-letters:replay"),
    ).toBe(false);
    expect(
      can("service", "predictions:read", "models:read", "jobs:read", "metrics:read", "users:read", "dead-letters:read"),
    ).toBe(false);
    for (const all of Object.values(PERMISSIONS)) expect(PERMISSIONS.admin).toEqual(expect.arrayContaining([...all]));
  });

  test("a route without a permission doesn't start", async () => {
    const app = Fastify();
    permissions(app);
    expect(() => app.get("/x", () => null)).toThrow(/says in no config.permission/);
    await app.close();
  });
});

describe("passwords", () => {
  test("argon2id with OWASP's parameters, checked", async () => {
    const passwords = new PasswordHasher();
    const hash = await passwords.hash("correct horse");
    expect(hash).toMatch(/^\$argon2id\$v=19\$m=19456,p=1,t=2\$/);
    expect(await passwords.verify(hash, "correct horse")).toBe(true);
    expect(await passwords.verify(hash, "correct horsf")).toBe(false);
    expect(await passwords.verify(null, "correct horse")).toBe(false);
    expect(await argon2.verify(hash, "correct horse")).toBe(true);
  });

  test("are hashed a few at a time, with a bounded queue, and no request is forgotten", async () => {
    const passwords = new PasswordHasher();
    const results = await Promise.allSettled(Array.from({ length: 80 }, () => passwords.hash("x")));
    const refused = results.filter(({ status }) => status === "rejected");
    expect(refused).toHaveLength(80 - 66);
    for (const result of refused) expect(result).toMatchObject({ reason: { code: "busy" } });
    await expect(passwords.hash("x")).resolves.toContain("$argon2id$");
  });
});

describe("wrong passwords", () => {
  const ann = { name: "ann", address: "1.2.3.4" };
  const from = (i: number): { name: string; address: string } => ({
    name: "ann",
    address: `10.0.${i >> 8}.${i & 255}`,
  });
  const wrong = (locks: SignInLocks, attempt: typeof ann, count: number): number => {
    let counted = 0;
    for (let i = 0; i < count; i++) {
      if (locks.waitOf(attempt) > 0) continue;
      locks.count(attempt);
      counted++;
    }
    return counted;
  };

  test(
    "lock a name and an address together, longer each time, until one is right; the name elsewhere and others " +
      "there go on",
    () => {
      let now = Date.now();
      const locks = new SignInLocks({ now: () => now, ofAddress: 1_000 });
      expect(wrong(locks, ann, 4)).toBe(4);
      expect(locks.waitOf(ann)).toBe(0);
      const waits = Array.from({ length: 5 }, () => {
        expect(wrong(locks, ann, 9)).toBe(1);
        expect([locks.waitOf({ ...ann, address: "5.6.7.8" }), locks.waitOf({ ...ann, name: "bob" })]).toEqual([0, 0]);
        const wait = locks.waitOf(ann);
        now += wait * 1_000;
        return wait;
      });
      expect(waits).toEqual([15, 30, 60, 60, 60]);
      locks.count(ann);
      locks.right(ann);
      expect(locks.waitOf(ann)).toBe(0);
      now += 31 * 60_000;
      expect(wrong(locks, ann, 4)).toBe(4);
    },
  );

  test(
    "one every ten minutes, or any number from anywhere, keep nobody out who has signed in from there before, " +
      "nor anybody else for long",
    () => {
      let now = Date.now();
      const locks = new SignInLocks({ now: () => now });
      locks.count(ann);
      locks.right(ann);
      // From a thousand addresses at once: a few, and then so many a minute.
      expect(Array.from({ length: 1_000 }, (_, i) => wrong(locks, from(i), 5)).reduce((a, b) => a + b)).toBe(20);
      expect([locks.waitOf(ann), locks.isKnown(ann)]).toEqual([0, true]);
      expect(locks.waitOf(from(9_999))).toBe(6);
      let tried = 0;
      for (let second = 0; second < 600; second++, now += 1_000) tried += wrong(locks, from(second), 1);
      expect(tried).toBeGreaterThan(95);
      expect(tried).toBeLessThan(105);
      // Somebody who shares the address of one who is known: a few seconds, however long it goes on.
      for (let i = 0; i < 50; i++) {
        wrong(locks, ann, 5);
        expect(locks.waitOf(ann)).toBeLessThanOrEqual(15);
        now += 15_000;
      }
      expect(locks.waitOf(ann)).toBe(0);
      for (let i = 0; i < 144; i++, now += 540_000) {
        wrong(locks, { name: "bob", address: "9.9.9.9" }, 1);
        now += 60_000;
        expect(locks.waitOf({ name: "bob", address: "9.9.9.9" })).toBe(0);
      }
    },
  );

  test(
    "of one address are so many a minute, whichever the names; right ones count nothing, and whoever is known " +
      "there goes on",
    () => {
      let now = Date.now();
      const locks = new SignInLocks({ now: () => now });
      for (let i = 0; i < 200; i++) {
        expect(locks.waitOf({ ...ann, name: `n${i % 50}` })).toBe(0);
        locks.count({ ...ann, name: `n${i % 50}` });
        locks.right({ ...ann, name: `n${i % 50}` });
      }
      expect(
        Array.from({ length: 200 }, (_, i) => wrong(locks, { ...ann, name: `guess-${i}` }, 1)).filter(
          (counted) => counted > 0,
        ),
      ).toHaveLength(20);
      expect(locks.waitOf({ ...ann, name: "n7" })).toBe(0);
      expect(locks.waitOf({ ...ann, name: "new" })).toBe(3);
      now += 3_000;
      expect(locks.waitOf({ ...ann, name: "new" })).toBe(0);
    },
  );

  test("are shared with every copy that has the secret, together with known users, under opaque names", async () => {
    const lines: string[] = [];
    const share = (told: string[]): Promise<void> => Promise.resolve(void lines.splice(0, lines.length, ...told));
    const one = new SignInLocks({ secret: "s", share });
    const [two, other] = ["s", "t"].map((secret) => new SignInLocks({ secret, heard: () => lines }));
    wrong(one, ann, 5);
    await vi.waitFor(() => expect(lines).toHaveLength(1));
    expect(lines[0]).not.toMatch(/ann|1\.2\.3/);
    expect(two.waitOf(ann)).toBeGreaterThan(10);
    expect([
      two.waitOf({ ...ann, name: "bob" }),
      two.waitOf({ ...ann, address: "5.6.7.8" }),
      other.waitOf(ann),
    ]).toEqual([0, 0, 0]);
    one.right(ann);
    await vi.waitFor(() => expect(lines[0]).toMatch(/^sign-in-known /));
    expect([two.waitOf(ann), two.isKnown(ann), other.isKnown(ann), two.isKnown(from(1))]).toEqual([
      0,
      true,
      false,
      false,
    ]);
    for (const locks of [one, two, other]) locks.close();
  });

  test("are counted by network in IPv6", () => {
    expect(countedAddress("2001:db8:1:2:3:4:5:6")).toBe(countedAddress("2001:db8:1:2::ffff"));
    expect(countedAddress("2001:db8:1:3::1")).not.toBe(countedAddress("2001:db8:1:2::1"));
    expect(countedAddress("::ffff:192.0.2.1")).toBe("192.0.2.1");
    expect(countedAddress("unix:")).toBe("unknown");
  });
});

test("secrets are created once, long enough, readable by their owner only", () => {
  const folder = mkdtempSync(join(tmpdir(), "fraudstream-secrets-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const files = ensureSecrets(folder);
  const texts = Object.values(files).map((file: string) => readFileSync(file, "utf8"));
  for (const file of Object.values(files) as string[]) expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(texts[0].trim().length).toBeGreaterThanOrEqual(32);
  expect(texts[1].trim().length).toBeGreaterThanOrEqual(24);
  expect(ensureSecrets(folder)).toEqual(files);
  expect(Object.values(files).map((file: string) => readFileSync(file, "utf8"))).toEqual(texts);
});

describe("the OpenAPI document", () => {
  test("is valid 3.1, with or without open registration", async () => {
    for (const settings of [{}, { REGISTRATION: "open" }]) {
      const document = await apiDocument(settings);
      expect(document.openapi).toBe("3.1.0");
      expect(await new Validator().validate(document as never)).toMatchObject({ valid: true });
    }
  });

  test("every request and response has an example that fits its schema, and every error has its own", async () => {
    const { Ajv2020 } = createRequire(createRequire(import.meta.url).resolve("@fastify/ajv-compiler"))(
      "ajv/dist/2020.js",
    ) as {
      Ajv2020: new (options: object) => {
        addSchema: (schema: object, key: string) => void;
        compile: (schema: object) => ((value: unknown) => boolean) & { errors: unknown };
      };
    };
    interface Content {
      content?: Record<
        string,
        {
          example?: unknown;
          examples?: Record<string, { value: unknown }>;
          schema: { $ref?: string; examples?: unknown[] };
        }
      >;
    }
    const document = (await apiDocument()) as {
      paths: Record<string, Record<string, { requestBody?: Content; responses: Record<string, Content> }>>;
      components: { schemas: Record<string, { examples?: unknown[] }> };
    };
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    ajv.addSchema(document, "doc");
    const wrong: unknown[] = [];
    let seen = 0;
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const [method, { requestBody, responses }] of Object.entries(methods)) {
        if (path.startsWith("/api/"))
          expect(Object.keys(responses), path).toEqual(expect.arrayContaining(["400", "429", "default"]));
        for (const [status, { content = {} }] of [["body", requestBody ?? {}] as const, ...Object.entries(responses)]) {
          for (const [type, { schema, example, examples }] of Object.entries(content)) {
            if (type !== "application/json") continue;
            const where = `${method} ${path} ${status}`;
            const shown =
              example ??
              Object.values(examples ?? {})[0]?.value ??
              schema.examples?.[0] ??
              document.components.schemas[schema.$ref?.split("/").at(-1) ?? ""].examples?.[0];
            const vague = /"[^"]*":"(string|…)"|\["(string|…)/.exec(JSON.stringify(shown) ?? "");
            if (shown === undefined || vague !== null) wrong.push([where, vague?.[0]]);
            const escaped = path
              .replaceAll("~", "~0")
              .replaceAll("/", "~1")
              .replaceAll("{", "%7B")
              .replaceAll("}", "%7D");
            const part = status === "body" ? "requestBody" : `responses/${status}`;
            const fits = ajv.compile({
              $ref: `doc#/paths/${escaped}/${method}/${part}/content/application~1json/schema`,
            });
            if (!fits(shown)) wrong.push([where, fits.errors]);
            seen++;
          }
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(seen).toBeGreaterThan(35);
  });

  test("every operation has its own id and documents its errors and the token that it takes", async () => {
    const { paths } = (await apiDocument()) as {
      paths: Record<
        string,
        Record<string, { operationId: string; security?: unknown[]; responses: Record<string, unknown> }>
      >;
    };
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method, ...operation })),
    );
    expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
    for (const { responses } of operations) expect(responses).toHaveProperty("default");
    const open = operations
      .filter(({ security }) => security === undefined)
      .map(({ method, path }) => `${method} ${path}`);
    expect(open.sort()).toEqual([
      "get /api/v1/status",
      "get /health/live",
      "get /health/ready",
      "get /metrics",
      "get /schemas/ids/{id}",
      "get /subjects/{subject}/versions/latest",
      "post /api/v1/tokens",
    ]);
  });
});
