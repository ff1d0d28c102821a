import { beforeAll, expect, it, vi } from "vitest";
import { migrate } from "../../infra/clickhouse/migrate.js";
import type { TestApi } from "../support/api.js";
import { clickhouseConfig } from "../support/engines.js";
import { eventually } from "../support/eventually.js";
import { anotherApi, openModelsApi, put } from "../support/models-api.js";
import { logistic, sigmoidOf } from "../support/models.js";
import type { TestSystem } from "../support/workers-system.js";

interface Scored {
  transaction_id: string;
  score: number;
  model: string;
  epoch: number;
}
interface Item {
  transaction_id?: string;
  status: string;
  code?: string;
  location?: string;
  prediction?: Scored;
}

let ids = 0;
const payment = (changed: object = {}) => ({
  transaction_id: `asked-${(ids += 1)}`,
  event_time: Date.now(),
  card_id: `c${ids % 7}`,
  merchant_id: "m",
  amount: ids,
  currency: "EUR",
  ...changed,
});
const ask = (api: TestApi, body: object, wait = 10_000) =>
  api.inject("service", { method: "POST", url: `/api/v1/predictions?wait_ms=${wait}`, payload: body });
/** Predictions that a copy has decoded from now on: it passes over the others' undecoded. */
const decodedBy = (api: TestApi) => vi.spyOn(api.context.schemas, "decode");
const predictionsAmong = (decode: ReturnType<typeof decodedBy>) =>
  decode.mock.calls.filter(([subject]) => subject === "predictions").length;

async function openTwo(): Promise<{ system: TestSystem; copies: [TestApi, TestApi] }> {
  const { system, api } = await openModelsApi();
  await system.register("first@1", logistic());
  await system.register("second@1", logistic());
  return { system, copies: [api, await anotherApi(system)] };
}

beforeAll(() => {
  ids = 0;
});

it("a prediction requested from one copy is answered by it, and the other ignores it", async () => {
  const { system, copies } = await openTwo();
  const [one, two] = copies;
  for (const copy of copies)
    expect((await ask(copy, payment())).json()).toMatchObject({ status: 503, code: "no_champion" });
  system.startWorker();
  const { body: deployed } = await put(one, "/models/first@1/enabled", { enabled: true, role: "champion" });
  await two.context.control.readToEnd();

  const decodes = copies.map(decodedBy);
  const singles = Array.from({ length: 40 }, () => payment());
  const batch = Array.from({ length: 60 }, () => payment());
  // 20 singles of each copy, and a batch of the second, all at once.
  const [answers, many] = await Promise.all([
    Promise.all(singles.map((body, i) => ask(copies[i % 2], body))),
    ask(two, batch),
  ]);
  for (const [i, answer] of answers.entries()) {
    expect(answer.statusCode, answer.body).toBe(200);
    const { transaction_id, score, model, epoch } = answer.json<Scored>();
    expect({ transaction_id, model, epoch }).toEqual({
      transaction_id: singles[i].transaction_id,
      model: "first@1",
      epoch: deployed.epoch,
    });
    expect(score).toBeCloseTo(sigmoidOf(singles[i].amount), 6);
  }
  const items = many.json<Item[]>();
  expect(items.map(({ status, prediction }) => [status, prediction?.transaction_id])).toEqual(
    batch.map(({ transaction_id }) => ["scored", transaction_id]),
  );
  await system.consumed();
  expect(decodes.map(predictionsAmong)).toEqual([20, 80]);
  const predictions = await system.predictions();
  const askedOf = new Map(
    predictions.map(({ prediction, headers }) => [prediction.transaction_id, headers["reply-to"].split("/")[0]]),
  );
  expect(predictions).toHaveLength(100);
  expect(singles.map(({ transaction_id }) => askedOf.get(transaction_id))).toEqual(
    singles.map((_, i) => copies[i % 2].context.replies.copy),
  );
});

it("a caller learns that a transaction can't be scored, and where to look for a late one", async () => {
  const { system, copies } = await openTwo();
  const [one, two] = copies;
  const worker = system.startWorker();
  await put(one, "/models/first@1/enabled", { enabled: true, role: "champion" });
  await two.context.control.readToEnd();

  const early = { event_time: "1999-12-31T23:59:59Z" };
  expect((await ask(two, payment(early))).json()).toMatchObject({ status: 422, code: "event_time_early" });
  // A repeat is in conflict with the first, whichever copy is asked; until that is stored it is on its way.
  const once = payment();
  const path = `/api/v1/predictions/${once.transaction_id}`;
  await migrate(clickhouseConfig(one.database), one.context.log);
  expect((await ask(one, once)).statusCode).toBe(200);
  expect((await one.inject("analyst", { url: path })).json()).toEqual({
    transaction_id: once.transaction_id,
    status: "pending",
    location: path,
  });
  const again = await ask(two, once);
  expect([again.statusCode, again.headers.location, again.json()]).toMatchObject([409, path, { code: "repeated" }]);
  const mixed = (await ask(one, [payment(), payment(early), payment()])).json<Item[]>();
  expect(mixed.map(({ status, code }) => [status, code])).toEqual([
    ["scored", undefined],
    ["rejected", "event_time_early"],
    ["scored", undefined],
  ]);
  // Each bad field by its name, and nothing of the batch is published.
  const bad = await ask(one, [payment(), payment({ amount: "12", currency: "euro" })]);
  expect([
    bad.statusCode,
    bad
      .json<{ errors: { field: string }[] }>()
      .errors.map(({ field }) => field)
      .sort(),
  ]).toEqual([400, ["[1].amount", "[1].currency"]]);
  for (const body of [
    payment({ event_time: "2026-02-30T12:00:00Z" }),
    payment({ event_time: "2026-02-28T24:00:00Z" }),
    payment({ transaction_id: "\ud800" }),
    payment({ attributes: { "\udc00": 1 } }),
  ]) {
    expect((await ask(one, body)).statusCode, JSON.stringify(body)).toBe(400);
  }
  // A thousand payments with many attributes fit into one request.
  const wide = Array.from({ length: 1_000 }, () =>
    payment({ attributes: Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`attribute-${i}`, ids + i / 7])) }),
  );
  expect((await ask(one, wide, 0)).statusCode).toBe(200);
  await system.consumed();
  const before = (await system.predictions()).length;

  worker.send("SIGSTOP");
  const late = payment();
  const waiting = await ask(one, late, 200);
  const location = `/api/v1/predictions/${late.transaction_id}`;
  expect([waiting.statusCode, waiting.headers.location, waiting.json()]).toEqual([
    202,
    location,
    { transaction_id: late.transaction_id, status: "pending", location },
  ]);
  const [pending] = (await ask(two, [payment()], 0)).json<Item[]>();
  expect(pending).toMatchObject({ status: "pending" });
  // Readiness says who is silent, and that the API itself answers.
  const readiness = async (
    copy: TestApi,
  ): Promise<{ status: string; conditions: { code: string; message: string }[] }> =>
    (await copy.app.inject({ url: "/health/ready" })).json();
  for (const copy of copies) {
    await eventually("readiness tells of the frozen worker", async () =>
      (await readiness(copy)).conditions.some(({ code }) => code === "scoring_silent"),
    );
    expect(await readiness(copy)).toMatchObject({
      status: "degraded",
      conditions: expect.arrayContaining([
        expect.objectContaining({ code: "scoring_silent", blocking: false }),
      ]) as unknown,
    });
  }
  worker.send("SIGCONT");
  await eventually("readiness tells that it is back", async () => (await readiness(one)).status === "ready");
  await system.consumed();
  expect(await system.predictions()).toHaveLength(before + 2);
});

it("of two simultaneous deployments through two copies exactly one wins, and scores what comes then", async () => {
  const { system, copies } = await openTwo();
  await system.register("third@1", logistic());
  system.startWorker();
  let known: { epoch: number | null; model: string } = { epoch: null, model: "third@1" };
  for (let round = 0; round < 3; round++) {
    // Both know the same deployment, whoever is quicker.
    const others = ["first@1", "second@1", "third@1"].filter((model) => model !== known.model);
    const answers = await Promise.all(
      copies.map((copy, i) =>
        put(copy, `/models/${others[i]}/enabled`, { enabled: true, role: "champion", epoch: known.epoch }),
      ),
    );
    expect(answers.map(({ status, body: { code } }) => [status, code]).sort()).toEqual([
      [200, undefined],
      [409, "conflict"],
    ]);
    known = answers.filter(({ status }) => status === 200)[0].body;
    const { model, epoch } = known;
    for (const copy of copies) {
      const { statusCode, body } = await ask(copy, payment());
      expect([statusCode, JSON.parse(body)]).toMatchObject([200, { model, epoch }]);
      await copy.context.control.readToEnd();
      expect(copy.context.control.state.deployment).toMatchObject({ epoch, champion: { model } });
    }
  }
});
