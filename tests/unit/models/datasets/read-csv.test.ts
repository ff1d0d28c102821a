import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { parseColumnOverrides } from "../../../../models/datasets/columns.js";
import { readCsv, type CsvOptions } from "../../../../models/datasets/read-csv.js";
import { RequestError } from "../../../../schemas/errors.js";
import { fileWith, paysimCsv, temporaryFolder, ulbCsv } from "./csv-files.js";

const HANDBOOK =
  "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_TIME_SECONDS,TX_TIME_DAYS,TX_FRAUD," +
  `TX_FRAUD_SCENARIO
10,2018-06-18 00:00:15,1263,145,32.27,15,0,0,0
11,2018-06-18 00:00:20,2400,7641,27.6,20,0,1,2
12,2018-06-18 00:01:05,1263,7641,1e2,65,0,0,0
`;

async function failure(content: string | Uint8Array, options: CsvOptions = {}): Promise<RequestError> {
  const file = fileWith(content);
  const error: unknown = await readCsv(file, options).catch((reason: unknown) => reason);
  if (!(error instanceof RequestError)) throw new Error(`no RequestError: ${String(error)}`);
  expect(error.message).not.toContain("\n");
  expect(error.message.startsWith(file)).toBe(true);
  return new RequestError(error.code, error.message.slice(file.length).trim());
}

describe("recognised files", () => {
  test("the Handbook's columns", async () => {
    const dataset = await readCsv(fileWith(HANDBOOK, "handbook.csv"));
    expect(dataset.source).toBe("handbook.csv");
    expect(dataset.transactionId).toEqual(["10", "11", "12"]);
    expect([...dataset.eventTime]).toEqual([
      Date.UTC(2018, 5, 18, 0, 0, 15),
      Date.UTC(2018, 5, 18, 0, 0, 20),
      Date.UTC(2018, 5, 18, 0, 1, 5),
    ]);
    expect(dataset.cardId).toEqual(["1263", "2400", "1263"]);
    expect(dataset.merchantId).toEqual(["145", "7641", "7641"]);
    expect([...dataset.amount]).toEqual([32.27, 27.6, 100]);
    expect([...dataset.label]).toEqual([0, 1, 0]);
    expect(dataset.currency).toEqual(["XXX", "XXX", "XXX"]);
    expect([...dataset.attributes.keys()]).toEqual([]);
    expect(dataset.notes).toContain('event_time: column "TX_DATETIME", dates, UTC where they name no zone');
    expect(dataset.notes).toContain('left out: column "TX_FRAUD_SCENARIO", it would tell the label');
    expect(dataset.notes).toContain('left out: column "TX_TIME_SECONDS", it repeats the time');
  });

  test("ULB's columns: relative seconds; card, merchant and id made up", async () => {
    const dataset = await readCsv(fileWith(ulbCsv(50)));
    expect(dataset.length).toBe(50);
    expect(dataset.eventTime[2]).toBe(Date.UTC(2013, 8, 1, 0, 2));
    expect(dataset.transactionId.slice(0, 2)).toEqual(["tx-1", "tx-2"]);
    expect(new Set(dataset.cardId).size).toBe(50);
    expect([...dataset.attributes.keys()]).toEqual(Array.from({ length: 28 }, (_, i) => `V${i + 1}`));
    expect([...dataset.attributes.values()].every(({ type }) => type === "number")).toBe(true);
    expect(dataset.notes).toContain("card_id: no column; made up in the file's order, one a row");
  });

  test("PaySim's columns: hours, balances, a text attribute, no isFlaggedFraud", async () => {
    const dataset = await readCsv(fileWith(paysimCsv(240)));
    expect(dataset.eventTime[0]).toBe(Date.UTC(2013, 8, 1, 1));
    expect(dataset.cardId[98]).toBe("C1");
    expect(dataset.merchantId[32]).toBe("M1");
    expect([...dataset.attributes].map(([name, { type }]) => `${name} ${type}`)).toEqual([
      "type text",
      "oldbalanceOrg number",
      "newbalanceOrig number",
      "oldbalanceDest number",
      "newbalanceDest number",
    ]);
    const type = dataset.attributes.get("type");
    expect(type?.type === "text" && [...type.categories].sort()).toEqual([
      "CASH_IN",
      "CASH_OUT",
      "DEBIT",
      "PAYMENT",
      "TRANSFER",
    ]);
  });

  test("plain names, in any case and spelling", async () => {
    const dataset = await readCsv(
      fileWith(
        "Transaction ID,eventTime,CARD-ID,merchant_id,Amount,Currency,Is_Fraud\n" +
          "a,2020-02-29T12:00:00.5+02:00,c,m,-5,eur,true\nb,2020-02-29T12:00Z,c,m,0,,False\n",
      ),
    );
    expect([...dataset.eventTime]).toEqual([Date.UTC(2020, 1, 29, 10, 0, 0, 500), Date.UTC(2020, 1, 29, 12)]);
    expect(dataset.currency).toEqual(["EUR", "XXX"]);
    expect([...dataset.amount]).toEqual([-5, 0]);
    expect([...dataset.label]).toEqual([1, 0]);
  });

  test.each([
    ["seconds since 1970", "1529280015", "1529280020", Date.UTC(2018, 5, 18, 0, 0, 15)],
    ["milliseconds since 1970", "1529280015123", "1529280015124", Date.UTC(2018, 5, 18, 0, 0, 15, 123)],
    ["microseconds since 1970", "1529280015123456", "1529280015123457", Date.UTC(2018, 5, 18, 0, 0, 15, 123)],
    ["nanoseconds since 1970", "1529280015123456789", "1529280015123456790", Date.UTC(2018, 5, 18, 0, 0, 15, 123)],
    ["days since 1970", "17700", "17701", Date.UTC(2018, 5, 18)],
    ["a spreadsheet's days", "43269.5", "43270", Date.UTC(2018, 5, 18, 12)],
  ])("a time column of %s", async (_, first, second, expected) => {
    const dataset = await readCsv(fileWith(`timestamp,amount,label\n${first},1,0\n${second},1,1\n`));
    expect(dataset.eventTime[0]).toBe(expected);
  });

  test("without a time, it is made up in order", async () => {
    const dataset = await readCsv(fileWith("amount,label\n1,0\n2,1\n"));
    expect([...dataset.eventTime]).toEqual([Date.UTC(2013, 8, 1), Date.UTC(2013, 8, 1, 0, 0, 1)]);
    expect(dataset.notes).toContain("event_time: no column; made up in order, a second apart from 2013-09-01");
  });

  test("--columns overrides, and what it replaces is no attribute", async () => {
    const columns = parseColumnOverrides(["label=Verdict,event_time=when", "card_id="]);
    const dataset = await readCsv(
      fileWith("when,time,card_id,amount,class,verdict\n2020-01-01,5,c,1,1,0\n2020-01-02,6,c,1,0,1\n"),
      { columns },
    );
    expect([...dataset.label]).toEqual([0, 1]);
    expect(dataset.eventTime[0]).toBe(Date.UTC(2020, 0, 1));
    expect(dataset.cardId).toEqual(["card-1", "card-2"]);
    expect([...dataset.attributes.keys()]).toEqual([]);
    expect(dataset.notes).toContain('left out: column "class", it would tell the label');
  });
});

describe("the shape of the text", () => {
  test("gzip by its bytes, a BOM, CR LF, quotes, blank lines, unicode", async () => {
    const text = '\uFEFF"amount",label,"ort"\r\n"1.5",0,"Köln, Altstadt"\r\n\r\n2,1,"say ""é"""\r\n3,0,東京\r\n';
    const dataset = await readCsv(fileWith(gzipSync(text), "no-ending"));
    expect([...dataset.amount]).toEqual([1.5, 2, 3]);
    const place = dataset.attributes.get("ort");
    expect(place?.type === "text" && place.categories).toEqual(["Köln, Altstadt", 'say "é"', "東京"]);
  });

  test("rows out of order are sorted, ties as they came", async () => {
    const dataset = await readCsv(
      fileWith(
        "id,event_time,amount,label,kind,flag\n1,300,1,0,a,true\n2,100,2,1,b,\n3,300,3,0,,false\n4,100,4,0,a,TRUE\n",
      ),
      { columns: { transaction_id: "id" }, timeFormat: "seconds" },
    );
    expect(dataset.transactionId).toEqual(["2", "4", "1", "3"]);
    expect([...dataset.amount]).toEqual([2, 4, 1, 3]);
    expect([...dataset.label]).toEqual([1, 0, 0, 0]);
    expect(dataset.attributes.get("kind")).toEqual({
      type: "text",
      categories: ["a", "b"],
      codes: Int32Array.of(1, 0, 0, -1),
    });
    expect(dataset.attributes.get("flag")).toEqual({ type: "boolean", values: Float64Array.of(Number.NaN, 1, 1, 0) });
    expect(dataset.notes).toContain("the rows were not in the order of event time; they were sorted");
  });

  test("made-up ids follow the file's order, not the order of time", async () => {
    const dataset = await readCsv(fileWith("event_time,amount,label\n300,1,0\n100,2,1\n"), {
      timeFormat: "s",
    });
    expect(dataset.transactionId).toEqual(["tx-2", "tx-1"]);
  });

  test("ids of many digits stay as they are", async () => {
    const dataset = await readCsv(
      fileWith(
        "transaction_id,card_id,amount,label,big\n" +
          "123456789012345678901234567890,0042,1,0,9007199254740993\n00,9007199254740993,1,1,1\n",
      ),
    );
    expect(dataset.transactionId[0]).toBe("123456789012345678901234567890");
    expect(dataset.cardId).toEqual(["0042", "9007199254740993"]);
    expect(dataset.attributes.get("big")?.type).toBe("number");
  });

  test("a repeated transaction id is noted", async () => {
    const dataset = await readCsv(fileWith("transaction_id,amount,label\n1,1,0\n1,1,1\n2,1,1\n"));
    expect(dataset.notes.some((note) => note.startsWith("1 rows repeat a transaction_id"))).toBe(true);
  });
});

describe("types of attributes", () => {
  const column = async (cells: string[]) => {
    const dataset = await readCsv(
      fileWith(`amount,label,x\n${cells.map((cell, row) => `1,${row % 2},${cell}`).join("\n")}\n`),
    );
    return { column: dataset.attributes.get("x"), notes: dataset.notes };
  };
  const range = (length: number, text: (i: number) => string): string[] => Array.from({ length }, (_, i) => text(i));

  test("numbers, with absent cells", async () => {
    expect((await column(["1", "", " 2.5 ", "NaN", "-1e-3"])).column).toEqual({
      type: "number",
      values: Float64Array.of(1, Number.NaN, 2.5, Number.NaN, -0.001),
    });
  });

  test("0 and 1 stay numbers", async () => {
    expect((await column(["0", "1"])).column).toEqual({ type: "number", values: Float64Array.of(0, 1) });
  });

  test("few codes with a text at the end are text, all of them", async () => {
    expect((await column(["5", "05", "5", "none", "5b"])).column).toEqual({
      type: "text",
      categories: ["5", "05", "none", "5b"],
      codes: Int32Array.of(0, 1, 0, 2, 3),
    });
  });

  test("three hundred texts are an attribute, one more is left out", async () => {
    expect((await column(range(900, (i) => `t${i % 300}`))).column?.type).toBe("text");
    const { column: none, notes } = await column(range(900, (i) => `t${i % 301}`));
    expect(none).toBeUndefined();
    expect(notes).toContain('left out: column "x", text, with more than 300 different values');
  });

  test("many numbers and a text: left out, naming the line", async () => {
    const { column: none, notes } = await column([...range(30, String), "0x10"]);
    expect(none).toBeUndefined();
    expect(notes).toContain(
      'left out: column "x", neither numbers (line 32 holds "0x10") nor at most 300 different texts',
    );
  });

  test("empty on every line: left out", async () => {
    expect((await column(["", "", "NA"])).notes).toContain('left out: column "x", empty on every line');
  });

  test("a row number without a name: left out", async () => {
    const dataset = await readCsv(fileWith(",amount,label\n0,1,0\n1,1,1\n"));
    expect([...dataset.attributes.keys()]).toEqual([]);
  });
});

describe("bad input is one line that names file, line and column", () => {
  test.each<[string, string, string, string]>([
    ["an empty file", "", "csv_empty", "line 1: the file is empty; it needs a header and transactions"],
    ["a header only", "amount,label\n", "csv_empty", "line 2: nothing follows the header"],
    [
      "no label",
      "amount,V1\n1,2\n",
      "csv_missing_column",
      "line 1: no column for label was recognised: name it with --columns label=NAME; the columns are amount, V1",
    ],
    [
      "a short line",
      "amount,label,V1\n1,0,3\n2,1\n",
      "csv_ragged_line",
      'line 3 has 2 columns, the header 3: nothing for column "V1"',
    ],
    [
      "a long line",
      "amount,label\n1,0\n\n2,1,x\n",
      "csv_ragged_line",
      'line 4 has 3 columns, the header 2: "x" is beyond column "label"',
    ],
    [
      "a text amount",
      "amount,label\n1,0\nfree,1\n",
      "csv_bad_value",
      'line 3, column "amount": "free" is not a finite number',
    ],
    ["an empty amount", "amount,label\n,0\n", "csv_bad_value", 'line 2, column "amount": "" is not a finite number'],
    ["a NaN amount", "amount,label\nNaN,0\n", "csv_bad_value", 'line 2, column "amount": "NaN" is not a finite number'],
    [
      "an infinite amount",
      "amount,label\n1e39,0\n",
      "csv_bad_value",
      'line 2, column "amount": "1e39" is not a finite number',
    ],
    [
      "a label of 2",
      "amount,label\n1,2\n",
      "csv_bad_value",
      'line 2, column "label": "2" is not a label (0 or 1, true or false, fraud or genuine): say which words are ' +
        "which with --labels fraud=WORD,genuine=WORD",
    ],
    [
      "no label on any line",
      "amount,label\n1,\n",
      "csv_one_class",
      'lines 2 to the end, column "label": the 1 rows hold no label; a model needs both',
    ],
    [
      "31 February",
      "event_time,amount,label\n2020-02-31,1,0\n",
      "csv_bad_value",
      'line 2, column "event_time": "2020-02-31" is not a time (ISO 8601, YYYY-MM-DD HH:MM:SS or a number)',
    ],
    [
      "25 o'clock",
      "event_time,amount,label\n2020-02-01 25:00:00,1,0\n",
      "csv_bad_value",
      'line 2, column "event_time": "2020-02-01 25:00:00" is not a time (ISO 8601, YYYY-MM-DD HH:MM:SS or a number)',
    ],
    [
      "a time before 2000",
      "event_time,amount,label\n1999-12-31,1,0\n",
      "csv_bad_value",
      'line 2, column "event_time": "1999-12-31" is not a time from 2000 on',
    ],
    [
      "a date among numbers",
      "event_time,amount,label\n1529280015,1,0\n1529280016,1,0\n2020-01-01,1,1\n",
      "csv_bad_value",
      'line 4, column "event_time": "2020-01-01" is not a number, as the times before it are',
    ],
    [
      "a small number among milliseconds",
      "event_time,amount,label\n1529280015123,1,0\n7,1,1\n",
      "csv_bad_value",
      'line 3, column "event_time": "7" is not a time from 2000 on, read as epoch milliseconds',
    ],
    [
      "no card on a line",
      "card_id,amount,label\nc,1,0\n ,1,1\n",
      "csv_bad_value",
      'line 3, column "card_id": the card_id is empty',
    ],
    [
      "a currency sign",
      "currency,amount,label\n€,1,0\n",
      "csv_bad_value",
      'line 2, column "currency": "€" is not a currency (three letters or digits, ISO 4217); --columns currency= ' +
        "leaves the column out",
    ],
    [
      "genuine only",
      "amount,label\n1,0\n2,0\n",
      "csv_one_class",
      'lines 2 to the end, column "label": the 2 rows hold only genuine transactions, no fraud; a model needs both',
    ],
    [
      "frauds only",
      "amount,label\n1,1\n",
      "csv_one_class",
      'lines 2 to the end, column "label": the 1 rows hold only frauds, no genuine transaction; a model needs both',
    ],
    [
      "a name twice",
      "amount,label,V1,V1\n1,0,1,1\n",
      "csv_duplicate_column",
      'line 1: columns 3 and 4 are both named "V1"',
    ],
    [
      "two labels",
      "amount,isFraud,is_fraud\n1,0,0\n",
      "csv_duplicate_column",
      'line 1: columns "isFraud" and "is_fraud" could both be the label: choose with --columns label=NAME',
    ],
    [
      "a quote left open",
      'amount,label\n1,0\n"2,1\n',
      "csv_bad_quote",
      'line 3, column "amount": a quote is opened and never closed',
    ],
    [
      "a quote left open in a large file",
      `amount,label\n1,0\n"2,1\n${"3,0\n".repeat(400_000)}`,
      "csv_bad_quote",
      'line 3, column "amount": a record of over 1 MB, is a quote left open?',
    ],
    [
      "a quote inside a cell",
      'amount,label\n1,0"\n',
      "csv_bad_quote",
      'line 2, column "label": a quote stands inside a cell that doesn\'t begin with one',
    ],
    [
      "text after a quote",
      'amount,label\n"1"0,1\n',
      "csv_bad_quote",
      'line 2, column "amount": text follows a closing quote',
    ],
  ])("%s", async (_, content, code, message) => {
    const error = await failure(content);
    expect([error.code, error.message]).toEqual([code, message]);
  });

  test("the line after a quoted cell that spans lines, and blank ones", async () => {
    const error = await failure('amount,label,text\r\n1,0,"a\r\nb\r\nc"\r\n\r\n2,x,d\r\n');
    expect(error.message).toMatch(/^line 6, column "label"/);
  });

  test("a ragged line after a quoted cell that spans lines", async () => {
    const error = await failure('amount,label,text\r\n1,0,"a\r\nb"\r\n2,1\r\n');
    expect(error.message).toMatch(/^line 4 has 2 columns/);
  });

  test("a file that is binary, named .csv", async () => {
    const bytes = Uint8Array.from({ length: 5000 }, (_, i) => (i * 7919) % 256);
    expect((await failure(bytes)).code).toBe("not_csv");
    expect((await failure(gzipSync(bytes))).code).toBe("not_csv");
    expect((await failure(bytes.filter((byte) => byte > 0))).code).toBe("not_csv");
  });

  test("a gzip file that was cut off, or damaged", async () => {
    const whole = gzipSync(paysimCsv(5000));
    const cut = await failure(whole.subarray(0, whole.length - 1000));
    expect(cut.code).toBe("csv_truncated");
    expect(cut.message).toMatch(/^: the gzip data ends too early, after line \d+: the file was cut off$/);
    const damaged = Uint8Array.from(whole);
    damaged.set([1, 2, 3, 4], damaged.length - 8);
    expect((await failure(damaged)).message).toContain("the gzip data is damaged");
  });

  test("no file, and a folder", async () => {
    await expect(readCsv("/nowhere/data.csv")).rejects.toMatchObject({
      name: "RequestError",
      code: "file_not_found",
      message: "/nowhere/data.csv: there is no such file",
    });
    await expect(readCsv(temporaryFolder())).rejects.toMatchObject({ name: "RequestError", code: "file_unreadable" });
  });

  test("wrong options", async () => {
    expect((await failure("a,b\n1,0\n", { columns: { label: "c" } })).message).toBe(
      'line 1: no column "c" for label; the columns are a, b',
    );
    expect((await failure("amount,label\n1,0\n", { columns: { card_id: "amount" } })).message).toBe(
      ': column "amount" can\'t be both card_id and amount',
    );
    await expect(readCsv(fileWith("amount,label\n1,0\n"), { currency: "euro" })).rejects.toMatchObject({
      name: "RequestError",
      code: "bad_currency",
    });
    expect(() => parseColumnOverrides(["colour=red"])).toThrow(/role=column/);
    expect(() => parseColumnOverrides(["label=a,label=b"])).toThrow(/names label twice/);
  });
});

test("an aborted signal ends the reading", async () => {
  const abort = new AbortController();
  const reading = readCsv(fileWith(paysimCsv(50_000)), { signal: abort.signal, onProgress: () => abort.abort() });
  await expect(reading).rejects.toMatchObject({ name: "AbortError" });
});
