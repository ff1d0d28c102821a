import { Type, type Static } from "@sinclair/typebox";
import { maskedText } from "../../infra/privacy/masking/masked-text.js";
import { averagePrecision } from "../training/average-precision.js";
import type { AttributeColumn, Dataset } from "./dataset.js";

const closed = { additionalProperties: false } as const;

/** What a file was taken for, before anything is trained on it. */
export const Look = Type.Object(
  {
    rows: Type.Integer(),
    from: Type.String({ description: "The first event time" }),
    to: Type.String({ description: "The last event time" }),
    labelled: Type.Integer({ description: "Rows that have a label" }),
    frauds: Type.Integer(),
    fraud_share: Type.Number({ description: "Of the labelled rows" }),
    columns: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          taken_for: Type.String({ description: "A role in the transaction, the type of an attribute, or left out" }),
          why: Type.String(),
          examples: Type.Array(Type.String(), { description: "Card numbers are masked" }),
          missing: Type.Integer({ description: "Cells that hold nothing, or a word for that" }),
        },
        closed,
      ),
    ),
    leaks: Type.Array(Type.String(), { description: "Columns that by themselves find the frauds" }),
    notes: Type.Array(Type.String(), { description: "What was recognised, made up or left out" }),
    options: Type.Array(Type.String(), { description: "How to say otherwise" }),
  },
  {
    ...closed,
    title: "DatasetLook",
    examples: [
      {
        rows: 57_000,
        from: "2026-10-23T09:30:00.000Z",
        to: "2026-11-22T09:30:00.000Z",
        labelled: 56_820,
        frauds: 171,
        fraud_share: 0.003,
        columns: [
          {
            name: "store_id",
            taken_for: "merchant_id",
            why: "its name is one of a merchant's",
            examples: ["m-17", "m-204"],
            missing: 0,
          },
        ],
        leaks: [],
        notes: ["180 rows without a label are history only"],
        options: ["--keep NAME, --drop NAME"],
      },
    ],
  },
);
export type Look = Static<typeof Look>;

/** From here on, between guessing (0) and finding all (1), a column by itself tells too much. */
const TOO_MUCH = 0.85;
const LEAST_FRAUDS = 10;

const OPTIONS = [
  "--columns ROLE=NAME (transaction_id, event_time, card_id, merchant_id, amount, currency, label; NAME+NAME joins " +
    "two)",
  "--time-format seconds|minutes|hours|days|epoch-ms|...|%d/%m/%Y %H:%M, --day-first, --no-day-first",
  "--labels fraud=WORD,genuine=WORD",
  "--keep NAME, --drop NAME",
  "--decimal point|comma, --delimiter comma|semicolon|tab|pipe, --encoding NAME",
];

/** How a data set was read, so that it can be put right before anything is made of it. */
export function lookAt(dataset: Dataset): Look {
  const { length, eventTime, label, unlabelled, columns = [], notes } = dataset;
  const labelled = length - (unlabelled?.reduce((sum, value) => sum + value, 0) ?? 0);
  const frauds = label.reduce((sum, value) => sum + value, 0);
  return {
    rows: length,
    from: new Date(eventTime[0]).toISOString(),
    to: new Date(eventTime[length - 1]).toISOString(),
    labelled,
    frauds,
    fraud_share: frauds / labelled,
    columns: columns.map((column) => ({ ...column, examples: column.examples.map(shown) })),
    leaks: frauds < LEAST_FRAUDS ? [] : leaksOf(dataset, frauds / labelled),
    notes: notes.map(maskedText),
    options: [...OPTIONS],
  };
}

/** An example of a cell, without what may be a card's number. */
function shown(text: string): string {
  const short = text.length > 40 ? `${text.slice(0, 37)}...` : text;
  return maskedText(short).replace(/\d{12,}/g, (digits) => `${digits.slice(0, 4)}...${digits.slice(-2)}`);
}

function leaksOf({ attributes, label, unlabelled, amount }: Dataset, base: number): string[] {
  const rows = Uint32Array.from(label.keys()).filter((row) => unlabelled?.[row] !== 1);
  const labels = Uint8Array.from(rows, (row) => label[row]);
  const columns: [string, AttributeColumn][] = [["amount", { type: "number", values: amount }], ...attributes];
  return columns.flatMap(([name, column]) => {
    const scores = column.type === "text" ? shares(column, label, unlabelled) : column.values;
    const of = (sign: 1 | -1): number =>
      averagePrecision(
        Float64Array.from(rows, (row) => (Number.isNaN(scores[row]) ? -Number.MAX_VALUE : sign * scores[row])),
        labels,
      );
    const alone = Math.max(of(1), of(-1));
    return (alone - base) / (1 - base) < TOO_MUCH
      ? []
      : [`column ${JSON.stringify(name)} by itself finds the frauds (average precision ${alone.toFixed(4)})`];
  });
}

/** Of each row, the frauds' share among all rows of its value. */
function shares(
  { codes, categories }: AttributeColumn & { type: "text" },
  label: Uint8Array,
  unlabelled: Uint8Array | undefined,
): Float64Array {
  // One more for cells that hold nothing.
  const frauds = new Float64Array(categories.length + 1);
  const rows = new Float64Array(categories.length + 1);
  for (let row = 0; row < codes.length; row++) {
    if (unlabelled?.[row] === 1) continue;
    frauds[codes[row] + 1] += label[row];
    rows[codes[row] + 1] += 1;
  }
  return Float64Array.from(codes, (code) => frauds[code + 1] / Math.max(1, rows[code + 1]));
}

/** A look as lines for a terminal. */
export function lookLines(look: Look): string[] {
  const { rows, from, to, labelled, frauds, fraud_share, columns, leaks, notes, options } = look;
  const count = (number: number): string => number.toLocaleString("en-US");
  const width = (texts: readonly string[]): number => Math.min(32, Math.max(...texts.map(({ length }) => length)));
  const [names, kinds] = [columns.map(({ name }) => name), columns.map(({ taken_for }) => taken_for)];
  return [
    `${count(rows)} rows, ${from} to ${to}`,
    `${count(labelled)} labelled, ${count(frauds)} frauds (${(100 * fraud_share).toFixed(3)} %)`,
    "",
    ...columns.map(
      ({ name, taken_for, why, examples, missing }) =>
        `  ${name.padEnd(width(names))}  ${taken_for.padEnd(width(kinds))}  ${why}; ` +
        `${examples.length === 0 ? "empty" : `such as ${examples.join(", ")}`}` +
        (missing === 0 ? "" : `; ${count(missing)} missing`),
    ),
    "",
    ...notes.map((note) => `  ${note}`),
    ...leaks.map((leak) => `  WARNING: ${leak}: is it known when a payment is scored?`),
    "",
    "To say otherwise:",
    ...options.map((option) => `  ${option}`),
  ];
}
