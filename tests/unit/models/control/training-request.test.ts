import { describe, expect, test } from "vitest";
import {
  checkTrainingRequest,
  eventTimes,
  parseJobMetrics,
  parseTrainingRequest,
  type TrainingRequest,
} from "../../../../models/control/training-request.js";

const link = { dataset: "https://data.example/card.csv.gz", algorithm: "gradient-boosted-trees" } as const;

/** Whether a request passes both the schema and what the schema can't say. */
function problem(request: unknown): string | null {
  try {
    const parsed: TrainingRequest = parseTrainingRequest(JSON.stringify(request));
    checkTrainingRequest(parsed);
    return null;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe("a training request", () => {
  test.each<[string, object]>([
    ["a link", link],
    [
      "everything",
      {
        ...link,
        columns: { label: "Class", merchant_id: null },
        params: { n_estimators: 50, learning_rate: 0.2, grow_policy: "lossguide" },
        features: ["amount", "V1"],
        test: { from: "2018-08-08T00:00:00Z", to: "2018-08-15T00:00:00+02:00" },
        seed: 7,
        name: "card",
        enable: "if_better",
        metric: "f1",
      },
    ],
    ["all rows before a time, and no test", { ...link, before: "2018-08-08T00:00:00.123Z", test: null }],
    [
      "stored transactions",
      { dataset: { from: "2026-01-01T00:00:00Z", to: "2026-02-01T00:00:00.000Z" }, algorithm: "logistic-regression" },
    ],
  ])("%s", (_name, request) => {
    expect(problem(request)).toBeNull();
  });

  test.each<[string, object]>([
    ["no data set", { algorithm: "gradient-boosted-trees" }],
    ["no algorithm", { dataset: link.dataset }],
    ["another algorithm", { ...link, algorithm: "random-forest" }],
    ["a field that isn't one", { ...link, role: "admin" }],
    ["another protocol", { ...link, dataset: "file:///etc/passwd" }],
    ["no URL", { ...link, dataset: "http://" }],
    ["credentials", { ...link, dataset: "https://user:secret@data.example/x.csv" }],
    ["a link that is too long", { ...link, dataset: `https://data.example/${"x".repeat(2_000)}` }],
    ["a role that isn't one", { ...link, columns: { colour: "red" } }],
    [
      "columns of stored transactions",
      {
        dataset: { from: "2026-01-01T00:00:00Z", to: "2026-02-01T00:00:00Z" },
        algorithm: link.algorithm,
        columns: { label: "x" },
      },
    ],
    ["an empty range", { ...link, dataset: { from: "2026-02-01T00:00:00Z", to: "2026-02-01T00:00:00Z" } }],
    ["a range without a zone", { ...link, dataset: { from: "2026-01-01T00:00:00", to: "2026-02-01T00:00:00" } }],
    ["a day that isn't one", { ...link, test: { from: "2026-13-41T00:00:00Z", to: "2026-02-01T00:00:00Z" } }],
    ["a time before which there is none", { ...link, before: "2018-13-08T00:00:00Z" }],
    ["a comparison without a test part", { ...link, test: null, enable: "if_better" }],
    ["no features", { ...link, features: [] }],
    ["a feature twice", { ...link, features: ["amount", "amount"] }],
    ["a name that leads elsewhere", { ...link, name: "../x" }],
    ["a seed below zero", { ...link, seed: -1 }],
    ["another metric", { ...link, metric: "accuracy" }],
    ["a parameter that is an object", { ...link, params: { num_leaves: {} } }],
  ])("not %s", (_name, request) => {
    expect(problem(request)).toBe("bad_training_request");
  });

  test.each<[string, object]>([
    ["unknown", { num_leafs: 3 }],
    ["given twice", { n_estimators: 3, num_iterations: 4 }],
    ["out of range", { learning_rate: 0 }],
    ["that the algorithm hasn't got", { lambda: -1 }],
  ])("not a parameter that is %s", (_name, params) => {
    expect(problem({ ...link, params })).toBe("training_params");
  });

  test("event times are parsed with their time zones", () => {
    expect(eventTimes({ from: "2018-08-08T02:00:00+02:00", to: "2018-08-08T00:00:00.001Z" }, "test")).toEqual({
      from: Date.UTC(2018, 7, 8),
      to: Date.UTC(2018, 7, 8) + 1,
    });
  });
});

test("invalid requests and metrics in fraud.control are handled", () => {
  expect(() => parseTrainingRequest("{")).toThrow(expect.objectContaining({ code: "bad_training_request" }) as Error);
  expect(parseJobMetrics("{}")).toBeNull();
  expect(parseJobMetrics("{")).toBeNull();
  expect(parseJobMetrics(null)).toBeNull();
});
