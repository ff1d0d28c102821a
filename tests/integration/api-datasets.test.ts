import { expect, test, vi } from "vitest";
import { gzipSync } from "node:zlib";
import { startTestApi } from "../support/api.js";
import { staticServer } from "../support/static-server.js";
import { paysimCsv } from "../unit/models/datasets/csv-files.js";

vi.setConfig({ testTimeout: 150_000 });

test("an inspection over HTTP: how a linked file is read, and why it is refused, in the request's terms", async () => {
  const api = await startTestApi({ settings: { DATASETS_ALLOW_PRIVATE: "true" } });
  const { origin } = await staticServer({
    "/x.csv.gz": gzipSync(paysimCsv(400)),
    "/days.csv": "date,amount,label\n3/4/2024,1,0\n3/5/2024,2,1\n",
  });
  const look = (payload: object, role: "operator" | "analyst" = "operator") =>
    api.inject(role, { method: "POST", url: "/api/v1/datasets/look", payload });

  const answer = await look({ dataset: `${origin}/x.csv.gz`, drop: ["type"] });
  expect(answer.statusCode, answer.body).toBe(200);
  expect(answer.json()).toMatchObject({ rows: 400, labelled: 400 });
  expect(answer.json<{ columns: { name: string; taken_for: string }[] }>().columns[1]).toMatchObject({
    name: "type",
    taken_for: "left out",
  });

  const refused = await look({ dataset: `${origin}/days.csv` });
  expect([refused.statusCode, refused.json<{ code: string }>().code]).toEqual([400, "csv_ambiguous"]);
  expect(refused.json<{ detail: string }>().detail).toContain('"day_first": true in the request');
  expect((await look({ dataset: `${origin}/days.csv`, day_first: true })).statusCode).toBe(200);

  expect((await look({ dataset: `${origin}/none.csv` })).json<{ code: string }>().code).toBe("download_status");
  expect((await look({ dataset: "file:///etc/passwd" })).statusCode).toBe(400);
  expect((await look({ dataset: `${origin}/x.csv.gz` }, "analyst")).statusCode).toBe(403);
});
