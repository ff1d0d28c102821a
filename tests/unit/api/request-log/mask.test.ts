import { describe, expect, test } from "vitest";
import { maskedJson, maskedUrl } from "../../../../api/request-log/mask.js";
import { maskCardNumbers } from "../../../../infra/privacy/masking/card-numbers.js";

/** Test numbers that card networks publish. */
const CARDS = [
  "4111111111111111",
  "5555555555554444",
  "378282246310005",
  "6011111111111117",
  "30569309025904",
  "4222222222222",
  "6304000000000000",
  "2223003122003222",
];

describe("maskCardNumbers", () => {
  test.each(CARDS)("%s, alone, grouped, and inside other text", (card) => {
    const spaced = card.replace(/(\d{4})(?=\d)/g, "$1 ");
    const dashed = card.replace(/(\d{4})(?=\d)/g, "$1-");
    for (const form of [card, spaced, dashed]) {
      expect(maskCardNumbers(form)).toBe("[card number]");
      expect(maskCardNumbers(`pay with ${form}, please`)).toBe("pay with [card number], please");
      expect(maskCardNumbers(`x${form}y${form}`)).toBe("x[card number]y[card number]");
    }
  });

  test("inside a longer run of digits", () => {
    expect(maskCardNumbers("4111111111111111 12 2027")).not.toContain("4111");
    expect(maskCardNumbers("0004111111111111111")).not.toContain("4111111111111111");
  });

  test("leaves other numbers unchanged", () => {
    for (const text of ["4111111111111112", "1234567890", "2027-01-31T10:00:00.000Z", "tx-000000017", "no digits", ""])
      expect(maskCardNumbers(text)).toBe(text);
  });
});

describe("maskedJson", () => {
  test("hides secrets by their field's name, at any depth, whatever their type", () => {
    const text = maskedJson(
      {
        password: "hunter2",
        user: { current_password: ["hunter2"], access_token: { a: "hunter2" }, "API-Key": 5, CVV: 123, name: "ann" },
      },
      1000,
    );
    expect(text).not.toContain("hunter2");
    expect(JSON.parse(text)).toEqual({
      password: "[hidden]",
      user: {
        current_password: "[hidden]",
        access_token: "[hidden]",
        "API-Key": "[hidden]",
        CVV: "[hidden]",
        name: "ann",
      },
    });
  });

  test("masks card numbers in strings, numbers and names of fields", () => {
    const text = maskedJson(
      { card_id: "4111111111111111", n: 4111111111111111, "4111111111111111": 1, at: 1700000000000.5 },
      1000,
    );
    expect(text).not.toContain("4111");
    expect(JSON.parse(text)).toMatchObject({ card_id: "[card number]", n: "[card number]", at: 1700000000000.5 });
  });

  test("is cut to the limit, is still JSON, and shows no part of a card number at the cut", () => {
    const rows = { rows: Array.from({ length: 10_000 }, (_, i) => ({ i, text: "x".repeat(50) })) };
    const text = maskedJson(rows, 500);
    expect(text.length).toBeLessThan(1_000);
    expect(JSON.parse(text)).toHaveProperty("rows");
    for (let pad = 0; pad < 60; pad++)
      expect(maskedJson(`${"y".repeat(pad)} 4111111111111111`, 40)).not.toMatch(/4111/);
  });

  test("survives what JSON can't represent", () => {
    expect(JSON.parse(maskedJson({ a: undefined, b: NaN, c: null, d: new Date(0), e: () => 1, f: 10n }, 200))).toEqual({
      b: null,
      c: null,
      d: "1970-01-01T00:00:00.000Z",
      e: null,
      f: 10,
    });
    const loop: Record<string, unknown> = {};
    loop.loop = loop;
    expect(() => JSON.parse(maskedJson(loop, 1000)) as unknown).not.toThrow();
  });
});

test("maskedUrl", () => {
  expect(maskedUrl("/a/4111111111111111?card=4111-1111-1111-1111&token=abc&x=1", 500)).toBe(
    "/a/[card number]?card=[card number]&token=[hidden]&x=1",
  );
  expect(maskedUrl("/a?q=%34111111111111111", 500)).toBe("/a?q=[card number]");
  expect(maskedUrl("/%zz?%zz", 500)).toBe("/%zz?%zz");
  expect(maskedUrl(`/${"a".repeat(10_000)}`, 100)).toHaveLength(100);
});
