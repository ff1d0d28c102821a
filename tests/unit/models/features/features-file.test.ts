import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  featuresSchema,
  operandAttributes,
  parseFeatures,
  parseFeaturesFile,
} from "../../../../models/features/features-file.js";
import { packageRoot } from "../../../../infra/package-root.js";
import { reasonOf } from "./reason-of.js";

/** Features of every kind, as README.md shows them. */
const ALL = [
  "amount",
  "card_count_7d",
  { name: "over_limit", kind: "difference", of: ["amount", "attributes.limit"] },
  { name: "of_limit", kind: "ratio", of: ["amount", "attributes.limit"], default: null },
  { name: "error", kind: "sum_error", total: "attributes.old", plus: ["attributes.new", "amount"] },
  { name: "net", kind: "sum_error", total: "amount", plus: ["attributes.new"], minus: ["attributes.fee"], default: 0 },
  { name: "km", kind: "distance", from: ["attributes.lat", "attributes.lon"], to: ["attributes.a", "attributes.b"] },
  { name: "age", kind: "age", since: "attributes.dob", default: 40 },
  { name: "days", kind: "days_since", since: "attributes.opened" },
  { name: "domain", kind: "text_part", of: "attributes.email", part: "email_domain" },
  { name: "visa", kind: "text_part", of: "card_id", part: "bin", equals: "411111" },
];

test("features of every kind are read, and name the attributes that they are made of", () => {
  expect(parseFeaturesFile("f.json", JSON.stringify({ $schema: "x", features: ALL }))).toEqual(ALL);
  expect(operandAttributes(parseFeatures(ALL))).toEqual([
    "limit",
    "old",
    "new",
    "fee",
    "lat",
    "lon",
    "a",
    "b",
    "dob",
    "opened",
    "email",
  ]);
});

describe("a mistake is named with its path", () => {
  const of = { name: "x", kind: "difference", of: ["amount", "attributes.a"] };
  test.each<[unknown, string]>([
    [undefined, "features: it must be a list"],
    [[], "features: it must be a list of features, not empty"],
    [["amount", 7], "features[1]: it must be the name of a feature, or an object"],
    [["amount", ""], "features[1]: it must be a name"],
    [[{ name: "x" }], "features[0].kind: it is missing; the kinds are difference, ratio, "],
    [[{ ...of, kind: "diference" }], 'features[0].kind: "diference"; the kinds are difference, '],
    [[{ ...of, kind: "diference" }], 'did you mean "difference"?'],
    [
      ["amount", { ...of, of: ["amount", "a"] }],
      'features[1].of[1]: "a" must be amount, or attributes.NAME of a number',
    ],
    [[{ ...of, of: ["amount", "card_id"] }], 'features[0].of[1]: "card_id" must be amount'],
    [[{ ...of, of: ["amount"] }], "features[0].of: it must have 2 operands"],
    [
      [{ ...of, defualt: 0 }],
      'features[0].defualt: there is no such field (name, kind, of, default); did you mean "default"?',
    ],
    [[{ kind: "ratio", of: of.of }], "features[0].name: it is missing"],
    [[{ ...of, default: 1e300 }], "features[0].default: 1e+300 must be a number of float32, or null"],
    [[{ ...of, default: "0" }], 'features[0].default: "0" must be a number of float32, or null'],
    [[{ name: "x", kind: "sum_error", total: "amount", plus: [] }], "features[0].plus: it must have 1 to 4 operands"],
    [[{ name: "x", kind: "age", since: "amount" }], 'features[0].since: "amount" must be attributes.NAME of a date'],
    [
      [{ name: "x", kind: "text_part", of: "card_id", part: "domain" }],
      'features[0].part: "domain" must be one of "email_domain", "bin", "ipv4_24"',
    ],
    [
      [{ name: "x", kind: "text_part", of: "card_id", part: "bin", equals: "4111111111111111" }],
      'features[0].equals: "[card number]" must be a BIN: six digits, never a whole card number',
    ],
    [[of, "amount", { ...of, kind: "ratio" }], 'features[2].name: "x" is asked for by features[0], too'],
  ])("%j: %s", (features, reason) => {
    const [code, message] = reasonOf(() => parseFeatures(features));
    expect([code, message]).toEqual(["bad_features", expect.stringContaining(reason)]);
  });

  test.each([
    ["{", "f.json is not JSON: "],
    ["[]", 'f.json: it must be an object: {"features": [...]}'],
    ['{"feature": []}', 'f.json: feature: there is no such field ($schema, features); did you mean "features"?'],
    ["{}", "f.json: features: it must be a list"],
    ['{"features": [{"kind": "x"}]}', 'f.json: features[0].kind: "x"; the kinds are '],
  ])("in the file %s", (json, reason) => {
    const [code, message] = reasonOf(() => parseFeaturesFile("f.json", json));
    expect([code, message]).toEqual(["bad_features", expect.stringContaining(reason)]);
  });
});

test("the published schema is what is read: npm run features-schema writes it", () => {
  expect(readFileSync(`${packageRoot()}/schemas/features.schema.json`, "utf8")).toBe(featuresSchema());
});
