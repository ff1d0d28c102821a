import { describe, expect, test } from "vitest";
import { CardPseudonyms } from "../../../../infra/privacy/card-pseudonyms.js";
import type { Dataset, OperandColumn } from "../../../../models/datasets/dataset.js";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { operandAttributes, parseFeatures, type FeatureEntry } from "../../../../models/features/features-file.js";
import { featureMatrix } from "../../../../models/features/feature-matrix.js";
import type { FeatureSpec } from "../../../../models/features/plan.js";
import { featuresNamed } from "../../../../models/features/select.js";
import { fileWith, numbers } from "../datasets/csv-files.js";
import { differences, streamVectors } from "./replayed.js";

const ROWS = 3_000;
const DAY_MS = 86_400_000;
const START = Date.UTC(2024, 2, 1);

/** Every kind, over columns of `randomDataset`. */
const ENTRIES = parseFeatures([
  "amount",
  "a",
  { name: "difference", kind: "difference", of: ["attributes.a", "attributes.b"] },
  { name: "ratio", kind: "ratio", of: ["amount", "attributes.b"], default: -1 },
  {
    name: "error",
    kind: "sum_error",
    total: "attributes.a",
    plus: ["amount", "attributes.b"],
    minus: ["attributes.c"],
  },
  { name: "km", kind: "distance", from: ["attributes.lat", "attributes.lon"], to: ["attributes.c", "attributes.lon"] },
  { name: "age", kind: "age", since: "attributes.born" },
  { name: "days", kind: "days_since", since: "attributes.opened", default: 0 },
  { name: "since", kind: "days_since", since: "attributes.b" },
  { name: "domain", kind: "text_part", of: "attributes.mail", part: "email_domain" },
  { name: "net", kind: "text_part", of: "attributes.ip", part: "ipv4_24", default: null },
  { name: "bin", kind: "text_part", of: "card_id", part: "bin" },
  { name: "shop", kind: "text_part", of: "merchant_id", part: "email_domain" },
]);

/** Balances of ten millions with cents, and whatever else a column may hold. */
function randomDataset(): Dataset {
  const random = numbers(5);
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)];
  const odd = [Number.NaN, 0, 1e-300, -3e38, 3e38, 90, 181, 6_642, START - 1e12];
  const value = (): number => (random() < 0.2 ? pick(odd) : Math.round(random() * 2e9) / 100);
  const column = (make: () => number): OperandColumn => ({
    type: "number",
    values: Float64Array.from({ length: ROWS }, make),
  });
  const degrees = (most: number) => () => (random() < 0.1 ? Number.NaN : (random() - 0.5) * 2.1 * most);
  const texts = (made: readonly string[]): OperandColumn => {
    const categories = [...new Set(made)];
    return {
      type: "text",
      categories,
      codes: Int32Array.from(made, (text) => (text === "" ? -1 : categories.indexOf(text))),
    };
  };
  const many = (make: () => string): string[] => Array.from({ length: ROWS }, make);
  const octet = (): number => Math.floor(random() * 260);
  const date = (): string => new Date(START - Math.floor(random() * 30_000) * DAY_MS).toISOString();
  const attributes: Dataset["attributes"] = new Map([
    ["a", column(value)],
    ["b", column(value)],
    ["c", column(value)],
    ["lat", column(degrees(90))],
    ["lon", column(degrees(180))],
  ] as [string, OperandColumn & { type: "number" }][]);
  return {
    source: "random",
    length: ROWS,
    transactionId: many(() => String(random())),
    eventTime: Float64Array.from({ length: ROWS }, (_, row) => START + row * 61_007),
    cardId: many(() => pick(["4111111111111111", "5500 0000 0000 0004", "c1", "411111******1234", "378282246310005"])),
    merchantId: many(() => pick(["Shop@Example.com", "m1", "a@b@c.org"])),
    amount: Float64Array.from({ length: ROWS }, () => Math.round(random() * 2e9) / 100),
    currency: many(() => "EUR"),
    label: Uint8Array.from({ length: ROWS }, () => Number(random() < 0.1)),
    labelTime: null,
    historyRows: 0,
    hasCards: true,
    hasMerchants: true,
    attributes,
    operands: new Map([
      ["born", texts(many(() => pick([date().slice(0, 10), date(), "", "unknown", date().replace("Z", "+02:00")])))],
      [
        "opened",
        {
          type: "time",
          values: Float64Array.from(many(date), (text) => (random() < 0.1 ? Number.NaN : Date.parse(text))),
        },
      ],
      ["mail", texts(many(() => pick(["", "x", `${random()}@Host${Math.floor(random() * 9)}.org`])))],
      ["ip", texts(many(() => pick(["", "x", `10.0.${Math.floor(random() * 9)}.${octet()}`])))],
    ]),
    notes: [],
  };
}

const all = (dataset: Dataset): Uint32Array => Uint32Array.from({ length: dataset.length }, (_, row) => row);

/** Of each feature, how many different values it has: a test of nothing but NaN shows nothing. */
function variety(values: Float32Array, specs: readonly FeatureSpec[]): Map<string, number> {
  return new Map(
    specs.map(({ name }, feature) => [
      name,
      new Set(values.filter((value, at) => at % specs.length === feature && !Number.isNaN(value))).size,
    ]),
  );
}

describe("training and stream make the same bits of the same columns", () => {
  const dataset = randomDataset();
  const specs = featuresNamed(dataset, ENTRIES);

  test.each([false, true])("of random values, missing ones and such that are none (JSON: %s)", async (json) => {
    const { values } = featureMatrix(dataset, specs, all(dataset));
    expect(differences(values, await streamVectors(dataset, specs, { json }))).toEqual([]);
    for (const [name, count] of variety(values, specs)) expect([name, count > 1]).toEqual([name, true]);
    expect(variety(values, specs).get("difference")).toBeGreaterThan(1_000);
    expect(specs.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["domain=host0.org", "net=10.0.3", "bin=411111", "bin=378282", "shop=example.com"]),
    );
  });

  test("no BIN is read of a pseudonym", async () => {
    const bins = specs.filter(({ name }) => name.startsWith("bin=")).map((spec) => ({ ...spec, default: -1 }));
    const values = await streamVectors(dataset, bins, { cards: new CardPseudonyms("k".repeat(32), 4) });
    expect(new Set(values)).toEqual(new Set([-1]));
  });
});

/** A file in which what decides stands in columns that are no features: dates, addresses. */
function csv(): string {
  const random = numbers(9);
  const rows = Array.from({ length: 1_200 }, (_, row) => {
    const day = (days: number): string =>
      new Date(START - days * DAY_MS).toISOString().slice(0, 10).split("-").reverse().join("/");
    return [
      new Date(START + row * 600_000).toISOString(),
      `c${row % 90}`,
      Math.round(random() * 1e4) / 100,
      day(7_000 + Math.floor(random() * 20_000)),
      row % 7 === 0 ? "" : day(Math.floor(random() * 900)),
      `user${row % 700}@Mail${row % 12}.example`,
      `10.1.${row % 20}.${row % 250}`,
      `${4_000_000_000_000_000 + (row % 5) * 10_000_000_000 + row}`,
      Number(random() < 0.1),
    ].join(",");
  });
  return ["event_time,card_id,amount,dob,opened,email,ip,funding,fraud", ...rows].join("\n");
}

test("a file's dates and addresses are features' columns, and are replayed", async () => {
  const entries: FeatureEntry[] = parseFeatures([
    { name: "age", kind: "age", since: "attributes.dob" },
    { name: "days", kind: "days_since", since: "attributes.opened" },
    { name: "domain", kind: "text_part", of: "attributes.email", part: "email_domain" },
    { name: "net", kind: "text_part", of: "attributes.ip", part: "ipv4_24" },
  ]);
  const file = fileWith(csv());
  // Nobody asked for a feature of `opened`, so it isn't read on, nor published.
  expect([...((await readCsv(file)).operands?.keys() ?? [])]).toEqual(["dob", "email", "ip"]);
  const dataset = await readCsv(file, { operands: operandAttributes(entries) });
  expect([...dataset.attributes.keys()]).toEqual([]);
  expect([...(dataset.operands?.keys() ?? [])]).toEqual(["dob", "opened", "email", "ip"]);
  const specs = featuresNamed(dataset, entries);
  expect(specs.length).toBe(2 + 12 + 20);
  const { values } = featureMatrix(dataset, specs, all(dataset));
  expect(differences(values, await streamVectors(dataset, specs))).toEqual([]);
  for (const [name, count] of variety(values, specs)) expect([name, count > 1]).toEqual([name, true]);
  expect(dataset.notes).toContain(
    'left out: column "dob", times: only the event time is used; features can be made of it',
  );
  expect(dataset.columns?.find(({ name }) => name === "email")?.taken_for).toBe("for features only (text)");
  expect(dataset.notes.find((note) => note.startsWith("features from columns, by default"))).toBe(
    "features from columns, by default: age_years (years since dob), email domain (the domain of email), " +
      "ip /24 (the /24 of ip)",
  );
});

test("a declared feature is not replaced by another one of its name", async () => {
  const dataset = await readCsv(fileWith(csv()));
  const entries = parseFeatures([{ name: "amount", kind: "ratio", of: ["amount", "amount"] }, "amount"]);
  expect(() => featuresNamed(dataset, entries)).toThrow('features[1]: another feature is called "amount"');
});

test("texts and numbers that are no dates are refused, with what a date is", async () => {
  const rows = Array.from({ length: 40 }, (_, row) => {
    const time = new Date(Date.UTC(2024, 2, 1) + row * 3_600_000);
    return `${time.toISOString()},${row},Town ${row % 3},${time.getTime() / 1000},${row % 4 === 0 ? 1 : 0}`;
  });
  const dataset = await readCsv(fileWith(["event_time,amount,town,epoch,label", ...rows].join("\n")), {
    keep: ["epoch"],
  });
  const age = (attribute: string): (() => unknown) => {
    const entries = parseFeatures([{ name: "x", kind: "days_since", since: `attributes.${attribute}` }]);
    return () => featuresNamed(dataset, entries);
  };
  expect(age("town")).toThrow('features[0].since: none of the texts of attribute "town" is a date');
  expect(age("epoch")).toThrow(/the numbers of attribute "epoch" look like seconds since 1970; a date is ISO 8601/);
});
