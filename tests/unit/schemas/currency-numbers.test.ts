import { expect, test } from "vitest";
import { isCurrencyCode } from "../../../schemas/currencies.js";
import { currencyOfNumber } from "../../../schemas/currency-numbers.js";

test("numbers of currencies, with and without zeros", () => {
  expect(["978", "840", "036", "36", "8", "978.0", "276", "532"].map(currencyOfNumber)).toEqual([
    "EUR",
    "USD",
    "AUD",
    "AUD",
    "ALL",
    "EUR",
    "DEM",
    "XCG",
  ]);
  expect(["", "1", "000", "9780", "EUR", "97.8", "-978", "978.5"].map(currencyOfNumber)).toEqual(
    Array.from({ length: 8 }, () => null),
  );
});

test("each number is of one currency that files and the stream know", () => {
  const codes = Array.from({ length: 1000 }, (_, number) => currencyOfNumber(String(number))).filter(
    (code) => code !== null,
  );
  expect(codes.length).toBeGreaterThan(200);
  expect(new Set(codes).size).toBe(codes.length);
  expect(codes.filter((code) => !isCurrencyCode(code))).toEqual([]);
});
