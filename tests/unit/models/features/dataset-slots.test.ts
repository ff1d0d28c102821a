import { expect, test } from "vitest";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { featureMatrix } from "../../../../models/features/feature-matrix.js";
import { operandAttributes, parseFeatures } from "../../../../models/features/features-file.js";
import type { FeatureSpec } from "../../../../models/features/plan.js";
import { featuresNamed, selectFeatures } from "../../../../models/features/select.js";
import { seededRandom } from "../../../../models/training/random.js";
import { fileWith } from "../datasets/csv-files.js";
import { PUBLIC_SHAPES } from "../datasets/public-shapes.js";
import { differences, streamVectors } from "./replayed.js";

const FEATURES = [
  "amount",
  "limit",
  { name: "left", kind: "difference", of: ["attributes.limit", "amount"] },
  { name: "share", kind: "ratio", of: ["amount", "attributes.limit"], default: -1 },
  { name: "off", kind: "sum_error", total: "attributes.old", plus: ["attributes.new", "amount"] },
  {
    name: "km",
    kind: "distance",
    from: ["attributes.lat", "attributes.lon"],
    to: ["attributes.to lat", "attributes.x"],
  },
  { name: "age", kind: "age", since: "attributes.dob" },
  { name: "days", kind: "days_since", since: "attributes.opened", default: 0 },
  { name: "ms", kind: "days_since", since: "attributes.epoch" },
  { name: "mail", kind: "text_part", of: "attributes.email", part: "email_domain" },
  { name: "net", kind: "text_part", of: "attributes.ip", part: "ipv4_24" },
  { name: "known", kind: "text_part", of: "attributes.ip", part: "ipv4_24", equals: "10.0.1", default: null },
  { name: "bin", kind: "text_part", of: "card_id", part: "bin" },
  { name: "shop", kind: "text_part", of: "merchant_id", part: "email_domain" },
] as const;

/** Rows with everything that a cell may be: numbers with long tails, words for nothing, and what is none. */
function randomFile(rows: number, seed: number): string {
  const random = seededRandom(seed);
  const pick = <T>(...choices: readonly T[]): T => choices[Math.floor(random() * choices.length)];
  const mostly = (value: string): string => (random() < 0.9 ? value : pick("", "NA", "?"));
  const money = (): string => mostly(pick(random() * 1e7, random() * 100, 0).toFixed(2));
  const degrees = (most: number): string => mostly(((random() * 2 - 1) * most * 1.02).toFixed(pick(1, 4, 8)));
  const date = (): string => new Date(-1e12 + random() * 2.7e12).toISOString();
  const lines = Array.from({ length: rows }, (_, row) => [
    new Date(Date.UTC(2024, 0, 1) + row * 61_000).toISOString(),
    pick("4111111111111111", "5500 0000 0000 0004", "411111******1112", "340000000000009"),
    pick("shop@Example.com", "shop@example.org", "none"),
    (random() * 1e6 - 1e3).toFixed(2),
    money(),
    money(),
    money(),
    degrees(90),
    degrees(180),
    degrees(90),
    degrees(180),
    mostly(date().slice(0, 10)),
    mostly(date()),
    mostly(String(Math.floor(random() * 1.7e12))),
    mostly(`u${Math.floor(random() * 900)}@${pick("Gmail.com", "gmail.com", "x.org", "")}`),
    mostly(`10.0.${pick(0, 1, 2)}.${pick(0, 7, 255, 256)}`),
    Number(random() < 0.2),
  ]);
  const header = "event_time,card_id,merchant_id,amount,limit,old,new,lat,lon,to lat,x,dob,opened,epoch,email,ip,label";
  return `${[header, ...lines.map((cells) => cells.join(","))].join("\n")}\n`;
}

/** Without what history says, which `dataset-history.test.ts` compares. */
const withoutHistory = (specs: FeatureSpec[]): FeatureSpec[] =>
  specs.filter(({ source }) => source.kind !== "card" && source.kind !== "merchant");

const ROWS = 5_000;

test.each([1, 2])(
  "random rows have the same features in training and in the stream, bit for bit (%d)",
  async (seed) => {
    const features = parseFeatures(FEATURES);
    const dataset = await readCsv(fileWith(randomFile(ROWS, seed)), {
      operands: operandAttributes(features),
      keep: ["epoch"],
    });
    const specs = featuresNamed(dataset, features);
    expect(specs.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        "mail=gmail.com",
        "net=10.0.2",
        "bin=411111",
        "bin=550000",
        "bin=340000",
        "shop=example.com",
      ]),
    );
    const { values } = featureMatrix(
      dataset,
      specs,
      Uint32Array.from({ length: ROWS }, (_, row) => row),
    );
    specs.forEach(({ name }, at) => {
      const column = values.filter((_, index) => index % specs.length === at);
      expect([name, new Set(column).size > 1]).toEqual([name, true]);
    });
    expect(differences(values, await streamVectors(dataset, specs))).toEqual([]);
    expect(differences(values, await streamVectors(dataset, specs, { json: true }))).toEqual([]);
  },
);

test.each(PUBLIC_SHAPES)("$name has the same default features in its replay", async ({ text }) => {
  const dataset = await readCsv(fileWith(text));
  const specs = withoutHistory(selectFeatures(dataset));
  const { values } = featureMatrix(
    dataset,
    specs,
    Uint32Array.from({ length: dataset.length }, (_, row) => row),
  );
  expect(differences(values, await streamVectors(dataset, specs))).toEqual([]);
});
