import { describe, expect, test } from "vitest";
import { lookAt } from "../../../../models/datasets/look.js";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { columnDefaults } from "../../../../models/features/column-defaults.js";
import { featureMatrix } from "../../../../models/features/feature-matrix.js";
import { selectFeatures } from "../../../../models/features/select.js";
import { fileWith, paysimCsv } from "../datasets/csv-files.js";
import { csvOf, iso, payments } from "../datasets/payments-csv.js";
import { PUBLIC_SHAPES } from "../datasets/public-shapes.js";

const textOf = (shape: string): string => PUBLIC_SHAPES.find(({ name }) => name === shape)?.text ?? "";
const namesOf = async (text: string): Promise<string[]> =>
  columnDefaults(await readCsv(fileWith(text))).map(({ feature }) => feature.name);

test("each public data set has what its columns tell, and no other", async () => {
  const found = await Promise.all(PUBLIC_SHAPES.map(async ({ name, text }) => [name, await namesOf(text)]));
  expect(Object.fromEntries(found)).toEqual({
    "evalml's fraud_transactions": [],
    PaySim: ["balance_error_orig", "balance_error_dest"],
    Sparkov: ["distance_km", "age_years"],
    // The domains are few: each is a feature already.
    "IEEE-CIS": [],
    TabFormer: [],
    BankSim: [],
    "Bank Account Fraud": [],
  });
});

test("PaySim's balances, in its own words, in a look, and in a model's features", async () => {
  const dataset = await readCsv(fileWith(paysimCsv(400)));
  const note =
    "features from columns, by default: balance_error_orig (newbalanceOrig + amount - oldbalanceOrg), " +
    "balance_error_dest (oldbalanceDest + amount - newbalanceDest)";
  expect(dataset.notes).toContain(note);
  expect(lookAt(dataset).notes).toContain(note);
  const specs = selectFeatures(dataset);
  expect(specs.find(({ name }) => name === "balance_error_orig")).toEqual({
    name: "balance_error_orig",
    type: "number",
    source: {
      kind: "sum_error",
      total: "attributes.oldbalanceOrg",
      plus: ["attributes.newbalanceOrig", "amount"],
    },
    default: null,
  });
  const at = specs.findIndex(({ name }) => name === "balance_error_orig");
  const { values } = featureMatrix(
    dataset,
    specs,
    Uint32Array.from({ length: 400 }, (_, row) => row),
  );
  const [before, after] = ["oldbalanceOrg", "newbalanceOrig"].map((name) => dataset.attributes.get(name));
  if (before?.type !== "number" || after?.type !== "number") throw new Error("the balances are no numbers");
  for (let row = 0; row < 400; row++)
    expect(values[row * specs.length + at]).toBeCloseTo(
      after.values[row] + dataset.amount[row] - before.values[row],
      2,
    );
});

test("Sparkov's positions and birth dates; what is only of use for them is told by the look", async () => {
  const dataset = await readCsv(fileWith(textOf("Sparkov")));
  expect(columnDefaults(dataset)).toEqual([
    {
      feature: {
        name: "distance_km",
        kind: "distance",
        from: ["attributes.lat", "attributes.long"],
        to: ["attributes.merch_lat", "attributes.merch_long"],
      },
      words: "kilometres from lat, long to merch_lat, merch_long",
    },
    { feature: { name: "age_years", kind: "age", since: "attributes.dob" }, words: "years since dob" },
  ]);
  const columns = new Map(lookAt(dataset).columns.map(({ name, taken_for }) => [name, taken_for]));
  expect([columns.get("dob"), columns.get("lat")]).toEqual(["for features only (date)", "attribute (number)"]);
});

describe("parts of addresses", () => {
  const file = (email: (row: number) => string, ip: (row: number) => string): string =>
    csvOf("event_time,amount,card_id,email,ip,label", payments(1_000, 5), ({ row, time, amount, card, fraud }) => [
      iso(time),
      amount,
      card,
      email(row),
      ip(row),
      Number(fraud),
    ]);
  const host = (row: number): string => `10.0.${(row * 7) % 5}.${Math.floor(row / 4)}`;

  test("of too many different ones are features by default", async () => {
    const dataset = await readCsv(fileWith(file((row) => `u${row}@Host${(row * 7) % 4}.com`, host)));
    expect([...dataset.attributes.keys()]).toEqual([]);
    const specs = selectFeatures(dataset).map(({ name }) => name);
    expect(specs.filter((name) => name.startsWith("email"))).toEqual(
      [0, 3, 2, 1].map((i) => `email domain=host${i}.com`),
    );
    expect(specs.filter((name) => name.startsWith("ip")).sort()).toEqual(
      [0, 1, 2, 3, 4].map((i) => `ip /24=10.0.${i}`),
    );
    expect(dataset.notes).toContain(
      "features from columns, by default: email domain (the domain of email), ip /24 (the /24 of ip)",
    );
  });

  test("of few different ones are not: each text is a feature", async () => {
    const dataset = await readCsv(
      fileWith(
        file(
          (row) => `u${(row * 7) % 9}@x${row % 2}.org`,
          () => "10.0.0.1",
        ),
      ),
    );
    expect(dataset.attributes.has("email")).toBe(true);
    expect(columnDefaults(dataset)).toEqual([]);
  });

  test("of which no two are equal are no features", async () => {
    expect(
      await namesOf(
        file(
          (row) => `me@u${row}.org`,
          () => "",
        ),
      ),
    ).toEqual([]);
  });
});

test("one column of a pair, or a text where a number belongs, makes no feature", async () => {
  const rows = payments(300, 3);
  const file = (old: (amount: number) => string | number): string =>
    csvOf("event_time,amount,oldbalanceOrg,newbalanceOrig,label", rows, ({ row, time, amount, fraud }) => [
      iso(time),
      amount,
      old(amount),
      (row * 31) % 97,
      Number(fraud),
    ]);
  expect(await namesOf(file((amount) => amount + 1))).toEqual(["balance_error_orig"]);
  expect(await namesOf(file((amount) => (amount > 50 ? "high" : "low")))).toEqual([]);
  expect(await namesOf(file((amount) => amount + 1).replace("newbalanceOrig", "other"))).toEqual([]);
});
