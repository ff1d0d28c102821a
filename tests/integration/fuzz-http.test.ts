/** A small, seeded slice of `npm run test:fuzz -- http`. */
import type { InjectOptions } from "fastify";
import { pino } from "pino";
import { expect, test } from "vitest";
import { CARD_MARK, Findings, SECRET_MARK } from "../fuzz/findings.js";
import { fuzzHttp } from "../fuzz/http.js";
import { ADMIN_PASSWORD, JWT_SECRET, startTestApi } from "../support/api.js";

/** Each of the routes six times or so. */
const REQUESTS = 200;

test("requests to every route with everything wrong are 4xx, and reveal nothing", async () => {
  const logged: string[] = [];
  const api = await startTestApi({
    migrated: true,
    log: pino({ level: "debug" }, { write: (line: string) => void logged.push(line) }),
  });
  const headers = await Promise.all((["admin", "operator", "analyst", "service"] as const).map((role) => api.as(role)));
  const tokens = headers.map(({ authorization }) => authorization.slice("Bearer ".length));
  const findings = new Findings();
  const { requests, statuses } = await fuzzHttp(
    7,
    REQUESTS,
    {
      document: api.app.swagger() as unknown as Record<string, unknown>,
      tokens,
      secrets: [JWT_SECRET, ADMIN_PASSWORD, ...tokens],
      cpuMs: () => 0, // Others' work is in this process, too: how long it takes is for `npm run test:fuzz`.
      ask: async ({ method, path, headers: sent, body }) => {
        const answer = await api.app.inject({
          method: method as NonNullable<InjectOptions["method"]>,
          url: path,
          headers: sent,
          ...(body === null ? {} : { payload: body }),
        });
        return { status: answer.statusCode, headers: answer.headers, text: answer.body, ms: 0 };
      },
    },
    findings,
  );
  expect(findings.found).toEqual([]);
  expect(requests).toBe(REQUESTS);
  expect(Object.keys(statuses)).toEqual(expect.arrayContaining(["200", "400", "401", "403", "404"]));
  const marks = [CARD_MARK, SECRET_MARK, JWT_SECRET, ADMIN_PASSWORD, ...tokens];
  expect(logged.filter((line) => marks.some((mark) => line.includes(mark)))).toEqual([]);
}, 240_000);
