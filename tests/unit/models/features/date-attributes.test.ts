import { describe, expect, test } from "vitest";
import { timeOfNumber, timeOfText } from "../../../../models/features/date-attributes.js";
import { seededRandom } from "../../../../models/training/random.js";
import { parseTime } from "../../../../schemas/time-text.js";

const timeOf = (text: string): number => {
  const bytes = Buffer.from(`before${text}after`);
  return timeOfText(bytes, 6, Buffer.byteLength(text));
};

describe("timeOfText", () => {
  test.each([
    ["1988-03-09", Date.UTC(1988, 2, 9)],
    ["2000-02-29", Date.UTC(2000, 1, 29)],
    ["1800-01-01", Date.UTC(1800, 0, 1)],
    ["1988-03-09T12:30:45.250Z", Date.UTC(1988, 2, 9, 12, 30, 45, 250)],
    ["1988-03-09T12:30+02:00", Date.UTC(1988, 2, 9, 10, 30)],
    ["1988-03-09t12:30:00.123456789-0130", Date.UTC(1988, 2, 9, 14, 0, 0, 123)],
  ])("%s", (text, time) => {
    expect(timeOf(text)).toBe(time);
  });

  test.each([
    "",
    "1988",
    "1988-3-9",
    "1900-02-29",
    "1988-02-30",
    "1988-13-01",
    "1988-03-09T12:30:00",
    "1988-03-09 12:30:00Z",
    "1988-03-09T24:00Z",
    "1988-03-09T12:30:60Z",
    "1988-03-09T12:30:00.Z",
    "1988-03-09T12:30:00+15:00",
    "1988-03-09T12:30Zx",
    "1799-12-31",
    "2200-01-01",
    "0001-01-01",
    "09/03/1988",
    "19880309",
    "1988-03-09T",
    "x988-03-09",
  ])("%j is none", (text) => {
    expect(timeOf(text)).toBeNaN();
  });

  test("reads what event times are read of, and nothing else", () => {
    const random = seededRandom(3);
    const letters = "0123456789T:Z+-.z";
    const texts = Array.from({ length: 20_000 }, () => {
      const time = new Date(Date.UTC(1850, 0, 1) + random() * 1e13).toISOString();
      const text =
        random() < 0.5
          ? time
          : time.replace("Z", ["+05:30", "-0800", "+14:00", "-14:01", ""][Math.floor(random() * 5)]);
      const at = 10 + Math.floor(random() * text.length);
      return random() < 0.5
        ? text
        : text.slice(0, at) + letters[Math.floor(random() * letters.length)] + text.slice(at + 1);
    }).filter((text) => text.length > 10);
    const wrong = texts.filter((text) => {
      const expected = parseTime(text);
      const isPlausible = expected >= Date.UTC(1800, 0, 1) && expected < Date.UTC(2200, 0, 1);
      return !Object.is(timeOf(text), isPlausible ? expected : Number.NaN);
    });
    expect(wrong).toEqual([]);
  });
});

test.each([
  [0, 0],
  [6_642, Date.UTC(1988, 2, 9)],
  [-1, Date.UTC(1969, 11, 31)],
  [Date.UTC(1988, 2, 9), Date.UTC(1988, 2, 9)],
  [Date.UTC(1950, 5, 1), Date.UTC(1950, 5, 1)],
  [1_700_000_000_000_000, Number.NaN],
  [Number.NaN, Number.NaN],
  [Number.POSITIVE_INFINITY, Number.NaN],
])("the number %d is the moment %d", (value, time) => {
  expect(timeOfNumber(value)).toBe(time);
});
