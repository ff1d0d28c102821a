import { expect, it } from "vitest";
import { migrate } from "../../infra/clickhouse/migrate.js";
import type { AttributeColumn, Dataset, OperandColumn } from "../../models/datasets/dataset.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";
import { PARITY_FEATURES, parityRun } from "../parity/run.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "../support/engines.js";
import { silent } from "../support/kafka-cluster.js";
import { RandomSource } from "../support/random-source.js";

const DAY = 86_400_000;
const ROWS = 6_000;
const DAYS = 45;

/** Balances, positions, dates and addresses, of which some are missing: columns that features are made of. */
function columns(random: RandomSource): Pick<Dataset, "attributes" | "operands"> {
  const number = (make: () => number): AttributeColumn => {
    return { type: "number", values: Float64Array.from({ length: ROWS }, () => (random.int(9) === 0 ? NaN : make())) };
  };
  const text = (make: () => string): AttributeColumn => {
    const made = Array.from({ length: ROWS }, make);
    const categories = [...new Set(made)];
    const codes = new Map(categories.map((each, code) => [each, code]));
    return { type: "text", categories, codes: Int32Array.from(made, (each) => codes.get(each) ?? -1) };
  };
  const degrees = (most: number) => () => (random.next() * 2 - 1) * most;
  return {
    attributes: new Map([
      ["old", number(() => random.int(1e9) / 100)],
      ["new", number(() => random.int(3) && random.int(1e9) / 100)],
      ["lat", number(degrees(90))],
      ["lon", number(degrees(180))],
      ["lat2", number(degrees(91))],
      ["lon2", number(degrees(180))],
    ]),
    operands: new Map<string, OperandColumn>([
      ["born", { type: "time", values: Float64Array.from({ length: ROWS }, () => (random.int(30_000) - 8_000) * DAY) }],
      ["opened", text(() => new Date(Date.UTC(2010, 0, 1) + random.int(5_000) * DAY).toISOString())],
      ["mail", text(() => `user${random.int(4_000)}@Host${random.int(9)}.example`)],
      ["ip", text(() => `10.0.${random.int(4)}.${random.int(256)}`)],
    ]),
  };
}

/**
 * Transactions over 45 days: at full hours, several in one millisecond, fractions of cents, cards that pay once a
 * month.
 */
function town(random: RandomSource): Dataset {
  const int = (below: number): number => random.int(below);
  const start = Date.UTC(2026, 1, 1);
  const times = Array.from({ length: ROWS }, () => start + 10 * int((DAYS * DAY) / 10))
    .map((time) => (int(8) === 0 ? time - (time % BUCKET_MS) : int(8) === 0 ? time - (time % DAY) : time))
    .sort((a, b) => a - b);
  const rows = <T>(value: (row: number) => T): T[] => Array.from({ length: ROWS }, (_, row) => value(row));
  return {
    source: "a made-up town",
    length: ROWS,
    historyRows: 0,
    hasCards: true,
    hasMerchants: true,
    labelTime: null,
    notes: [],
    ...columns(random),
    transactionId: rows((row) => `t${row}`),
    eventTime: Float64Array.from(times),
    currency: rows(() => "EUR"),
    cardId: rows(() => `card-${Math.floor(random.next() ** 2 * 80)}`),
    merchantId: rows(() => `m${int(30)}`),
    amount: Float64Array.from(rows(() => Math.exp(random.next() * 6) - 3)),
    label: Uint8Array.from(rows(() => Number(int(30) === 0))),
  };
}

it(
  "every feature of every stored prediction is the trainer's and that of SQL, though workers are killed, " +
    "stopped and fenced, and partitions move",
  async () => {
    const clickhouse = clickhouseConfig(`${uniquePrefix("_")}db`);
    await migrate(clickhouse, silent);
    const { features, windows, kills, stops, merchants } = await parityRun({
      kafka: kafkaConfig(),
      clickhouse,
      prefix: uniquePrefix(),
      partitions: 3,
      dataset: town(new RandomSource(7)),
      kills: 1,
      stops: 1,
      share: 0.003,
      calmMs: 10_000,
      random: new RandomSource(8),
    });
    expect(features).toEqual({
      predictions: ROWS,
      fresh: ROWS,
      stale: 0,
      compared: ROWS * PARITY_FEATURES.length,
      different: 0,
      byFeature: {},
      unmatched: 0,
      examples: [],
    });
    expect(windows.different, JSON.stringify(windows.byFeature)).toBe(0);
    expect(windows.compared).toBeGreaterThan(0.9 * ROWS * 23);
    expect([kills.inTransaction, stops.inTransaction, stops.fenced > 0, merchants.kills > 0]).toEqual([
      1,
      1,
      true,
      true,
    ]);
  },
  180_000,
);
