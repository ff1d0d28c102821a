import { RequestError } from "../../schemas/errors.js";
import { seededRandom } from "../training/random.js";
import type { Dataset, OperandColumn } from "./dataset.js";

/** Rows from `start` up to, not including, `end`. */
export interface RowRange {
  start: number;
  end: number;
}

/** The earliest `fraction` of the rows, and the rest: no row of `before` is later than one of `after`. */
export function splitByTime(dataset: Pick<Dataset, "length">, fraction: number): { before: RowRange; after: RowRange } {
  const cut = Math.round(dataset.length * fraction);
  return { before: { start: 0, end: cut }, after: { start: cut, end: dataset.length } };
}

/** A part of a data set, as one of its own; numbers and codes are views of the same memory. */
export function sliceDataset(dataset: Dataset, { start, end }: RowRange): Dataset {
  return {
    source: dataset.source,
    length: end - start,
    transactionId: dataset.transactionId.slice(start, end),
    eventTime: dataset.eventTime.subarray(start, end),
    cardId: dataset.cardId.slice(start, end),
    merchantId: dataset.merchantId.slice(start, end),
    amount: dataset.amount.subarray(start, end),
    currency: dataset.currency.slice(start, end),
    label: dataset.label.subarray(start, end),
    labelTime: dataset.labelTime?.subarray(start, end) ?? null,
    ...(dataset.unlabelled && { unlabelled: dataset.unlabelled.subarray(start, end) }),
    historyRows: Math.min(end - start, Math.max(0, dataset.historyRows - start)),
    hasCards: dataset.hasCards,
    hasMerchants: dataset.hasMerchants,
    attributes: new Map([...dataset.attributes].map(([name, column]) => [name, sliceColumn(column, start, end)])),
    ...(dataset.operands && {
      operands: new Map([...dataset.operands].map(([name, column]) => [name, sliceColumn(column, start, end)])),
    }),
    notes: dataset.notes,
  };
}

function sliceColumn<T extends OperandColumn>(column: T, start: number, end: number): T {
  return column.type === "text"
    ? { ...column, codes: column.codes.subarray(start, end) }
    : { ...column, values: column.values.subarray(start, end) };
}

export interface SplitOptions {
  /** Share of the rows, the latest, to test on; 0: no test part. @default 0.3 */
  testFraction?: number;
  /**
   * Event times, epoch milliseconds, to test on instead: from `from` up to, not including, `to`. Later rows are left
   * out.
   */
  test?: { from: number; to: number };
  /** Event times to train on, of the rows that aren't tested on: the others are only history. */
  train?: { from: number; to: number };
  /** Rows that may be used, ascending. @default all */
  rows?: Uint32Array;
  /** Share of the remaining rows, the latest, for choosing thresholds and the number of trees. @default 0.2 */
  validationFraction?: number;
  /** Of the shuffle where a cut by time won't do. @default 1 */
  seed?: number;
}

/** Rows of a data set by what they are for, each part ascending, no row in two. */
export interface Split {
  train: Uint32Array;
  validation: Uint32Array;
  test: Uint32Array;
  /** How it was cut, for people. */
  notes: string[];
}

/**
 * Cuts by time: the latest rows are the test part, the latest of the rest the validation part. Where that would leave a
 * side without one class, the cut is stratified instead (the same share of each class, drawn by seed), and a note says
 * so.
 *
 * @throws RequestError `too_few_rows` where a class has fewer rows than there are parts, `bad_test_range` where the
 *   range to test on, or what is trained on, lacks a class
 */
export function splitDataset(
  dataset: Pick<Dataset, "length" | "label" | "eventTime">,
  options: SplitOptions = {},
): Split {
  const { testFraction = 0.3, validationFraction = 0.2, seed = 1, train: range } = options;
  const { label, eventTime } = dataset;
  const given = options.rows ?? Uint32Array.from({ length: dataset.length }, (_, row) => row);
  if (options.test !== undefined) return splitAt(dataset, given, options.test, { range, validationFraction, seed });
  const all =
    range === undefined ? given : given.filter((row) => eventTime[row] >= range.from && eventTime[row] < range.to);
  const parts = testFraction > 0 ? 3 : 2;
  for (const [value, name] of [
    [1, "frauds"],
    [0, "genuine transactions"],
  ] as const) {
    const count = countOf(label, all, value);
    if (count < parts)
      throw new RequestError(
        "too_few_rows",
        `there are ${count} ${name}; training, validation${parts === 3 ? " and test" : ""} need one each at least`,
      );
  }
  const notes: string[] = [];
  const [rest, test] =
    testFraction > 0
      ? cut(label, all, { name: "test", fraction: testFraction, seed, least: 2 }, notes)
      : [all, new Uint32Array(0)];
  const [train, validation] = cut(
    label,
    rest,
    { name: "validation", fraction: validationFraction, seed: seed + 1, least: 1 },
    notes,
  );
  return { train, validation, test, notes };
}

interface RestOptions {
  range: { from: number; to: number } | undefined;
  validationFraction: number;
  seed: number;
}

/** Tests on a range of event time, trains on what comes before it: all, or a range of its own. */
function splitAt(
  { label, eventTime }: Pick<Dataset, "label" | "eventTime">,
  rows: Uint32Array,
  range: { from: number; to: number },
  { range: trained, validationFraction, seed }: RestOptions,
): Split {
  const rest = rows.filter(
    (row) =>
      eventTime[row] < range.from &&
      (trained === undefined || (eventTime[row] >= trained.from && eventTime[row] < trained.to)),
  );
  const test = rows.filter((row) => eventTime[row] >= range.from && eventTime[row] < range.to);
  const [from, to] = [range.from, range.to].map((time) => new Date(time).toISOString());
  for (const [rows, where, least] of [
    [rest, trained === undefined ? `before ${from}` : "to train on", 2],
    [test, `from ${from} to ${to}`, 1],
  ] as const) {
    const frauds = countOf(label, rows, 1);
    if (frauds >= least && rows.length - frauds >= least) continue;
    throw new RequestError(
      "bad_test_range",
      `there are ${frauds} frauds and ${rows.length - frauds} genuine transactions ${where}; ${least} of ` +
        "each are needed at least",
    );
  }
  const notes = [
    `test part: ${from} to ${to}; ${rows.length - rest.length - test.length} ` +
      `${trained === undefined ? "later rows are left out" : "rows are neither trained nor tested on"}`,
  ];
  const [train, validation] = cut(
    label,
    rest,
    { name: "validation", fraction: validationFraction, seed: seed + 1, least: 1 },
    notes,
  );
  return { train, validation, test, notes };
}

interface Cut {
  name: string;
  fraction: number;
  seed: number;
  /** Rows of each class that the first side must keep. */
  least: number;
}

function cut(
  label: Uint8Array,
  rows: Uint32Array,
  { name, fraction, seed, least }: Cut,
  notes: string[],
): [Uint32Array, Uint32Array] {
  const at = rows.length - Math.round(rows.length * fraction);
  const before = rows.subarray(0, at);
  const after = rows.subarray(at);
  const whole = [0, 1].every((value) => countOf(label, before, value) >= least && countOf(label, after, value) >= 1);
  if (whole) {
    notes.push(`${name} part: the latest ${percent(fraction)}${name === "test" ? "" : " of the rest"} by time`);
    return [before, after];
  }
  notes.push(
    `${name} part: ${percent(fraction)} of each class drawn at random (seed ${seed}), not the latest: a cut ` +
      "by time would leave a side without frauds or without genuine transactions",
  );
  return stratified(label, rows, fraction, seed, least);
}

function stratified(
  label: Uint8Array,
  rows: Uint32Array,
  fraction: number,
  seed: number,
  least: number,
): [Uint32Array, Uint32Array] {
  const random = seededRandom(seed);
  const drawn = new Uint8Array(label.length);
  for (const value of [0, 1]) {
    const members = rows.filter((row) => label[row] === value);
    const count = Math.min(Math.max(Math.round(members.length * fraction), 1), members.length - least);
    for (let i = 0; i < count; i++) {
      const j = i + Math.floor(random() * (members.length - i));
      [members[i], members[j]] = [members[j], members[i]];
      drawn[members[i]] = 1;
    }
  }
  return [rows.filter((row) => drawn[row] === 0), rows.filter((row) => drawn[row] === 1)];
}

function countOf(label: Uint8Array, rows: Uint32Array, value: number): number {
  let count = 0;
  for (const row of rows) if (label[row] === value) count += 1;
  return count;
}

function percent(fraction: number): string {
  return `${Number((fraction * 100).toFixed(2))} %`;
}
