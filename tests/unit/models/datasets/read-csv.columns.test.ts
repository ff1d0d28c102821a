import { describe, expect, test } from "vitest";
import { readCsv, type CsvOptions } from "../../../../models/datasets/read-csv.js";
import type { Dataset } from "../../../../models/datasets/dataset.js";
import { fileWith } from "./csv-files.js";
import { csvOf, iso, payments, type Payment } from "./payments-csv.js";

const ROWS = payments(1_000);
const FRAUDS = ROWS.filter(({ fraud }) => fraud).length;

/** A file with one more column. */
function withColumn(name: string, cell: (payment: Payment) => string | number): string {
  return csvOf(`event_time,card_id,merchant_id,amount,is_fraud,${name}`, ROWS, (payment) => [
    iso(payment.time),
    payment.card,
    payment.merchant,
    payment.amount,
    Number(payment.fraud),
    cell(payment),
  ]);
}

const read = (content: string, options: CsvOptions = {}): Promise<Dataset> => readCsv(fileWith(content), options);
const refusal = (content: string, options: CsvOptions = {}): Promise<[string, string]> =>
  read(content, options).then(
    () => ["", ""],
    (error: Error & { code: string }) => [error.code, error.message],
  );
/** Numbers without an order. */
const scrambled = (row: number): number => (row * 611_953) % 1_000_003;

describe("identifiers are no attributes, whatever they are called", () => {
  test.each<[string, string, (payment: Payment) => string | number]>([
    ["a row number", "foo", ({ row }) => row],
    ["a row number of another start, downwards", "foo", ({ row }) => 90_000 - row],
    ["a row number with gaps", "foo", ({ row }) => 50_000 + row * 3 + (row % 2)],
    ["a number of the batch", "foo", ({ row }) => Math.floor(row / 8)],
    ["a clock with a fraction", "foo", ({ time }) => time / 7e7],
    ["shuffled row numbers", "foo", ({ row }) => (row * 389) % 1_000],
    ["random numbers of the row", "foo", ({ row }) => 1_000_000 + scrambled(row)],
    ["numbers that float64 can't hold", "foo", ({ row }) => `90071992547409${100 + (row % 60)}93`],
    ["a number of the card", "foo", ({ card }) => 17 * Number(card.slice(1)) + 3],
    ["numbers of six digits", "foo", ({ row }) => 100_003 + (scrambled(row) % 400) * 7],
    ["few digits, but named so", "device_id", ({ row }) => scrambled(row) % 90],
    ["a text for each row", "foo", ({ row }) => `ref-${row}`],
    ["a text of the card", "foo", ({ card }) => `${card}@example.org`],
    ["times", "foo", ({ time }) => iso(time + 1e9).slice(0, 10)],
    ["times of day", "foo", ({ row }) => `1${row % 10}:30`],
  ])("%s", async (_, name, cell) => {
    const file = withColumn(name, cell);
    const { attributes, notes } = await read(file);
    expect([...attributes.keys()]).toEqual([]);
    expect(notes.join("\n")).toMatch(new RegExp(`left out: column "${name}", `));
    expect(notes).toContain("to use a column that was left out: --keep NAME");
    const kept = await read(file, { keep: [name] });
    expect([...kept.attributes.keys()]).toEqual(name === "foo" && /each row/.test(_) ? [] : [name]);
  });

  test.each<[string, (payment: Payment) => string | number]>([
    ["counts", ({ row }) => scrambled(row) % 40],
    ["ages", ({ card }) => 20 + (Number(card.slice(1)) % 45)],
    ["limits", ({ row }) => 500 * (1 + (scrambled(row) % 30))],
    ["balances", ({ row }) => Math.floor(scrambled(row) ** 1.3 / 1_000)],
    ["shares", ({ row }) => scrambled(row) / 1_000_003],
    ["rare flags", ({ row }) => Number(row % 97 === 0)],
    ["states", ({ row }) => `S${scrambled(row) % 51}`],
    ["category codes", ({ row }) => 5_000 + (scrambled(row) % 90)],
  ])("%s are", async (_, cell) => {
    expect([...(await read(withColumn("foo", cell))).attributes.keys()]).toEqual(["foo"]);
  });
});

describe("missing values among numbers", () => {
  test.each([
    "?",
    "-",
    "--",
    "NA",
    "N/A",
    "#N/A",
    "null",
    "none",
    "nan",
    "inf",
    "-Infinity",
    ".",
    "NULL",
    "\\N",
    "unknown",
    "n.d.",
    "keine",
  ])("%s", async (word) => {
    const file = withColumn("risk", ({ row }) =>
      row % 20 === 0 ? word : row % 20 === 1 ? "" : (scrambled(row) % 500) / 7,
    );
    const { attributes, notes } = await read(file);
    const column = attributes.get("risk");
    expect(column?.type).toBe("number");
    expect(column?.type === "number" && column.values.filter(Number.isNaN).length).toBe(100);
    expect(notes).toContain(`column "risk": 50 of ${JSON.stringify(word)} count as missing values`);
  });
});

describe("amounts as people write them", () => {
  test.each<[string, (amount: number) => string]>([
    ["$1,234.50", (a) => `"$${a.toLocaleString("en-US", { minimumFractionDigits: 2 })}"`],
    ["1.234,50 €", (a) => `"${a.toLocaleString("de-DE", { minimumFractionDigits: 2 })} €"`],
    ["1 234,50", (a) => `"${a.toLocaleString("fr-FR", { minimumFractionDigits: 2 })}"`],
    ["1'234.50", (a) => a.toLocaleString("de-CH", { minimumFractionDigits: 2 })],
    ["USD 1234.50", (a) => `USD ${a.toFixed(2)}`],
    ["£1234.5", (a) => `£${a}`],
  ])("%s", async (_, write) => {
    const file = csvOf("event_time,card_id,amount,is_fraud", ROWS, ({ time, card, amount, fraud }) => [
      iso(time),
      card,
      write(amount * 50),
      Number(fraud),
    ]);
    const dataset = await read(file);
    for (const [row, { amount }] of ROWS.entries()) expect(dataset.amount[row]).toBeCloseTo(amount * 50, 2);
  });

  test("refunds", async () => {
    const { amount } = await read('amount,label\n(12.00),0\n-$5.50,1\n"$-1,000.25",0\n7.00-,0\n−3,0\n');
    expect([...amount]).toEqual([-12, -5.5, -1000.25, -7, -3]);
  });

  test("thousands only, and both marks", async () => {
    const { amount, notes } = await read('amount,label\n"1,234",0\n5,1\n');
    expect([...amount]).toEqual([1234, 5]);
    expect(notes.join("\n")).toContain(
      'WARNING: column "amount": numbers such as 1,234 are read as more than a thousand',
    );
    expect([...(await read('amount,label\n"1,234",0\n5,1\n', { decimal: "," })).amount]).toEqual([1.234, 5]);
    expect((await refusal('amount,label\n"1,5",0\n2.5,1\n'))[0]).toBe("csv_ambiguous");
  });
});

describe("labels", () => {
  const labelled = (fraud: string, genuine: string, none?: string): string =>
    csvOf("event_time,card_id,merchant_id,amount,verdict", ROWS, ({ time, card, merchant, amount, fraud: is, row }) => [
      iso(time),
      card,
      merchant,
      amount,
      none !== undefined && row % 10 === 0 ? none : is ? fraud : genuine,
    ]);
  const columns = { label: "verdict" };
  const frauds = ({ label }: Dataset): number => label.reduce((sum, value) => sum + value, 0);

  test.each([
    ["fraud", "genuine"],
    ["Yes", "No"],
    ["TRUE", "FALSE"],
    ["Y", "N"],
    ["fraudulent", "legit"],
    ["Fraud", "Not Fraud"],
    ["chargeback", "ok"],
    ["1.0", "0.0"],
  ])("%s and %s", async (fraud, genuine) => {
    expect(frauds(await read(labelled(fraud, genuine), { columns }))).toBe(FRAUDS);
  });

  test("words of their own, by --labels", async () => {
    const file = labelled("kaputt", "heil");
    const [why, message] = await refusal(file, { columns });
    expect(why).toBe("csv_bad_value");
    expect(message).toMatch(/--labels fraud=WORD,genuine=WORD; the column holds "heil", "kaputt"$/);
    for (const labels of [{ fraud: ["kaputt"], genuine: ["heil"] }, { fraud: ["KAPUTT"] }, { genuine: ["heil"] }])
      expect(frauds(await read(file, { columns, labels }))).toBe(FRAUDS);
    expect((await refusal(file, { columns, labels: { fraud: ["heil"], genuine: ["heil"] } }))[0]).toBe("bad_labels");
  });

  test.each(["", "?", "NA", "pending", "unknown"])("rows without one (%j) are history only", async (none) => {
    const dataset = await read(labelled("1", "0", none), { columns });
    expect(dataset.unlabelled?.reduce((sum, value) => sum + value, 0)).toBe(100);
    expect(dataset.labelTime?.filter(Number.isNaN).length).toBe(100);
    expect(dataset.notes).toContain(
      "100 rows have no label: they are history only, nothing is trained or tested on them",
    );
  });
});

describe("roles", () => {
  test("a card of two columns, and rows that name no merchant", async () => {
    const file = csvOf("event_time,first,last,merchant,amount,label", ROWS, ({ time, row, amount, fraud }) => [
      iso(time),
      `f${row % 5}`,
      `l${row % 7}`,
      row % 50 === 0 ? "NA" : `m${row % 3}`,
      amount,
      Number(fraud),
    ]);
    const { cardId, merchantId, notes } = await read(file, { columns: { card_id: "first+last" } });
    expect([cardId[8], new Set(cardId).size, new Set(merchantId).size]).toEqual(["f3|l1", 35, 23]);
    expect(notes).toContain('card_id: columns "first" + "last"');
    expect(notes).toContain("20 rows name no merchant: each counts as one of its own");
  });

  test("currencies by number become letters, with a note: the stream takes letters only", async () => {
    const { currency, notes } = await read("amount,currency,label\n1,978,0\n2,840,1\n3,36.0,0\n4,usd,0\n5,978,0\n");
    expect(currency).toEqual(["EUR", "USD", "AUD", "USD", "EUR"]);
    expect(notes).toContain('currency: column "currency", numbers of ISO 4217 (978 is EUR, 840 is USD, 36.0 is AUD)');
    expect((await refusal("amount,currency,label\n1,978,0\n2,1,1\n"))[1]).toMatch(
      /line 3, column "currency": "1" is not a currency \(three letters or digits, ISO 4217\)/,
    );
  });

  test("what the stream would refuse is refused here, with the line", async () => {
    const row = (currency: string, card = "c"): string =>
      `event_time,card_id,amount,currency,label\n2024-01-01,c,1,EUR,0\n2024-01-01,${card},1,${currency},1\n`;
    for (const currency of ["LTL", "DEM", "BYR", "HRK", "GGP", "usd"])
      expect((await read(row(currency))).length).toBe(2);
    expect((await refusal(row("QQQ")))[1]).toMatch(
      /line 3, column "currency": "QQQ" is not a currency .*--columns currency=/,
    );
    expect((await refusal(row("EUR", "x".repeat(257))))[1]).toMatch(
      /line 3, column "card_id": the card_id is longer than 256 bytes/,
    );
    expect((await refusal(row("EUR", "NULL")))[1]).toMatch(/the card_id is missing \("NULL"\)/);
  });

  test("--keep and --drop", async () => {
    const file = withColumn("vendor_fraud_score", ({ row }) => scrambled(row) % 30);
    expect((await read(file)).attributes.size).toBe(0);
    expect([...(await read(file, { keep: ["Vendor Fraud Score"] })).attributes.keys()]).toEqual(["vendor_fraud_score"]);
    const other = withColumn("risk", ({ row }) => scrambled(row) % 30);
    expect((await read(other, { drop: ["risk"] })).notes).toContain('left out: column "risk", as --drop says');
    expect((await refusal(file, { keep: ["nothing"] }))[0]).toBe("csv_missing_column");
    expect((await refusal(file, { drop: ["amount"] }))[0]).toBe("bad_columns");
  });

  test("each column's reading is told", async () => {
    const { columns } = await read(withColumn("state", ({ row }) => (row % 9 === 0 ? "" : `S${scrambled(row) % 51}`)));
    expect(columns?.map(({ name, taken_for }) => `${name}: ${taken_for}`)).toEqual([
      "event_time: event_time",
      "card_id: card_id",
      "merchant_id: merchant_id",
      "amount: amount",
      "is_fraud: label",
      "state: attribute (text)",
    ]);
    expect(columns?.at(-1)).toMatchObject({ missing: 112, examples: expect.arrayContaining([]) as unknown });
  });
});
