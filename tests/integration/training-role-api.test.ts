import { expect, onTestFinished, test, vi } from "vitest";
import { DEFAULT_DECLINE_PRECISION, DEFAULT_REVIEW_CAPACITY } from "../../models/evaluation/thresholds.js";
import { eventually } from "../support/eventually.js";
import { RoleProcess } from "../support/workers.js";
import { startTestApi, type TestApi } from "../support/api.js";
import { kafkaConfig } from "../support/engines.js";
import { heldPage, staticServer } from "../support/static-server.js";
import { temporaryFolder, ulbCsv } from "../unit/models/datasets/csv-files.js";

vi.setConfig({ testTimeout: 150_000 });

const PATH = "/api/v1/training-jobs";
const trees = { algorithm: "gradient-boosted-trees", params: { num_iterations: 5 } };

interface ShownJob {
  id: string;
  status: string;
  model: string | null;
  progress: { phase: string; percent: number } | null;
  error: { code: string; reason: string } | null;
  [field: string]: unknown;
}

async function shown(api: TestApi, id: string): Promise<ShownJob> {
  const answer = await api.inject("analyst", { method: "GET", url: `${PATH}/${id}` });
  expect(answer.statusCode).toBe(200);
  return answer.json<ShownJob>();
}

async function asked(api: TestApi, body: object): Promise<string> {
  const answer = await api.inject("operator", { method: "POST", url: PATH, payload: body });
  expect(answer.statusCode).toBe(202);
  const { id } = answer.json<{ id: string }>();
  expect(answer.headers.location).toBe(`${PATH}/${id}`);
  return id;
}

test("jobs are watched, finished, failed and cancelled over HTTP; another copy of the API knows at once", async () => {
  const api = await startTestApi();
  const copy = await startTestApi({ prefix: api.prefix, database: api.database });
  const { page, release } = heldPage(ulbCsv(400));
  const { origin } = await staticServer({ "/x.csv": page });
  const artifacts = temporaryFolder();
  const trainer = new RoleProcess("training", {
    KAFKA_BROKERS: kafkaConfig().brokers.join(","),
    CLICKHOUSE_URL: "",
    TOPIC_PREFIX: api.prefix,
    TOPIC_PARTITIONS: "2",
    ARTIFACTS: artifacts,
    DATA_DIR: artifacts,
    DATASETS_ALLOW_PRIVATE: "127.0.0.1/32",
    LOG_LEVEL: "info",
  });
  onTestFinished(() => trainer.kill());

  const request = { ...trees, dataset: `${origin}/x.csv`, seed: 1 };
  const id = await asked(api, request);
  const waiting = await asked(api, request);
  const missing = await asked(copy, { ...trees, dataset: `${origin}/missing.csv` });
  expect((await shown(copy, id)).request).toEqual({
    ...request,
    accept_warnings: false,
    enable: "never",
    metric: "average_precision",
    review_capacity: DEFAULT_REVIEW_CAPACITY,
    decline_precision: DEFAULT_DECLINE_PRECISION,
  });
  expect(
    await eventually("the download is seen", async () => {
      const job = await shown(api, id);
      return job.progress?.phase === "downloading" && job;
    }),
  ).toMatchObject({ status: "processing", attempt: 1, model: null, metrics: null, error: null, finished_at: null });
  expect(await shown(api, waiting)).toMatchObject({ status: "pending", attempt: 0, claimed_at: null, progress: null });
  const cancelled = await api.inject("operator", { method: "DELETE", url: `${PATH}/${waiting}` });
  expect([cancelled.statusCode, cancelled.json<ShownJob>().status]).toEqual([200, "cancelled"]);
  release();

  const done = await eventually("the job is done", async () => {
    const job = await shown(api, id);
    return job.status === "processed" && job;
  });
  expect(done).toMatchObject({
    model: "x@1",
    error: null,
    progress: null,
    metrics: { rows: 400, comparison: null, test: { rows: 120 } },
  });
  expect(
    await eventually("the other one has failed", async () => {
      const job = await shown(copy, missing);
      return job.status === "error" && job;
    }),
  ).toMatchObject({
    model: null,
    metrics: null,
    error: { code: "download_status", reason: "the server answered with status 404, not 200" },
  });

  const list = await copy.inject("analyst", { method: "GET", url: PATH });
  expect(list.json<{ jobs: ShownJob[] }>().jobs.map((job) => [job.id, job.status])).toEqual([
    [missing, "error"],
    [waiting, "cancelled"],
    [id, "processed"],
  ]);
  const failed = await api.inject("analyst", { method: "GET", url: `${PATH}?status=error&limit=1` });
  expect(failed.json<{ jobs: ShownJob[] }>().jobs.map((job) => job.id)).toEqual([missing]);
  const late = await copy.inject("operator", { method: "DELETE", url: `${PATH}/${id}` });
  expect([late.statusCode, late.json<{ code: string }>().code]).toEqual([409, "conflict"]);
});

test("who may use it, and what is refused", async () => {
  const api = await startTestApi();
  const body = { ...trees, dataset: "https://data.example/x.csv" };
  const status = async (
    role: Parameters<TestApi["inject"]>[0],
    method: "GET" | "POST" | "DELETE",
    url: string,
    payload?: object,
  ): Promise<[number, string?]> => {
    const answer = await api.inject(role, { method, url, ...(payload === undefined ? {} : { payload }) });
    return answer.statusCode < 400 ? [answer.statusCode] : [answer.statusCode, answer.json<{ code: string }>().code];
  };
  expect(await status(null, "POST", PATH, body)).toEqual([401, "no_token"]);
  for (const role of ["analyst", "service"] as const)
    expect(await status(role, "POST", PATH, body)).toEqual([403, "forbidden"]);
  expect(await status("analyst", "DELETE", `${PATH}/x`)).toEqual([403, "forbidden"]);
  expect(await status("service", "GET", PATH)).toEqual([403, "forbidden"]);
  expect(await status("admin", "POST", PATH, body)).toEqual([202]);
  expect(await status("analyst", "GET", `${PATH}/nothing`)).toEqual([404, "unknown_job"]);
  expect(await status("operator", "DELETE", `${PATH}/nothing`)).toEqual([404, "unknown_job"]);
  expect(await status("operator", "POST", PATH, { ...body, role: "admin" })).toEqual([400, "invalid_request"]);
  expect(await status("operator", "POST", PATH, { ...body, dataset: "file:///etc/passwd" })).toEqual([
    400,
    "invalid_request",
  ]);
  expect(await status("operator", "POST", PATH, { ...body, columns: { colour: "red" } })).toEqual([
    400,
    "invalid_request",
  ]);
  expect(
    await status("operator", "POST", PATH, { ...body, dataset: "https://user:secret@data.example/x.csv" }),
  ).toEqual([400, "bad_training_request"]);
  expect(await status("operator", "POST", PATH, { ...body, params: { num_leafs: 3 } })).toEqual([
    400,
    "training_params",
  ]);
  expect(await status("analyst", "GET", `${PATH}?limit=0`)).toEqual([400, "invalid_request"]);
});
