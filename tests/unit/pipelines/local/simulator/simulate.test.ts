import { describe, expect, it } from "vitest";
import type { Dataset } from "../../../../../models/datasets/dataset.js";
import {
  simulate,
  simulateDataset,
  type SimulationOptions,
} from "../../../../../pipelines/local/simulator/simulate.js";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const from = Date.UTC(2026, 2, 2);
const town = { seed: 7, customers: 400, terminals: 90 };

/** One line a payment, with everything that it has. */
function lines(datasets: Iterable<Dataset>): string[] {
  return [...datasets].flatMap((data) =>
    data.transactionId.map((id, row) => {
      const attributes = [...data.attributes].map(
        ([name, column]) =>
          `${name}=${column.type === "text" ? column.categories[column.codes[row]] : column.values[row]}`,
      );
      return [
        id,
        data.eventTime[row],
        data.cardId[row],
        data.merchantId[row],
        data.amount[row],
        data.currency[row],
        data.label[row],
        ...attributes,
      ].join(" ");
    }),
  );
}

/** The same range cut at the given times. */
function inPieces(options: SimulationOptions, ...cuts: number[]): string[] {
  const bounds = [options.from, ...cuts, options.to];
  return cuts.concat(options.to).flatMap((to, i) => lines(simulate({ ...options, from: bounds[i], to })));
}

describe("simulate", () => {
  const options = { ...town, from, to: from + 5 * DAY_MS };
  const whole = lines(simulate(options));

  it("gives the same payments for a seed however the range is cut", () => {
    expect(whole.length).toBeGreaterThan(2_000);
    expect(lines(simulate(options))).toEqual(whole);
    expect(
      inPieces(options, from + DAY_MS, from + 30 * HOUR_MS + 17, from + 31 * HOUR_MS, from + 31 * HOUR_MS),
    ).toEqual(whole);
    expect(lines([simulateDataset(options)])).toEqual(whole);
  });

  it("gives other payments for another seed", () => {
    const other = new Set(lines(simulate({ ...options, seed: 8 })).map((line) => line.split(" ").slice(1).join(" ")));
    expect(whole.filter((line) => other.has(line.split(" ").slice(1).join(" ")))).toEqual([]);
  });

  it("is in order of event time, within the range, and repeats no id", () => {
    const data = simulateDataset({ ...options, from: from + 5 * HOUR_MS, to: from + 3 * DAY_MS + HOUR_MS });
    expect(data.eventTime[0]).toBeGreaterThanOrEqual(from + 5 * HOUR_MS);
    expect(data.eventTime[data.length - 1]).toBeLessThan(from + 3 * DAY_MS + HOUR_MS);
    for (let row = 1; row < data.length; row++)
      expect(data.eventTime[row]).toBeGreaterThanOrEqual(data.eventTime[row - 1]);
    expect(new Set(data.transactionId).size).toBe(data.length);
  });

  it("keeps customers when it goes on, and lets their number grow", () => {
    const cards = (of: SimulationOptions): Set<string> => new Set(simulateDataset(of).cardId);
    const later = cards({ ...options, from: options.to, to: options.to + 5 * DAY_MS });
    const earlier = cards(options);
    expect([...later].filter((card) => earlier.has(card)).length).toBeGreaterThan(0.8 * later.size);
    // A card's payments don't depend on how many other cards there are; only the count within the day does.
    const byCard = (customers: number): string[] =>
      lines(simulate({ ...options, customers }))
        .filter((line) => line.includes(" c000003 "))
        .map((line) => line.split(" ").slice(1).join(" "));
    expect(byCard(700)).toEqual(byCard(400));
  });

  it("has what the attributes promise", () => {
    const data = simulateDataset(options);
    const channel = data.attributes.get("channel");
    const present = data.attributes.get("card_present");
    const distance = data.attributes.get("distance_km");
    const device = data.attributes.get("known_device");
    if (
      channel?.type !== "text" ||
      present?.type !== "boolean" ||
      distance?.type !== "number" ||
      device?.type !== "boolean"
    )
      throw new Error("an attribute is missing");
    expect(new Set(Array.from(channel.codes, (code) => channel.categories[code]))).toEqual(
      new Set(["chip", "contactless", "magstripe", "online"]),
    );
    for (let row = 0; row < data.length; row++) {
      const online = channel.categories[channel.codes[row]] === "online";
      expect([present.values[row], Number.isNaN(distance.values[row]), Number.isNaN(device.values[row])]).toEqual([
        online ? 0 : 1,
        online,
        !online,
      ]);
      expect(data.amount[row]).toBeGreaterThan(0);
      expect(Number((data.amount[row] * 100).toFixed(6))).toBe(Math.round(data.amount[row] * 100));
    }
  });

  it("has about one fraud in a hundred payments, some of each kind", () => {
    const data = simulateDataset({ seed: 3, customers: 2_000, terminals: 400, from, to: from + 28 * DAY_MS });
    const frauds = Array.from(data.label.keys()).filter((row) => data.label[row] === 1);
    expect(frauds.length / data.length).toBeGreaterThan(0.005);
    expect(frauds.length / data.length).toBeLessThan(0.015);
    const most = (ids: string[]): number => {
      const counts = new Map<string, number>();
      for (const row of frauds) counts.set(ids[row], (counts.get(ids[row]) ?? 0) + 1);
      return Math.max(...counts.values());
    };
    // A compromised terminal and a stolen card stand out, as nothing does by chance.
    expect(most(data.merchantId)).toBeGreaterThan(20);
    expect(most(data.cardId)).toBeGreaterThan(5);
    expect(frauds.some((row) => data.amount[row] > 500)).toBe(true);
  });

  it("refuses what it can't simulate", () => {
    for (const wrong of [
      { seed: 1.5 },
      { seed: -1 },
      { customers: 0 },
      { terminals: 1 },
      { to: from - 1 },
      { from: Number.NaN },
    ]) {
      expect(() => [...simulate({ ...options, ...wrong })]).toThrow(
        expect.objectContaining({ code: "bad_simulation" }),
      );
    }
  });
});
