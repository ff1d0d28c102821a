import { expect, it, onTestFinished, vi } from "vitest";
import type { TrainedModel } from "../../models/training/train.js";
import { writeOnnx } from "../../models/onnx/write.js";
import { seededRandom } from "../../models/training/random.js";
import type { Prediction, Reason } from "../../schemas/generated.js";
import { startTestApi } from "../support/api.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "../support/engines.js";
import { amountFeature, logistic, numberFeature, type TestModel } from "../support/models.js";
import { get } from "../support/models-api.js";
import { randomTree, shapley, worth } from "../support/random-trees.js";
import { transaction, transactionRecord } from "../support/transactions.js";
import { eventually } from "../support/eventually.js";
import { RoleProcess } from "../support/workers.js";
import { TestSystem } from "../support/workers-system.js";

// Processes of their own start slowly on a busy machine.
vi.setConfig({ testTimeout: 180_000 });

const FEATURES = [amountFeature, numberFeature("velocity"), numberFeature("distance"), numberFeature("Gerät", 0)];
const random = seededRandom(9);
const trees = Array.from({ length: 6 }, () => randomTree(random, FEATURES.length, 4));
const linear = {
  intercept: 0.25,
  weights: Float64Array.of(0.5, -1, 2, 1),
  mean: Float64Array.of(0.5, 0, -1, 0),
  scale: Float64Array.of(1, 2, 1, 4),
};

function written(model: Pick<TrainedModel, "algorithm" | "trees" | "linear">): TestModel {
  const whole = {
    ...model,
    features: FEATURES.length,
    params: {},
    iterations: 1,
    seconds: 1,
    cpuSeconds: 1,
  } as TrainedModel;
  return {
    features: FEATURES,
    onnx: writeOnnx(
      whole,
      FEATURES.map(({ name }) => name),
    ),
  };
}

const ensemble = {
  baseScore: 0,
  features: FEATURES.length,
  trees: trees.map((tree) => ({ ...tree, cover: Uint32Array.from(tree.cover) })),
};
const models = {
  "trees@1": written({ algorithm: "gradient-boosted-trees", trees: ensemble }),
  "linear@1": written({ algorithm: "logistic-regression", linear }),
  "strange@1": logistic(),
};

/** The reasons of an alert, by the definition of Shapley values. */
function expected({ model, features, decision }: Prediction): Reason[] | null {
  if (decision === "approve" || model === "strange@1") return null;
  const row = Float32Array.from(features);
  const all =
    model === "trees@1"
      ? shapley(FEATURES.length, (known) => trees.reduce((sum, tree) => sum + worth(tree, row, known), 0))
      : features.map((x, i) => (Number.isNaN(x) ? 0 : (linear.weights[i] * (x - linear.mean[i])) / linear.scale[i]));
  const raised = all
    .map((contribution, i) => ({ feature: FEATURES[i].name, contribution }))
    .filter(({ contribution }) => contribution > 0);
  return raised.length === 0 ? null : raised.sort((a, b) => b.contribution - a.contribution).slice(0, 3);
}

const near = (reasons: Reason[] | null): unknown =>
  reasons?.map(({ feature, contribution }) => ({ feature, contribution: expect.closeTo(contribution, 9) as number })) ??
  null;

it(
  "alerts of champion and shadows have their reasons on the topics, in ClickHouse and over HTTP; " +
    "approvals have none",
  async () => {
    const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix() });
    onTestFinished(() => system.close());
    const api = await startTestApi({
      prefix: system.prefix,
      settings: { ARTIFACTS: system.artifacts, TOPIC_PARTITIONS: String(system.partitions) },
    });
    const sink = new RoleProcess("sink", {
      ...system.settings,
      CLICKHOUSE_URL: clickhouseConfig(api.database).url,
      CLICKHOUSE_DATABASE: api.database,
    });
    onTestFinished(() => sink.kill());
    for (const [id, model] of Object.entries(models)) await system.register(id, model);
    await system.deploy("trees@1", ["linear@1", "strange@1"]);
    const worker = system.startWorker();

    const value = (): number => Math.floor(random() * 6) - 2.5;
    const attributes = () =>
      Object.fromEntries(["velocity", "distance", "Gerät"].filter(() => random() < 0.8).map((name) => [name, value()]));
    await system.publish(
      Array.from({ length: 150 }, (_, n) =>
        transactionRecord(transaction(n, { amount: value(), attributes: attributes() })),
      ),
    );
    await system.consumed();

    const champions = (await system.predictions()).map(({ prediction }) => prediction);
    const shadows = (await system.predictions(system.topics.shadowPredictions)).map(({ prediction }) => prediction);
    expect([champions.length, shadows.length]).toEqual([150, 300]);
    for (const prediction of [...champions, ...shadows])
      expect([prediction.model, prediction.decision, prediction.reasons]).toEqual([
        prediction.model,
        prediction.decision,
        near(expected(prediction)),
      ]);
    const counts = (of: Prediction[]) =>
      [0, 1, 2, 3].map((length) => of.filter(({ reasons }) => (reasons?.length ?? 0) === length).length);
    // Of every kind there is some, and approvals are many.
    for (const model of ["trees@1", "linear@1"])
      expect(
        Math.min(...counts([...champions, ...shadows].filter((prediction) => prediction.model === model))),
        model,
      ).toBeGreaterThan(1);

    const stored = async (table: string) =>
      api.context.clickhouse.query<{ id: string; model: string; reasons: Reason[] }>(
        `SELECT transaction_id AS id, model, reasons FROM ${table} FINAL ORDER BY id, model`,
      );
    await eventually(
      "the sink has stored all",
      async () =>
        (await stored("shadow_predictions").catch(() => [])).length === 300 &&
        (await stored("predictions")).length === 150,
    );
    const rows = (of: Prediction[]) =>
      of
        .map(({ transaction_id: id, model, reasons }) => ({ id, model, reasons: reasons ?? [] }))
        .sort((a, b) => (`${a.id} ${a.model}` < `${b.id} ${b.model}` ? -1 : 1));
    const byId = (of: { id: string; model: string }[]) =>
      [...of].sort((a, b) => (`${a.id} ${a.model}` < `${b.id} ${b.model}` ? -1 : 1));
    expect(byId(await stored("predictions"))).toEqual(rows(champions));
    expect(byId(await stored("shadow_predictions"))).toEqual(rows(shadows));

    const alert = champions.find(({ reasons }) => reasons?.length === 3) as Prediction;
    const approval = champions.find(({ decision }) => decision === "approve") as Prediction;
    for (const { transaction_id, reasons } of [alert, approval]) {
      expect(
        (await get<{ prediction: Prediction }>(api, `/predictions/${transaction_id}`)).body.prediction.reasons,
      ).toEqual(reasons);
      const {
        amount,
        features: [, velocity, distance, device],
      } = transaction_id === alert.transaction_id ? alert : approval;
      const known = Object.entries({ velocity, distance, Gerät: device }).filter(([, given]) => !Number.isNaN(given));
      const payload = {
        transaction_id: `again-${transaction_id}`,
        event_time: Date.now(),
        card_id: "c",
        merchant_id: "m",
        amount,
        currency: "EUR",
        attributes: Object.fromEntries(known),
      };
      const answer = await api.inject("service", { method: "POST", url: "/api/v1/predictions?wait_ms=20000", payload });
      expect([answer.statusCode, answer.json<Prediction>().reasons]).toEqual([200, reasons]);
    }

    // Why a model has none is told where it is looked at, and in the worker's log, once.
    const causes = await Promise.all(
      Object.keys(models).map(
        async (id) => (await get<{ no_reasons: string | null }>(api, `/models/${id}`)).body.no_reasons,
      ),
    );
    expect(causes).toEqual([null, null, expect.stringContaining("neither")]);
    expect(worker.log.filter(({ msg }) => msg.includes("no reasons")).map(({ msg }) => msg)).toEqual([
      `alerts of strange@1 get no reasons: ${causes[2]}`,
    ]);
  },
);
