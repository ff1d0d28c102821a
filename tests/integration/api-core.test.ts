import { expect, test } from "vitest";
import { startTestApi } from "../support/api.js";

test("a status for anybody, users for an admin", async () => {
  const api = await startTestApi();
  const answer = await api.inject(null, { url: "/api/v1/status" });
  expect(answer.json()).toEqual({ status: "success", message: "pong!" });
  expect((await api.inject("analyst", { url: "/api/v1/users" })).json()).toMatchObject({ status: 403, code: "forbidden" });
  expect((await api.inject("admin", { url: "/api/v1/users" })).statusCode).toBe(200);
});
