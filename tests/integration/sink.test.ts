import { setTimeout as sleep } from "node:timers/promises";
import avro from "avsc";
import { describe, expect, it, onTestFinished } from "vitest";
import { type ClickHouse, createClickHouse } from "../../infra/clickhouse/client.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { createLogger } from "../../infra/logging.js";
import type { PartitionOffset } from "../../pipelines/sink/offset-commits.js";
import { predictionRows } from "../../pipelines/sink/rows/avro-rows.js";
import { labelRows } from "../../pipelines/sink/rows/label-rows.js";
import { controlEventRows } from "../../pipelines/sink/rows/control-event-rows.js";
import { deadLetterRows } from "../../pipelines/sink/rows/dead-letter-rows.js";
import { transactionRows } from "../../pipelines/sink/rows/transaction-rows.js";
import { type SinkDeps, SinkPipeline } from "../../pipelines/sink/sink-pipeline.js";
import type { AvroSchema } from "../../schemas/avro-cursor.js";
import { FraudstreamError } from "../../schemas/errors.js";
import {
  type ControlEvent,
  type Label,
  predictionSchema,
  type Prediction,
  type Transaction,
} from "../../schemas/generated.js";
import { FIXED_SCHEMAS, writeWireHead, type SchemaKey } from "../../schemas/wire-format.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import { cuttableProxy } from "../support/cuttable-proxy.js";
import { clickhouseConfig } from "../support/engines.js";
import { until } from "../support/eventually.js";
import { fetchedRecords, type TestRecord } from "../support/fetched-records.js";

const log = createLogger({ logLevel: "silent" }, "test");
const [TRANSACTION, PREDICTION, LABEL, CONTROL] = [1_000_001, 1_000_002, 1_000_003, 1_000_004];
const FLAT = 77;
const OLDER = 78;
const NEWER = 79;
const flatSchema = {
  type: "record",
  name: "Payment",
  namespace: "bank",
  fields: [
    { name: "V1", type: "double" },
    { name: "transaction_id", type: "string" },
    { name: "card_id", type: "string" },
    { name: "merchant_id", type: "string" },
    { name: "amount", type: "float" },
    { name: "currency", type: "string" },
    { name: "event_time", type: "long" },
    { name: "online", type: ["null", "boolean"] },
    { name: "country", type: "string" },
    { name: "items", type: "int" },
  ],
};
const current = predictionSchema as unknown as { fields: { name: string; type: unknown }[] };
const olderSchema = { ...current, fields: current.fields.filter(({ name }) => name !== "reasons") };
const newerSchema = { ...current, fields: [{ name: "region", type: ["null", "string"] }, ...current.fields] };
const schemas = new Map<number, unknown>([
  ...[...FIXED_SCHEMAS].map(([id, { schema }]) => [id, schema] as const),
  [FLAT, flatSchema],
  [OLDER, olderSchema],
  [NEWER, newerSchema],
]);

function encoded(schemaId: number, value: unknown): Buffer {
  const body = avro.Type.forSchema(schemas.get(schemaId) as avro.Schema).toBuffer(value);
  const head = Buffer.alloc(5);
  writeWireHead(head, 0, schemaId);
  return Buffer.concat([head, body]);
}

interface Sink {
  pipeline: SinkPipeline;
  commits: PartitionOffset[];
  refused: { offset: number; code: string }[];
  failures: unknown[];
  /** Begins a tenure and hands records in. */
  feed(records: FetchedRecords, signal?: AbortSignal): Promise<void>;
}

/** A sink whose committed offsets are kept in memory, in front of a real server. */
function sinkInto(clickhouse: ClickHouse, options: Partial<SinkDeps> = {}): Sink {
  const sink: Pick<Sink, "commits" | "refused" | "failures"> = { commits: [], refused: [], failures: [] };
  const deps = {
    lookup: (id: SchemaKey) => Promise.resolve((schemas.get(Number(id)) ?? null) as AvroSchema | null),
    backoff: { firstMs: 5, mostMs: 50, signal: new AbortController().signal },
    log,
  };
  const onRefusal = (records: FetchedRecords, index: number, { code }: { code: string }): Promise<void> =>
    Promise.resolve(void sink.refused.push({ offset: records.offset[index], code }));
  const pipeline = new SinkPipeline({
    clickhouse,
    log,
    pauses: { firstMs: 5, mostMs: 50 },
    routes: new Map([
      ["transactions", { table: "transactions", rows: transactionRows(deps), onRefusal }],
      ["predictions", { table: "predictions", rows: predictionRows(deps), onRefusal }],
      ["shadows", { table: "shadow_predictions", rows: predictionRows(deps) }],
      ["labels", { table: "labels", rows: labelRows(deps), onRefusal }],
      ["dead", { table: "dead_letters", rows: deadLetterRows() }],
      ["control", { table: "control_events", rows: controlEventRows(deps), onRefusal }],
    ]),
    commit: (offsets) => Promise.resolve(void sink.commits.push(...offsets)),
    fail: (error) => sink.failures.push(error),
    ...options,
  });
  onTestFinished(() => pipeline.stop(100));
  return {
    ...sink,
    pipeline,
    async feed(records, signal = new AbortController().signal) {
      const { handler } = await pipeline.open({
        topic: records.topic,
        partition: records.partition,
        signal,
        committed: () => Promise.resolve({ offset: null, why: "none" }),
      });
      await handler.process(records);
    },
  };
}

const BASE = Date.UTC(2026, 2, 1);

function prediction(n: number, more: Partial<Prediction> = {}): Prediction {
  return {
    transaction_id: `t${n}`,
    card_id: `c${n % 7}`,
    merchant_id: "m",
    amount: n / 4,
    currency: "EUR",
    event_time: BASE + n * 1_000,
    scored_at: BASE + n * 1_000 + 7,
    scoring_ms: 1.5,
    score: 0.25,
    decision: "approve",
    model: "cards@1",
    epoch: 3,
    features: [n, 0.5],
    stale: false,
    reasons: null,
    source_topic: "transactions",
    source_partition: 2,
    source_offset: n,
    ...more,
  };
}

function predictions(
  from: number,
  count: number,
  more: (n: number) => Partial<Prediction> = () => ({}),
): FetchedRecords {
  return fetchedRecords(
    { topic: "predictions", firstOffset: from },
    Array.from({ length: count }, (_, i) => ({ value: encoded(PREDICTION, prediction(from + i, more(from + i))) })),
  );
}

async function count(clickhouse: ClickHouse, table: string, final = true): Promise<number> {
  const [row] = await clickhouse.query<{ n: number }>(`SELECT count() AS n FROM ${table} ${final ? "FINAL" : ""}`);
  return row.n;
}

describe("what is stored", () => {
  it("predictions with every field, from our own, an older and a newer writer", async () => {
    const clickhouse = await clickhouseDatabase();
    const sink = sinkInto(clickhouse);
    const full = prediction(1, {
      amount: -12.5,
      card_id: "Käfer🙂",
      transaction_id: "",
      decision: "decline",
      stale: true,
      features: [0, -1.5, 1e-40, 3e38],
      reasons: [
        { feature: "amount", contribution: 1.5 },
        { feature: "höhe", contribution: -0.25 },
      ],
      epoch: 2 ** 41,
    });
    await sink.feed(
      fetchedRecords({ topic: "predictions", partition: 3, firstOffset: 2 ** 40 }, [
        { value: encoded(PREDICTION, full), headers: [["reply-to", Buffer.from("copy/user/1")]] },
        { value: encoded(OLDER, prediction(2)) },
        { value: encoded(NEWER, { ...prediction(3), region: "eu" }) },
      ]),
    );
    await sink.pipeline.flush();
    const rows = await clickhouse.query<Record<string, unknown>>(
      "SELECT * EXCEPT (inserted_at, event_time, scored_at), toUnixTimestamp64Milli(event_time) AS " +
        "event_time, toUnixTimestamp64Milli(scored_at) AS scored_at FROM predictions FINAL ORDER BY offset",
    );
    expect(rows[0]).toEqual({ topic: "predictions", partition: 3, offset: 2 ** 40, ...full, reply_to: "copy/user/1" });
    expect(rows[1]).toEqual({
      topic: "predictions",
      partition: 3,
      offset: 2 ** 40 + 1,
      ...prediction(2),
      reasons: [],
      reply_to: "",
    });
    expect(rows[2]).toEqual({
      topic: "predictions",
      partition: 3,
      offset: 2 ** 40 + 2,
      ...prediction(3),
      reasons: [],
      reply_to: "",
    });
    expect(sink.refused).toEqual([]);
    const [{ age }] = await clickhouse.query<{ age: number }>(
      "SELECT dateDiff('second', min(inserted_at), now64(3)) AS age FROM predictions",
    );
    expect(Math.abs(age)).toBeLessThan(600);
  });

  it("transactions from three kinds of writer, their attributes by type; rejected ones have no row", async () => {
    const clickhouse = await clickhouseDatabase();
    const sink = sinkInto(clickhouse);
    const transaction: Transaction = {
      transaction_id: "a",
      event_time: BASE,
      card_id: "c",
      merchant_id: "Ω",
      amount: 0,
      currency: "JPY",
      attributes: { height: -1e300, zero: 0, empty: "", text: "漢字".repeat(50), yes: true, no: false },
    };
    const flat = {
      ...transaction,
      transaction_id: "b",
      amount: -0.5,
      V1: 0.125,
      online: true,
      country: "CH",
      items: 3,
    };
    const json = {
      ...transaction,
      transaction_id: "j",
      event_time: new Date(BASE).toISOString(),
      amount: 1e15,
      attributes: { "a.b": 1 },
    };
    await sink.feed(
      fetchedRecords(
        { topic: "transactions" },
        [
          { value: encoded(TRANSACTION, transaction) },
          { value: null },
          { value: encoded(FLAT, flat) },
          { value: Buffer.from("{broken") },
          { value: Buffer.from(JSON.stringify(json)) },
          { value: encoded(TRANSACTION, { ...transaction, amount: NaN }) },
          { value: encoded(TRANSACTION, { ...transaction, event_time: Date.UTC(30_000, 0) }) },
          { value: encoded(FLAT, { ...flat, transaction_id: "n", online: null }) },
          { value: Buffer.from([0, 0, 0, 0, 1, 2]) },
        ].map((record: TestRecord) => ({ ...record, timestamp: BASE })),
      ),
    );
    await sink.pipeline.flush();
    const rows = await clickhouse.query(
      "SELECT offset, transaction_id, toUnixTimestamp64Milli(event_time) AS at, merchant_id, amount, " +
        "currency, numbers, texts, flags FROM transactions FINAL ORDER BY offset",
    );
    const common = { at: BASE, merchant_id: "Ω", currency: "JPY" };
    expect(rows).toEqual([
      {
        ...common,
        offset: 0,
        transaction_id: "a",
        amount: 0,
        numbers: { height: -1e300, zero: 0 },
        texts: { empty: "", text: "漢字".repeat(50) },
        flags: { yes: true, no: false },
      },
      {
        ...common,
        offset: 2,
        transaction_id: "b",
        amount: -0.5,
        numbers: { V1: 0.125, items: 3 },
        texts: { country: "CH" },
        flags: { online: true },
      },
      { ...common, offset: 4, transaction_id: "j", amount: 1e15, numbers: { "a.b": 1 }, texts: {}, flags: {} },
      {
        ...common,
        offset: 7,
        transaction_id: "n",
        amount: -0.5,
        numbers: { V1: 0.125, items: 3 },
        texts: { country: "CH" },
        flags: {},
      },
    ]);
    expect(sink.refused.map(({ offset }) => offset)).toEqual([1, 3, 5, 6, 8]);
    // What has no row is done with, too.
    expect(sink.commits.at(-1)).toEqual({ topic: "transactions", partition: 0, offset: 9 });
  });

  it("the last label of a transaction, in any order; labels that can't be stored are passed on", async () => {
    const clickhouse = await clickhouseDatabase();
    const sink = sinkInto(clickhouse, { limits: { rows: 2 } });
    const label = (transaction_id: string, is_fraud: boolean, year: number, card_id = "c"): TestRecord => ({
      value: encoded(LABEL, { transaction_id, card_id, is_fraud, label_time: Date.UTC(year, 5) } satisfies Label),
    });
    const list = [
      label("a", true, 2026),
      label("b", false, 2026),
      label("a", false, 2031),
      label("a", true, 2001, "other card"),
      label("b", true, 2026),
      label("a", true, 2026),
    ];
    const bad = [
      { value: null },
      { value: Buffer.from("no avro") },
      label("", true, 2026),
      label("x", true, 40_000),
      { value: Buffer.from([0, 0, 0, 0, 9]) },
      { value: encoded(LABEL, { transaction_id: "t", card_id: "c", is_fraud: true, label_time: 0 }).subarray(0, 8) },
    ];
    await sink.feed(fetchedRecords({ topic: "labels" }, [...list, ...bad]));
    await sink.pipeline.flush();
    // The first half comes again after the rest.
    await sink.feed(fetchedRecords({ topic: "labels" }, list.slice(0, 3)));
    await sink.pipeline.flush();
    expect(
      await clickhouse.query(
        "SELECT card_id, transaction_id, is_fraud, offset, toYear(label_time) AS year FROM labels FINAL " +
          "ORDER BY card_id, transaction_id",
      ),
    ).toEqual([
      { card_id: "c", transaction_id: "a", is_fraud: true, offset: 5, year: 2026 },
      { card_id: "c", transaction_id: "b", is_fraud: true, offset: 4, year: 2026 },
      { card_id: "other card", transaction_id: "a", is_fraud: true, offset: 3, year: 2001 },
    ]);
    expect(sink.refused).toEqual(
      ["empty_value", "not_avro", "missing_id", "bad_time", "unknown_schema", "malformed_avro"].map((code, i) => ({
        offset: 6 + i,
        code,
      })),
    );
    expect(sink.commits).toContainEqual({ topic: "labels", partition: 0, offset: 12 });
  });

  it("the newest label of a transaction that is relabelled in another month of insertion", async () => {
    const clickhouse = await clickhouseDatabase();
    const insert = (version: number, fraud: boolean, insertedAt: string): Promise<void> =>
      clickhouse.command(
        "INSERT INTO labels (topic, offset, transaction_id, card_id, is_fraud, inserted_at, version) SELECT " +
          "'labels', {offset: UInt64}, 't', 'c', {fraud: Bool}, toDateTime64({at: String}, 3, 'UTC'), " +
          "{version: UInt64}",
        { offset: 100 - version, version, fraud, at: insertedAt },
      );
    await insert(9, false, "2026-04-02 00:00:00");
    await insert(4, true, "2026-05-02 00:00:00");
    await clickhouse.command("OPTIMIZE TABLE labels FINAL");
    expect(await clickhouse.query("SELECT version, is_fraud FROM labels FINAL")).toEqual([
      { version: 9, is_fraud: false },
    ]);
  });

  it("dead letters byte for byte, with their headers; control events of every kind", async () => {
    const clickhouse = await clickhouseDatabase();
    const sink = sinkInto(clickhouse);
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    const text = (name: string, value: string): [string, Buffer] => [name, Buffer.from(value)];
    const headers = [
      text("code", "mine"),
      text("code", "bad_amount"),
      text("reason", "it's näh"),
      text("step", "validate"),
      text("topic", "transactions"),
      text("partition", "3"),
      text("offset", "9007199254740991"),
      text("attempt", "2"),
      text("reply-to", "r"),
      ["none", null] as [string, null],
    ];
    await sink.feed(
      fetchedRecords({ topic: "dead" }, [
        { value: bytes, key: bytes, headers, timestamp: BASE },
        { value: null, key: null, timestamp: -1 },
        {
          value: Buffer.alloc(0),
          key: Buffer.alloc(0),
          headers: [text("offset", "x"), text("partition", "-1")],
          timestamp: 1e15,
        },
        { value: Buffer.alloc(4 * 1024 * 1024, 7), timestamp: BASE },
      ]),
    );
    const event = (offset: number, kind: string, payload: object): TestRecord => ({
      value: encoded(CONTROL, {
        key: "deployment",
        base: offset - 1,
        at: BASE,
        who: "system:start",
        event: { [`fraudstream.${kind}`]: payload } as unknown as ControlEvent["event"],
      } satisfies ControlEvent),
    });
    const champion = { model: "cards@1", review: 0.5, decline: 0.9 };
    await sink.feed(
      fetchedRecords({ topic: "control" }, [
        event(0, "Deployed", { champion, shadows: [] }),
        event(1, "JobCancelled", {}),
        { value: Buffer.from("junk") },
      ]),
    );
    await sink.pipeline.flush();

    const dead = await clickhouse.query(
      "SELECT hex(key) AS key, hex(value) AS value, isNull(key) AS no_key, isNull(value) AS no_value, code, " +
        "reason, step, source_topic, source_partition, source_offset, attempt, reply_to, headers, toYear(at) " +
        "AS year FROM dead_letters FINAL WHERE length(value) < 1000 OR value IS NULL ORDER BY offset",
    );
    const nothing = {
      code: "",
      reason: "",
      step: "",
      source_topic: "",
      source_partition: null,
      source_offset: null,
      attempt: null,
      reply_to: "",
    };
    expect(dead).toEqual([
      {
        key: bytes.toString("hex").toUpperCase(),
        value: bytes.toString("hex").toUpperCase(),
        no_key: 0,
        no_value: 0,
        code: "bad_amount",
        reason: "it's näh",
        step: "validate",
        source_topic: "transactions",
        source_partition: 3,
        source_offset: Number.MAX_SAFE_INTEGER,
        attempt: 2,
        reply_to: "r",
        headers: {
          code: "bad_amount",
          reason: "it's näh",
          step: "validate",
          topic: "transactions",
          partition: "3",
          offset: "9007199254740991",
          attempt: "2",
          "reply-to": "r",
          none: "",
        },
        year: 2026,
      },
      { ...nothing, key: null, value: null, no_key: 1, no_value: 1, headers: {}, year: 1970 },
      { ...nothing, key: "", value: "", no_key: 0, no_value: 0, headers: { offset: "x", partition: "-1" }, year: 2299 },
    ]);
    expect(await clickhouse.query("SELECT length(value) AS bytes FROM dead_letters FINAL WHERE offset = 3")).toEqual([
      { bytes: 4 * 1024 * 1024 },
    ]);
    expect(
      await clickhouse.query("SELECT offset, key, base, who, kind, payload FROM control_events FINAL ORDER BY offset"),
    ).toEqual([
      {
        offset: 0,
        key: "deployment",
        base: -1,
        who: "system:start",
        kind: "Deployed",
        payload: JSON.stringify({ champion, shadows: [] }),
      },
      { offset: 1, key: "deployment", base: 0, who: "system:start", kind: "JobCancelled", payload: "{}" },
    ]);
  });
});

describe("once, as counted", () => {
  it("records that come again, in blocks with other boundaries, are stored once", async () => {
    const clickhouse = await clickhouseDatabase();
    for (const rows of [100_000, 300, 77]) {
      const sink = sinkInto(clickhouse, { limits: { rows } });
      await sink.feed(predictions(0, 400));
      await sink.feed(predictions(400, 600));
      await sink.pipeline.flush();
    }
    expect(await count(clickhouse, "predictions")).toBe(1_000);
    expect(
      await clickhouse.query("SELECT sum(amount) AS amount, uniqExact(offset) AS offsets FROM predictions FINAL"),
    ).toEqual([{ amount: (999 * 1_000) / 2 / 4, offsets: 1_000 }]);
    // A window that cuts a month, read by the key.
    const [{ n }] = await clickhouse.query<{ n: number }>(
      "SELECT count() AS n FROM predictions FINAL WHERE event_time >= fromUnixTimestamp64Milli({from: " +
        "Int64}) AND event_time < fromUnixTimestamp64Milli({to: Int64})",
      { from: BASE + 100_000, to: BASE + 200_000 },
    );
    expect(n).toBe(100);
  });

  it("a block whose answer was lost is not even written a second time", async () => {
    const clickhouse = await clickhouseDatabase();
    const { hostname, port } = new URL(clickhouseConfig("x").url);
    const proxy = await cuttableProxy({ host: hostname, port: Number(port) });
    const through = createClickHouse({
      ...clickhouseConfig(clickhouse.database),
      url: `http://127.0.0.1:${proxy.port}`,
    });
    onTestFinished(async () => {
      await through.close();
      await proxy.close();
    });
    proxy.mode = "deaf";
    const sink = sinkInto(through);
    await sink.feed(predictions(0, 500));
    const flushed = sink.pipeline.flush();
    await until(
      async () => (await count(clickhouse, "predictions", false)) === 500 && !sink.pipeline.counts.clickhouseUp,
    );
    expect(sink.commits).toEqual([]);
    proxy.mode = "up";
    await flushed;
    expect(await count(clickhouse, "predictions", false)).toBe(500);
    expect(sink.commits).toEqual([{ topic: "predictions", partition: 0, offset: 500 }]);
    expect(sink.failures).toEqual([]);
  });

  it("event times scattered over twenty years fit in one block", async () => {
    const clickhouse = await clickhouseDatabase();
    const sink = sinkInto(clickhouse);
    const month = (n: number): number => Date.UTC(2000, n % 240, 1 + (n % 28), n % 24);
    await sink.feed(predictions(0, 480, (n) => ({ event_time: month(n) })));
    await sink.pipeline.flush();
    expect(sink.pipeline.counts.blocks).toBe(1);
    expect(
      await clickhouse.query(
        "SELECT count() AS n, uniqExact(toYYYYMM(event_time)) AS months, toYear(min(event_time)) AS first, " +
          "toYear(max(event_time)) AS last FROM predictions FINAL",
      ),
    ).toEqual([{ n: 480, months: 240, first: 2000, last: 2019 }]);
  });
});

describe("when things go wrong", () => {
  it("ClickHouse away: reading waits, nothing is committed, and the sink catches up", async () => {
    const clickhouse = await clickhouseDatabase();
    const { hostname, port } = new URL(clickhouseConfig("x").url);
    const proxy = await cuttableProxy({ host: hostname, port: Number(port) });
    const through = createClickHouse({
      ...clickhouseConfig(clickhouse.database),
      url: `http://127.0.0.1:${proxy.port}`,
    });
    onTestFinished(async () => {
      await through.close();
      await proxy.close();
    });
    const sink = sinkInto(through, { limits: { rows: 100, ageMs: 10 } });
    await sink.feed(predictions(0, 100));
    await sink.pipeline.flush();
    proxy.mode = "down";
    let taken = 0;
    const feeding = (async () => {
      for (let from = 100; from < 1_000; from += 50) {
        await sink.feed(predictions(from, 50));
        taken = from;
      }
    })();
    await until(() => !sink.pipeline.counts.clickhouseUp);
    await sleep(300);
    // One block under way, one full: that is all it holds.
    expect(taken).toBeLessThanOrEqual(300);
    expect(sink.commits.at(-1)?.offset).toBe(100);
    proxy.mode = "up";
    await feeding;
    await sink.pipeline.flush();
    expect(await count(clickhouse, "predictions")).toBe(1_000);
    expect(sink.commits.at(-1)?.offset).toBe(1_000);
    expect(sink.pipeline.counts.clickhouseUp).toBe(true);
  });

  it("a revoked partition stops waiting for room; the other partition's rows are still stored", async () => {
    const clickhouse = await clickhouseDatabase();
    const away = createClickHouse({ ...clickhouseConfig("x"), url: "http://127.0.0.1:1" });
    onTestFinished(() => away.close());
    const insertsFail = { on: true };
    const sink = sinkInto(
      { ...away, insertRows: (block, options) => (insertsFail.on ? away : clickhouse).insertRows(block, options) },
      { limits: { rows: 10 } },
    );
    const abort = new AbortController();
    const stuck = sink.feed(predictions(0, 30), abort.signal);
    await until(() => !sink.pipeline.counts.clickhouseUp);
    abort.abort(new Error("revoked"));
    await expect(stuck).rejects.toThrow("revoked");
    insertsFail.on = false;
    await sink.pipeline.flush();
    expect(await count(clickhouse, "predictions")).toBe(20);
    expect(sink.failures).toEqual([]);
  });

  it("a block that ClickHouse refuses for good stops the sink with the cause, and commits nothing", async () => {
    const clickhouse = await clickhouseDatabase();
    const sink = sinkInto(clickhouse, { limits: { ageMs: 1 } });
    await clickhouse.command("ALTER TABLE predictions DROP COLUMN stale");
    await sink.feed(predictions(0, 10));
    await until(() => sink.failures.length > 0);
    expect(sink.failures[0]).toBeInstanceOf(FraudstreamError);
    expect(sink.failures[0]).toMatchObject({ code: "clickhouse_refused", retriable: false });
    await expect(sink.feed(predictions(10, 10))).rejects.toBe(sink.failures[0]);
    await expect(sink.pipeline.flush()).rejects.toBe(sink.failures[0]);
    expect(sink.commits).toEqual([]);
  });

  it("a failed commit is included with the next block; a tenure that ended commits no more", async () => {
    const clickhouse = await clickhouseDatabase();
    const commits: PartitionOffset[] = [];
    let fails = 1;
    const commit = (offsets: PartitionOffset[]): Promise<void> => {
      if (fails-- > 0)
        return Promise.reject(new FraudstreamError("kafka_rebalance_in_progress", "not now", { retriable: true }));
      commits.push(...offsets);
      return Promise.resolve();
    };
    const { pipeline } = sinkInto(clickhouse, { commit, limits: { ageMs: 60_000 } });
    const tenure = (
      partition: number,
    ): Promise<{ handler: { process(records: FetchedRecords): Promise<void>; close(): Promise<void> } }> =>
      pipeline.open({
        topic: "predictions",
        partition,
        signal: new AbortController().signal,
        committed: () => Promise.resolve({ offset: 5, why: "committed" }),
      });
    const [first, second] = [await tenure(0), await tenure(1)];
    await first.handler.process(predictions(5, 5));
    await first.handler.close();
    // `close` tried twice: the second commit went through.
    expect(commits).toEqual([{ topic: "predictions", partition: 0, offset: 10 }]);
    await second.handler.process({ ...predictions(5, 3), partition: 1 });
    await first.handler.process(predictions(10, 5));
    await pipeline.flush();
    expect(commits.slice(1)).toEqual([{ topic: "predictions", partition: 1, offset: 8 }]);
    expect(await count(clickhouse, "predictions")).toBe(13);
  });

  it("a registry that is away is waited for", async () => {
    const clickhouse = await clickhouseDatabase();
    let asked = 0;
    const lookup = (): Promise<AvroSchema> => {
      asked += 1;
      return asked < 4
        ? Promise.reject(new FraudstreamError("schema_registry_unreachable", "away"))
        : Promise.resolve(predictionSchema as unknown as AvroSchema);
    };
    const rows = predictionRows({
      lookup,
      backoff: { firstMs: 1, mostMs: 5, signal: new AbortController().signal },
      log,
    });
    const sink = sinkInto(clickhouse, { routes: new Map([["predictions", { table: "predictions" as const, rows }]]) });
    await sink.feed(predictions(0, 10));
    await sink.pipeline.flush();
    expect([asked, await count(clickhouse, "predictions")]).toEqual([4, 10]);
  });
});
