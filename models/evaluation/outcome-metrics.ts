/**
 * Predictions of one slice, currency and outcome, added up by ClickHouse. "Above" a prediction are those that score at
 * least as much, itself included.
 */
export interface OutcomeSum {
  at: number;
  grp: number;
  /** From 1: its place in the list of currencies that was asked with. */
  currency: number;
  /** Bits: 1 fraud, 2 labelled, 4 alert, 8 declined. */
  cell: number;
  rows: number;
  /** The sum of amounts, refunds as zero, in major units. */
  value: number;
  /** Of frauds: the sum of the genuine ones above each. Of genuine ones: the sum of the frauds above each. */
  pairs: number;
  /** The sum of the share of frauds above each. */
  precision_sum: number;
}

/** Frauds by value in one currency; the amounts of alerts and of the others, refunds counting nothing. */
interface CurrencyValue {
  currency: string;
  detected: number;
  missed: number;
  recall: number | null;
}

/**
 * How predictions did against what became known; null: can't be computed. An alert (review or decline) is the positive
 * class.
 */
export interface OutcomeMetrics {
  /** Predictions with a verdict: those that are labelled, and those that count as genuine without a label. */
  evaluated: number;
  labelled: number;
  precision: number | null;
  recall: number | null;
  accuracy: number | null;
  f1: number | null;
  roc_auc: number | null;
  average_precision: number | null;
  /** Of approving everything. */
  baseline_accuracy: number | null;
  confusion: { true_positives: number; false_positives: number; false_negatives: number; true_negatives: number };
  false_positives_per_fraud_caught: number | null;
  /** Null also where the frauds are in several currencies, whose amounts can't be added. */
  recall_by_value: number | null;
  value: CurrencyValue[];
  declined: { labelled: number; frauds: number };
}

const [FRAUD, LABELLED, ALERT, DECLINED] = [1, 2, 4, 8];

/**
 * Metrics as scikit-learn defines them, ties included.
 * With P frauds and N genuine ones, A the pairs where the fraud scores at least as much and B those where the genuine
 * one does, A + B = P·N + ties, so the area under the ROC curve, (A - ties / 2) / (P·N), is (A - B + P·N) / (2·P·N).
 * Average precision is the mean over frauds of the precision at the fraud's score.
 *
 * @param sums of one slice
 * @param currencies the list that they were asked with
 */
export function outcomeMetrics(sums: readonly OutcomeSum[], currencies: readonly string[]): OutcomeMetrics {
  const rowsWhere = (mask: number, bits: number): number =>
    total(sums, ({ cell, rows }) => ((cell & mask) === bits ? rows : 0));
  const pairsWhere = (bits: number): number => total(sums, ({ cell, pairs }) => ((cell & FRAUD) === bits ? pairs : 0));
  const tp = rowsWhere(FRAUD | ALERT, FRAUD | ALERT);
  const fp = rowsWhere(FRAUD | ALERT, ALERT);
  const fn = rowsWhere(FRAUD | ALERT, FRAUD);
  const tn = rowsWhere(FRAUD | ALERT, 0);
  const [frauds, genuine, evaluated] = [tp + fn, fp + tn, tp + fp + fn + tn];
  const value = fraudValues(sums, currencies);
  return {
    evaluated,
    labelled: rowsWhere(LABELLED, LABELLED),
    precision: share(tp, tp + fp),
    recall: share(tp, frauds),
    accuracy: share(tp + tn, evaluated),
    f1: share(2 * tp, 2 * tp + fp + fn),
    roc_auc: frauds === 0 || genuine === 0 ? null : 0.5 + (pairsWhere(0) - pairsWhere(FRAUD)) / (2 * frauds * genuine),
    average_precision: share(
      total(sums, ({ cell, precision_sum }) => (cell & FRAUD) * precision_sum),
      frauds,
    ),
    baseline_accuracy: share(genuine, evaluated),
    confusion: { true_positives: tp, false_positives: fp, false_negatives: fn, true_negatives: tn },
    false_positives_per_fraud_caught: share(fp, tp),
    recall_by_value: value.length === 1 ? value[0].recall : null,
    value,
    declined: {
      labelled: rowsWhere(DECLINED | LABELLED, DECLINED | LABELLED),
      frauds: rowsWhere(DECLINED | FRAUD, DECLINED | FRAUD),
    },
  };
}

/** One entry for each currency that frauds are in. */
function fraudValues(sums: readonly OutcomeSum[], currencies: readonly string[]): CurrencyValue[] {
  const ofFrauds = sums.filter(({ cell }) => (cell & FRAUD) === FRAUD);
  const found = [...new Set(ofFrauds.map(({ currency }) => currency))].sort((a, b) => a - b);
  return found.map((index) => {
    const valueWhere = (bits: number): number =>
      total(ofFrauds, ({ currency, cell, value }) => (currency === index && (cell & ALERT) === bits ? value : 0));
    const [detected, missed] = [valueWhere(ALERT), valueWhere(0)];
    return { currency: currencies[index - 1] ?? "", detected, missed, recall: share(detected, detected + missed) };
  });
}

function total(sums: readonly OutcomeSum[], of: (sum: OutcomeSum) => number): number {
  return sums.reduce((all, sum) => all + of(sum), 0);
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}
