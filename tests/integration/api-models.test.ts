import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { loadArtifact } from "../../models/artifacts.js";
import {
  amountFeature,
  logistic,
  manifestOf,
  numberFeature,
  sigmoidOf,
  weighted,
  writeArtifact,
} from "../support/models.js";
import { anotherApi, get, openModelsApi, put } from "../support/models-api.js";
import { transaction, transactionRecord } from "../support/transactions.js";

interface Listed {
  epoch: number | null;
  next: string | null;
  models: {
    id: string;
    state: string;
    registered_by: string;
    algorithm: string | null;
    thresholds: object | null;
    problem: string | null;
  }[];
}
interface Changed {
  action: string;
  who: string;
  role: string | null;
  epoch: number | null;
  review: number | null;
}

const ARTIFACTS_TOKEN = "a secret of workers and the API, thirty-two bytes or more";
let ids = 0;
const amounts = (count: number, amount: number) =>
  Array.from({ length: count }, () => transactionRecord(transaction((ids += 1), { amount })));

describe("enabling", () => {
  it("answers once every partition is scored with the model, and not before", async () => {
    const { system, api } = await openModelsApi();
    await system.register("first@1", logistic());
    await system.register("second@1", logistic());
    system.startWorker();

    const first = await put(api, "/models/first@1/enabled", { enabled: true, role: "champion" });
    expect([first.status, first.body]).toMatchObject([
      200,
      { changed: true, live: true, missing_partitions: [], problems: [] },
    ]);
    await system.publish(amounts(20, 100));
    await system.consumed();
    const second = await put(api, "/models/second@1/enabled", { enabled: true, role: "champion" });
    expect(second.status).toBe(200);
    expect(second.headers.etag).toBe(`"${second.body.epoch}"`);
    // Whatever is published after the answer is scored with it.
    await system.publish(amounts(20, 100));
    await system.consumed();
    const predictions = (await system.predictions()).map(({ prediction }) => prediction);
    expect(predictions).toHaveLength(40);
    for (const { transaction_id, model, epoch, decision, score } of predictions) {
      const before = Number(transaction_id.slice(1)) <= ids - 20;
      expect([transaction_id, model, epoch, decision]).toEqual([
        transaction_id,
        before ? "first@1" : "second@1",
        before ? first.body.epoch : second.body.epoch,
        "review",
      ]);
      expect(score).toBeCloseTo(sigmoidOf(100), 6);
    }

    // Thresholds: live in the same way, 2 declines nothing.
    const thresholds = await put(api, "/models/second@1/thresholds", { review: 0.75, decline: 2 });
    expect([thresholds.status, thresholds.body]).toMatchObject([200, { changed: true, live: true }]);
    await system.publish(amounts(5, 100));
    await system.consumed();
    const decisions = (await system.predictions()).filter(
      ({ prediction }) => prediction.epoch === thresholds.body.epoch,
    );
    expect(decisions.map(({ prediction }) => prediction.decision)).toEqual(Array(5).fill("approve"));

    // Rolling back is enabling an earlier one; it comes with its own thresholds, and the later one keeps those that
    // were set.
    const back = await put(api, "/models/first@1/enabled", { enabled: true, role: "champion" });
    expect([back.status, back.body]).toMatchObject([200, { live: true }]);
    expect((await put(api, "/models/second@1/enabled", { enabled: true, role: "shadow" })).status).toBe(200);
    const { body } = await get<Listed>(api, "/models");
    expect(body.models.map(({ id, state, thresholds: inForce }) => [id, state, inForce])).toEqual([
      ["second@1", "shadow", { review: 0.75, decline: 2 }],
      ["first@1", "champion", { review: 0.5, decline: 0.9 }],
    ]);
    const pages = await Promise.all(
      ["?limit=1", "?limit=1&after=second@1", "?after=first@1"].map(
        async (query) => (await get<Listed>(api, `/models${query}`)).body,
      ),
    );
    expect(pages.map(({ models, next }) => [models.map(({ id }) => id), next])).toEqual([
      [["second@1"], "second@1"],
      [["first@1"], null],
      [[], null],
    ]);
    expect([(await get(api, "/models?after=third@1")).status, (await get(api, "/models?limit=0")).status]).toEqual([
      404, 400,
    ]);

    // The same again is no new event.
    const again = await put(api, "/models/first@1/enabled", { enabled: true, role: "champion" });
    expect([again.status, again.body]).toMatchObject([200, { changed: false, live: true, epoch: body.epoch }]);
    expect((await get<{ deployment: object }>(api, "/models/first@1")).body.deployment).toMatchObject({
      epoch: body.epoch,
      live: true,
    });

    // Out again: nothing is scored without a champion.
    expect((await put(api, "/models/second@1/enabled", { enabled: false })).body).toMatchObject({
      live: true,
      changed: true,
    });
    expect((await put(api, "/models/first@1/enabled", { enabled: false, role: "shadow" })).body).toMatchObject({
      changed: false,
    });
    expect((await put(api, "/models/first@1/enabled", { enabled: false, role: "champion" })).body).toMatchObject({
      live: true,
      changed: true,
    });

    const history = (await get<Changed[]>(api, "/models/second@1/history")).body;
    expect(history.map(({ action, role, review }) => [action, role, review])).toEqual([
      ["registered", null, null],
      ["enabled", "champion", 0.5],
      ["thresholds", "champion", 0.75],
      ["disabled", null, null],
      ["enabled", "shadow", 0.75],
      ["disabled", null, null],
    ]);
    const operator = history[1].who;
    expect([history[0].who, ...new Set(history.slice(1).map(({ who }) => who))]).toEqual(["system:test", operator]);
    expect(api.context.users.byId(operator)).toMatchObject({ role: "operator" });
  });

  it("undoes a deployment as a whole, and says which payments lack a model's attributes", async () => {
    const { system, api } = await openModelsApi({ migrated: true });
    const risk = numberFeature("risk");
    await system.register("first@1", logistic());
    await system.register("second@1", logistic());
    await system.register("needy@1", weighted([amountFeature, risk, numberFeature("age", 30)], [0.01, 0, 0]));
    const deployed = (model: string, review: number) => ({ model, review, decline: 0.9 });
    const first = await system.deploy(deployed("first@1", 0.25), [deployed("second@1", 0.75)]);
    const undo = async (body: object, role: "operator" | "analyst" = "operator") => {
      const response = await api.inject(role, {
        method: "POST",
        url: "/api/v1/deployments/undo?wait_ms=0",
        payload: body,
      });
      return {
        status: response.statusCode,
        body: response.json<{ code: string; epoch: number; restored: number; model: string }>(),
      };
    };
    expect((await undo({}, "analyst")).status).toBe(403);
    await api.context.control.readToEnd();
    expect((await undo({})).body.code).toBe("nothing_to_undo");

    // No payment is stored yet: nothing is known of them. Without ClickHouse it would be the same answer.
    const enabledNow = await put(api, "/models/needy@1/enabled?wait_ms=0", { enabled: true, role: "champion" });
    expect([enabledNow.status, enabledNow.body]).toMatchObject([
      202,
      { changed: true, attributes: null, warnings: [] },
    ]);
    expect((await undo({ epoch: first })).body.code).toBe("conflict");
    const back = await undo({ epoch: enabledNow.body.epoch });
    expect([back.status, back.body]).toMatchObject([202, { changed: true, model: "first@1", restored: first }]);
    expect(api.context.control.state.deployment).toEqual({
      epoch: back.body.epoch,
      champion: deployed("first@1", 0.25),
      shadows: [deployed("second@1", 0.75)],
    });
    // Undoing that brings back what was undone; any other by its epoch.
    expect((await undo({})).body).toMatchObject({ model: "needy@1", restored: enabledNow.body.epoch });
    expect((await undo({ to: first })).body).toMatchObject({ model: "first@1", restored: first });
    expect((await undo({ to: 0 })).status).toBe(404);

    const values = Array.from(
      { length: 10 },
      (_, i) =>
        `('t', 0, ${i}, 't${i}', now64(3), 'c', 'm', 1, 'EUR', ${i < 3 ? "map('risk', 0.5)" : "map()"}, map(), map())`,
    );
    await api.context.clickhouse.command(
      "INSERT INTO transactions (topic, partition, offset, transaction_id, event_time, card_id, merchant_id, " +
        `amount, currency, numbers, texts, flags) VALUES ${values.join()}`,
    );
    const again = await put(api, "/models/needy@1/enabled?wait_ms=0", { enabled: true, role: "champion" });
    expect(again.body).toMatchObject({
      attributes: { payments: 10, present: { risk: 3, age: 0 } },
      warnings: [
        expect.stringContaining(
          'of the last 10 payments 3 have the attribute "risk", for which the manifest has no default',
        ),
      ],
    });
    await system.control.readToEnd();
    await system.deploy(null);
    await system.deploy("first@1");
    await api.context.control.readToEnd();
    expect((await undo({})).body.code).toBe("no_champion");
  });

  it("gives a worker without files the ones it lacks, by their hash, and gives them to nobody else", async () => {
    const { system, api } = await openModelsApi({ settings: { ARTIFACTS_TOKEN } });
    await system.register("good@1", logistic());
    await system.deploy("good@1");
    const url = await api.app.listen({ host: "127.0.0.1", port: 0 });
    const { manifestSha256 } = [...system.control.state.models.values()][0];
    for (const authorization of [undefined, "Bearer wrong", (await api.as("admin")).authorization]) {
      const refused = await fetch(`${url}/api/v1/artifacts/${manifestSha256}/manifest.json`, {
        headers: authorization === undefined ? {} : { authorization },
      });
      expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([401, "unauthenticated"]);
    }
    const unknown = await fetch(`${url}/api/v1/artifacts/${"0".repeat(64)}/model.onnx`, {
      headers: { authorization: `Bearer ${ARTIFACTS_TOKEN}` },
    });
    expect(unknown.status).toBe(404);
    const elsewhere = `${system.artifacts}-elsewhere`;
    onTestFinished(() => rm(elsewhere, { recursive: true, force: true }));
    const worker = system.startWorker({ ARTIFACTS: elsewhere, ARTIFACTS_URL: url, ARTIFACTS_TOKEN });
    await system.publish(amounts(3, 100));
    await system.consumed();
    expect(await system.predictions()).toHaveLength(3);
    await worker.logged("a model's files were fetched from ARTIFACTS_URL");
    // The copy is whole: byte for byte what was registered.
    expect((await loadArtifact(elsewhere, "good@1", manifestSha256)).onnx).toEqual(Buffer.from(logistic().onnx));
  });

  it("answers 202 without workers, naming every partition, and 200 to the same call once there are some", async () => {
    const { system, api } = await openModelsApi();
    await system.register("mine@1", logistic());
    const waiting = await put(api, "/models/mine@1/enabled?wait_ms=300", { enabled: true, role: "champion" });
    expect([waiting.status, waiting.body]).toMatchObject([
      202,
      { live: false, changed: true, missing_partitions: [0, 1], problems: [] },
    ]);
    expect(waiting.headers.location).toBe("/api/v1/models/mine%401");
    expect(
      (await get<{ deployment: object }>(api, String(waiting.headers.location).slice("/api/v1".length))).body
        .deployment,
    ).toMatchObject({ live: false, missing_partitions: [0, 1] });
    system.startWorker();
    const live = await put(api, "/models/mine@1/enabled", { enabled: true, role: "champion" });
    expect([live.status, live.body]).toMatchObject([200, { live: true, changed: false, epoch: waiting.body.epoch }]);
  });

  it("answers 202 with the workers' problems, and they continue with the previous model", async () => {
    const { system, api } = await openModelsApi();
    await system.register("good@1", logistic());
    const broken = { ...logistic(), onnx: new TextEncoder().encode("not a model") };
    await system.registerFiles(
      "broken@1",
      await writeArtifact(system.artifacts, manifestOf("broken@1", broken), broken.onnx),
    );
    system.startWorker();
    const good = await put(api, "/models/good@1/enabled", { enabled: true, role: "champion" });
    expect(good.status).toBe(200);
    const bad = await put(api, "/models/broken@1/enabled?wait_ms=6000", { enabled: true, role: "champion" });
    expect([bad.status, bad.body]).toMatchObject([
      202,
      {
        live: false,
        missing_partitions: [0, 1],
        problems: [{ problem: expect.stringContaining(`epoch ${bad.body.epoch} can't be loaded`) as string }],
      },
    ]);
    await system.publish(amounts(3, 100));
    await system.consumed();
    expect((await system.predictions()).map(({ prediction }) => prediction.epoch)).toEqual(
      Array(3).fill(good.body.epoch),
    );
  });

  it("doesn't put in force what is known to be broken", async () => {
    const { system, api } = await openModelsApi();
    for (const id of ["changed@1", "gone@1"]) await system.register(id, logistic());
    await writeFile(join(system.artifacts, "changed@1", "model.onnx"), "changed");
    await writeFile(join(system.artifacts, "gone@1", "manifest.json"), "{}");
    for (const id of ["changed@1", "gone@1"]) {
      const answer = await put(api, `/models/${id}/enabled?wait_ms=0`, { enabled: true, role: "champion" });
      expect([answer.status, answer.body.code]).toEqual([409, "artifact_corrupt"]);
    }
    await system.registerFiles("never@1", "0".repeat(64));
    expect((await put(api, "/models/never@1/enabled", { enabled: true, role: "champion" })).body.code).toBe(
      "artifact_missing",
    );
    const { body } = await get<Listed>(api, "/models");
    expect([body.epoch, body.models.map(({ id, problem, algorithm }) => [id, problem, algorithm])]).toEqual([
      null,
      [
        ["never@1", "artifact_missing", null],
        ["gone@1", "artifact_corrupt", null],
        ["changed@1", null, "test"],
      ],
    ]);
  });
});

describe("deciding", () => {
  it("lets one of two win, on one copy or on two, and tells the other", async () => {
    const { system, api } = await openModelsApi();
    const other = await anotherApi(system);
    for (const id of ["a@1", "b@1", "c@1"]) await system.register(id, logistic());
    let epoch: number | null = null;
    for (const [left, right] of [
      [api, other],
      [api, api],
      [other, api],
    ]) {
      for (const [one, two] of [
        ["a@1", "b@1"],
        ["b@1", "c@1"],
      ]) {
        // Both know the same deployment, whoever is quicker.
        const answers = await Promise.all([
          put(left, `/models/${one}/enabled?wait_ms=0`, { enabled: true, role: "champion", epoch }),
          put(right, `/models/${two}/enabled?wait_ms=0`, { enabled: true, role: "champion", epoch }),
        ]);
        const won = answers.filter(({ status }) => status === 202);
        expect(answers.map(({ status }) => status).sort()).toEqual([202, 409]);
        expect(answers.find(({ status }) => status === 409)?.body.code).toBe("conflict");
        epoch = won[0].body.epoch;
        await other.context.control.readToEnd();
        expect(other.context.control.state.deployment).toMatchObject({ epoch, champion: { model: won[0].body.model } });
        await put(api, "/models/a@1/enabled?wait_ms=0", { enabled: false });
        await put(api, "/models/b@1/enabled?wait_ms=0", { enabled: false });
        await put(api, "/models/c@1/enabled?wait_ms=0", { enabled: false });
        epoch = api.context.control.state.deployment?.epoch ?? null;
      }
    }
  });

  it("refuses what is based on an older deployment, in the body or as If-Match", async () => {
    const { system, api } = await openModelsApi();
    const other = await anotherApi(system);
    for (const id of ["a@1", "b@1"]) await system.register(id, logistic());
    const enable = (epoch?: number | null) => ({
      enabled: true,
      role: "champion",
      ...(epoch === undefined ? {} : { epoch }),
    });
    const first = (await put(api, "/models/a@1/enabled?wait_ms=0", enable(null))).body.epoch;
    expect((await put(api, "/models/b@1/enabled?wait_ms=0", enable(null))).status).toBe(409);
    // A copy that is behind looks again before it refuses.
    const second = await put(other, "/models/b@1/enabled?wait_ms=0", enable(first));
    expect(second.status).toBe(202);
    const late = await put(api, "/models/a@1/thresholds?wait_ms=0", { review: 0.1, decline: 0.2, epoch: first });
    expect([late.status, late.body.code]).toEqual([409, "conflict"]);
    expect(
      (await put(api, "/models/a@1/enabled?wait_ms=0", enable(), { headers: { "if-match": `"${first}"` } })).status,
    ).toBe(409);
    expect((await put(api, "/models/a@1/enabled?wait_ms=0", enable(second.body.epoch + 1000))).status).toBe(409);
    expect(
      (await put(api, "/models/a@1/enabled?wait_ms=0", enable(), { headers: { "if-match": "yesterday" } })).status,
    ).toBe(400);
    const etag = String((await get(api, "/models/b@1")).headers.etag);
    expect(
      (
        await put(
          api,
          "/models/b@1/thresholds?wait_ms=0",
          { review: 0.1, decline: 0.2 },
          { headers: { "if-match": etag } },
        )
      ).status,
    ).toBe(202);
  });

  it("refuses impossible changes, with a code, and changes nothing", async () => {
    const { system, api } = await openModelsApi();
    await system.register("a@1", logistic());
    const refused = async (
      path: string,
      body: object,
      role: "operator" | "analyst" | "service" = "operator",
    ): Promise<[number, string]> => {
      const answer = await put(api, path, body, { role });
      return [answer.status, answer.body.code];
    };
    expect(await refused("/models/b@1/enabled", { enabled: true, role: "champion" })).toEqual([404, "unknown_model"]);
    expect(await refused("/models/b@1/thresholds", { review: 0, decline: 1 })).toEqual([404, "unknown_model"]);
    expect(await refused("/models/a@1/thresholds", { review: 0, decline: 1 })).toEqual([409, "not_enabled"]);
    expect(await refused("/models/a@1/enabled", { enabled: true, role: "shadow" })).toEqual([409, "no_champion"]);
    for (const id of ["..%2F..%2Fetc", "%2e%2e%2f", "a@1%00", "'; DROP TABLE predictions; --", "a@".padEnd(300, "1")]) {
      expect([id, (await put(api, `/models/${id}/enabled`, { enabled: true, role: "champion" })).status]).toEqual([
        id,
        expect.toSatisfy((status: number) => status === 404 || status === 400),
      ]);
    }
    for (const body of [
      { enabled: true },
      { enabled: "true", role: "champion" },
      { enabled: true, role: "king" },
      { enabled: true, role: "champion", who: "system:start" },
      { role: "champion" },
      { enabled: true, role: "champion", epoch: "1" },
    ]) {
      expect(await refused("/models/a@1/enabled", body)).toEqual([400, "invalid_request"]);
    }
    for (const body of [
      { review: 0.9, decline: 0.5 },
      { review: -0.1, decline: 1 },
      { review: 0.5 },
      { review: null, decline: 1 },
    ]) {
      expect(await refused("/models/a@1/thresholds", body)).toEqual([400, "invalid_request"]);
    }
    for (const role of ["analyst", "service"] as const) {
      expect(await refused("/models/a@1/enabled", { enabled: true, role: "champion" }, role)).toEqual([
        403,
        "forbidden",
      ]);
      expect(await refused("/models/a@1/thresholds", { review: 0, decline: 1 }, role)).toEqual([403, "forbidden"]);
    }
    expect((await get(api, "/models", "service")).status).toBe(403);
    expect((await get(api, "/models", null)).status).toBe(401);
    expect((await get(api, "/models/b@1")).status).toBe(404);
    expect((await get(api, "/models/b@1/history")).status).toBe(404);
    expect(api.context.control.state.deployments).toEqual([]);
  });

  it("finds a model that another copy has only just registered", async () => {
    const { system, api } = await openModelsApi();
    await system.register("new@1", logistic());
    const { status, body } = await get<{ id: string; state: string; manifest: { features: object[] } }>(
      api,
      "/models/new@1",
    );
    expect([status, body]).toMatchObject([
      200,
      {
        id: "new@1",
        state: "registered",
        thresholds: { review: 0.5, decline: 0.9 },
        metrics: null,
        deployment: null,
        manifest: { features: [{ name: "amount" }] },
      },
    ]);
  });
});
