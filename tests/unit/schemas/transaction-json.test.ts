import { describe, expect, test } from "vitest";
import { TransactionRejected } from "../../../schemas/transaction-rejected.js";
import { EVENT_TIME, collector, type Collected } from "./collected.js";

const VALUE = {
  transaction_id: "t",
  event_time: EVENT_TIME,
  card_id: "c",
  merchant_id: "m",
  amount: 12.5,
  currency: "EUR",
};
const TEXT = JSON.stringify(VALUE).slice(1, -1);
const collect = collector("null");

const read = (text: string | Buffer): Collected => collect(Buffer.from(text as string));
const readValue = (value: object): Collected => read(JSON.stringify({ ...VALUE, ...value }));

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof TransactionRejected) return error.code;
    throw error;
  }
  return "accepted";
}

test("reads what Avro would have brought", () => {
  const attributes = { n: -1.5, t: "grün", yes: true, no: false, absent: null, ["__proto__x"]: 1 };
  expect(readValue({ attributes })).toEqual({
    transactionId: "t",
    cardId: "c",
    merchantId: "m",
    currency: "EUR",
    eventTime: EVENT_TIME,
    amount: 12.5,
    attributes: new Map<string, unknown>([
      ["n", -1.5],
      ["t", "grün"],
      ["yes", true],
      ["no", false],
      ["__proto__x", 1],
    ]),
  });
  expect(readValue({ attributes: null }).attributes.size).toBe(0);
  expect(read(`{${TEXT},"attributes":{"__proto__":2,"constructor":3,"toString":"x"}}`).attributes).toEqual(
    new Map<string, unknown>([
      ["__proto__", 2],
      ["constructor", 3],
      ["toString", "x"],
    ]),
  );
  expect(read(`{ \n${TEXT}\t}\r\n `).cardId).toBe("c");
});

test("is read from the middle of a larger buffer", () => {
  const text = Buffer.from(`{${TEXT}}`);
  expect(collect(Buffer.concat([Buffer.from("}}"), text, Buffer.from('"}')]), 2, text.length).merchantId).toBe("m");
});

describe("keys", () => {
  test.each([
    ["twice at the top", `{${TEXT},"amount":1}`, "json_duplicate_key"],
    ["twice through an escape", String.raw`{${TEXT},"\u0061mount":1}`, "json_duplicate_key"],
    ["twice in attributes", `{${TEXT},"attributes":{"a":1,"a":1}}`, "json_duplicate_key"],
    [
      "twice in attributes through an escape",
      String.raw`{${TEXT},"attributes":{"a":1,"\u0061":1}}`,
      "json_duplicate_key",
    ],
    ["twice and in vain in a nested object", `{${TEXT},"attributes":{"a":{"b":1,"b":2}}}`, "json_duplicate_key"],
    ["__proto__ twice", `{${TEXT},"attributes":{"__proto__":1,"__proto__":2}}`, "json_duplicate_key"],
    ["attributes twice", `{${TEXT},"attributes":{},"attributes":{}}`, "json_duplicate_key"],
    ["the same at two levels", `{${TEXT},"attributes":{"amount":1,"card_id":"x"}}`, "accepted"],
    ["a text that looks like a key", String.raw`{${TEXT},"attributes":{"a":"a\":1,\"a","b":"\\","c":"a"}}`, "accepted"],
    ["one too many", `{${TEXT},"extra":1}`, "json_unknown_key"],
    ["__proto__ at the top", `{${TEXT},"__proto__":{"amount":1}}`, "json_unknown_key"],
  ])("%s", (_name, text, code) => {
    expect(codeOf(() => read(text))).toBe(code);
  });

  test.each(Object.keys(VALUE))("%s missing or null", (key) => {
    // What is undefined has no key in JSON.
    expect(codeOf(() => readValue({ [key]: undefined }))).toBe("missing_field");
    expect(codeOf(() => readValue({ [key]: null }))).toBe("missing_field");
  });
});

describe("values", () => {
  test.each<[string, object, string]>([
    ["a number as text", { amount: "12.5" }, "json_wrong_type"],
    ["a text as number", { card_id: 5 }, "json_wrong_type"],
    ["a boolean amount", { amount: true }, "json_wrong_type"],
    ["an id in an array", { transaction_id: ["t"] }, "json_wrong_type"],
    ["attributes as an array", { attributes: [] }, "json_wrong_type"],
    ["attributes as text", { attributes: "a" }, "json_wrong_type"],
    ["an attribute that is an object", { attributes: { a: {} } }, "json_wrong_type"],
    ["an attribute that is an array", { attributes: { a: [1] } }, "json_wrong_type"],
    ["a lower-case currency", { currency: "eur" }, "bad_currency"],
    ["an empty id", { transaction_id: "" }, "missing_id"],
    ["a long id", { card_id: "x".repeat(257) }, "long_id"],
    ["half a surrogate pair in an id", { transaction_id: "t\ud800" }, "invalid_utf8"],
    ["in a card", { card_id: "\udc00" }, "invalid_utf8"],
    ["in an attribute", { attributes: { a: "\ud800x" } }, "invalid_utf8"],
    ["in an attribute's name", { attributes: { "\ud800": 1 } }, "invalid_utf8"],
    ["a whole surrogate pair", { transaction_id: "😀", attributes: { "😀": "😀" } }, "accepted"],
  ])("%s", (_name, value, code) => {
    expect(codeOf(() => readValue(value))).toBe(code);
  });

  test("numbers beyond a double are infinite, and refused where they count", () => {
    const replaced = TEXT.replace("12.5", "1e400");
    expect(codeOf(() => read(`{${replaced}}`))).toBe("bad_amount");
    expect(read(`{${TEXT},"attributes":{"a":-1e400}}`).attributes.get("a")).toBe(Number.NEGATIVE_INFINITY);
    expect(codeOf(() => read(`{${TEXT.replace(String(EVENT_TIME), "1e400")}}`))).toBe("json_wrong_type");
  });
});

describe("event_time", () => {
  const timeOf = (event_time: unknown): number => readValue({ event_time }).eventTime;

  test.each([
    ["2026-06-01T12:00:00Z", 0],
    ["2026-06-01T12:00Z", 0],
    ["2026-06-01T14:00:00+02:00", 0],
    ["2026-06-01T06:30:00-0530", 0],
    ["2026-06-01T12:00:00.25Z", 250],
    ["2026-06-01T11:59:59.999999999Z", -1],
    ["2026-06-01T23:00:00+11:00", 0],
    ["2026-06-02T02:00:00+14:00", 0],
  ])("%s", (text, off) => {
    expect(timeOf(text)).toBe(EVENT_TIME + off);
  });

  test.each([
    "2026-06-01T12:00:00",
    "2026-06-01",
    "2026-06-01 12:00:00Z",
    "1780315200000",
    "",
    "yesterday",
    "2026-02-29T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-00-10T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-05-00T00:00:00Z",
    "2026-05-01T25:00:00Z",
    "2026-05-01T12:60:00Z",
    "2026-05-01T12:00:00+99:99",
    "2026-05-01T12:00:00+14:01",
    "2026-05-31T24:00:00Z",
    "2026-06-01T24:00:00+12:00",
    "2026-05-01T12:00:60Z",
    "2026-05-01T23:59:61Z",
    "2100-02-29T00:00:00Z",
    "0026-06-01T12:00:60Z",
    "+002026-06-01T12:00:00Z",
    "2026-06-01T12:00:00Z ",
    true,
    [],
    {},
    1.5,
  ])("%j is none", (value) => {
    expect(codeOf(() => timeOf(value))).toBe("json_wrong_type");
  });

  test("a leap day, the first moment of 2000, the year 30,000", () => {
    expect(timeOf("2024-02-29T00:00:00Z")).toBe(Date.UTC(2024, 1, 29));
    expect(timeOf("2000-01-01T00:00:00Z")).toBe(Date.UTC(2000, 0, 1));
    expect(codeOf(() => timeOf("1999-12-31T23:59:59.999Z"))).toBe("event_time_early");
    expect(codeOf(() => timeOf(Date.UTC(30_000, 0, 1)))).toBe("event_time_ahead");
    expect(codeOf(() => timeOf(8.64e15))).toBe("event_time_ahead");
    for (const beyond of [8.64e15 + 1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 2 ** 53, 1e300])
      expect(codeOf(() => timeOf(beyond))).toBe("json_wrong_type");
  });
});

describe("bytes", () => {
  test.each<[string, string | Buffer, string]>([
    ["only a brace", "{", "json_invalid"],
    ["cut off", `{${TEXT}`, "json_invalid"],
    ["two values", `{${TEXT}}{}`, "json_invalid"],
    ["a comma too many", `{${TEXT},}`, "json_invalid"],
    ["a comment", `{${TEXT}/**/}`, "json_invalid"],
    ["an empty object", "{}", "missing_field"],
    ["NaN", `{${TEXT.replace("12.5", "NaN")}}`, "json_invalid"],
    ["a NUL", Buffer.from(`{${TEXT}}\0`), "json_invalid"],
    ["a control character in a text", `{${TEXT},"attributes":{"a":"\n"}}`, "json_invalid"],
    [
      "invalid UTF-8",
      Buffer.concat([Buffer.from(`{${TEXT},"attributes":{"a":"`), Buffer.from([0xff]), Buffer.from('"}}')]),
      "invalid_utf8",
    ],
    ["UTF-16", Buffer.from(`{${TEXT}}`, "utf16le"), "json_invalid"],
    ["only blanks", " \n ", "unknown_format"],
    ["an array", `[${TEXT}]`, "unknown_format"],
  ])("%s", (_name, text, code) => {
    expect(codeOf(() => read(text))).toBe(code);
  });

  test.each(["\ufeff", " ", "\r\n\t", "\ufeff \n"])("%j before the record is no part of it", (before) => {
    expect(read(`${before}{${TEXT}}`)).toEqual(read(`{${TEXT}}`));
  });

  test("a text cut off at any byte is rejected", () => {
    const text = Buffer.from(`{${TEXT},"attributes":{"a":"grün","b":1}}`);
    for (let length = 1; length < text.length; length++)
      expect(["json_invalid", "invalid_utf8"], `${length} bytes`).toContain(
        codeOf(() => read(text.subarray(0, length))),
      );
  });

  test("deep nesting and four megabytes are no trouble", () => {
    const deep = 200_000;
    expect(codeOf(() => read(`{${TEXT},"attributes":{"a":${"[".repeat(deep)}${"]".repeat(deep)}}}`))).toBe(
      "json_wrong_type",
    );
    expect(codeOf(() => read(`{${TEXT},"attributes":${'{"a":'.repeat(deep / 10)}1${"}".repeat(deep / 10)}}`))).toBe(
      "json_wrong_type",
    );
    expect(read(`{${TEXT},"attributes":{"a":"${"x".repeat(4 * 1024 * 1024)}"}}`).attributes.get("a")).toHaveLength(
      4 * 1024 * 1024,
    );
    const many = Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`k${i}`, i]));
    expect(readValue({ attributes: many }).attributes.size).toBe(3_000);
  });
});
