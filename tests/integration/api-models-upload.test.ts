import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import type { FeatureSpec } from "../../models/features/plan.js";
import { uploadedColumns } from "../../models/uploads/upload.js";
import { exportedPipeline, type Cell } from "../support/exported-pipelines.js";
import { transaction, transactionRecord } from "../support/transactions.js";
import { endless, field, fixture, fixtures, mean, memoryBomb, message, type Fixture } from "../support/uploads.js";
import { get, multipartOf, openModelsApi, partsOf, put, upload, type Parts } from "../support/models-api.js";

const DAY = Date.UTC(2026, 0, 5);
const HOUR_MS = 3_600_000;

/** The transaction whose features are one of a fixture's sample rows. */
function transactionOf(features: readonly FeatureSpec[], row: readonly (number | null)[], id: string) {
  const attributes: Record<string, number | boolean> = {};
  const changed = { transaction_id: id, card_id: id, event_time: DAY, amount: 0, attributes };
  features.forEach(({ name, type, source }, i) => {
    const value = row[i];
    if (value === null) return;
    if (source.kind === "amount") changed.amount = value;
    else if (source.kind === "hour") changed.event_time = DAY + value * HOUR_MS;
    else attributes[name] = type === "boolean" ? value === 1 : value;
  });
  return transaction(0, changed);
}

it("takes models of scikit-learn, XGBoost and LightGBM, which score in the stream as in their library", async () => {
  const { system, api } = await openModelsApi();
  system.startWorker();
  for (const each of fixtures()) {
    const { name, manifest, samples } = each;
    const uploaded = await upload(api, partsOf(each));
    expect([uploaded.status, uploaded.body]).toMatchObject([
      201,
      { id: `${name}@1`, check: { rows: samples.rows.length } },
    ]);
    expect(uploaded.headers.location).toBe(`/api/v1/models/${name}%401`);
    expect(uploaded.body.check.greatest_difference).toBeLessThan(1e-5);
    const enabled = await put(api, `/models/${name}@1/enabled`, { enabled: true, role: "champion" });
    expect([name, enabled.status]).toEqual([name, 200]);

    const features = uploadedColumns(manifest).flatMap((column) => column.features);
    await system.publish(samples.rows.map((row, i) => transactionRecord(transactionOf(features, row, `${name}-${i}`))));
    await system.consumed();
    const scores = new Map(
      (await system.predictions())
        .filter(({ prediction }) => prediction.epoch === enabled.body.epoch)
        .map(({ prediction }) => [prediction.transaction_id, prediction.score]),
    );
    expect([name, scores.size]).toEqual([name, samples.rows.length]);
    const greatest = Math.max(
      ...samples.scores.map((score, i) => Math.abs((scores.get(`${name}-${i}`) ?? NaN) - score)),
    );
    expect([name, greatest < 1e-5]).toEqual([name, true]);
  }
  expect(await system.deadLetters()).toEqual([]);
});

/** The transaction of a row of an exported pipeline. */
function paymentOf(columns: readonly string[], row: readonly Cell[], id: string) {
  const attributes: Record<string, number | boolean | string> = {};
  const changed = { transaction_id: id, card_id: id, event_time: DAY, amount: 0, attributes };
  columns.forEach((name, i) => {
    const value = row[i];
    if (value === null) return;
    if (name === "amount") changed.amount = Number(value);
    else attributes[name] = value;
  });
  return transaction(0, changed);
}

it("takes pipelines with several inputs and texts, which score payments with missing and unseen values", async () => {
  const { system, api } = await openModelsApi();
  system.startWorker();
  for (const name of ["sklearn-logistic", "catboost-texts", "sklearn-groups", "float16", "isolation-forest"]) {
    const pipeline = exportedPipeline(name, 300);
    const { samples, manifest } = pipeline;
    const uploaded = await upload(api, partsOf(pipeline));
    expect([name, uploaded.status, uploaded.body]).toMatchObject([name, 201, { check: { differing_rows: 0 } }]);
    const enabled = await put(api, `/models/${name}@1/enabled`, { enabled: true, role: "champion" });
    expect([name, enabled.status]).toEqual([name, 200]);
    await system.publish(
      samples.rows.map((row, i) => transactionRecord(paymentOf(samples.columns, row, `${name}-${i}`))),
    );
    await system.consumed();
    const scores = new Map(
      (await system.predictions())
        .filter(({ prediction }) => prediction.epoch === enabled.body.epoch)
        .map(({ prediction }) => [prediction.transaction_id, prediction.score]),
    );
    const greatest = Math.max(
      ...samples.scores.map((score, i) => Math.abs((scores.get(`${name}-${i}`) ?? NaN) - score)),
    );
    expect([name, scores.size, greatest < (manifest.tolerance?.difference ?? 1e-5)]).toEqual([name, 300, true]);
  }
  expect(await system.deadLetters()).toEqual([]);
});

it("assigns versions one after the other, and says who uploaded them", async () => {
  const { api } = await openModelsApi();
  const parts = partsOf(fixture("sklearn-logistic-zipmap"));
  const answers = [await upload(api, parts), await upload(api, parts)];
  expect(answers.map(({ body }) => body.id)).toEqual(["sklearn-logistic-zipmap@1", "sklearn-logistic-zipmap@2"]);
  // The ZipMap is cut out: the artifact's output is what it was made of.
  expect(answers[0].body.manifest).toMatchObject({
    input: "X",
    output: "probabilities",
    algorithm: "LogisticRegression",
    validation: null,
    test: null,
  });
  const { body } = await get<{ registered_by: string; state: string }>(api, "/models/sklearn-logistic-zipmap@2");
  expect(body.state).toBe("registered");
  expect(api.context.users.byId(body.registered_by)).toMatchObject({ role: "operator" });
  const twoAtOnce = await Promise.all([upload(api, parts), upload(api, parts)]);
  expect(twoAtOnce.map(({ body: { id } }) => id).sort()).toEqual([
    "sklearn-logistic-zipmap@3",
    "sklearn-logistic-zipmap@4",
  ]);
});

describe("an upload is refused", () => {
  const good = (): Fixture => fixture("sklearn-logistic");
  const manifest = (change: object): Parts => ({
    ...partsOf(good()),
    manifest: JSON.stringify({ ...good().manifest, ...change }),
  });
  const samples = (change: (samples: Fixture["samples"]) => object): Parts => ({
    ...partsOf(good()),
    samples: JSON.stringify(change(good().samples)),
  });
  const model = (onnx: Uint8Array): Parts => ({ ...partsOf(good()), model: onnx });
  const external = message((writer) =>
    writer.raw(field(8, "w")).raw(
      field(
        13,
        message((entry) => entry.raw(field(1, "location")).raw(field(2, "../../../../etc/passwd"))),
      ),
    ),
  );
  const cases: [what: string, status: number, code: string, parts: () => Parts][] = [
    ["without samples", 400, "upload_incomplete", () => ({ ...partsOf(good()), samples: undefined })],
    ["with a part that nobody asked for", 400, "upload_unexpected_part", () => ({ ...partsOf(good()), weights: "x" })],
    [
      "with more than a gibibyte claimed",
      422,
      "onnx_malformed",
      () => model(message((writer) => writer.uint32(58).uint32(2 ** 30))),
    ],
    [
      "with a tensor that claims more than there is",
      422,
      "onnx_size",
      () =>
        model(
          field(
            7,
            field(
              5,
              message((writer) => writer.tag(1, 0).int64(2 ** 40)),
            ),
          ),
        ),
    ],
    ["with garbage", 422, "onnx_malformed", () => model(Buffer.from("MZ\u0090\u0000 not a model"))],
    ["with nothing", 422, "onnx_malformed", () => model(new Uint8Array())],
    ["cut off", 422, "onnx_malformed", () => model(good().onnx.subarray(0, 300))],
    ["with external data", 422, "onnx_external_data", () => model(field(7, field(5, external)))],
    ["with another input's name", 422, "onnx_inputs", () => model(mean())],
    [
      "with another input width",
      422,
      "model_shape",
      () => ({
        manifest: JSON.stringify({ ...good().manifest, features: good().manifest.features.slice(1) }),
        model: good().onnx,
        samples: JSON.stringify({
          columns: good().samples.columns.slice(1),
          rows: good().samples.rows.map((row) => row.slice(1)),
          scores: good().samples.scores,
        }),
      }),
    ],
    [
      "with more memory than there is",
      422,
      "model_failed",
      () => ({
        manifest: JSON.stringify({
          name: "bomb",
          thresholds: { review: 0.5, decline: 0.9 },
          features: [
            { name: "a", type: "number" },
            { name: "b", type: "number" },
          ],
        }),
        model: memoryBomb(5e8),
        samples: JSON.stringify({
          columns: ["a", "b"],
          rows: Array.from({ length: 100 }, () => [0.5, 0.5]),
          scores: Array.from({ length: 100 }, () => 0.5),
        }),
      }),
    ],
    [
      "with a loop",
      422,
      "onnx_operator",
      () => ({
        manifest: JSON.stringify({
          name: "loop",
          thresholds: { review: 0.5, decline: 0.9 },
          features: [
            { name: "a", type: "number" },
            { name: "b", type: "number" },
          ],
        }),
        model: endless(),
        samples: JSON.stringify({
          columns: ["a", "b"],
          rows: Array.from({ length: 100 }, () => [0.5, 0.5]),
          scores: Array.from({ length: 100 }, () => 0.5),
        }),
      }),
    ],
    [
      "without a score for payments that lack its attributes",
      422,
      "model_no_score",
      () => manifest({ features: good().manifest.features.map((feature) => ({ ...feature, default: null })) }),
    ],
    ["with another output's name", 422, "onnx_outputs", () => manifest({ output: "label" })],
    [
      "with other scores than expected",
      422,
      "scores_differ",
      () => samples((all) => ({ ...all, scores: all.scores.with(50, all.scores[50] + 2e-5) })),
    ],
    [
      "with its features in another order",
      422,
      "scores_differ",
      () => manifest({ features: [...good().manifest.features].reverse() }),
    ],
    [
      "with 99 rows",
      400,
      "samples_too_few",
      () => samples(({ columns, rows, scores }) => ({ columns, rows: rows.slice(0, 99), scores: scores.slice(0, 99) })),
    ],
    [
      "with NaN expected",
      400,
      "samples_invalid",
      () => ({
        ...partsOf(good()),
        samples: JSON.stringify(good().samples).replace(/"scores":\[[^,]+/, '"scores":[NaN'),
      }),
    ],
    [
      "with null expected",
      400,
      "samples_invalid",
      () => samples((all) => ({ ...all, scores: (all.scores as (number | null)[]).with(7, null) })),
    ],
    [
      "with samples nested without end",
      400,
      "samples_invalid",
      () => ({ ...partsOf(good()), samples: "[".repeat(100_000) }),
    ],
    [
      "with a manifest that isn't JSON",
      400,
      "manifest_invalid",
      () => ({ ...partsOf(good()), manifest: "name: mine" }),
    ],
    ["with a path as its name", 400, "manifest_invalid", () => manifest({ name: "../../../tmp/evil" })],
    ["with a version of its own", 400, "manifest_invalid", () => manifest({ name: "mine@7" })],
    ["with a hash of its own", 400, "manifest_invalid", () => manifest({ sha256: "0".repeat(64) })],
    [
      "with a feature that nobody can compute",
      400,
      "manifest_invalid",
      () => manifest({ features: [{ name: "x", type: "number", source: { kind: "eval", code: "1" } }] }),
    ],
    [
      "with two features of a name",
      400,
      "manifest_invalid",
      () => manifest({ features: [...good().manifest.features.slice(1), good().manifest.features[1]] }),
    ],
    [
      "with thresholds the wrong way round",
      400,
      "manifest_invalid",
      () => manifest({ thresholds: { review: 0.9, decline: 0.1 } }),
    ],
  ];

  it("with a separate code for each cause, and leaves nothing behind", async () => {
    const { system, api } = await openModelsApi();
    for (const [what, status, code, parts] of cases) {
      const answer = await upload(api, parts());
      expect([what, answer.status, answer.body.code]).toEqual([what, status, code]);
      expect(answer.headers["content-type"]).toContain("application/problem+json");
      expect(JSON.stringify(answer.body)).not.toMatch(/\/work\/|\.ts:|\.js:/);
    }
    expect(api.context.control.state.models.size).toBe(0);
    expect(await readdir(system.artifacts)).toEqual([]);
  });

  it("naming every invalid field of its manifest", async () => {
    const { api } = await openModelsApi();
    const { body } = await upload(
      api,
      manifest({ thresholds: { review: "high" }, features: [{ name: "a", type: "text" }], model: "x@1" }),
    );
    expect(body.errors?.map(({ field: name }) => name).sort()).toEqual([
      "manifest.features[0].type",
      "manifest.model",
      "manifest.thresholds.decline",
      "manifest.thresholds.review",
    ]);
  });

  it("when it is too large, of another type, or from somebody without permission", async () => {
    const { api } = await openModelsApi();
    const large = await upload(api, model(Buffer.alloc(65 * 1024 ** 2)));
    expect([large.status, large.body.code]).toEqual([413, "upload_too_large"]);
    const longManifest = await upload(api, manifest({ algorithm: "x".repeat(2 * 1024 ** 2) }));
    expect([longManifest.status, longManifest.body.code]).toEqual([413, "upload_too_large"]);
    const json = await api.inject("operator", { method: "POST", url: "/api/v1/models", payload: { name: "mine" } });
    expect([json.statusCode, json.json<{ code: string }>().code]).toEqual([415, "unsupported_media_type"]);
    const { payload } = multipartOf(partsOf(good()));
    const cut = await api.inject("operator", {
      method: "POST",
      url: "/api/v1/models",
      payload: payload.subarray(0, payload.length - 2000),
      headers: multipartOf({}).headers,
    });
    expect([cut.statusCode, cut.json<{ code: string }>().code]).toEqual([400, "upload_malformed"]);
    for (const role of ["analyst", "service"] as const)
      expect((await upload(api, partsOf(good()), role)).status).toBe(403);
  });

  it("while its caller still sends: the answer comes, and the connection is closed", async () => {
    const { api } = await openModelsApi();
    const { port } = new URL(await api.app.listen({ host: "127.0.0.1", port: 0 }));
    const socket = connect(Number(port), "127.0.0.1");
    const { authorization } = await api.as("operator");
    const { payload, headers } = multipartOf({ weights: "x" });
    let answer = "";
    socket
      .setEncoding("utf8")
      .on("data", (text: string) => (answer += text))
      .on("error", () => undefined);
    socket.write(
      `POST /api/v1/models HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\ncontent-type: ` +
        `${headers["content-type"]}\r\ncontent-length: ${10 * 1024 ** 3}\r\n\r\n`,
    );
    socket.write(payload.subarray(0, payload.length - 10));
    await once(socket, "close");
    expect(answer).toMatch(/^HTTP\/1.1 400 .*upload_unexpected_part/s);
  });

  it("when it arrives too slowly, while one sent quickly meanwhile is not", async () => {
    const { api } = await openModelsApi();
    const address = await api.app.listen({ host: "127.0.0.1", port: 0 });
    const { authorization } = await api.as("operator");
    const { payload, headers } = multipartOf(partsOf(good()));
    const slow = Array.from({ length: 4 }, () => {
      const socket = connect(Number(new URL(address).port), "127.0.0.1");
      const seen = { answer: "", closed: once(socket, "close") };
      socket
        .setEncoding("utf8")
        .on("data", (text: string) => (seen.answer += text))
        .on("error", () => undefined);
      socket.write(
        `POST /api/v1/models HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\ncontent-type: ` +
          `${headers["content-type"]}\r\ncontent-length: ${payload.length}\r\n\r\n`,
      );
      let at = 0;
      const drip = setInterval(() => socket.writable && socket.write(payload.subarray(at, (at += 10))), 100);
      void seen.closed.then(() => clearInterval(drip));
      return seen;
    });
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const honest = await fetch(`${address}/api/v1/models`, {
      method: "POST",
      headers: { authorization, "content-type": headers["content-type"] },
      body: new Uint8Array(payload),
    });
    expect(honest.status).toBe(201);
    for (const { closed } of slow) await closed;
    for (const { answer } of slow) expect(answer).toMatch(/^HTTP\/1.1 408 .*upload_too_slow/s);
  });
});
