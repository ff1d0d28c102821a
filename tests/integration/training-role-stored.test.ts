import { describe, expect, test, vi } from "vitest";
import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { RowBinaryWriter } from "../../infra/clickhouse/row-binary.js";
import { SINK_COLUMNS } from "../../infra/clickhouse/tables.js";
import { loadArtifact } from "../../models/artifacts.js";
import { readStored } from "../../models/datasets/read-stored.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import { clickhouseConfig } from "../support/engines.js";
import { TrainingSystem } from "../support/training-system.js";
import { numbers } from "../unit/models/datasets/csv-files.js";

vi.setConfig({ testTimeout: 150_000 });

const DAY = 86_400_000;
const START = Date.UTC(2026, 0, 1);
const TOPIC = "fraud.transactions";

interface Stored {
  offset: number;
  id: string;
  card: string;
  time: number;
  amount: number;
  currency?: string;
  numbers?: [string, number][];
  texts?: [string, string][];
  flags?: [string, boolean][];
}

async function insertTransactions(clickhouse: ClickHouse, rows: readonly Stored[], token: string): Promise<void> {
  const writer = new RowBinaryWriter(1024 * 1024);
  for (const row of rows) {
    writer.text(TOPIC);
    writer.int32(0);
    writer.int64(row.offset);
    writer.text(row.id);
    writer.int64(row.time);
    writer.text(row.card);
    writer.text("merchant");
    writer.float64(row.amount);
    writer.text(row.currency ?? "EUR");
    map(writer, row.numbers, (value) => writer.float64(value));
    map(writer, row.texts, (value) => writer.text(value));
    map(writer, row.flags, (value) => writer.byte(Number(value)));
  }
  await clickhouse.insertRows({
    table: "transactions",
    columns: SINK_COLUMNS.transactions,
    rows: writer.written(),
    token,
  });
}

function map<T>(writer: RowBinaryWriter, entries: readonly [string, T][] = [], write: (value: T) => void): void {
  writer.count(entries.length);
  for (const [name, value] of entries) {
    writer.text(name);
    write(value);
  }
}

async function label(clickhouse: ClickHouse, offset: number, id: string, card: string, fraud: boolean): Promise<void> {
  await clickhouse.command(
    "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time) SELECT " +
      "'fraud.labels', 0, {offset: UInt64}, {id: String}, {card: String}, {fraud: Bool}, now64(3)",
    { offset, id, card, fraud },
  );
}

async function deadLetter(clickhouse: ClickHouse, source: number | null): Promise<void> {
  await clickhouse.command(
    "INSERT INTO dead_letters (topic, partition, offset, at, code, reason, step, source_topic, " +
      "source_partition, source_offset) SELECT 'fraud.dead-letters', 0, {offset: UInt64}, now64(3), 'repeat', " +
      "'', 'decode', {topic: String}, {partition: Nullable(UInt32)}, {source: Nullable(UInt64)}",
    { offset: source ?? 999, topic: TOPIC, partition: source === null ? null : 0, source },
  );
}

const options = { from: START, to: START + 30 * DAY, maturityMs: 10 * DAY, now: START + 100 * DAY, maxRows: 1_000 };

describe("stored transactions as a data set", () => {
  test("contain each transaction once with its last label, ordered by event time, without dead letters", async () => {
    const clickhouse = await clickhouseDatabase();
    const config = clickhouseConfig(clickhouse.database);
    const rows: Stored[] = [
      {
        offset: 0,
        id: "a",
        card: "c1",
        time: START + 2 * DAY,
        amount: 10,
        numbers: [
          ["risk", 0.5],
          ["odd", 1],
        ],
        texts: [["channel", "web"]],
        flags: [["known", true]],
      },
      {
        offset: 1,
        id: "b",
        card: "c2",
        time: START,
        amount: -3.25,
        currency: "USD",
        texts: [
          ["channel", "pos"],
          ["odd", "x"],
        ],
      },
      {
        offset: 2,
        id: "a",
        card: "c2",
        time: START + DAY,
        amount: 7,
        numbers: [["risk", 1e300]],
        flags: [["known", false]],
      },
      { offset: 3, id: "dead", card: "c1", time: START + DAY, amount: 7 },
      { offset: 4, id: "late", card: "c1", time: START + 30 * DAY, amount: 7 },
      { offset: 5, id: "early", card: "c1", time: START - 1, amount: 7 },
      { offset: 6, id: "huge", card: "c1", time: START + DAY, amount: 1e39 },
    ];
    await insertTransactions(clickhouse, rows, "first");
    // Written again, cut differently, as after a lost answer.
    await insertTransactions(clickhouse, rows.slice(0, 3), "second");
    await label(clickhouse, 1, "a", "c1", true);
    await label(clickhouse, 2, "a", "c2", true);
    await label(clickhouse, 3, "a", "c2", false);
    await label(clickhouse, 4, "b", "c1", true);
    await deadLetter(clickhouse, 3);
    await deadLetter(clickhouse, null);

    const progress: [number, number][] = [];
    const dataset = await readStored(config, {
      ...options,
      onProgress: (percent, count) => progress.push([percent, count]),
    });
    expect(dataset).toMatchObject({
      length: 4,
      historyRows: 1,
      hasCards: true,
      hasMerchants: true,
      source: "stored transactions, 2026-01-01T00:00:00.000Z to 2026-01-31T00:00:00.000Z",
      transactionId: ["early", "b", "a", "a"],
      cardId: ["c1", "c2", "c2", "c1"],
      merchantId: ["merchant", "merchant", "merchant", "merchant"],
      currency: ["EUR", "USD", "EUR", "EUR"],
    });
    expect([...dataset.eventTime]).toEqual([START - 1, START, START + DAY, START + 2 * DAY]);
    expect([...dataset.amount]).toEqual([7, -3.25, 7, 10]);
    // b of c2 has no label; the one of c1 is another transaction's. The label of a/c2 was taken back.
    expect([...dataset.label]).toEqual([0, 0, 0, 1]);
    expect(Array.from(dataset.labelTime ?? [], Number.isNaN)).toEqual([true, true, false, false]);
    expect(dataset.attributes).toEqual(
      new Map([
        ["channel", { type: "text", codes: Int32Array.of(-1, 0, -1, 1), categories: ["pos", "web"] }],
        ["known", { type: "boolean", values: Float64Array.of(NaN, NaN, 0, 1) }],
        ["risk", { type: "number", values: Float64Array.of(NaN, NaN, NaN, 0.5) }],
      ]),
    );
    expect(dataset.notes).toEqual([
      "1 earlier transactions are taken as history only",
      'left out: attribute "odd", of different types in different transactions',
      "left out: 1 transactions whose amount no model can be given",
    ]);
    expect(progress.at(-1)?.[1]).toBe(4);

    await expect(readStored(config, { ...options, maxRows: 2 })).rejects.toMatchObject({
      code: "dataset_too_many_rows",
    });
    await expect(
      readStored(config, { ...options, from: START + 40 * DAY, to: START + 50 * DAY }),
    ).rejects.toMatchObject({ code: "dataset_empty" });
    await expect(readStored({ ...config, database: "nowhere" }, options)).rejects.toMatchObject({
      code: "clickhouse_refused",
    });
  });

  test("contain none that is too young for a missing label to mean anything, labelled or not", async () => {
    const clickhouse = await clickhouseDatabase();
    await insertTransactions(
      clickhouse,
      [
        { offset: 0, id: "old", card: "c", time: START, amount: 1 },
        { offset: 1, id: "young", card: "c", time: START + 5 * DAY, amount: 1 },
      ],
      "first",
    );
    await label(clickhouse, 0, "young", "c", true);
    const dataset = await readStored(clickhouseConfig(clickhouse.database), { ...options, now: START + 12 * DAY });
    expect(dataset.transactionId).toEqual(["old"]);
    expect(dataset.notes).toEqual([
      "transactions from 2026-01-03T00:00:00.000Z on are left out: their labels may still come",
    ]);
  });

  test("contain hundreds of thousands in several slices: each once, in order", async () => {
    const clickhouse = await clickhouseDatabase();
    const count = 250_000;
    await clickhouse.command(
      `INSERT INTO transactions (topic, partition, offset, transaction_id, event_time, card_id, merchant_id, amount,
        currency, numbers, texts, flags)
       SELECT '${TOPIC}', 0, number, toString(number), fromUnixTimestamp64Milli({start: Int64} + number * 10000),
         toString(number % 1000), 'm', number, 'EUR', map('n', number), map(), map() FROM numbers(${count})`,
      { start: START },
    );
    await clickhouse.command(
      `INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time)
       SELECT 'l', 0, number, toString(number), toString(number % 1000), number % 7 = 0, now64(3) FROM
         numbers(${count})`,
    );
    const progress: number[] = [];
    const dataset = await readStored(clickhouseConfig(clickhouse.database), {
      ...options,
      maxRows: count,
      onProgress: (percent) => progress.push(percent),
    });
    expect(dataset.length).toBe(count);
    expect(progress.length).toBeGreaterThan(1);
    expect(progress.at(-1)).toBe(100);
    const wrong = dataset.transactionId.findIndex(
      (id, row) =>
        id !== String(row) ||
        dataset.amount[row] !== row ||
        dataset.label[row] !== Number(row % 7 === 0) ||
        dataset.eventTime[row] !== START + row * 10_000,
    );
    expect(wrong).toBe(-1);
    expect(dataset.attributes.get("n")).toMatchObject({ type: "number" });
  });
});

test("a job trains on them as it does on a file, with the same features", async () => {
  const clickhouse = await clickhouseDatabase();
  const random = numbers(3);
  const rows = Array.from({ length: 2_000 }, (_, offset): Stored & { fraud: boolean } => {
    const fraud = random() < 0.1;
    return {
      offset,
      id: `t${offset}`,
      card: `c${offset % 50}`,
      time: START + offset * 60_000,
      amount: random() * 100,
      fraud,
      numbers: [["risk", random() + (fraud ? 0.6 : 0)]],
      texts: [["channel", fraud || random() < 0.5 ? "web" : "pos"]],
    };
  });
  await insertTransactions(clickhouse, rows, "rows");
  const frauds = rows.filter(({ fraud }) => fraud);
  await clickhouse.command(
    "INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time) SELECT " +
      "'l', 0, number, arrayElement({ids: Array(String)}, number + 1), arrayElement({cards: Array(String)}, " +
      "number + 1), true, now64(3) FROM numbers({count: UInt32})",
    { ids: frauds.map(({ id }) => id), cards: frauds.map(({ card }) => card), count: frauds.length },
  );
  const system = await TrainingSystem.open();
  const { url } = clickhouseConfig(clickhouse.database);
  system.startTrainer({ CLICKHOUSE_URL: url, CLICKHOUSE_DATABASE: clickhouse.database, LABEL_MATURITY_DAYS: "7" });
  const id = await system.request({
    algorithm: "gradient-boosted-trees",
    params: { num_iterations: 10 },
    dataset: { from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00+01:00" },
  });
  const job = await system.ended(id);
  expect(job).toMatchObject({ status: "processed", code: null, model: "stored@1" });
  const { manifest } = await loadArtifact(system.system.artifacts, "stored@1");
  expect(manifest.features.map(({ name }) => name).slice(0, 8)).toEqual([
    "amount",
    "hour",
    "weekend",
    "night",
    expect.stringMatching(/^channel=/) as string,
    expect.stringMatching(/^channel=/) as string,
    "risk",
    "card_count_1d",
  ]);
  expect(manifest.features.at(-1)?.name).toBe("merchant_fraud_share_30d");
  const metrics = JSON.parse(job.metrics ?? "{}") as { rows: number; frauds: number; test: { roc_auc: number } };
  // To 2026-01-01T23:00Z: 23 hours of a transaction a minute.
  expect(metrics).toMatchObject({ rows: 1_380, frauds: rows.slice(0, 1_380).filter(({ fraud }) => fraud).length });
  expect(metrics.test.roc_auc).toBeGreaterThan(0.8);
});
