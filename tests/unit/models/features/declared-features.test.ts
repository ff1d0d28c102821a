import { describe, expect, test } from "vitest";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { specsOf, type Offering } from "../../../../models/features/declared-features.js";
import { parseFeatures, type DeclaredFeature } from "../../../../models/features/features-file.js";
import { featuresNamed } from "../../../../models/features/select.js";
import { fileWith } from "../datasets/csv-files.js";
import { reasonOf } from "./reason-of.js";

const FILE = `event_time,card,amount,credit_limit,town,since,ok,secret,label
2024-01-01T00:00:00Z,4111111111111111,10,100,a@x.org,2020-01-01,true,77,0
2024-01-02T00:00:00Z,4111111111111111,20,100,b@y.org,2021-01-01,false,78,1
2024-01-03T00:00:00Z,5500000000000004,30,200,c@x.org,2022-01-01,true,79,0
2024-01-04T00:00:00Z,5500000000000004,30,300,,2022-01-01,true,80,0
`;
const read = async (more: Partial<Offering> = {}): Promise<Offering> => ({
  ...(await readCsv(fileWith(FILE), { columns: { card_id: "card" }, drop: ["secret"], operands: ["since"] })),
  ...more,
});
type Nameless<T> = T extends unknown ? Omit<T, "name"> : never;
const feature = (rest: Nameless<DeclaredFeature>): DeclaredFeature => ({ name: "x", ...rest });

test("a text's part without a value is one feature for each that the data set has", async () => {
  const specs = specsOf(await read(), feature({ kind: "text_part", of: "attributes.town", part: "email_domain" }), "f");
  expect(specs.map(({ name, type, default: missing }) => [name, type, missing])).toEqual([
    ["x=x.org", "boolean", 0],
    ["x=y.org", "boolean", 0],
  ]);
  const bins = specsOf(await read(), feature({ kind: "text_part", of: "card_id", part: "bin", default: null }), "f");
  expect(bins.map(({ name, default: missing }) => [name, missing])).toEqual([
    ["x=411111", null],
    ["x=550000", null],
  ]);
});

test("of too many parts those that most rows have are features", () => {
  const categories = Array.from({ length: 400 }, (_, i) => `u@h${i}.org`);
  const codes = Int32Array.from({ length: 800 }, (_, row) => (row < 400 ? row : 100 + (row % 300)));
  const dataset: Offering = { attributes: new Map([["m", { type: "text", codes, categories }]]) };
  const specs = specsOf(dataset, feature({ kind: "text_part", of: "attributes.m", part: "email_domain" }), "f");
  expect(specs.length).toBe(300);
  expect(specs.map(({ name }) => name)).not.toContain("x=h50.org");
  expect(specs.map(({ name }) => name)).toEqual(expect.arrayContaining(["x=h100.org", "x=h399.org"]));
});

describe("an operand that the data set doesn't have as it is wanted", () => {
  test.each<[Nameless<DeclaredFeature>, string]>([
    [
      { kind: "ratio", of: ["amount", "attributes.credit_limt"] },
      'f.of[1]: the data set has no attribute "credit_limt"; did you mean "credit_limit"?',
    ],
    [{ kind: "difference", of: ["attributes.town", "amount"] }, 'f.of[0]: attribute "town" is a text, not a number'],
    [{ kind: "age", since: "attributes.ok" }, 'f.since: attribute "ok" is a boolean, not a date'],
    [{ kind: "difference", of: ["amount", "attributes.since"] }, 'attribute "since" is a date, not a number'],
    [{ kind: "ratio", of: ["amount", "attributes.secret"] }, 'column "secret" is left out, as --drop says'],
    [{ kind: "ratio", of: ["amount", "attributes.amount"] }, 'column "amount" is the amount: write "amount"'],
    [{ kind: "ratio", of: ["amount", "attributes.label"] }, 'column "label" is the label: no feature is made of it'],
    [{ kind: "text_part", of: "merchant_id", part: "bin" }, "f.of: the data set has no merchant_id"],
    [{ kind: "text_part", of: "attributes.town", part: "bin" }, "f.of: no text of "],
  ])("%j: %s", async (rest, reason) => {
    const dataset = await read();
    expect(reasonOf(() => specsOf(dataset, feature(rest), "f"))).toEqual([
      "unknown_feature",
      expect.stringContaining(reason),
    ]);
  });

  test("a card's BIN where the stream has pseudonyms", async () => {
    const dataset = await read({ hidesCards: true });
    const [code, message] = reasonOf(() =>
      specsOf(dataset, feature({ kind: "text_part", of: "card_id", part: "bin" }), "f"),
    );
    expect([code, message]).toEqual(["unknown_feature", expect.stringContaining("pseudonyms")]);
  });
});

test("names and declared features stand in one list; no two are called the same", async () => {
  const dataset = await read();
  const left = { name: "left", kind: "difference", of: ["attributes.credit_limit", "amount"] };
  const named = featuresNamed(dataset, parseFeatures(["amount", left, "card_count_7d"]));
  expect(named.map(({ name }) => name)).toEqual(["amount", "left", "card_count_7d"]);
  const again = parseFeatures(["town", { name: "town=a@x.org", kind: "ratio", of: left.of }]);
  expect(reasonOf(() => featuresNamed(dataset, again))).toEqual([
    "bad_features",
    'features[1].name: another feature is called "town=a@x.org"',
  ]);
});
