import { describe, expect, it } from "vitest";
import { askedWindow, before, parseDuration, resolveWindow } from "../../../../api/queries/time-window.js";

const NOW = Date.UTC(2026, 2, 31, 12, 30);
const since = (text: string): string => new Date(before(NOW, parseDuration(text)!)).toISOString();

describe("durations", () => {
  it("are subtracted in UTC", () => {
    expect(since("P30D")).toBe("2026-03-01T12:30:00.000Z");
    expect(since("P1D")).toBe("2026-03-30T12:30:00.000Z");
    expect(since("P2W")).toBe("2026-03-17T12:30:00.000Z");
    expect(since("PT36H")).toBe("2026-03-30T00:30:00.000Z");
    expect(since("P1DT1H30M0.25S")).toBe("2026-03-30T10:59:59.750Z");
    expect(since("PT0,5S")).toBe("2026-03-31T12:29:59.500Z");
    expect(since("PT90M")).toBe("2026-03-31T11:00:00.000Z");
  });

  it("of months end on a day that the month has", () => {
    expect(since("P1M")).toBe("2026-02-28T12:30:00.000Z");
    expect(since("P25M")).toBe("2024-02-29T12:30:00.000Z");
    expect(since("P2M1D")).toBe("2026-01-30T12:30:00.000Z");
    expect(since("P3M")).toBe("2025-12-31T12:30:00.000Z");
    expect(since("P1Y6M")).toBe("2024-09-30T12:30:00.000Z");
  });

  it("don't reach back before 1970", () => {
    expect(since("P9999Y")).toBe("1970-01-01T00:00:00.000Z");
    expect(since("P57Y")).toBe("1970-01-01T00:00:00.000Z");
    expect(since("P999999D")).toBe("1970-01-01T00:00:00.000Z");
  });

  it("of any other form are refused", () => {
    for (const text of [
      "",
      "P",
      "PT",
      "P1",
      "30D",
      "P0D",
      "PT0S",
      "PT0.000S",
      "P1H",
      "P1.5D",
      "P-1D",
      "-P1D",
      "p1d",
      "P1DT",
      "P1D ",
      "P1DT1D",
      "PT1S1M",
      "P1W2M",
      "P10000000D",
      "PT1.5H",
      "P٣D",
      "P1D;DROP TABLE labels",
    ])
      expect(parseDuration(text), text).toBeNull();
  });
});

describe("the window of a query", () => {
  it("is the thirty days up to now, unless the query says otherwise", () => {
    expect(resolveWindow(askedWindow({}) as never, NOW)).toEqual({ from: NOW - 30 * 86_400_000 + 1, to: NOW + 1 });
    expect(resolveWindow(askedWindow({ window: "PT1H" }) as never, NOW)).toEqual({
      from: NOW - 3_600_000 + 1,
      to: NOW + 1,
    });
    expect(
      resolveWindow(askedWindow({ from: "2026-03-01T00:00:00+01:00", to: "2026-03-02T00:00:00Z" }) as never, NOW),
    ).toEqual({ from: Date.UTC(2026, 1, 28, 23), to: Date.UTC(2026, 2, 2) });
    expect(resolveWindow(askedWindow({ from: "2026-03-01T00:00:00.500Z" }) as never, NOW)).toEqual({
      from: Date.UTC(2026, 2, 1) + 500,
      to: NOW + 1,
    });
    expect(resolveWindow(askedWindow({ from: "2027-01-01T00:00:00Z" }) as never, NOW)).toEqual({
      from: Date.UTC(2027, 0, 1),
      to: Date.UTC(2027, 0, 1),
    });
  });

  it("names every field that is wrong", () => {
    const fields = (query: Parameters<typeof askedWindow>[0]): string[] =>
      (askedWindow(query) as { field: string; code: string }[]).map(({ field, code }) => `${field} ${code}`);
    expect(fields({ window: "soon" })).toEqual(["window duration"]);
    expect(fields({ window: "P1D", from: "2026-03-01T00:00:00Z" })).toEqual(["window conflict"]);
    expect(fields({ window: "P1D", to: "2026-03-01T00:00:00Z" })).toEqual(["window conflict"]);
    expect(fields({ to: "2026-03-01T00:00:00Z" })).toEqual(["from required"]);
    expect(fields({ from: "2026-03-02T00:00:00Z", to: "2026-03-02T00:00:00Z" })).toEqual(["to range"]);
    expect(fields({ from: "yesterday", to: "2026-13-01T00:00:00Z" })).toEqual(["from format", "to format"]);
    expect(fields({ from: "1969-12-31T23:59:59Z" })).toEqual(["from format"]);
    expect(fields({ from: "2026-03-01", to: "9999-01-01T00:00:00Z" })).toEqual(["from format", "to format"]);
    expect(fields({ from: "2026-03-01T00:00:00" })).toEqual(["from format"]);
    expect(fields({ window: "", from: "" })).toEqual(["window conflict", "window duration", "from format"]);
  });
});
