import { describe, expect, test } from "vitest";
import type { BuiltModel } from "../../../../models/build-model.js";
import type { AttributeColumn, Dataset } from "../../../../models/datasets/dataset.js";
import type { FeatureSpec } from "../../../../models/features/plan.js";
import type { Manifest } from "../../../../models/manifest.js";
import { compareWithChampion } from "../../../../pipelines/training/compare-with-champion.js";
import type { Incumbent } from "../../../../pipelines/training/job-messages.js";
import {
  alwaysNan,
  amountFeature,
  logistic,
  manifestOf,
  numberFeature,
  weighted,
  writeArtifact,
  type TestModel,
} from "../../../support/models.js";
import { temporaryFolder } from "../../models/datasets/csv-files.js";

const HOUR = 3_600_000;

/**
 * Twenty rows an hour apart; the last ten are the test part. `risk` ranks the frauds first (average precision 1), the
 * amount ranks them last: of rows 10..19, 18 and 19 are frauds with the least amounts.
 */
function dataset(attributes: Record<string, AttributeColumn> = {}): Dataset {
  const frauds = [3, 8, 18, 19];
  const rows = Array.from({ length: 20 }, (_, row) => row);
  const risk = Float64Array.from(rows, (row) => Number(frauds.includes(row)));
  return {
    source: "test",
    length: 20,
    labelTime: null,
    historyRows: 0,
    hasCards: false,
    hasMerchants: false,
    notes: [],
    transactionId: rows.map(String),
    cardId: rows.map(String),
    merchantId: rows.map(String),
    currency: rows.map(() => "EUR"),
    eventTime: Float64Array.from(rows, (row) => row * HOUR),
    amount: Float64Array.from(rows, (row) => (frauds.includes(row) ? 0 : 100) + row),
    label: Uint8Array.from(risk),
    attributes: new Map([["risk", { type: "number", values: risk }], ...Object.entries(attributes)]),
  };
}

const byRisk = weighted([numberFeature("risk")], [4]);
const byAmount = logistic();

function built(model: TestModel, seenUntil: number, review = 0.7): BuiltModel {
  const manifest = manifestOf("new@1", model);
  return {
    manifest: { ...manifest, thresholds: { review, decline: 2 }, training: { ...manifest.training, to: seenUntil } },
    onnx: model.onnx,
    notes: [],
    warnings: [],
    atDecline: { validation: {} as never, test: null },
    split: {
      train: Uint32Array.from([0, 1, 2, 3, 4, 5, 6, 7]),
      validation: Uint32Array.from([8, 9]),
      test: Uint32Array.from([10, 11, 12, 13, 14, 15, 16, 17, 18, 19]),
      notes: [],
    },
  };
}

async function champion(
  folder: string,
  model: TestModel,
  training: Partial<Manifest["training"]> = {},
): Promise<Incumbent> {
  const manifest = manifestOf("old@1", model);
  return {
    epoch: 12,
    champion: {
      model: "old@1",
      review: 0.7,
      manifestSha256: await writeArtifact(
        folder,
        { ...manifest, training: { ...manifest.training, ...training } },
        model.onnx,
      ),
    },
  };
}

describe("a new model beside the champion", () => {
  test("is better if it ranks the frauds higher, on the rows that neither was made with", async () => {
    const artifactsDir = temporaryFolder();
    const found = await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), {
      artifactsDir,
      metric: "average_precision",
      incumbent: await champion(artifactsDir, byAmount),
    });
    // The champion has its two frauds at places 9 and 10 of 10: (1/9 + 2/10) / 2.
    expect(found).toMatchObject({
      metric: "average_precision",
      champion: "old@1",
      epoch: 12,
      rows: 10,
      frauds: 2,
      candidate_value: 1,
      better: true,
    });
    expect(found.champion_value).toBeCloseTo((1 / 9 + 2 / 10) / 2, 12);
    // The champion's figures are there beside the new one's, on the same rows: it alerts on the eight genuine ones
    // alone.
    expect(found.candidate_metrics).toMatchObject({ rows: 10, frauds: 2, average_precision: 1, roc_auc: 1 });
    expect(found.champion_metrics).toMatchObject({
      rows: 10,
      frauds: 2,
      roc_auc: 0,
      precision: 0,
      recall: 0,
      alert_rate: 0.8,
    });
  });

  test("keeps a champion that can't be judged: one that hangs or scores no rows does not hold up a job", async () => {
    const artifactsDir = temporaryFolder();
    const options = {
      artifactsDir,
      metric: "average_precision",
      incumbent: await champion(artifactsDir, alwaysNan()),
    } as const;
    const found = await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), options);
    expect(found).toMatchObject({
      better: false,
      candidate_value: 1,
      champion_value: null,
      reason:
        "the champion can't be judged on this data set: old@1 gives NaN instead of a score from 0 to 1 for " +
        "one of the rows",
    });
  });

  test("keeps a champion for whose features from columns the data set has nothing", async () => {
    const artifactsDir = temporaryFolder();
    const source: FeatureSpec["source"] = { kind: "difference", of: ["attributes.risk", "attributes.limit"] };
    const model = weighted([{ name: "over", type: "number", source, default: 0 }], [4]);
    const options = {
      artifactsDir,
      metric: "average_precision",
      incumbent: await champion(artifactsDir, model),
    } as const;
    expect((await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), options)).reason).toBe(
      "the champion can't be judged on this data set: it has nothing for its feature over",
    );
    const limit: AttributeColumn = { type: "number", values: new Float64Array(20) };
    const withLimit = { ...dataset(), operands: new Map([["limit", limit]]) };
    expect(await compareWithChampion(withLimit, built(byRisk, 9 * HOUR), options)).toMatchObject({ champion_value: 1 });
  });

  test("is not better if the champion ranks them higher, nor if both do equally well", async () => {
    const artifactsDir = temporaryFolder();
    const incumbent = await champion(artifactsDir, byRisk);
    const options = { artifactsDir, metric: "average_precision", incumbent } as const;
    expect(await compareWithChampion(dataset(), built(byAmount, 9 * HOUR), options)).toMatchObject({
      champion_value: 1,
      better: false,
    });
    expect(await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), options)).toMatchObject({
      candidate_value: 1,
      champion_value: 1,
      better: false,
    });
  });

  test("by F1, each at its own review threshold", async () => {
    const artifactsDir = temporaryFolder();
    const incumbent = await champion(artifactsDir, byAmount);
    // The champion alerts where sigmoid(amount / 100) is at least 0.7, on the eight genuine ones of 110 and more: no
    // fraud.
    expect(
      await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), { artifactsDir, metric: "f1", incumbent }),
    ).toMatchObject({ candidate_value: 1, champion_value: 0, better: true });
    // With a threshold above all scores the new one never alerts.
    expect(
      await compareWithChampion(dataset(), built(byRisk, 9 * HOUR, 0.999), { artifactsDir, metric: "f1", incumbent }),
    ).toMatchObject({ candidate_value: 0, better: false });
  });

  test.each<[string, Partial<Manifest["training"]>, number, number]>([
    ["the champion's training", { to: 14 * HOUR }, 5, 2],
    ["nearly all of the test", { to: 18 * HOUR }, 1, 1],
  ])("only rows later than %s count", async (_name, training, rows, frauds) => {
    const artifactsDir = temporaryFolder();
    const incumbent = await champion(artifactsDir, byAmount, training);
    expect(
      await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), {
        artifactsDir,
        metric: "average_precision",
        incumbent,
      }),
    ).toMatchObject({ rows, frauds });
  });

  test("the champion stays if they can't be compared", async () => {
    const artifactsDir = temporaryFolder();
    const metric = "average_precision";
    const late = await champion(artifactsDir, byAmount, { to: 19 * HOUR });
    expect(
      await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), { artifactsDir, metric, incumbent: late }),
    ).toMatchObject({ rows: 0, frauds: 0, candidate_value: null, champion_value: null, better: false });
    const other = await champion(temporaryFolder(), byAmount);
    expect(
      await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), {
        artifactsDir: temporaryFolder(),
        metric,
        incumbent: other,
      }),
    ).toMatchObject({ better: false, reason: "the champion can't be loaded: artifact_missing" });
    const untold = await champion(artifactsDir, byAmount, { from: 0, to: 0 });
    expect(
      await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), { artifactsDir, metric, incumbent: untold }),
    ).toMatchObject({
      rows: 0,
      candidate_value: null,
      better: false,
      reason: expect.stringContaining("training.to") as string,
    });
    const unknown = await champion(artifactsDir, weighted([amountFeature, numberFeature("velocity")], [1, 1]));
    expect(
      await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), { artifactsDir, metric, incumbent: unknown }),
    ).toMatchObject({ better: false, reason: expect.stringContaining("velocity") as string });
  });

  test("is better than having none", async () => {
    expect(
      await compareWithChampion(dataset(), built(byRisk, 9 * HOUR), {
        artifactsDir: temporaryFolder(),
        metric: "f1",
        incumbent: { epoch: -1, champion: null },
      }),
    ).toMatchObject({ champion: null, epoch: -1, better: true });
  });
});
