import { describe, expect, it } from "vitest";
import { panelLines, plainLine, Screen, type StreamView } from "../../../../../pipelines/local/start/panel.js";
import { parseDuration, parseRate } from "../../../../../pipelines/local/replay/arguments.js";
import { readStartOptions } from "../../../../../pipelines/local/start/options.js";

const view: StreamView = {
  source: "simulated payments",
  seconds: 12.2,
  sent: 1_234_567,
  rate: 299.6,
  p50: 6.2,
  p99: 41.7,
  decisions: { approve: 1_234_000, review: 500, decline: 67 },
  alerts: [
    {
      transaction_id: "t1",
      card_id: "card-4711",
      merchant_id: "m1",
      amount: 99.5,
      currency: "EUR",
      event_time: Date.UTC(2026, 0, 2, 3, 4),
      score: 0.987,
      decision: "decline",
      stale: false,
      source_partition: 0,
      source_offset: 1,
    },
  ],
  labels: 10,
  deadLetters: 1,
  lastDeadLetter: { code: "bad_avro", reason: "truncated" },
  stored: null,
  problems: ["fraud.transactions[0]: 9 of 10 are late"],
  eventTime: null,
};

describe("the panel", () => {
  it("shows what happens, without card numbers", () => {
    const text = panelLines(view).join("\n");
    for (const part of [
      "1,234,567, 300 a second",
      "p50 6.2 ms, p99 42 ms",
      "review 500, decline 67",
      "ClickHouse    no answer",
      "dead letters  1, the last: bad_avro: truncated",
      "problem       fraud.transactions[0]: 9 of 10 are late",
      "decline 0.987  99.50 EUR at m1",
    ])
      expect(text).toContain(part);
    expect(text).not.toContain("4711");
    expect(plainLine(view)).not.toContain("4711");
    expect(plainLine(view)).toContain("| problem: fraud.transactions[0]: 9 of 10 are late |");
    expect(plainLine(view)).not.toContain("\n");
  });

  it("is drawn in its place on a terminal, with lines above it that stay", () => {
    const written: string[] = [];
    const screen = new Screen({ isTTY: true, columns: 21, write: (text) => written.push(text) });
    screen.panel(["one", "a line that is longer than it"]);
    screen.line("stays");
    screen.panel(["three"]);
    screen.keep();
    screen.line("below");
    expect(written).toEqual([
      "one\na line that is\n    longer than it\n",
      "\x1b[3A\x1b[0Jstays\n",
      "three\n",
      "below\n",
    ]);
  });

  it("lets no id steer the terminal, cuts nothing at 80 columns, and has colours where they are wanted", () => {
    const written: string[] = [];
    const screen = (hasColors: boolean): Screen =>
      new Screen({ isTTY: true, columns: 80, hasColors: () => hasColors, write: (text) => written.push(text) });
    const alert = { ...view.alerts[0], merchant_id: "m\x1b[2J\u202e1", transaction_id: "t".repeat(120) };
    screen(false).panel(panelLines({ ...view, alerts: [alert] }));
    screen(false).line("a\x07b");
    expect(written.join("")).not.toMatch(/[\x00-\x09\x0b-\x1f\u202e]/);
    expect(
      written
        .join("")
        .split("\n")
        .every((line) => line.length < 80),
    ).toBe(true);
    expect(written.join("").replace(/\n */g, "")).toContain("t".repeat(120));
    screen(true).panel(["    decline 0.9"]);
    expect(written.at(-1)).toBe("\x1b[31m    decline 0.9\x1b[0m\n");
  });

  it("leaves a pipe free of what is only for the eye", () => {
    const written: string[] = [];
    const screen = new Screen({ write: (text) => written.push(text) });
    screen.status("training 3 %");
    screen.line("done");
    expect(written).toEqual(["done\n"]);
  });
});

describe("the command line", () => {
  const read = (...args: string[]): ReturnType<typeof readStartOptions> => readStartOptions(["node", "start", ...args]);

  it("has a rate that can be watched when nothing is said, and none for a file or --once", () => {
    expect(read()).toEqual({
      dataset: null,
      reading: {},
      features: null,
      rate: 300,
      forMs: null,
      once: false,
      yes: false,
      seed: null,
      customers: null,
      thresholds: {},
    });
    expect(read("--once").rate).toBeNull();
    expect(read("--dataset", "a.csv").rate).toBeNull();
    expect(read("--dataset", "a.csv", "--rate", "1000", "--columns", "label=x").rate).toBe(1_000);
    expect(read("--review-capacity", "0.02", "--decline-precision", "0.8").thresholds).toEqual({
      review_capacity: 0.02,
      decline_precision: 0.8,
    });
    expect(read("--for", "60s", "--seed", "7", "--customers", "100")).toMatchObject({
      forMs: 60_000,
      seed: 7,
      customers: 100,
    });
  });

  it("knows durations and rates, and refuses what is none", () => {
    expect(["500ms", "60s", "1.5m", "2h"].map(parseDuration)).toEqual([500, 60_000, 90_000, 7_200_000]);
    for (const wrong of ["", "60", "s", "-1s", "0s", "1d", "1e3s", "999999h"])
      expect(() => parseDuration(wrong)).toThrow("It must be a time");
    expect(parseRate("0.5")).toBe(0.5);
    for (const wrong of ["", "0", "-3", "x", "Infinity", "1e9"])
      expect(() => parseRate(wrong)).toThrow("It must be a number");
  });
});
