import { describe, expect, it } from "vitest";
import { outcomeMetrics, type OutcomeSum } from "../../../../models/evaluation/outcome-metrics.js";

const [FRAUD, LABELLED, ALERT, DECLINED] = [1, 2, 4, 8];
const sum = (cell: number, more: Partial<OutcomeSum>): OutcomeSum => ({
  at: 0,
  grp: 0,
  currency: 1,
  cell,
  rows: 0,
  value: 0,
  pairs: 0,
  precision_sum: 0,
  ...more,
});

describe("metrics of summed outcomes", () => {
  it("add cells up: two frauds at .9 and .4, three genuine ones at .9, .5 and .1", () => {
    // At .9 one fraud and one genuine, at .5 one and two, at .4 two and two, at .1 two and three.
    const metrics = outcomeMetrics(
      [
        sum(FRAUD | LABELLED | ALERT | DECLINED, { rows: 1, value: 30, pairs: 1, precision_sum: 1 / 2 }),
        sum(FRAUD | LABELLED, { rows: 1, value: 10, pairs: 2, precision_sum: 2 / 4 }),
        sum(LABELLED | ALERT | DECLINED, { rows: 1, value: 5, pairs: 1, precision_sum: 0.5 }),
        sum(ALERT, { rows: 1, value: 5, pairs: 1, precision_sum: 1 / 3 }),
        sum(0, { rows: 1, value: 5, pairs: 2, precision_sum: 2 / 5 }),
      ],
      ["EUR"],
    );
    expect(metrics).toEqual({
      evaluated: 5,
      labelled: 3,
      precision: 1 / 3,
      recall: 1 / 2,
      accuracy: 2 / 5,
      f1: 2 / 5,
      baseline_accuracy: 3 / 5,
      // .9 beats .5 and .1 and ties once; .4 beats .1
      roc_auc: expect.closeTo(3.5 / 6, 15) as number,
      average_precision: 0.5,
      confusion: { true_positives: 1, false_positives: 2, false_negatives: 1, true_negatives: 1 },
      false_positives_per_fraud_caught: 2,
      recall_by_value: 0.75,
      value: [{ currency: "EUR", detected: 30, missed: 10, recall: 0.75 }],
      declined: { labelled: 2, frauds: 1 },
    });
  });

  it("keep currencies apart, in the order of their list", () => {
    const { value, recall_by_value } = outcomeMetrics(
      [
        sum(FRAUD | LABELLED | ALERT, { rows: 1, value: 8, currency: 3 }),
        sum(FRAUD | LABELLED, { rows: 1, value: 2, currency: 3 }),
        sum(FRAUD | LABELLED, { rows: 2, value: 7, currency: 1 }),
        sum(LABELLED, { rows: 2, value: 7, currency: 2 }),
      ],
      ["CHF", "EUR", "JPY"],
    );
    expect(value).toEqual([
      { currency: "CHF", detected: 0, missed: 7, recall: 0 },
      { currency: "JPY", detected: 8, missed: 2, recall: 0.8 },
    ]);
    expect(recall_by_value).toBeNull();
  });

  it("are null if a class, or everything, is missing", () => {
    expect(outcomeMetrics([], [])).toMatchObject({
      evaluated: 0,
      precision: null,
      recall: null,
      accuracy: null,
      f1: null,
      roc_auc: null,
      average_precision: null,
      baseline_accuracy: null,
      false_positives_per_fraud_caught: null,
      recall_by_value: null,
      value: [],
    });
    expect(outcomeMetrics([sum(LABELLED, { rows: 4 })], ["EUR"])).toMatchObject({
      precision: null,
      recall: null,
      f1: null,
      accuracy: 1,
      roc_auc: null,
      average_precision: null,
      false_positives_per_fraud_caught: null,
    });
    expect(outcomeMetrics([sum(FRAUD | LABELLED, { rows: 4, precision_sum: 4 })], ["EUR"])).toMatchObject({
      precision: null,
      recall: 0,
      f1: 0,
      accuracy: 0,
      roc_auc: null,
      average_precision: 1,
      recall_by_value: null,
    });
  });
});
