import { expect, test } from "vitest";
import { Value } from "@sinclair/typebox/value";
import { Look, lookAt, lookLines } from "../../../../models/datasets/look.js";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { fileWith } from "./csv-files.js";
import { csvOf, iso, payments } from "./payments-csv.js";

const ROWS = payments(500);

test("a look tells what each column was taken for, what is missing, and what looks like the label", async () => {
  const file = csvOf("when,pan,shop,sum,verdict,status,score,serial", ROWS, ({ row, time, card, merchant, fraud }) => [
    iso(time),
    `41111111111${11_111 + Number(card.slice(1))}`,
    merchant,
    ((row * 7_919) % 4_001) / 10,
    row % 10 === 0 ? "?" : fraud ? "fraud" : "legit",
    fraud ? "blocked" : "booked",
    row % 5 === 0 ? "" : (row * 31) % 17,
    row,
  ]);
  const look = lookAt(
    await readCsv(fileWith(file), {
      columns: { card_id: "pan", amount: "sum", label: "verdict", merchant_id: "shop" },
    }),
  );
  expect(Value.Check(Look, look)).toBe(true);
  expect([look.rows, look.labelled, look.from.slice(0, 10)]).toEqual([500, 450, "2024-03-01"]);
  expect(look.fraud_share).toBeCloseTo(look.frauds / 450);
  const columns = Object.fromEntries(look.columns.map((column) => [column.name, column]));
  expect(columns["when"]).toMatchObject({ taken_for: "event_time", why: "its cells are times" });
  expect(columns["pan"]).toMatchObject({ taken_for: "card_id", why: "as --columns says" });
  expect(columns["pan"].examples.join()).not.toMatch(/\d{8}/);
  expect(columns["score"]).toMatchObject({ taken_for: "attribute (number)", missing: 100 });
  expect(columns["serial"]).toMatchObject({
    taken_for: "left out",
    why: expect.stringMatching(/identifier/) as unknown,
  });
  expect(look.leaks).toEqual([expect.stringMatching(/^column "status" by itself finds the frauds/)]);
  const lines = lookLines(look).join("\n");
  expect(lines).toMatch(/WARNING: column "status" by itself/);
  expect(lines).toContain("To say otherwise:\n  --columns ROLE=NAME");
});
